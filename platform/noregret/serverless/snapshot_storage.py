"""Snapshots in the store of artefacts, for who reaches no Redis: written by `manage.py
put-snapshots`, read by functions."""

from typing import Self

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import Storage

from noregret.registry.replacing import replace
from noregret.registry.storage_deadlines import artifact_storage
from noregret.registry.storage_refusals import told


class StorageSnapshots:
    """A SnapshotSource over a storage of Django, that can be written to."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @classmethod
    def of_settings(cls) -> Self:
        """Raises ImproperlyConfigured where no store is named."""
        storage = artifact_storage()
        if storage is None:
            raise ImproperlyConfigured("NOREGRET_SNAPSHOTS=storage needs NOREGRET_ARTIFACT_STORAGE")
        return cls(storage)

    def read(self, name: str) -> bytes | None:
        """None where it holds none of this name. Raises SourceFailed."""
        path = _path(name)
        with told(self._storage):
            if not self._storage.exists(path):
                return None
            with self._storage.open(path, "rb") as file:
                return bytes(file.read())

    def write(self, name: str, body: bytes) -> None:
        """In the place of what is there. Raises SourceFailed."""
        with told(self._storage):
            replace(self._storage, _path(name), body)


def _path(name: str) -> str:
    return f"snapshots/{name}"
