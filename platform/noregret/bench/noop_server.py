"""The Django view that answers fixed JSON, served as the service's own web process is."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from django.conf import settings

from noregret.embedded.errors import StartFailed
from noregret.package_path import python_path

from .cores import Cores
from .load import LoadFailed, Target, http, load

START_SECONDS = 30.0


@contextlib.contextmanager
def noop_server(cores: Cores) -> Iterator[Target]:
    """It answers for the time of a `with`. Raises StartFailed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--blocking-threads", str(settings.ENVIRONMENT.blocking_threads), "--no-ws"]
    command += ["--http", "1", "--log-level", "error", "noregret.bench.noop_app:application"]
    with cores.starting_services():
        process = subprocess.Popen(
            command, env={**os.environ, **python_path()}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
    request = http("GET", "/noop")
    target = Target("127.0.0.1", port, lambda: request)
    try:
        _wait(target)
        yield target
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(target: Target) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            load(target, connections=1, seconds=0.1)
        except LoadFailed as error:
            if time.monotonic() > until:
                raise StartFailed(f"the Django view did not answer: {error}") from error
            time.sleep(0.2)
        else:
            return
