"""Bodies that are not taken, over a real connection: their sender reads why, however much was still to be sent."""

import gzip
import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from noregret import env
from noregret.access.keys import create_key
from noregret.embedded import services

from tests.conftest import ACTOR, Api, endpoint_of, static_model
from tests.serving.test_when_things_break import wait_for

DECIDE = "/api/v1/endpoints/pages/decide"


@pytest.fixture
def web(platform: None, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The web process as `up` starts it, on the Redis of this test."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv(env.REDIS_PREFIX, settings.REDIS_PREFIX)
    monkeypatch.setenv(env.DATABASE_URL, _database_url())
    child = services.web("127.0.0.1", port, 1)
    child.log = tmp_path / "web.log"
    child.start()
    url = f"http://127.0.0.1:{port}"
    try:
        assert wait_for(lambda: _answers(url), 60.0), child.last_lines()
        yield url
    finally:
        child.stop()


def _database_url() -> str:
    from django.db import connection

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
        expected = 404 if "nowhere" in path else 415 if more.keys() & {"Content-Type", "Content-Encoding"} else 413
        assert (answer.status_code, path) == (expected, path)
        assert answer.headers["Content-Type"] == "application/problem+json"
    # An artefact over its limit.
    length = 120 * 1024 * 1024
    form = {**headers, "Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(length)}
    answer = httpx.post(f"{web}/api/v1/models", headers=form, content=parts(120, 1024 * 1024), timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
    assert httpx.post(web + DECIDE, headers=headers, json={}).status_code == 200


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
