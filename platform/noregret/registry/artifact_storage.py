"""Where artefacts are: a folder, and where the settings name one a storage of Django that all
machines reach."""

import hashlib
from collections.abc import Iterator

from django.conf import settings
from django.core.files.storage import Storage

from serving.artifacts import ArtifactStore

from .replacing import replace
from .storage_deadlines import artifact_storage
from .storage_refusals import told

_PART = 1 << 20


class StorageSource:
    """An ArtifactSource over a storage of Django: django-storages has one for each kind of object
    store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def fetch(self, sha256: str) -> Iterator[bytes]:
        with told(self._storage):
            # Object stores say by an exception of their own that they hold no such thing, and some
            # only when it is read.
            if not self._storage.exists(_name(sha256)):
                raise FileNotFoundError(sha256)
            with self._storage.open(_name(sha256), "rb") as file:
                yield from file.chunks(_PART)

    def store(self, sha256: str, body: bytes) -> None:
        with told(self._storage):
            if not self._holds(sha256, len(body)):
                replace(self._storage, _name(sha256), body)

    def remove(self, sha256: str) -> None:
        """Keep it no longer; harmless where it is not held. Raises SourceFailed."""
        with told(self._storage):
            self._storage.delete(_name(sha256))

    def holds(self, sha256: str, size: int) -> bool:
        """Does it hold this file, whole? Raises SourceFailed."""
        with told(self._storage):
            return self._holds(sha256, size)

    def _holds(self, sha256: str, size: int) -> bool:
        """A size alone says nothing of what is in it, and checksums are
        told by few stores, in ways of their own: it is read."""
        name = _name(sha256)
        digest = hashlib.sha256()
        try:
            if not self._storage.exists(name):
                return False
            with self._storage.open(name, "rb") as file:
                if file.size != size:
                    return False
                for part in file.chunks(_PART):
                    digest.update(part)
        except FileNotFoundError:  # it went meanwhile
            return False
        return digest.hexdigest() == sha256


def _name(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


def artifact_store() -> ArtifactStore:
    """The store as the settings of this moment have it."""
    return ArtifactStore(settings.ARTIFACT_DIR, artifact_source(), settings.ARTIFACT_CACHE_LIMIT)


def artifact_source() -> StorageSource | None:
    """Where all machines reach them, if the settings name such a store."""
    storage = artifact_storage()
    return None if storage is None else StorageSource(storage)
