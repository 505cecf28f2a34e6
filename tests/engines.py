"""Pytest plugin: real PostgreSQL and Redis for one session, started at the first test that needs
them.

It is loaded before pytest-django reads the settings (`-p tests.engines`), for the settings follow
from the environment. The data directory is a temporary one, and nothing of it is left.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

DATA_DIR = Path(tempfile.mkdtemp(prefix="noregret-tests-"))

# Some machines are told to write no bytecode. Tests start hundreds of processes, and each would
# compile the whole platform anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

for _name in ("DATABASE_URL", "REDIS_URL", "PROMETHEUS_MULTIPROC_DIR"):
    os.environ.pop(_name, None)
os.environ["NOREGRET_DATA_DIR"] = str(DATA_DIR)
os.environ["NOREGRET_SECRET_KEY"] = "only-for-tests-" + "0123456789abcdef" * 3
os.environ["NOREGRET_PYTHON_CALLABLES"] = "tests.callables.*"
os.environ["NOREGRET_REMOTE_HOSTS"] = "127.0.0.1,localhost"
os.environ["NOREGRET_REMOTE_NETWORKS"] = "127.0.0.0/8"
os.environ["NOREGRET_LOG_LEVEL"] = "ERROR"
if _cluster := os.environ.get("TESTS_REDIS_CLUSTER", ""):
    # The same tests on a cluster (tests/soak/test_suite_on_a_cluster.py); Celery's queues are on
    # one server as before.
    from noregret.env import socket_dir as _socket_dir

    os.environ["REDIS_URL"] = _cluster
    os.environ["NOREGRET_BROKER_URL"] = f"unix://{_socket_dir(DATA_DIR)}/redis.sock"


@pytest.fixture(scope="session")
def engines() -> Iterator[None]:
    """PostgreSQL and Redis, running."""
    from noregret.embedded.engines import running_engines

    # A replica may follow it (tests/replica.py).
    with running_engines(DATA_DIR, {"wal_level": "replica", "max_wal_senders": "4"}):
        _write_lazily()
        yield


def _write_lazily() -> None:
    """No test of this server pulls a machine's plug, and every test empties every table: waiting
    for the disk would take minutes.

    What is killed here are processes, and the kernel keeps what they wrote. Tests of `up` have
    servers of their own, as shipped.
    """
    from noregret.env import POSTGRES_SOCKETS, socket_dir

    with psycopg.connect(
        f"host={socket_dir(DATA_DIR) / POSTGRES_SOCKETS} user=postgres dbname=postgres", autocommit=True
    ) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off".encode())
        connection.execute("SELECT pg_reload_conf()")


def pytest_unconfigure() -> None:
    shutil.rmtree(DATA_DIR, ignore_errors=True)
