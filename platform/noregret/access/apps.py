from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "noregret.access"
    label = "access"
