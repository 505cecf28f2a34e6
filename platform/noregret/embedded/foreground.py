"""The whole platform on this machine, in the foreground: servers, then the database, then
everything that needs them."""

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
from .readiness import ASK_SECONDS, Answer, Readiness
from .stop_request import StopRequest
from .supervisor import Supervisor
from .up import Arguments

ANSWER_SECONDS = 60.0
"""A platform that is silent for so long is not started."""
SERVE_SECONDS = 20.0
"""So long after it answers it may take until it can serve; then it is up all the same, for what
keeps it from serving is a person's to mend, with what runs here."""
WELL_SECONDS = 15.0
"""So long after it can serve it may take until it learns, too; then it is said to be ready all the
same."""


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
        self._readiness = Readiness(arguments.host, port, url)
        self._supervisor = Supervisor(self._engines.children, stop, [disk.Watch(self._data_dir), self._readiness])

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
            answer = self._wait()
            if answer.well:
                self._supervisor.all_started()
            if self._grpc_port is not None:
                _say(f"gRPC is served at {_bracketed(self._host)}:{self._grpc_port}")
            self._readiness.tell(answer)
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

    def _wait(self) -> Answer:
        """What it answers once all is well, or has had its time. Raises StartFailed where it does
        not answer."""
        heard = time.monotonic()
        since: dict[bool, float] = {}
        """When it first answered, and that it serves."""
        while True:
            self._stop.check()
            self._supervisor.tick()
            answer = self._readiness.ask()
            now = time.monotonic()
            if answer.document:
                heard = now
                if answer.well and self._grpc_listens():
                    return answer
                patience = WELL_SECONDS if answer.serves else SERVE_SECONDS
                if now - since.setdefault(answer.serves, now) > patience:
                    return answer
            elif now - heard > ANSWER_SECONDS:
                raise StartFailed(
                    f"no answer for {ANSWER_SECONDS:.0f} s: {answer.said}; the logs are in {self._data_dir / 'logs'}"
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
