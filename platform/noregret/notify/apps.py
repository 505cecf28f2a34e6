from django.apps import AppConfig


class NotifyConfig(AppConfig):
    name = "noregret.notify"
    label = "notify"
    verbose_name = "Notifications"
