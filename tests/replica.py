"""A streaming replica of the tests' PostgreSQL, made by pg_basebackup of the same wheel."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from noregret.embedded.postgres import bin_dir, unprivileged_user
from noregret.env import POSTGRES_SOCKETS, socket_dir

from tests.engines import DATA_DIR
from tests.serving.test_when_things_break import wait_for


class Replica:
    """Of all databases of that server. It follows it while it is not paused."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self.sockets = folder
        self._log = folder / "log"
        user = unprivileged_user()
        self._as: dict[str, Any] = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        primary = socket_dir(DATA_DIR) / POSTGRES_SOCKETS
        command = [str(bin_dir() / "pg_basebackup"), "-h", str(primary), "-U", "postgres", "-D", str(self._data)]
        # -R: whom it follows is written down; the rest is quick.
        options = ["-R", "--checkpoint=fast", "--wal-method=stream", "--no-sync", "--no-manifest"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, cwd="/", timeout=120, **self._as)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        settings = {
            "listen_addresses": "",
            "hot_standby": "on",
            "wal_level": "replica",
            "max_wal_senders": "4",
            "max_connections": "100",
            "shared_buffers": "32MB",
            "wal_retrieve_retry_interval": "200ms",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(bin_dir() / "postgres"), "-D", str(self._data), "-k", str(self.sockets), *arguments]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/", env={"LC_ALL": "C.UTF-8"}, **self._as
            )
        assert wait_for(self._answers, 60.0), self._log.read_text()[-2000:]

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def run(self, statement: str) -> Any:
        with psycopg.connect(f"host={self.sockets} user=postgres dbname=postgres", autocommit=True) as connection:
            row = connection.execute(statement.encode()).fetchone()
        return row and row[0]

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.Error):
            return bool(self.run("SELECT pg_is_in_recovery()"))
        return False


@contextlib.contextmanager
def running_replica() -> Iterator[Replica]:
    folder = Path(tempfile.mkdtemp(prefix="nr-replica-"))
    user = unprivileged_user()
    if user is not None:
        os.chown(folder, *user)
    replica = Replica(folder)
    try:
        replica.make()
        replica.start()
        yield replica
    finally:
        replica.stop()
        shutil.rmtree(folder, ignore_errors=True)
