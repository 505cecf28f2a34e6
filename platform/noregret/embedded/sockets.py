"""The folder of the embedded servers' sockets. It lies among everybody's temporary files, so
nothing about it is taken on trust.

Whoever owns the folder owns what listens in it. It is opened without following links and judged by
its descriptor: a directory, ours, and writable by nobody else. PostgreSQL, which may run as another
user, has a folder of its own inside. When it is let go of, only names that the servers gave are
removed, by descriptor: a link that took the folder's place leads nowhere.
"""

import contextlib
import os
import stat
from pathlib import Path

from noregret.env import POSTGRES_SOCKETS

from .errors import StartFailed

_REDIS = ("redis.sock",)
_POSTGRES = (".s.PGSQL.5432", ".s.PGSQL.5432.lock")
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SocketFolder:
    """The folder of one data directory; `postgres_user` is the (uid, gid) that PostgreSQL runs as,
    where that is another."""

    def __init__(self, path: Path, postgres_user: tuple[int, int] | None) -> None:
        self._path = path
        self._user = postgres_user

    def take(self) -> None:
        """Make it, or take the one that an earlier start left. Raises StartFailed for one that is
        not ours."""
        with contextlib.suppress(FileExistsError):
            self._path.mkdir(mode=0o700)
        folder = self._open(self._path, os.geteuid())
        try:
            # Passed through by PostgreSQL's user, listed and written by nobody else.
            os.fchmod(folder, 0o700 if self._user is None else 0o711)
            with contextlib.suppress(FileExistsError):
                os.mkdir(POSTGRES_SOCKETS, mode=0o700, dir_fd=folder)
            owner = os.geteuid() if self._user is None else self._user[0]
            inner = os.open(POSTGRES_SOCKETS, _FLAGS, dir_fd=folder)
            try:
                found = os.fstat(inner)
                if found.st_uid not in (os.geteuid(), owner):
                    raise StartFailed(f"{self._path / POSTGRES_SOCKETS} belongs to the user {found.st_uid}: remove it")
                if self._user is not None:
                    os.fchown(inner, *self._user)
                os.fchmod(inner, 0o700)
            finally:
                os.close(inner)
        finally:
            os.close(folder)

    def _open(self, path: Path, owner: int) -> int:
        try:
            folder = os.open(path, _FLAGS)
        except OSError as error:
            raise StartFailed(f"{path} is no folder that can be opened ({error.strerror}): remove it") from error
        found = os.fstat(folder)
        others = stat.S_IMODE(found.st_mode) & 0o022
        if found.st_uid != owner or others:
            os.close(folder)
            whose = f"belongs to the user {found.st_uid}" if found.st_uid != owner else "can be written by others"
            raise StartFailed(f"{path} {whose}, and sockets in it could be anybody's: remove it")
        return folder

    def leave(self) -> None:
        """Remove what the servers left in it, and the folder if nothing else is there. A folder
        that is not ours is left alone."""
        with contextlib.suppress(StartFailed, OSError):
            folder = self._open(self._path, os.geteuid())
            try:
                self._remove(folder, _REDIS)
                with contextlib.suppress(OSError):
                    inner = os.open(POSTGRES_SOCKETS, _FLAGS, dir_fd=folder)
                    try:
                        self._remove(inner, _POSTGRES)
                    finally:
                        os.close(inner)
                    os.rmdir(POSTGRES_SOCKETS, dir_fd=folder)
            finally:
                os.close(folder)
            self._path.rmdir()

    @staticmethod
    def _remove(folder: int, names: tuple[str, ...]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
