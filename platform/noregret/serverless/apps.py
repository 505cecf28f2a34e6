from django.apps import AppConfig

from serving import artifacts, stored_snapshots


class ServerlessConfig(AppConfig):
    """All that a function needs of the platform: where models and snapshots lie."""

    name = "noregret.serverless"
    label = "serverless"

    def ready(self) -> None:
        from noregret.registry.artifact_storage import artifact_store

        from .snapshot_storage import StorageSnapshots

        artifacts.supply(artifact_store)
        stored_snapshots.supply(StorageSnapshots.of_settings)
