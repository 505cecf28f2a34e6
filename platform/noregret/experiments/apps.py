from django.apps import AppConfig


class ExperimentsConfig(AppConfig):
    name = "noregret.experiments"
    label = "experiments"

    def ready(self) -> None:
        from .refusals import tell_refusals
        from .visibility import tell_uses

        tell_refusals()
        tell_uses()
