from django.apps import AppConfig


class RetentionConfig(AppConfig):
    name = "noregret.retention"
    verbose_name = "Retention"
