"""The copies of snapshots on disk, from which a process serves that starts while Redis is away."""

import threading
from collections.abc import Iterator
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_SUFFIX = ".msgpack"


class SnapshotFiles:
    """A folder with a file a document; several web processes share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, body: bytes) -> None:
        """Best effort: a full disk must not keep a snapshot from being served."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Named by thread: several web processes share the folder.
            temporary = self._folder / f".{name}.{threading.get_native_id()}"
            temporary.write_bytes(body)
            temporary.replace(self._path(name))
        except OSError as error:
            log.warning("snapshot not kept on disk", document=name, error=str(error))

    def remove(self, name: str) -> None:
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            log.warning("snapshot not removed from disk", document=name, error=str(error))

    def read_all(self) -> Iterator[tuple[str, bytes]]:
        """(name, body) of each document that can be read."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")) if self._folder.is_dir() else []:
            try:
                yield path.name.removesuffix(_SUFFIX), path.read_bytes()
            except OSError as error:
                log.warning("snapshot not read from disk", document=path.name, error=str(error))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"
