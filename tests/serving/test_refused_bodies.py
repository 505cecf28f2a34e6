"""Bodies that are not taken, over a real connection: their sender reads why, however much was still
to be sent."""

import contextlib
import gzip
import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import pytest
from django.db import connection
from noregret import variables
from noregret.access.keys import create_key
from noregret.embedded import services
from noregret.embedded.child import Child

from tests.conftest import ACTOR, Api, endpoint_of, static_model
from tests.serving.test_when_things_break import wait_for

DECIDE = "/api/v1/endpoints/pages/decide"


@pytest.fixture
def web_child(platform: None, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    """The web process as `up` starts it, on the Redis of this test."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv(variables.REDIS_PREFIX, settings.REDIS_PREFIX)
    monkeypatch.setenv(variables.DATABASE_URL, _database_url())
    monkeypatch.setenv(variables.READ_SECONDS, "4")
    child = services.web("127.0.0.1", port, 1)
    child.log = tmp_path / "web.log"
    child.start()
    try:
        assert wait_for(lambda: _answers(_url(child)), 60.0), child.last_lines()
        yield child
    finally:
        child.stop()


@pytest.fixture
def web(web_child: Child) -> str:
    return _url(web_child)


def _url(child: Child) -> str:
    return f"http://127.0.0.1:{child.command[child.command.index('--port') + 1]}"


def _database_url() -> str:
    held = connection.settings_dict
    return f"postgresql://{held['USER']}@/{held['NAME']}?host={held['HOST']}"


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def bearer() -> dict[str, str]:
    text = create_key(name="sender", scopes=["predict", "feedback", "manage"], actor=ACTOR)[1]
    return {"Authorization": f"Bearer {text}", "Content-Type": "application/json"}


def parts(count: int, size: int = 65_536) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * size


def test_bodies_that_are_refused__their_senders_read_why(web: str) -> None:
    endpoint_of("pages", static_model("page", "a"))
    headers = bearer()
    assert httpx.post(web + DECIDE, headers=headers, json={}).status_code == 200
    twenty = str(320 * 65_536)
    for path, more in (
        (DECIDE, {"Content-Length": twenty}),
        (DECIDE, {}),  # in chunks
        ("/api/v1/feedback", {"Content-Length": twenty}),
        ("/api/v1/endpoints/nowhere/predict", {"Content-Length": twenty}),
        ("/api/v1/experiments", {"Content-Length": twenty}),
        (DECIDE, {"Content-Length": twenty, "Content-Type": "text/plain"}),
        (DECIDE, {"Content-Length": twenty, "Content-Encoding": "gzip"}),
    ):
        answer = httpx.post(web + path, headers=headers | more, content=parts(320), timeout=30)
        assert (answer.status_code, path) == (413, path)
        assert answer.headers["Content-Type"] == "application/problem+json"
    # An artefact over its limit.
    length = 120 * 1024 * 1024
    form = {**headers, "Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(length)}
    answer = httpx.post(f"{web}/api/v1/models", headers=form, content=parts(120, 1024 * 1024), timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
    assert httpx.post(web + DECIDE, headers=headers, json={}).status_code == 200


# What a sender without a key can send: an address, and how it goes on.
SILENT = {
    "probe": ("POST", "/healthz", "", 405),
    "login": ("POST", "/admin/login/", "", 408),
    "page": ("POST", "/admin/experiments/experiment/add/", "", 408),
    "management": ("POST", "/api/v1/experiments", "Content-Type: application/json\r\n", 408),
    "upload": ("POST", "/api/v1/models", "Content-Type: multipart/form-data; boundary=b\r\n", 408),
    "read": ("GET", "/api/v1/experiments", "", 413),
    "predict": ("POST", "/api/v1/endpoints/pages/predict", "Content-Type: application/json\r\n", 408),
    "feedback": ("POST", "/api/v1/feedback", "Content-Type: application/json\r\n", 408),
    "static": ("POST", "/static/dashboard/dashboard.css", "", 405),
    "file": ("GET", "/static/dashboard/dashboard.css", "", 413),
    "nowhere": ("POST", "/nowhere", "", 404),
}


def connected(web: str) -> socket.socket:
    parts = urlsplit(web)
    assert parts.hostname is not None
    assert parts.port is not None
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def test_silent_bodies__on_every_kind_of_route__stop_nothing_and_are_told(web: str) -> None:
    endpoint_of("pages", static_model("page", "a"))
    headers = bearer()
    with contextlib.ExitStack() as stack:
        silent: list[tuple[str, int, socket.socket]] = []
        for name, (method, path, more, status) in SILENT.items():
            for _ in range(16):
                sock = stack.enter_context(connected(web))
                head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nCookie: csrftoken=a\r\n{more}"
                sock.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode())
                silent.append((name, status, sock))
        with httpx.Client(base_url=web, headers=headers, timeout=3) as client:
            for _ in range(50):
                assert client.post(DECIDE, json={}).status_code == 200
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 200
            assert client.get("/api/v1/experiments").status_code == 200
            assert client.get("/static/dashboard/dashboard.css").status_code == 200
        for name, status, sock in silent:
            answer = sock.recv(65_536)
            assert int(answer.split()[1]) == status, name
            assert b"application/problem+json" in answer
            assert (b"allow: " in answer.lower()) == (status == 405)
            assert sock.recv(1) == b"", name  # and is closed


def memory_of(child: Child) -> int:
    """Resident bytes of a web process."""
    assert child.pid is not None
    return int(psutil.Process(child.pid).memory_info().rss)


def test_200_mb__sent_to_any_address__cost_little_memory(web: str, web_child: Child) -> None:
    endpoint_of("pages", static_model("page", "a"))
    headers = bearer()
    assert httpx.post(web + DECIDE, headers=headers, json={}).status_code == 200
    assert httpx.get(f"{web}/admin/login/").status_code == 200
    before = memory_of(web_child)
    most = 0
    size, part = 200 * 1024 * 1024, b"x" * 1024 * 1024
    multipart = "Content-Type: multipart/form-data; boundary=b\r\n"
    for path, more in (
        ("/admin/login/", ""),
        ("/admin/login/", multipart),
        (DECIDE, ""),
        ("/api/v1/models", multipart),
        ("/nowhere", ""),
    ):
        for chunked in (False, True):
            framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
            with connected(web) as sock, contextlib.suppress(ConnectionError):
                sock.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{more}{framing}\r\n\r\n".encode())
                for _ in range(200):
                    sock.sendall(b"100000\r\n" + part + b"\r\n" if chunked else part)
                    most = max(most, memory_of(web_child))
    with connected(web) as sock, contextlib.suppress(ConnectionError):  # a head without end
        sock.sendall(b"GET /nowhere HTTP/1.1\r\nX-Long: ")
        for _ in range(200):
            sock.sendall(part)
            most = max(most, memory_of(web_child))
    # Many that are each within their limit, and never whole.
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            sock = stack.enter_context(connected(web))
            sock.sendall(f"POST {DECIDE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(part)}\r\n\r\n".encode())
            sock.sendall(part[:-1])
        for _ in range(20):
            most = max(most, memory_of(web_child))
            assert httpx.post(web + DECIDE, headers=headers, json={}).status_code == 200
    assert (most - before) / 1e6 < 20


def test_calls_that_hang_in_the_database__stop_no_prediction_and_more_are_told_to_come_again(web: str) -> None:
    endpoint_of("pages", static_model("page", "a"))
    headers = bearer()
    with httpx.Client(base_url=web, headers=headers, timeout=30) as client:
        assert client.get("/api/v1/models").status_code == 200
        with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as other:
            other.execute("LOCK TABLE registry_modelversion IN ACCESS EXCLUSIVE MODE")
            with ThreadPoolExecutor(40) as threads:
                calls = [
                    threads.submit(httpx.get, f"{web}/api/v1/models", headers=headers, timeout=60) for _ in range(40)
                ]
                answered = next(as_completed(calls)).result()
                assert (answered.status_code, answered.headers["Retry-After"]) == (503, "1")
                for _ in range(50):
                    assert client.post(DECIDE, json={}).status_code == 200
                assert client.get("/healthz").status_code == 200
                assert client.get("/static/dashboard/dashboard.css").status_code == 200
                statuses = {call.result().status_code for call in calls}
        # Those that had a thread were ended by their statements' limit, those that waited for one
        # by theirs.
        assert statuses == {503}
        assert client.get("/api/v1/models").status_code == 200


def test_data_plane_alone__answers_its_own_addresses_and_knows_no_other(web_child: Child) -> None:
    endpoint_of("pages", static_model("page", "a"))
    headers = bearer()
    web_child.stop()
    command = list(web_child.command)
    command[command.index("noregret.web")] = "serving.web"
    alone = replace(web_child, name="alone", command=command)
    alone.start()
    try:
        url = _url(alone)
        assert wait_for(lambda: _answers(url), 60.0), alone.last_lines()
        assert wait_for(lambda: httpx.post(url + DECIDE, headers=headers, json={}).status_code == 200)
        # The probes are its own, whatever Host they name.
        assert httpx.get(f"{url}/readyz", headers={"Host": "10.1.2.3:8000"}).json()["checks"]["snapshots"]["ok"]
        assert "noregret_predict_seconds" in httpx.get(f"{url}/metrics").text
        for path in ("/admin/login/", "/api/v1/models", "/static/dashboard/dashboard.css"):
            answer = httpx.get(url + path, headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    finally:
        alone.stop()


def test_key_in_a_header_with_underscores__is_no_key(web: str) -> None:
    endpoint_of("pages", static_model("page", "a"))
    key = bearer()["Authorization"].removeprefix("Bearer ")
    for name, status in ((b"X-API-Key", 200), (b"X_API_Key", 401), (b"X_API-Key", 401)):
        with connected(web) as sock:
            sock.sendall(
                b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b: %b\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
                % (DECIDE.encode(), name, key.encode())
            )
            assert int(sock.recv(65_536).split()[1]) == status


@pytest.mark.parametrize("path", [DECIDE, "/api/v1/endpoints/pages/predict", "/api/v1/feedback", "/api/v1/experiments"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP, identity", "x" * 300])
def test_body_that_is_encoded__is_told_which_encodings_are_taken(alice: Api, path: str, encoding: str) -> None:
    endpoint_of("pages", static_model("page", "a"))
    answer = alice.post(path, gzip.compress(json.dumps({}).encode()), headers={"Content-Encoding": encoding})
    assert (answer.status, answer["type"]) == (415, "/problems/unsupported-encoding")
    assert answer.response["Accept-Encoding"] == "identity"
    assert answer["detail"].startswith(f"the body is encoded as {encoding[:80]}: ")


def test_upload_that_is_encoded__is_told_the_same(alice: Api) -> None:
    answer = alice.post(
        "/api/v1/models",
        os.urandom(100),
        content_type="multipart/form-data; boundary=b",
        headers={"Content-Encoding": "gzip"},
    )
    assert (answer.status, answer["type"]) == (415, "/problems/unsupported-encoding")


def test_body_as_it_is__said_so__is_taken(alice: Api) -> None:
    endpoint_of("pages", static_model("page", "a"))
    assert alice.post(DECIDE, {}, headers={"Content-Encoding": "identity"}).status == 200
