"""`manage.py up` as a user runs it: started, killed piece by piece, and stopped with nothing left
behind."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from noregret.demo import digits, scenes
from noregret.demo.client import Client
from noregret.embedded import running
from noregret.embedded.engines import running_engines
from noregret.embedded.running import MANAGE, RunningPlatform
from noregret.embedded.services import NICENESS
from noregret.env import secret_key_file, socket_dir
from noregret.learning.shown.results import Results

from serving.open_inference_messages import CLASSES, path_of
from tests.learning.test_celery import wait_until

ROLES = ("postgres", "redis", "web", "grpc", "worker", "shadow", "notify", "inspector", "beat")
ANSWERING = {"postgres", "redis", "web", "grpc"}


def manage(*arguments: str, data_dir: Path, **extra: Any) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NOREGRET_")}
    return subprocess.run(
        [sys.executable, str(MANAGE), *arguments, "--data-dir", str(data_dir)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **extra,
    )


def wait_until_well(url: str) -> None:
    """It says that it is ready also where the learner is not, yet: a busy machine takes longer."""
    until = time.monotonic() + 120
    while (answer := httpx.get(f"{url}/readyz?strict=1", timeout=20)).status_code != 200:
        assert time.monotonic() < until, answer.text
        time.sleep(0.5)


@pytest.fixture(scope="module")
def platform_up() -> Iterator[RunningPlatform]:
    # Not pytest's own folder: every session that starts closes it to other users, and PostgreSQL
    # runs as one.
    folder = Path(tempfile.mkdtemp(prefix="noregret-up-"))
    environment = {"NOREGRET_SECRET_KEY": "", "NOREGRET_LOG_LEVEL": "INFO", "NOREGRET_READ_SECONDS": "3"}
    with RunningPlatform(folder, environment=environment, with_grpc=True) as running:
        wait_until_well(running.url)
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def key(platform_up: RunningPlatform) -> str:
    made = manage(
        "apikey", "tests", "--scopes", "predict,feedback,manage", "--expires", "1d", data_dir=platform_up.data_dir
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("\n") == 1
    assert made.stdout.startswith("nr_")
    return made.stdout.strip()


def mine(data_dir: Path) -> list[psutil.Process]:
    """Every process of the machine that has to do with a data directory."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            environment = process.environ()
        except (psutil.Error, OSError):
            continue
        if process.pid != os.getpid() and (
            str(data_dir) in words or environment.get("NOREGRET_DATA_DIR") == str(data_dir)
        ):
            found.append(process)
    return found


def test_up__first_start__makes_key_and_admin_and_is_ready(platform_up: RunningPlatform) -> None:
    ready = httpx.get(f"{platform_up.url}/readyz", timeout=10)
    assert ready.status_code == 200
    key_file = secret_key_file(platform_up.data_dir)
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert (platform_up.data_dir / "up.err").read_text().count("password") == 1
    assert all(platform_up.pids(role) for role in ROLES)


def test_grpc__beside_the_web__serves_what_it_serves(platform_up: RunningPlatform, key: str) -> None:
    said = (platform_up.data_dir / "up.err").read_text()
    address = re.findall(r"gRPC is served at (127\.0\.0\.1:\d+)", said)[-1]
    created = httpx.post(
        f"{platform_up.url}/api/v1/models",
        json={"name": "page", "version": "1", "framework": "static", "payload": {"text": "A"}},
        headers={"X-API-Key": key},
        timeout=20,
    )
    assert created.status_code == 201
    made = httpx.post(
        f"{platform_up.url}/api/v1/endpoints",
        json={"name": "pages", "champion": "page@1"},
        headers={"X-API-Key": key},
        timeout=20,
    )
    assert made.status_code == 201
    request = CLASSES["ModelInferRequest"](model_name="pages")
    request.inputs.add(name="input", datatype="FP64", shape=[1, 1]).contents.fp64_contents.append(1.0)
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary(
            path_of("ModelInfer"),
            request_serializer=CLASSES["ModelInferRequest"].SerializeToString,
            response_deserializer=CLASSES["ModelInferResponse"].FromString,
        )
        answer = infer(request, metadata=[("x-api-key", key)], timeout=20)
    assert answer.raw_output_contents[0][4:] == b'{"text":"A"}'
    assert answer.parameters["learnable"].bool_param


def test_up_and_beat__load_nothing_of_the_mathematics(platform_up: RunningPlatform) -> None:
    assert platform_up.process is not None
    for pid in (platform_up.process.pid, platform_up.pids("beat")[0]):
        assert "/numpy/" not in Path(f"/proc/{pid}/maps").read_text()
    assert "/numpy/" in Path(f"/proc/{platform_up.pids('worker')[0]}/maps").read_text()


