from django.apps import AppConfig


class EmbeddedConfig(AppConfig):
    name = "noregret.embedded"
    label = "embedded"
