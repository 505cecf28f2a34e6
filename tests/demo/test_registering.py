"""Whoever registers a file goes on when it is registered: an inspection that takes long is answered
202 first."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from noregret.demo import client as clients
from noregret.demo.client import CallFailed, Client

from tests.client_environments import ROOT

RUNNING = 2
"""So often each upload is answered 202."""


class Busy(ThreadingHTTPServer):
    """What a busy platform answers to uploads, which it keeps."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.uploads: list[str] = []
        self.running = RUNNING
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answering(BaseHTTPRequestHandler):
    server: Busy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode(errors="replace")
        (version,) = re.findall(r'name="version"\s+(\S+)', body)
        self.server.uploads.append(version)
        is_running = self.server.uploads.count(version) <= self.server.running
        answer = json.dumps({"job": "1", "status": "running"} if is_running else {"model": f"iris@{version}"}).encode()
        self.send_response(202 if is_running else 201)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_request(self, *args: object) -> None:
        pass


@pytest.fixture
def busy() -> Iterator[Busy]:
    server = Busy()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(clients, "PAUSE_SECONDS", 0.01)
    made = Client(busy.url, "nr_x")
    yield made
    made.close()


def test_readme__registers_on_a_busy_machine(busy: Busy, tmp_path: Path) -> None:
    (script,) = re.findall(
        r"^KEY=.*?\n(api\(\).*?\n)URL=\S+\n.*?^(register\(\) .*?\n)(for v in .*?\n)",
        (ROOT / "README.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    for version in "12":
        (tmp_path / f"iris-{version}.skops").write_bytes(b"model")
    ran = subprocess.run(
        ["sh", "-eu", "-c", f"KEY=nr_x\nURL={busy.url}/api/v1\n{''.join(script)}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert busy.uploads == ["1"] * (RUNNING + 1) + ["2"] * (RUNNING + 1)
    assert ran.stdout.split() == ['{"model":', '"iris@1"}', "201", '{"model":', '"iris@2"}', "201"]


def test_client_of_the_demo__sends_the_same_again_until_it_is_registered(busy: Busy, client: Client) -> None:
    answer = client.register({"name": "iris", "version": "1", "framework": "sklearn"}, b"model")
    assert (answer, busy.uploads) == ({"model": "iris@1"}, ["1"] * (RUNNING + 1))


def test_client_of_the_demo__gives_up_in_time(busy: Busy, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    busy.running = 1 << 30
    monkeypatch.setattr(clients, "REGISTER_SECONDS", 0.1)
    with pytest.raises(CallFailed, match="iris@1 was not registered"):
        client.register({"name": "iris", "version": "1", "framework": "sklearn"}, b"model")
