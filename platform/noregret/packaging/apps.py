from django.apps import AppConfig


class PackagingConfig(AppConfig):
    name = "noregret.packaging"
    label = "packaging"
