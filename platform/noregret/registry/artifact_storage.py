"""Where artefacts are: a folder, and where the settings name one a storage of Django that all
machines reach."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import structlog
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import Storage

from serving.artifacts import ArtifactStore

from .storage_deadlines import artifact_storage

log = structlog.get_logger(__name__)

_PART = 1 << 20
_FOLDER, _FILE = re.compile("[0-9a-f]{2}"), re.compile("[0-9a-f]{64}")
_YOUNG_SECONDS = 86_400.0
"""A file that was stored longer ago is stored anew by who registers it again, so that nobody takes
it for one that is old and named by nothing."""


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
            age = datetime.now(UTC).timestamp() - self._stored_at(name)
            if self._storage.size(name) == len(body) and age < _YOUNG_SECONDS:
                return
            self._storage.delete(name)  # whoever stored it was killed over it
        self._storage.save(name, ContentFile(body))

    def remove(self, sha256: str) -> None:
        self._storage.delete(_name(sha256))

    def remove_old(self, at: float, is_named: Callable[[str], bool]) -> int:
        """Remove the files that were last stored before a Unix time and that nothing names; how
        many.

        Whoever stores one again meanwhile is looked for once more after it is gone, and the file
        put back.
        """
        removed = 0
        for sha256 in self._held():
            name = _name(sha256)
            if is_named(sha256) or self._stored_at(name) >= at:
                continue
            body = b"".join(self.fetch(sha256))
            self._storage.delete(name)
            if is_named(sha256):
                self._storage.save(name, ContentFile(body))
            else:
                removed += 1
        return removed

    def _held(self) -> Iterator[str]:
        folders, _ = self._storage.listdir("")
        for folder in folders:
            if _FOLDER.fullmatch(folder):
                for name in self._storage.listdir(folder)[1]:
                    if _FILE.fullmatch(name):
                        yield name

    def _stored_at(self, name: str) -> float:
        return self._storage.get_modified_time(name).timestamp()


def _name(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


def artifact_store() -> ArtifactStore:
    """The store as the settings of this moment have it."""
    return ArtifactStore(settings.ARTIFACT_DIR, artifact_source(), settings.ARTIFACT_CACHE_LIMIT)


def artifact_source() -> StorageSource | None:
    """Where all machines reach them, if the settings name such a store."""
    storage = artifact_storage()
    return None if storage is None else StorageSource(storage)
