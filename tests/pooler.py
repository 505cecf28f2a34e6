"""PgBouncer in transaction mode before the tests' PostgreSQL: a server connection is lent for one
transaction.

Where its program is not installed, tests that need it are skipped, and say so; `.ci/run` installs
it.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
from noregret.embedded.postgres import unprivileged_user
from noregret.env import POSTGRES_SOCKETS, socket_dir

from tests.engines import DATA_DIR

SERVER_CONNECTIONS = 4
"""Fewer than the processes of a platform with two web processes and two learners."""


def program() -> str | None:
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def pooled_database(replica: Path | None = None) -> Iterator[tuple[str, str]]:
    """An empty database: its address through the pooler, and its own. With the sockets of a
    `replica` the pooler lends connections to that too, at the same address and `_replica`."""
    name = f"pooled_{secrets.token_hex(4)}"
    sockets = socket_dir(DATA_DIR) / POSTGRES_SOCKETS
    server = f"host={sockets} user=postgres"
    with psycopg.connect(f"{server} dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    folder = Path(tempfile.mkdtemp(prefix="noregret-pooler-"))
    try:
        servers = {name: sockets} | ({} if replica is None else {f"{name}_replica": replica})
        with _pgbouncer(folder, name, servers) as port:
            yield f"postgresql://postgres@127.0.0.1:{port}/{name}", f"{server} dbname={name}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with psycopg.connect(f"{server} dbname=postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextlib.contextmanager
def _pgbouncer(folder: Path, database: str, servers: Mapping[str, Path]) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": SERVER_CONNECTIONS,
        "max_client_conn": 200,
        "log_connections": 0,
        "log_disconnections": 0,
    }
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        "[databases]\n"
        + "".join(f"{name} = host={sockets} user=postgres dbname={database}\n" for name, sockets in servers.items())
        + "[pgbouncer]\n"
        + "".join(f"{key} = {value}\n" for key, value in settings.items())
    )
    user = unprivileged_user()
    if user is not None:  # it refuses to run as root
        for path in (folder, configuration):
            os.chown(path, *user)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(program()), str(configuration)],
            stderr=log,
            cwd="/",
            user=None if user is None else user[0],
            group=None if user is None else user[1],
            extra_groups=None if user is None else [],
        )
    try:
        _wait(process, port, folder / "log")
        yield port
    finally:
        process.kill()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(log.read_text())
