from django.apps import AppConfig

from serving import artifacts


class RegistryConfig(AppConfig):
    name = "noregret.registry"
    label = "registry"

    def ready(self) -> None:
        from .artifact_storage import artifact_store

        artifacts.supply(artifact_store)
