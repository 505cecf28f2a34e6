from django.apps import AppConfig


class RegistryConfig(AppConfig):
    name = "noregret.registry"
    label = "registry"
