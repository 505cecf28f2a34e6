"""A proxy on a real socket that hands requests on to the platform, or goes wrong as it is told."""

import socket
import socketserver
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec


class Fault(msgspec.Struct, frozen=True):
    """What the proxy does with a request. `handed_on`: the platform gets it, and its answer is
    lost. `answer`: status, headers and body of an answer of the proxy's own."""

    kind: str
    handed_on: bool = False
    answer: tuple[int, dict[str, str], bytes] | None = None


DROP = Fault("close")
LOSE_ANSWER = Fault("reset", handed_on=True)
RESET_MID_ANSWER = Fault("half", handed_on=True)
HANG = Fault("hang")
DRIP = Fault("drip", handed_on=True)


def unavailable(retry_after: int | None = None, status: int = 503) -> Fault:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return answered(
        status, {"type": "/problems/unavailable", "title": "Not now", "status": status, "detail": ""}, headers
    )


def answered(status: int, document: Any, headers: dict[str, str] | None = None) -> Fault:
    return Fault("answer", answer=(status, headers or {}, msgspec.json.encode(document)))


BY_NAME = {
    "drop": DROP,
    "lose": LOSE_ANSWER,
    "half": RESET_MID_ANSWER,
    "hang": HANG,
    "drip": DRIP,
    "413": answered(413, {"title": "The body is too large"}),
    "503": unavailable(),
    "503-0": unavailable(retry_after=0),
    "503-30": unavailable(retry_after=30),
}


class FaultyProxy:
    """`faults` are used up, one a request; after them requests are handed on. `requests` has what
    came: method, path and body.

    Clients in another language tell it what is to go wrong at `/_faults`, and ask at `/_requests`
    for the bodies that came since. `files` are what a browser is answered, by path. With a `key`
    requests without one are handed on with it.
    """

    def __init__(self, target: str, key: str | None = None, port: int = 0) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self._key = key
        self.faults: deque[Fault] = deque()
        self.requests: list[tuple[str, str, bytes]] = []
        self.connections = 0
        self._stopped = threading.Event()
        self._http = httpx.Client(base_url=target, timeout=20.0)
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                proxy.connections += 1
                try:
                    while proxy._one_request(self.rfile, self.connection):
                        pass
                except OSError:  # whoever asked has gone
                    pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def goes_wrong(self, *faults: Fault) -> None:
        self.faults.extend(faults)

    def bodies(self) -> Sequence[Any]:
        return [msgspec.json.decode(body) for _, _, body in self.requests]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._http.close()

    def _one_request(self, stream: Any, connection: socket.socket) -> bool:
        """False where the connection is over."""
        line = stream.readline()
        if not line:
            return False
        method, path, _ = line.decode().split()
        headers: dict[str, str] = {}
        while (header := stream.readline().strip()) != b"":
            name, _, value = header.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", "0")))
        if (own := self._own(path, body)) is not None:
            connection.sendall(own)
            return True
        self.requests.append((method, path, body))
        fault = self.faults.popleft() if self.faults else None
        answer = None
        if fault is None or fault.handed_on:
            if self._key is not None:
                headers.setdefault("authorization", f"Bearer {self._key}")
            sent = {name: headers[name] for name in ("authorization", "content-type") if name in headers}
            got = self._http.request(method, path, content=body, headers=sent)
            kept = {
                name: got.headers[name] for name in ("content-type", "retry-after", "location") if name in got.headers
            }
            answer = (got.status_code, kept, got.content)
        elif fault.answer is not None:
            answer = fault.answer
        return self._answer(connection, fault, answer)

    def _own(self, path: str, body: bytes) -> bytes | None:
        """The proxy's own answers."""
        if path == "/_faults":
            self.faults.clear()
            self.requests.clear()
            self.goes_wrong(*(BY_NAME[name] for name in msgspec.json.decode(body, type=list[str])))
            return _bytes(200, {}, b"")
        if path == "/_requests":
            return _bytes(200, {}, msgspec.json.encode(self.bodies()))
        if path in self.files:
            media_type, content = self.files[path]
            return _bytes(200, {"Content-Type": media_type}, content)
        return None

    def _answer(
        self, connection: socket.socket, fault: Fault | None, answer: tuple[int, dict[str, str], bytes] | None
    ) -> bool:
        whole = b"" if answer is None else _bytes(*answer)
        if fault is None or fault.kind == "answer":
            connection.sendall(whole)
            return True
        if fault.kind == "hang":
            self._stopped.wait(20.0)
        elif fault.kind == "half":
            connection.sendall(whole[:-10])
            time.sleep(0.02)
            _reset(connection)
        elif fault.kind == "reset":
            _reset(connection)
        elif fault.kind == "drip":
            connection.sendall(whole[:-40])
            for i in range(40):
                if self._stopped.wait(0.1):
                    break
                connection.sendall(whole[-40 + i : len(whole) - 39 + i])
        return False


def _bytes(status: int, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _reset(connection: socket.socket) -> None:
    """Closed so that the other side gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
