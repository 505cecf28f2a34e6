"""Connections as the web server accepts them: real sockets, small WSGI applications behind two
planes of two threads."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from serving.web import connection, front, request_heads
from serving.web.connection import Connection
from serving.web.front import Front
from serving.web.pools import Pool
from serving.web.rules import Fixed, Plane, Rule

LIMIT = 256 * 1024
UPLOAD = 8 * 1024 * 1024


class Application:
    """Answers with what it was asked, or as the path says."""

    def __init__(self) -> None:
        self.entered = 0
        self.may_go = threading.Event()
        self.parts_made = 0
        self.closed = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        self.entered += 1
        path = environ["PATH_INFO"]
        if path == "/hang":
            self.may_go.wait(30)
        if path == "/raises":
            raise ValueError("as asked")
        if path == "/splits":
            start_response("200 OK", [("X-Name", "one\r\nX-Other: two")])
            return [b""]
        if path == "/stream":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return self._stream(int(environ["QUERY_STRING"]))
        body = environ["wsgi.input"].read()
        seen = {
            "method": environ["REQUEST_METHOD"],
            "path": path,
            "query": environ["QUERY_STRING"],
            "length": environ.get("CONTENT_LENGTH"),
            "read": len(body),
            "body": body[:100].decode("latin-1"),
            "headers": {name: value for name, value in environ.items() if name.startswith(("HTTP_", "CONTENT_"))},
        }
        answer = json.dumps(seen).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return [answer]

    def _stream(self, count: int) -> Iterator[bytes]:
        try:
            for _ in range(count):
                self.parts_made += 1
                yield b"x" * 65_536
        finally:
            self.closed.set()


class Service:
    def __init__(self, folder: Path) -> None:
        self.application = Application()
        self.data = Plane(self.application, Pool("data", 2, 4))
        self.control = Plane(self.application, Pool("control", 1, 2))
        rules = {
            "/data": Rule(self.data, ("POST",), LIMIT, 10.0),
            "/hang": Rule(self.control, ("POST", "GET"), LIMIT, 10.0),
            "/raises": Rule(self.data, ("GET",), 0, 10.0),
            "/splits": Rule(self.data, ("GET",), 0, 10.0),
            "/stream": Rule(self.data, ("GET",), 0, 10.0),
            "/get": Rule(self.data, ("GET", "HEAD"), 0, 10.0),
            "/probe": Rule(Fixed("text/plain", b"well"), ("GET", "HEAD"), 0, 10.0),
            "/uploads": Rule(self.data, ("POST",), LIMIT, 10.0, UPLOAD, 60.0),
        }
        self.front = Front(rules.get, folder=folder, disk_limit=2 * UPLOAD, share=0.0)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        config = uvicorn.Config(
            self.front,
            http=Connection,
            loop="uvloop",
            ws="none",
            lifespan="off",
            interface="asgi3",
            proxy_headers=False,
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([listener],))
        self.thread.start()

    def stop(self) -> None:
        self.application.may_go.set()
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(front, "SWEEP_SECONDS", 0.05)
    running = Service(tmp_path / "uploads")
    yield running
    running.stop()


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(sock: socket.socket, method: str = "GET") -> Answer:
    """One answer, and not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise EOFError(head)
        head += byte
    line, *fields = head.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    status = int(line.split()[1])
    if status == 100:
        return Answer(status, headers, b"")
    body = b""
    if method != "HEAD" and status not in {204, 304}:
        if headers.get("transfer-encoding") == "chunked":
            while True:
                size = b""
                while not size.endswith(b"\r\n"):
                    size += sock.recv(1)
                part = receive(sock, int(size, 16) + 2)
                if len(part) == 2:
                    break
                body += part[:-2]
        elif "content-length" in headers:
            body = receive(sock, int(headers["content-length"]))
        else:
            while part := sock.recv(65_536):
                body += part
    return Answer(status, headers, body)


def receive(sock: socket.socket, size: int) -> bytes:
    body = b""
    while len(body) < size:
        part = sock.recv(size - len(body))
        if not part:
            raise EOFError(body)
        body += part
    return body


def post(path: str, body: bytes = b"", **headers: str) -> bytes:
    fields = {"Host": "localhost", "Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return (
        f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    ).encode() + body