def test_workers_and_beat__give_way_to_what_requests_wait_for(platform_up: RunningPlatform) -> None:
    own = psutil.Process().nice()
    wanted = {role: own if role in ANSWERING else min(own + NICENESS, 19) for role in ROLES}

    def found() -> dict[str, int]:
        return {role: psutil.Process(platform_up.pids(role)[-1]).nice() for role in ROLES}

    until = time.monotonic() + 90  # they do once all have started, one after the other
    while found() != wanted and time.monotonic() < until:
        time.sleep(0.5)
    assert found() == wanted
    autogroup = Path(f"/proc/{platform_up.pids('worker')[-1]}/autogroup")
    if autogroup.exists():  # where Linux groups tasks by session, niceness counts within one alone
        assert autogroup.read_text().split()[-1] == str(NICENESS)
        assert Path(f"/proc/{platform_up.pids('web')[0]}/autogroup").read_text().split()[-1] == "0"


def test_logs__of_a_start__hold_no_banner(platform_up: RunningPlatform) -> None:
    for role in ("worker", "shadow", "notify", "beat"):
        assert (platform_up.data_dir / "logs" / f"{role}.log").read_text() == ""


def test_up__second_on_the_same_directory__refuses_and_says_who(platform_up: RunningPlatform) -> None:
    second = manage("up", "--port", "0", data_dir=platform_up.data_dir)
    assert second.returncode == 1
    assert platform_up.process is not None
    assert f"pid {platform_up.process.pid} at {platform_up.url}" in second.stderr
    assert second.stdout == ""


def test_up__port_in_use__says_so(platform_up: RunningPlatform, tmp_path: Path) -> None:
    port = platform_up.url.rpartition(":")[2]
    taken = manage("up", "--port", port, data_dir=tmp_path)
    assert taken.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}" in taken.stderr


def test_doctor__on_a_running_platform__finds_nothing(platform_up: RunningPlatform) -> None:
    found = manage("doctor", data_dir=platform_up.data_dir)
    assert found.returncode == 0, found.stdout
    assert "FAIL" not in found.stdout


def test_doctor__where_nothing_runs__says_so_without_a_traceback(tmp_path: Path) -> None:
    found = manage("doctor", data_dir=tmp_path)
    assert found.returncode == 1
    assert "is `manage.py up` running" in found.stdout
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("apikey", "x", "--scopes", "rule"), "scopes"),
        (("apikey", "Bad Name", "--scopes", "predict"), "name"),
        (("apikey", "x", "--scopes", "predict", "--expires", "soon"), "90d"),
    ],
)
def test_apikey__wrong__says_what_was_expected(
    platform_up: RunningPlatform, arguments: tuple[str, ...], said: str
) -> None:
    found = manage(*arguments, data_dir=platform_up.data_dir)
    assert found.returncode != 0
    assert said in found.stderr
    assert found.stdout == ""


def test_postgres_suspended__probes_and_calls_end__and_it_is_told(platform_up: RunningPlatform, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=platform_up.url, headers=headers, timeout=60) as http:
        assert http.get("/readyz").json()["checks"]["database"]["ok"]
        assert http.get("/api/v1/experiments").status_code == 200
        stopped = [psutil.Process(pid) for pid in platform_up.pids("postgres")]
        for process in stopped:
            process.suspend()
        try:
            for _ in range(2):  # on the connection that is there, and on a new one
                ready = http.get("/readyz")
                assert (ready.status_code, ready.json()["checks"]["database"]["ok"]) == (200, False)
                assert not ready.json()["checks"]["migrations"]["serves"]
                read = http.get("/api/v1/experiments")
                assert (read.status_code, read.json()["type"]) == (503, "/problems/unavailable"), read.text
        finally:
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):  # one that was about to end
                    process.resume()
        assert http.get("/api/v1/experiments").status_code == 200
        assert http.get("/readyz").json()["checks"]["database"]["ok"]


def test_kill_9_of_worker_and_web_during_traffic__nothing_acknowledged_is_missing__and_the_best_is_promoted(
    platform_up: RunningPlatform, key: str
) -> None:
    victims = ["worker", "web"]
    started: list[float] = []

    def show(results: Results, seconds: float) -> None:
        started.append(seconds)
        if victims and results.decisions > 300:
            victim = platform_up.pids(victims.pop(0))[-1]  # a process that serves, below the one that watches it
            os.kill(victim, signal.SIGKILL)

    ending = scenes.run(scenes.Bandit(), url=platform_up.url, key=key, digits=digits.load(1), seed=1, show=show)
    assert victims == []
    assert (ending.problem, ending.traffic_problems) == (None, [])
    assert ending.side.experiment["promoted_arm"] == "v3", ending.side.results
    assert ending.side.ledger.right, ending.side.ledger
    checked = manage("rebuild", "--check", data_dir=platform_up.data_dir)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("role", ["beat", "worker", "shadow", "web", "grpc", "redis", "postgres"])
