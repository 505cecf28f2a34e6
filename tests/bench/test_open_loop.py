"""The load generators count what a caller waits, and end on what is not an answer."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from noregret.bench.cores import Cores
from noregret.bench.load import LoadFailed, Target, http, load
from noregret.bench.open_loop import load_at

STALL_SECONDS = 0.4
RATE = 100.0
Serve = Callable[[Callable[[int], bytes]], Target]


def answer(body: bytes = b"{}", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server of one thread: it answers request number i, from 0, with what it was given
    for i."""
    opened: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(respond: Callable[[int], bytes]) -> Target:
        server = socket.create_server(("127.0.0.1", 0))
        opened.append(server)
        threads.append(threading.Thread(target=_answer_all, args=(server, respond)))
        threads[-1].start()
        request = http("GET", "/")
        return Target("127.0.0.1", server.getsockname()[1], lambda: request)

    yield start
    for server in opened:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
    for thread in threads:
        thread.join(10)


def _answer_all(server: socket.socket, respond: Callable[[int], bytes]) -> None:
    """One connection, one request after another."""
    asked = 0
    try:
        connection, _ = server.accept()
        with connection:
            while connection.recv(65536):
                connection.sendall(respond(asked))
                asked += 1
    except OSError:  # the load generator has gone
        return


def test_load_at__while_the_service_stalls__counts_what_was_due_meanwhile(serve: Serve) -> None:
    def stall_once(i: int) -> bytes:
        if i == 5:
            time.sleep(STALL_SECONDS)
        return answer()

    measured = load_at(serve(stall_once), rate=RATE, connections=1, seconds=0.6)
    # Due while the service stood still: one request in each hundredth of a second, each of which
    # waited.
    waited = [latency for latency in measured.latencies if latency > STALL_SECONDS / 2]
    assert len(measured.latencies) == 60
    assert len(waited) >= 15
    assert max(waited) >= STALL_SECONDS


def test_load_at__of_a_service_that_keeps_up__sends_no_more_than_its_rate(serve: Serve) -> None:
    measured = load_at(serve(lambda i: answer()), rate=RATE, connections=1, seconds=0.3)
    assert len(measured.latencies) == 30
    assert measured.per_second <= 1.1 * RATE


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (answer(b"no", b"503 Service Unavailable"), "503"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", "without a length"),
    ],
)
def test_load__of_another_answer__ends_with_it(serve: Serve, reply: bytes, told: str) -> None:
    with pytest.raises(LoadFailed, match=told):
        load(serve(lambda i: reply), connections=1, seconds=5.0)


def test_load__of_an_answer_in_chunks__takes_it_whole(serve: Serve) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert load(serve(lambda i: chunked), connections=1, seconds=0.2).latencies


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_cores__of_what_is_started__are_the_services_and_then_the_generators_again() -> None:
    before = os.sched_getaffinity(0)
    try:
        cores = Cores.of_this_machine()
        with cores.starting_services():
            assert os.sched_getaffinity(0) == {cores.service}
        assert os.sched_getaffinity(0) == {cores.load}
        with cores.moved_away([os.getpid()]):
            assert os.sched_getaffinity(0) == {cores.load}
        # Every thread goes where its process goes.
        assert {frozenset(os.sched_getaffinity(int(name))) for name in os.listdir("/proc/self/task")} == {
            frozenset({cores.service})
        }
    finally:
        for name in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(name), before)
