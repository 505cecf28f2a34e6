"""One `up` a data directory: held by a lock of the operating system, which a dead process no longer holds."""

import fcntl
import os
from pathlib import Path
from typing import IO

from .errors import StartFailed


class DataDirLock:
    """The lock of a data directory; its file says who holds it."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "up.lock"
        self._file: IO[str] | None = None

    def take(self, address: str) -> None:
        """Raises StartFailed when another process holds it, or the directory can't be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+")
        except OSError as error:
            raise StartFailed(f"the data directory {self._path.parent} can't be written: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise StartFailed(
                f"{self._path.parent} is already in use by {holder}; stop that one, or name another --data-dir"
            ) from error
        file.seek(0)
        file.truncate()
        file.write(f"pid {os.getpid()} at {address}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
