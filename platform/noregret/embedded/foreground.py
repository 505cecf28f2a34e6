"""The whole platform on this machine, in the foreground: servers, then the database, then
everything that needs them."""

import http.client
import json
import os
import socket
import sys
import time
from pathlib import Path

from django.conf import settings
from django.utils.log import configure_logging

from noregret import env

from . import disk, first_start, services, unprivileged
from .child import Child
from .engines import Engines
from .errors import StartFailed
from .lock import DataDirLock
from .stop_request import StopRequest
from .supervisor import Supervisor
from .up import Arguments

READY_SECONDS = 60.0
"""Until it can serve."""
WELL_SECONDS = 15.0
"""So long after it can serve it may take until it learns, too; then it is said to be ready all the
same."""
ASK_SECONDS = 2.0


def run(arguments: Arguments, stop: StopRequest) -> None:
    """Until `stop` is asked for. Raises StartFailed, or StopAsked before everything runs; in any
    case nothing is left running."""
    # What is kept here holds what requests held: for nobody else on the machine.
    os.umask(0o077)
    data_dir = env.data_dir()
    port = _free_port(arguments.host, arguments.port)
    grpc_port = None if arguments.grpc_port is None else _free_port(arguments.host, arguments.grpc_port)
    if grpc_port == port:
        raise StartFailed(f"HTTP and gRPC can't both have port {port}")
    url = f"http://{_bracketed(arguments.host)}:{port}"
    lock = DataDirLock(data_dir)
    lock.take(url)
    try:
        disk.check(data_dir)
        warning = unprivileged.drop(
            data_dir, min(port, grpc_port or port), embedded_database=not env.database_is_named()
        )
        env.name_settings()
        configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
        if warning is not None:
            _say(f"Warning: {warning}")
        stop.check()
        _Platform(arguments, port, grpc_port, url, stop).run()
    finally:
        lock.release()


def _free_port(host: str, port: int) -> int:
    """The port, once it is known to be free; 0 becomes a free one."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartFailed(f"can't listen on {host}:{port}: {error.strerror}; try --port 0") from error
        except UnicodeError as error:
            raise StartFailed(f"can't listen on {host!r}: that is no address or name") from error
        chosen: int = probe.getsockname()[1]
        return chosen


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201 - to whoever started it


class _Platform:
    def __init__(self, arguments: Arguments, port: int, grpc_port: int | None, url: str, stop: StopRequest) -> None:
        self._web = services.web(arguments.host, port, arguments.web_workers)
        self._grpc: tuple[Child, ...] = ()
        if grpc_port is not None:
            self._grpc = (services.grpc(arguments.host, grpc_port),)
        self._grpc_port = grpc_port
        self._port = port
        self._host = arguments.host
        self._url = url
        self._stop = stop
        self._data_dir: Path = settings.DATA_DIR
        environment = settings.ENVIRONMENT
        self._engines = Engines(
            self._data_dir, postgres=environment.embedded_database, redis=environment.embedded_redis
        )
        self._supervisor = Supervisor(self._engines.children, stop, watch=[disk.Watch(self._data_dir)])

    def run(self) -> None:
        first_start.ensure_secret_key(self._data_dir)
        try:
            self._engines.start(self._stop.check)
            for child in self._engines.children:
                self._supervisor.start(child)
            self._prepare_database()
            workers = (services.worker(), services.shadow(), services.notify(), services.inspector(), services.beat())
            for child in (*workers, *self._grpc, self._web):
                self._stop.check()
                self._supervisor.start(child)
            if self._wait_ready():
                self._supervisor.all_started()
            if self._grpc_port is not None:
                _say(f"gRPC is served at {_bracketed(self._host)}:{self._grpc_port}")
            print(f"ready {self._url}", flush=True)  # noqa: T201 - the line that others wait for
            self._supervisor.run()
        finally:
            self._supervisor.stop()
            self._engines.stop()

    def _prepare_database(self) -> None:
        """Migrations and the first admin, by a child: what they load is gone with it. It says
        itself what there is to say."""
        child: Child = services.prepare()
        child.start()
        try:
            while child.alive:
                self._stop.check()
                self._supervisor.tick()
                time.sleep(0.05)
        finally:
            child.stop()
        assert child.process is not None
        if child.process.returncode == services.TOLD:
            raise StartFailed(child.last_lines(1))
        if child.process.returncode:
            raise StartFailed("the database could not be prepared, and what is above says why")

    def _wait_ready(self) -> bool:
        """Whether it learns, too."""
        until = time.monotonic() + READY_SECONDS
        serves_since: float | None = None
        while True:
            self._stop.check()
            self._supervisor.tick()
            status, said = self._ask()
            if status == http.client.OK:
                serves_since = serves_since or time.monotonic()
                well = json.loads(said)["status"] == "ready" and self._grpc_listens()
                if well or time.monotonic() - serves_since > WELL_SECONDS:
                    return well
            if serves_since is None and time.monotonic() > until:
                raise StartFailed(
                    f"not ready after {READY_SECONDS:.0f} s: {said}; the logs are in {self._data_dir / 'logs'}"
                )
            time.sleep(0.1)

    def _grpc_listens(self) -> bool:
        """It does once it can serve. True also where no gRPC is served."""
        if self._grpc_port is None:
            return True
        try:
            socket.create_connection((self._host, self._grpc_port), timeout=ASK_SECONDS).close()
        except OSError:
            return False
        return True

    def _ask(self) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=ASK_SECONDS)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()
