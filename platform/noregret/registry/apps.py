from django.apps import AppConfig

from serving import artifacts


class RegistryConfig(AppConfig):
    name = "noregret.registry"
    label = "registry"

    def ready(self) -> None:
        from .artifact_storage import artifact_store
        from .refusals import tell_refusals

        artifacts.supply(artifact_store)
        tell_refusals()