def get(path: str, method: str = "GET", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


def is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def test_request__in_whatever_pieces_it_comes__is_answered_once_and_the_connection_kept(service: Service) -> None:
    with service.connect() as sock:
        for piece in (1, 7, 10_000):
            request = post("/data", b"a body of some length", X_Name="value")
            for start in range(0, len(request), piece):
                sock.sendall(request[start : start + piece])
            answer = read_answer(sock)
            assert (answer.status, answer.json["read"], answer.json["length"]) == (200, 21, "21")
            assert answer.json["headers"]["HTTP_X_NAME"] == "value"
            assert answer.headers["date"].endswith("GMT")
    assert service.application.entered == 3


def test_bodies_that_are_not_whole__take_no_thread(service: Service) -> None:
    with contextlib.ExitStack() as stack:
        for part in (b"", b"x", b"x" * 5_000):
            for _ in range(8):
                sock = stack.enter_context(service.connect())
                sock.sendall(post("/data", b"x" * 10_000)[:-10_000] + part)
        with service.connect() as other:
            other.sendall(post("/data", b"{}"))
            assert read_answer(other).status == 200
        assert service.application.entered == 1
        sock.sendall(b"x" * 5_000)
        assert read_answer(sock).json["read"] == 10_000


def test_body_in_chunks__comes_whole_and_with_a_length(service: Service) -> None:
    head = b"POST /data HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with service.connect() as sock:
        sock.sendall(head)
        for part in (b"first ", b"second"):
            sock.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        sock.sendall(b"0\r\nX-API-Key: a trailer\r\n\r\n")
        answer = read_answer(sock).json
        assert (answer["body"], answer["length"]) == ("first second", "12")
        assert not answer["headers"].keys() & {"HTTP_TRANSFER_ENCODING", "HTTP_X_API_KEY"}
        # Past the limit it is refused where it passes it.
        sock.sendall(head)
        for _ in range(LIMIT // 16_384 + 1):
            sock.sendall(b"4000\r\n%b\r\n" % (b"x" * 16_384))
        refused = read_answer(sock)
        assert (refused.status, refused.json["type"]) == (413, "/problems/too-large")
        assert service.application.entered == 1
        sock.sendall(b"0\r\n\r\n" + post("/data", b"another"))
        assert read_answer(sock).json["body"] == "another"


def test_routes_methods_and_lengths_that_are_not_taken__are_refused_without_a_thread(service: Service) -> None:
    cases = [
        (get("/nowhere"), 404, "/problems/not-found"),
        (post("/nowhere", b"x" * 1_000), 404, "/problems/not-found"),
        (get("/data"), 405, "/problems/method-not-allowed"),
        (post("/probe", b"x" * 1_000), 405, "/problems/method-not-allowed"),
        (get("/get", method="DELETE"), 405, "/problems/method-not-allowed"),
        (get("/get", more="Content-Length: 4\r\n") + b"body", 413, "/problems/too-large"),
        (post("/data", b"x" * (LIMIT + 1)), 413, "/problems/too-large"),
        (post("/uploads", b"x" * (LIMIT + 1)), 413, "/problems/too-large"),
        (post("/data", b"x", Expect="miracles"), 417, "/problems/expectation-failed"),
    ]
    with service.connect() as sock:  # one connection: each is read to its end, and the next is answered
        for request, status, kind in cases:
            sock.sendall(request)
            answer = read_answer(sock)
            assert (answer.status, answer.json["type"]) == (status, kind), request[:80]
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["x-request-id"]
            if status == 405:
                assert answer.headers["allow"] in {"POST", "GET, HEAD"}
        sock.sendall(get("/probe", method="HEAD") + get("/probe"))
        assert read_answer(sock, "HEAD").headers["content-length"] == "4"
        assert read_answer(sock).body == b"well"
    assert service.application.entered == 0


def test_what_is_no_request__gets_a_400_and_the_connection_ends(service: Service) -> None:
    for request, status in (
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /data HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /data HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400),
        (b"GET /get HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET /get HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n", 431),
    ):
        with service.connect() as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(request)
            answer = read_answer(sock)
            assert answer.status == status, request[:80]
            assert answer.headers["connection"] == "close"
            assert is_closed(sock)
    assert service.application.entered == 0


def test_header_with_an_underscore__is_not_the_one_with_a_hyphen(service: Service) -> None:
    with service.connect() as sock:
        sock.sendall(
            get("/get", more="X_API_Key: forged\r\nX-Real: first\r\nX-Real: second\r\nCookie: a=1\r\nCookie: b=2\r\n")
        )
        headers = read_answer(sock).json["headers"]
        assert "HTTP_X_API_KEY" not in headers
        assert headers["HTTP_X_REAL"] == "first,second"
        assert headers["HTTP_COOKIE"] == "a=1; b=2"


def test_address__is_decoded_as_wsgi_wants_it(service: Service) -> None:
    with service.connect() as sock:
        for target, path, query in (
            ("/get?a=%20&b", "/get", "a=%20&b"),
            ("/g%65t#part?no", "/get", ""),
            ("http://localhost/get?x", "/get", "x"),
        ):
            sock.sendall(get(target))
            seen = read_answer(sock).json
            assert (seen["path"], seen["query"]) == (path, query)


def test_expecting_sender__is_told_to_go_on_only_for_a_body_that_is_taken(service: Service) -> None:
    with service.connect() as sock:
        request = post("/data", b"the body", Expect="100-continue")
        sock.sendall(request[:-8])
        assert read_answer(sock).status == 100
        sock.sendall(request[-8:])
        assert read_answer(sock).json["body"] == "the body"
        sock.sendall(post("/data", Expect="100-continue", Content_Length=str(LIMIT + 1)))
        assert read_answer(sock).status == 413


def test_silent_and_dripping_senders__get_a_408_and_are_gone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    service.front.find = lambda path: Rule(service.data, ("POST",), LIMIT, 1.0)
    with service.connect() as silent, service.connect() as drips, service.connect() as half, service.connect() as mute:
        silent.sendall(post("/data", b"x" * 1_000)[:-1_000])
        half.sendall(b"POST /data HTTP/1.1\r\nHo")
        drips.sendall(post("/data", b"x" * 1_000)[:-1_000])
        with contextlib.suppress(OSError):
            for _ in range(12):
                drips.sendall(b"x")
                time.sleep(0.15)
        for sock in (silent, half, drips):
            answer = read_answer(sock)
            assert (answer.status, answer.json["type"]) == (408, "/problems/request-timeout")
            assert is_closed(sock)
        assert is_closed(mute)  # it never said a thing, and hears none
    assert service.application.entered == 0
    assert wait_for(lambda: not service.front.connections and not service.front.unfinished)


def test_many_unfinished_requests__the_oldest_makes_room(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MOST_UNFINISHED", 4)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(service.connect()) for _ in range(6)]
        for number, sock in enumerate(socks, start=1):
            sock.sendall(post("/data", b"body")[:-4])
            assert wait_for(lambda number=number: len(service.front.unfinished) == min(number, 4))  # type: ignore[misc]
        assert [read_answer(sock).status for sock in socks[:2]] == [408, 408]
        for sock in socks[2:]:
            sock.sendall(b"body")
            assert read_answer(sock).status == 200


def test_body_that_ends_early__takes_no_thread_and_leaves_nothing(service: Service) -> None:
    with service.connect() as sock:
        sock.sendall(post("/data", b"x" * 1_000)[:-500])
        sock.shutdown(socket.SHUT_WR)
        assert read_answer(sock).status == 400
        assert is_closed(sock)
    with service.connect() as sock:
        sock.sendall(post("/uploads", b"x" * 1_000_000, Content_Type="multipart/form-data; boundary=b")[:-500])
        assert wait_for(lambda: service.front.spooler._size > 500_000)
    assert wait_for(lambda: service.front.spooler._size == 0 and not service.front.connections)
    assert service.application.entered == 0


def test_large_body__waits_on_disk_and_leaves_nothing_there(service: Service, tmp_path: Path) -> None:
    body = b"first" + b"x" * 6_000_000
    with service.connect() as sock:
        for _ in range(3):
            sock.sendall(post("/uploads", body, Content_Type="multipart/form-data; boundary=b"))
            answer = read_answer(sock).json
            assert (answer["read"], answer["body"][:6]) == (len(body), "firstx")
    assert wait_for(lambda: service.front.spooler._size == 0)
    assert list((tmp_path / "uploads").iterdir()) == []


def test_bodies_past_what_the_disk_may_hold__are_told_to_come_again(service: Service) -> None:
    media_type = "multipart/form-data; boundary=b"
    with service.connect() as first, service.connect() as second, service.connect() as third:
        for sock in (first, second):
            sock.sendall(post("/uploads", b"x" * UPLOAD, Content_Type=media_type)[:-1])
        assert wait_for(lambda: service.front.spooler._size > 2 * UPLOAD - 200_000)
        third.sendall(post("/uploads", b"x" * 1_000_000, Content_Type=media_type))
        answer = read_answer(third)
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")
        first.sendall(b"x")
        assert read_answer(first).json["read"] == UPLOAD


def test_plane_whose_threads_hang__stops_no_other_and_tells_more_to_come_again(service: Service) -> None:
    with contextlib.ExitStack() as stack:
        hanging = [stack.enter_context(service.connect()) for _ in range(3)]  # one is answered, two wait
        for number, sock in enumerate(hanging):
            sock.sendall(get("/hang"))
            if number == 0:
                assert wait_for(lambda: service.application.entered == 1)
        time.sleep(0.1)
        with service.connect() as sock:
            sock.sendall(get("/hang"))
            answer = read_answer(sock)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            sock.sendall(post("/data", b"{}"))
            assert read_answer(sock).status == 200
        service.application.may_go.set()
        assert [read_answer(sock).status for sock in hanging] == [200, 200, 200]


def test_request_that_waits_too_long_for_a_thread__is_told_to_come_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "QUEUE_SECONDS", 0.3)
    with service.connect() as first, service.connect() as second, service.connect() as gone:
        first.sendall(get("/hang"))
        assert wait_for(lambda: service.application.entered == 1)
        gone.sendall(get("/hang"))
        gone.close()
        second.sendall(get("/hang"))
        assert read_answer(second).status == 503
        service.application.may_go.set()
        assert read_answer(first).status == 200
        second.sendall(post("/data", b"{}"))
        assert read_answer(second).status == 200
    assert service.application.entered == 2  # neither who waited too long nor who had gone took a thread


def test_requests_sent_ahead__are_answered_in_their_order(service: Service) -> None:
    with service.connect() as sock:
        sock.sendall(
            post("/data", b"one") + get("/nowhere") + post("/data", b"two") + get("/data") + post("/data", b"three")
        )
        seen = [read_answer(sock) for _ in range(5)]
        assert [answer.status for answer in seen] == [200, 404, 200, 405, 200]
        assert [answer.json["body"] for answer in seen[::2]] == ["one", "two", "three"]
    with service.connect() as sock:  # without end
        with contextlib.suppress(OSError):
            for _ in range(1_000):
                sock.sendall(get("/get") * 100)
        assert wait_for(lambda: not service.front.connections)


def test_request_behind_a_body_on_its_way_to_disk__is_answered_after_it(service: Service) -> None:
    with service.connect() as sock:
        for _ in range(5):
            sock.sendall(post("/data", b"x" * 100_000) + get("/probe") + post("/data", b"last"))
            assert read_answer(sock).json["read"] == 100_000
            assert read_answer(sock).body == b"well"
            assert read_answer(sock).json["body"] == "last"


def test_head_whose_beginning_came_with_a_large_body__is_no_larger_for_it(service: Service) -> None:
    request = post("/data", b"x" * 100_000)
    with service.connect() as sock:
        sock.sendall(request + request[:10])
        assert read_answer(sock).status == 200
        sock.sendall(request[10:] + request[:60])
        sock.sendall(request[60:])
        assert [read_answer(sock).status for _ in range(2)] == [200, 200]


def test_more_requests_sent_ahead_than_are_taken__those_that_are_get_their_answers(service: Service) -> None:
    with service.connect() as sock:
        sock.sendall(get("/get") * 40)
        seen = [read_answer(sock) for _ in range(1 + connection.MOST_IN_LINE)]
        assert {answer.status for answer in seen} == {200}
        assert [answer.headers.get("connection") for answer in seen][-2:] == [None, "close"]
        assert is_closed(sock)


def test_requests_before_what_is_no_request__are_answered__and_so_is_that(service: Service) -> None:
    with service.connect() as sock:
        sock.sendall(post("/data", b"one") + post("/data", b"two") + b"GARBAGE\r\n\r\n")
        assert [read_answer(sock).status for _ in range(3)] == [200, 200, 400]
        assert is_closed(sock)


@pytest.mark.parametrize("offer", ["h2c", "websocket"])
def test_offer_of_another_protocol__is_passed_over__and_the_body_read(service: Service, offer: str) -> None:
    def offering(request: bytes) -> bytes:
        return request.replace(b"\r\n", f"\r\n{offered}".encode(), 1)

    offered = f"Connection: Upgrade\r\nUpgrade: {offer}\r\n"
    with service.connect() as sock:
        request = offering(post("/data", b"the body"))
        sock.sendall(request)
        assert read_answer(sock).json["body"] == "the body"
        sock.sendall(request * 2 + get("/get", more=offered) + request[:-3])
        assert [read_answer(sock).json["body"] for _ in range(3)] == ["the body", "the body", ""]
        sock.sendall(request[-3:])
        assert read_answer(sock).json["body"] == "the body"
        head = request[:-8].replace(b"Content-Length: 8", b"Transfer-Encoding: chunked")
        sock.sendall(head + b"3\r\nthe\r\n5\r\n body\r\n0\r\n\r\n" + post("/data", b"next"))
        assert [read_answer(sock).json["body"] for _ in range(2)] == ["the body", "next"]
        sock.sendall(offering(post("/data", b"x" * (LIMIT + 1))) + post("/data", b"next"))
        assert read_answer(sock).status == 413
        assert read_answer(sock).json["body"] == "next"
        sock.sendall(head.replace(b": chunked", b": gzip") + b"3\r\nthe\r\n0\r\n\r\n")
        assert read_answer(sock).status == 400
        assert is_closed(sock)
    assert wait_for(lambda: not service.front.connections and not service.front.unfinished)


def test_expecting_sender_of_http_1_0__is_sent_nothing_but_the_answer(service: Service) -> None:
    with service.connect() as sock:
        request = post("/data", b"the body", Expect="100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
        sock.sendall(request[:-8])
        time.sleep(0.1)
        sock.sendall(request[-8:])
        assert read_answer(sock).json["body"] == "the body"


def test_idle_connections_without_end__keep_out_nobody(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.front, "_room", 8)
    with contextlib.ExitStack() as stack:
        asking = stack.enter_context(service.connect())
        asking.sendall(post("/data", b"body")[:-4])
        for _ in range(40):
            sock = stack.enter_context(service.connect())
            sock.sendall(get("/get"))
            assert read_answer(sock).status == 200
            assert len(service.front.connections) <= 9
        asking.sendall(b"body")
        assert read_answer(asking).status == 200


def test_headers_without_end__are_not_remembered() -> None:
    for number in range(1_000):
        request_heads.key_of(b"X-%d-" % number + b"a" * 60_000)
    assert sum(map(len, request_heads._KEPT)) < 64 * 1024


def test_answer_made_while_it_is_sent__waits_for_its_reader(service: Service) -> None:
    with service.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sock.sendall(get("/stream?400"))  # 26 MB
        time.sleep(0.5)
        made = service.application.parts_made
        assert 0 < made < 200
        answer = read_answer(sock)
        assert len(answer.body) == 400 * 65_536
        sock.sendall(get("/stream?0"))
        assert read_answer(sock).headers["content-length"] == "0"
        sock.sendall(get("/stream?40", method="HEAD") + get("/get"))
        read_answer(sock, "HEAD")
        assert read_answer(sock).status == 200
    with service.connect() as sock:
        sock.sendall(b"GET /stream?40 HTTP/1.0\r\n\r\n")
        assert len(read_answer(sock).body) == 40 * 65_536


def test_reader_that_goes_away__ends_what_is_made_for_it(service: Service) -> None:
    with service.connect() as sock:
        sock.sendall(get("/stream?100000"))
        sock.recv(1_000)
    assert service.application.closed.wait(10)
    assert service.application.parts_made < 1_000


def test_application_that_fails__is_a_500_in_json(service: Service) -> None:
    with service.connect() as sock:
        for path in ("/raises", "/splits"):
            sock.sendall(get(path))
            answer = read_answer(sock)
            assert (answer.status, answer.json["type"]) == (500, "/problems/internal")
            assert "x-other" not in answer.headers
            assert is_closed(sock)
            break
    with service.connect() as sock:
        sock.sendall(get("/splits"))
        assert read_answer(sock).status == 500


def test_process_that_is_told_to_end__answers_what_it_has_and_takes_no_more(service: Service) -> None:
    with service.connect() as idle, service.connect() as busy, service.connect() as silent:
        busy.sendall(get("/hang"))
        silent.sendall(post("/data", b"x" * 10)[:-10])
        idle.sendall(get("/probe"))
        assert read_answer(idle).status == 200
        assert wait_for(lambda: service.application.entered == 1)
        service.server.should_exit = True
        assert is_closed(idle)
        assert is_closed(silent)
        service.application.may_go.set()
        answer = read_answer(busy)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert is_closed(busy)
