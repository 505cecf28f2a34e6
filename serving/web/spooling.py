"""Large bodies go to a file while they come: a disk that is slow holds up their senders, and nobody
else.

One thread writes for all of them. A file has no name in its folder, so that nothing is left of it,
whatever ends the process.
"""

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import IO

import structlog

log = structlog.get_logger(__name__)


class DiskFull(Exception):
    """The body could not be kept."""


class Spooled:
    """The file of one body. Written by the spooler's thread, read by the thread that answers, never
    by both at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file: IO[bytes] | None = None
        self.size = 0
        self._closed = False
        self._lock = threading.Lock()

    def write(self, part: bytes) -> None:
        """Raises OSError."""
        with self._lock:
            if self._closed:
                return
            if self.file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self.file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed by close()
            rest = memoryview(part)
            while rest:
                rest = rest[self.file.write(rest) :]

    def rewound(self) -> IO[bytes]:
        """The file from its beginning, for whoever reads it."""
        assert self.file is not None
        self.file.seek(0)
        return self.file

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self.file is not None:
                self.file.close()
                self.file = None


Written = Callable[[OSError | None], None]


class Spooler:
    """Writes parts of bodies in a thread of its own, and says of each when it is done. Bounds the
    bytes of all bodies on disk."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._size = 0
        self._parts: SimpleQueue[tuple[Spooled, bytes, Written]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self) -> Spooled:
        return Spooled(self._folder)

    def write(self, spooled: Spooled, part: bytes, written: Written) -> None:
        """Have a part written; `written` is called in the spooler's thread. Raises DiskFull."""
        if self._size + len(part) > self._limit:
            raise DiskFull
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="bodies", daemon=True)
            self._thread.start()
        self._size += len(part)
        spooled.size += len(part)
        self._parts.put((spooled, part, written))

    def close(self, spooled: Spooled) -> None:
        self._size -= spooled.size
        spooled.size = 0
        spooled.close()

    def _work(self) -> None:
        while True:
            spooled, part, written = self._parts.get()
            problem = None
            try:
                spooled.write(part)
            except OSError as error:
                problem = error
                log.error("a body could not be kept", error=str(error))
            written(problem)
            del spooled, part, written
