"""The servers that a data directory brings with it: PostgreSQL and Redis, where no address names others."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noregret.env import socket_dir

from .child import Child
from .postgres import Postgres, unprivileged_user
from .redis_server import RedisServer


class Engines:
    """Starts and stops what is asked for; the children are in `children`, in the order of their start."""

    def __init__(self, data_dir: Path, *, postgres: bool = True, redis: bool = True) -> None:
        self._data_dir = data_dir
        self._sockets = socket_dir(data_dir)
        logs = data_dir / "logs"
        self._servers: list[Postgres | RedisServer] = []
        if postgres:
            self._servers.append(Postgres(data_dir, self._sockets, logs / "postgres.log"))
        if redis:
            self._servers.append(RedisServer(data_dir, self._sockets, logs / "redis.log"))

    @property
    def children(self) -> list[Child]:
        return [server.child for server in self._servers]

    def start(self) -> None:
        """Start them and wait until they answer. Raises StartFailed, with nothing left running."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        owner = unprivileged_user()
        if owner is not None:
            os.chown(self._sockets, *owner)
        try:
            for server in self._servers:
                server.prepare()
                server.child.start()
            for server in self._servers:
                server.wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for child in self.children:
            child.ask_to_stop()
        for child in reversed(self.children):
            child.stop()
        for leftover in self._sockets.glob("*") if self._sockets.is_dir() else []:
            leftover.unlink(missing_ok=True)
        if self._sockets.is_dir():
            self._sockets.rmdir()


@contextmanager
def running_engines(data_dir: Path) -> Iterator[Engines]:
    """Engines for the time of a `with`."""
    engines = Engines(data_dir)
    engines.start()
    try:
        yield engines
    finally:
        engines.stop()
