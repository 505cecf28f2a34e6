"""The Django view that answers fixed JSON, served as the service's own web process is."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from noregret.embedded.errors import StartFailed
from noregret.package_path import python_path
from noregret.variables import SECRET_KEY

from .cores import Cores
from .load import LoadFailed, Target, http, load

START_SECONDS = 60.0
_PROGRAM = "from serving.web.server import main; main('noregret.bench.noop_app:front', 'noop')"


@contextlib.contextmanager
def noop_server(cores: Cores) -> Iterator[Target]:
    """It answers for the time of a `with`. Raises StartFailed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _PROGRAM, "--port", str(port)]
    with cores.starting_services():
        process = subprocess.Popen(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # its request lines, as the service writes to a file
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


def _environment() -> dict[str, str]:
    """Ours, with a key of its own: nothing of a platform is read or signed."""
    return os.environ | python_path() | {SECRET_KEY: "bench-" + "0" * 40}


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
