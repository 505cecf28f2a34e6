from django.apps import AppConfig


class EmbeddedConfig(AppConfig):
    name = "noregret.embedded"
    label = "embedded"

    def ready(self) -> None:
        from . import checks  # noqa: F401 - registers them
