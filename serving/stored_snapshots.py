"""Snapshots from a store that is no Redis: objects in a bucket, or files in a function's package.

An index tells which documents there are and in which version; it is written last, so that what it
names is there.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from .reading import SnapshotReader, Taker
from .redis_keys import ACCESS

log = structlog.get_logger(__name__)

INDEX = "@index"
"""No endpoint's name can start with `@`."""


class Index(msgspec.Struct):
    """`versions` by document; `learner` and `lagging` as they stood in Redis."""

    versions: dict[str, int]
    learner: bytes | None = None
    lagging: bytes | None = None


class SnapshotSource(Protocol):
    """Where documents are. It may take long, and raise anything."""

    def read(self, name: str) -> bytes | None:
        """A document, or the index; None where there is none."""


_make: Callable[[], SnapshotSource] | None = None


def supply(make: Callable[[], SnapshotSource]) -> None:
    """Say where this process has its snapshots from."""
    global _make
    _make = make


def supplied() -> SnapshotSource:
    """The source of this process."""
    if _make is None:
        raise RuntimeError("nobody said where snapshots are: serving.stored_snapshots.supply")
    return _make()


class StoredReader(SnapshotReader):
    """Reads a source in place of Redis."""

    def __init__(self, source: SnapshotSource, taker: Taker, refresh_seconds: float) -> None:
        super().__init__(taker, refresh_seconds)
        self._source = source

    def _read_what_changed(self) -> None:
        body = self._source.read(INDEX)
        if body is None:
            raise FileNotFoundError("there is no index of snapshots")
        index = msgspec.json.decode(body, type=Index)
        self.learner.note(index.learner, index.lagging)
        before = {**self._taker.versions(), ACCESS: self._taker.access_version()}
        changed = {
            name: version
            for name, version in index.versions.items()
            if version > max(before.get(name, -1), self._refused.get(name, -1))
        }
        documents = {name: self._source.read(name) for name in changed}
        for name in self._taker.take({name: body for name, body in documents.items() if body is not None}):
            self._refused[name] = changed[name]