def test_child_killed__comes_back_and_the_platform_is_ready_again(platform_up: RunningPlatform, role: str) -> None:
    before = platform_up.pids(role)[0]
    os.kill(before, signal.SIGKILL)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(0.3)
        now = platform_up.pids(role)
        try:
            if now and now[0] != before and httpx.get(f"{platform_up.url}/readyz", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            continue
    raise AssertionError((platform_up.data_dir / "up.err").read_text()[-3000:])


def test_up__asked_to_stop__ends_with_0_and_leaves_nothing(platform_up: RunningPlatform) -> None:
    assert platform_up.process is not None
    platform_up.process.send_signal(signal.SIGTERM)
    assert platform_up.process.wait(60) == 0
    assert mine(platform_up.data_dir) == []
    assert not socket_dir(platform_up.data_dir).exists()


def test_up__champion_that_cannot_be_loaded__stays_up_and_says_what_to_do__and_is_ready_once_mended(
    platform_up: RunningPlatform, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_up.stop()  # where it is the only test
    monkeypatch.setattr(running, "READY_SECONDS", 280.0)  # it waits for us
    environment = {"NOREGRET_SECRET_KEY": "", "NOREGRET_PYTHON_CALLABLES": "tests.callables.*"}
    headers = {"X-API-Key": key}
    with RunningPlatform(platform_up.data_dir, environment=environment) as before:
        made = [
            ("models", {"name": "still", "version": "1", "framework": "static", "payload": {"text": "A"}}),
            ("models", {"name": "sums", "version": "1", "framework": "python", "callable": "tests.callables.sums"}),
            ("endpoints", {"name": "stills", "champion": "still@1"}),
            ("endpoints", {"name": "totals", "champion": "sums@1"}),
        ]
        for path, document in made:
            answer = httpx.post(f"{before.url}/api/v1/{path}", json=document, headers=headers, timeout=20)
            assert answer.status_code == 201, answer.text
    said = platform_up.data_dir / "up.err"
    said.write_text("")
    after = RunningPlatform(platform_up.data_dir, environment=environment | {"NOREGRET_PYTHON_CALLABLES": "others.*"})
    starting = threading.Thread(target=after.start)  # until it prints `ready`
    starting.start()
    try:
        wait_until(lambda: "with troubles" in said.read_text(), 120)
        told = said.read_text()
        url = re.findall(r"^up, with troubles: (http://127\.0\.0\.1:\d+)$", told, re.MULTILINE)[-1]
        for words in (
            "Endpoint totals answers 503",
            "sums@1",
            "NOREGRET_PYTHON_CALLABLES",
            "PATCH /api/v1/endpoints/totals",
        ):
            assert words in told
        assert "stills" not in told
        with httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=20) as http:
            served = {
                name: http.post(f"/endpoints/{name}/predict", json={"inputs": [[1.0]]}).status_code
                for name in ("stills", "totals")
            }
            assert served == {"stills": 200, "totals": 503}
            assert starting.is_alive()
            assert http.patch("/endpoints/totals", json={"champion": "still@1"}).status_code == 200
        starting.join(60)
        assert after.url == url
        assert said.read_text().count("with troubles") == 1
    finally:
        assert after.process is not None
        code = after.stop()
        starting.join(60)
    assert code == 0


def test_up__killed_outright__leaves_nothing_and_starts_again(platform_up: RunningPlatform) -> None:
    platform_up.stop()  # where it is the only test
    again = RunningPlatform(platform_up.data_dir, environment={"NOREGRET_SECRET_KEY": ""})
    again.start()
    # What its worker waits for, and would for ever: as for a broker that is gone.
    until = time.monotonic() + 60
    while len(workers := again.pids("notify")) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    assert len(workers) > 1, "its pool did not begin"
    psutil.Process(workers[-1]).suspend()  # of its pool: the worker itself comes first
    assert again.process is not None
    again.process.kill()
    again.process.wait()
    until = time.monotonic() + 60  # each ends what it has begun
    while mine(platform_up.data_dir) and time.monotonic() < until:
        time.sleep(0.2)
    left = mine(platform_up.data_dir)
    told = [process.cmdline() for process in left]
    for process in left:
        process.kill()
    assert told == []
    third = RunningPlatform(platform_up.data_dir, environment={"NOREGRET_SECRET_KEY": ""})
    third.start()
    assert httpx.get(f"{third.url}/readyz", timeout=10).status_code == 200
    assert third.stop() == 0
    again.stop()


def test_engines__deep_data_directory__still_have_short_sockets(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 60)
    with running_engines(deep) as engines:
        assert all(child.alive for child in engines.children)
        pids = [child.pid for child in engines.children]
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)


def test_client__gives_up_within_its_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    from noregret.demo import client as clients

    monkeypatch.setattr(clients, "TRIES", 3)
    monkeypatch.setattr(clients, "PAUSE_SECONDS", 0.01)
    one = Client("http://127.0.0.1:9", "nr_x")
    with pytest.raises(clients.CallFailed, match="3 tries"):
        one.get("/healthz")
    assert one.unanswered == 3
    one.close()
