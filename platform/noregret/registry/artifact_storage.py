"""Where artefacts are: a folder, and where the settings name one a storage of Django that all
machines reach."""

from collections.abc import Iterator

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages

from serving.artifacts import ArtifactStore

ALIAS = "artifacts"
_PART = 1 << 20


class StorageSource:
    """An ArtifactSource over a storage of Django: django-storages has one for each kind of object
    store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def fetch(self, sha256: str) -> Iterator[bytes]:
        # Object stores say by an exception of their own that they hold no such thing, and some only
        # when it is read.
        if not self._storage.exists(_name(sha256)):
            raise FileNotFoundError(sha256)
        with self._storage.open(_name(sha256), "rb") as file:
            yield from file.chunks(_PART)

    def store(self, sha256: str, body: bytes) -> None:
        name = _name(sha256)
        if self._storage.exists(name):
            if self._storage.size(name) == len(body):
                return
            self._storage.delete(name)  # whoever stored it was killed over it
        self._storage.save(name, ContentFile(body))

    def remove(self, sha256: str) -> None:
        self._storage.delete(_name(sha256))


def _name(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


def artifact_store() -> ArtifactStore:
    """The store as the settings of this moment have it."""
    source = StorageSource(storages[ALIAS]) if ALIAS in settings.STORAGES else None
    return ArtifactStore(settings.ARTIFACT_DIR, source, settings.ARTIFACT_CACHE_LIMIT)
