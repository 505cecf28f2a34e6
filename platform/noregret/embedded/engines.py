"""The servers that a data directory brings with it: PostgreSQL and Redis, where no address names
others."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from noregret.env import POSTGRES_SOCKETS, socket_dir

from .child import Child
from .postgres import Postgres, unprivileged_user
from .redis_server import RedisServer
from .sockets import SocketFolder


class Engines:
    """Starts and stops what is asked for; the children are in `children`, in the order of their
    start. `settings` are PostgreSQL's."""

    def __init__(
        self, data_dir: Path, *, postgres: bool = True, redis: bool = True, settings: Mapping[str, str] | None = None
    ) -> None:
        self._data_dir = data_dir
        sockets = socket_dir(data_dir)
        self._sockets = SocketFolder(sockets, unprivileged_user())
        logs = data_dir / "logs"
        self._servers: list[Postgres | RedisServer] = []
        if postgres:
            self._servers.append(Postgres(data_dir, sockets / POSTGRES_SOCKETS, logs / "postgres.log", settings))
        if redis:
            self._servers.append(RedisServer(data_dir, sockets, logs / "redis.log"))

    @property
    def children(self) -> list[Child]:
        return [server.child for server in self._servers]

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Start them and wait until they answer, calling `check` meanwhile. Raises StartFailed, or
        what `check` raises, with nothing left running."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._sockets.take()
        try:
            for server in self._servers:
                check()
                server.prepare()
                check()
                server.child.start()
            for server in self._servers:
                server.wait_ready(check)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for child in self.children:
            child.ask_to_stop()
        for child in reversed(self.children):
            child.stop()
        self._sockets.leave()


@contextmanager
def running_engines(data_dir: Path, settings: Mapping[str, str] | None = None) -> Iterator[Engines]:
    """Engines for the time of a `with`; `settings` are PostgreSQL's."""
    engines = Engines(data_dir, settings=settings)
    engines.start()
    try:
        yield engines
    finally:
        engines.stop()
