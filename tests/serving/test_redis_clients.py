"""Every use of Redis stands in one table, and waits as long as that says."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from serving import redis_clients

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def test_connections__are_made_in_the_table_alone() -> None:
    made = re.compile(r"(?:ConnectionPool|Redis)\.from_url\(|Redis\((?!Error)(?=[^)]*url|[^)]*host)")
    files = [path for room in ("serving", "platform") for path in (ROOT / room).rglob("*.py")]
    makers = [path.relative_to(ROOT).as_posix() for path in files if made.search(path.read_text())]
    assert makers == ["serving/redis_clients.py"]


@pytest.mark.parametrize(
    "use", [use for use in redis_clients.USES if use.answer_seconds <= 1], ids=lambda use: use.name
)
def test_use__of_a_server_that_says_nothing__ends_after_its_time_and_its_tries(
    use: redis_clients.Use, silent: socket.socket
) -> None:
    client = redis_clients.client(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", use)
    began = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    assert time.monotonic() - began >= use.answer_seconds
    connections = []
    while True:
        try:
            connections.append(silent.accept()[0])
        except BlockingIOError:
            break
    for connection in connections:
        connection.close()
    assert len(connections) == 1 + use.retries
    client.close()
