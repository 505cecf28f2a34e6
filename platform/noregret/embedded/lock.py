"""One `up` a data directory: held by a lock of the operating system, which a dead process no longer
holds."""

import fcntl
import os
from pathlib import Path
from typing import IO

from . import disk
from .errors import StartFailed

LOCK_FILE = "up.lock"


class DataDirLock:
    """The lock of a data directory; its file says who holds it."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_FILE
        self._file: IO[str] | None = None

    def take(self, address: str) -> None:
        """Raises StartFailed when another process holds it, or the directory can't be written."""
        folder = self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Never through a link: the folder may be another user's, and this process root.
            file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+")
        except (FileExistsError, NotADirectoryError) as error:
            raise StartFailed(f"the data directory {folder} is a file, or lies in one: name a directory") from error
        except OSError as error:
            raise StartFailed(disk.told(folder, error)) from error
        if os.fstat(file.fileno()).st_nlink != 1:
            raise StartFailed(f"{self._path} is a link to another file: remove it")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise StartFailed(
                f"{self._path.parent} is already in use by {holder}; stop that one, or name another --data-dir"
            ) from error
        try:
            file.seek(0)
            file.truncate()
            file.write(f"pid {os.getpid()} at {address}\n")
            file.flush()
        except OSError as error:
            raise StartFailed(disk.told(folder, error)) from error
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
