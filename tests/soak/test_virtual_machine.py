"""docs/vm.md, followed literally: its commands on a clean Debian that systemd booted, with the
units as they are shipped. Then what the units promise."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guide_code import code_of
from tests.soak.booted_debian import Machine, machine

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

SERVICES = ["web", "control", "worker", "shadow", "notify", "inspector", "beat"]
URL = "http://127.0.0.1:8000/api/v1"
TRAIN = """
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
X, y = load_iris(return_X_y=True)
skops.io.dump(LogisticRegression(max_iter=500).fit(X, y), "/tmp/iris.skops")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, str]]:
    """A machine on which the guide was followed, and the key that its last command printed."""
    install, _ = _blocks()
    (packages,) = re.findall(r"apt-get install -y (.+)", install)
    with machine(packages.split(), tmp_path_factory.mktemp("vm")) as booted:
        # One shell, as a person would have: what a command sets, a later one reads. There is no
        # network inside: the packages are there already, and the lists need no update.
        told = booted.run(install.replace("apt-get update\n", "")).stdout
        key = told.strip().splitlines()[-1]
        assert re.fullmatch(r"\S{20,}", key), told[-2000:]
        yield booted, key


def _blocks() -> tuple[str, str]:
    """The commands that install, and those that upgrade."""
    blocks = code_of("vm.md", "sh")
    return "\n".join(blocks[:-1]), blocks[-1]


def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.5)
    return False


def call(booted: Machine, key: str, path: str, body: object = None, *curl: str) -> tuple[int, dict[str, object]]:
    """Status and body of a call through nginx."""
    told = "" if body is None else f"--json '{json.dumps(body)}'"
    asked = f"curl -s -o /tmp/answer -w '%{{http_code}}' -H 'Authorization: Bearer {key}' {told} {' '.join(curl)} {URL}{path}"
    status, _, text = booted.run(f"{asked}; echo; cat /tmp/answer", check=False).stdout.partition("\n")
    return int(status or 0), json.loads(text) if text.startswith("{") else {"text": text}


def test_guide__followed_literally__serves_learns_and_inspects(installed: tuple[Machine, str]) -> None:
    booted, key = installed
    for name in SERVICES:
        state = booted.run(f"systemctl show -p ActiveState,MainPID,NRestarts noregret-{name}").stdout
        assert "ActiveState=active" in state, booted.run(f"journalctl -u noregret-{name} | tail -30").stdout
        assert "NRestarts=0" in state
        pid = re.findall(r"MainPID=(\d+)", state)[0]
        status = Path(f"/proc/{_outside(booted, pid)}/status").read_text()
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
        assert booted.run(f"ps -o user= -p {pid}").stdout.strip() == "noregret"
    booted.run(f"/opt/noregret/bin/python -c '{TRAIN}'")
    upload = ["-F name=iris", "-F version=1", "-F framework=sklearn", "-F artifact=@/tmp/iris.skops"]
    status, model = call(booted, key, "/models", None, *upload)
    # 202 where the machine is slow: the inspector goes on, and a job tells of it.
    assert status in {201, 202}, model
    assert until(lambda: call(booted, key, "/models/iris/1")[0] == 200, 120.0), model
    assert call(booted, key, "/endpoints", {"name": "iris", "champion": "iris@1"})[0] == 201
    body = {"unit": "u", "inputs": [[5.1, 3.5, 1.4, 0.2]]}
    assert until(lambda: call(booted, key, "/endpoints/iris/predict", body)[0] == 200)
    _, decision = call(booted, key, "/endpoints/iris/predict", body)
    assert decision["outputs"]["predict"] == [0]  # type: ignore[index]
    assert decision["learnable"] is True
    assert call(booted, key, "/feedback", {"decision_id": decision["decision_id"], "value": 1})[0] == 202
    assert until(lambda: booted.run("curl -sf http://127.0.0.1:8001/readyz?strict=1", check=False).returncode == 0)


def _outside(booted: Machine, pid: str) -> int:
    """A process of the machine, as this side numbers it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            numbers = re.findall(r"^NSpid:\s+(.*)$", (folder / "status").read_text(), re.MULTILINE)[0].split()
        except (OSError, IndexError):
            continue
        if len(numbers) > 1 and numbers[-1] == pid and booted.holds(int(numbers[0])):
            return int(numbers[0])
    raise AssertionError(f"no process {pid} in the machine")


def test_units__exposure__is_what_hardening_leaves(installed: tuple[Machine, str]) -> None:
    booted, _ = installed
    for name in SERVICES:
        told = booted.run(f"systemd-analyze security --no-pager noregret-{name} | tail -1").stdout
        exposure = float(re.findall(r": (\d+\.\d+)", told)[0])
        assert exposure <= 2.5, told


def test_service_cannot__write_outside_its_folder_nor_read_the_settings(installed: tuple[Machine, str]) -> None:
    booted, _ = installed
    pid = booted.run("systemctl show -p MainPID --value noregret-web").stdout.strip()
    inside = f"nsenter -t {pid} -m setpriv --reuid noregret --regid noregret --clear-groups"
    for path in ("/opt/noregret/x", "/etc/x", "/usr/x"):
        assert booted.run(f"{inside} touch {path}", check=False).returncode != 0
    assert booted.run(f"{inside} cat /etc/noregret/noregret.env", check=False).returncode != 0
    assert booted.run(f"{inside} touch /var/lib/noregret/x", check=False).returncode == 0


def test_killed_services__are_started_again(installed: tuple[Machine, str]) -> None:
    booted, _ = installed
    for name in SERVICES:
        booted.run(f"systemctl kill --signal=KILL noregret-{name}")
    for name in SERVICES:
        assert until(
            lambda name=name: "NRestarts=1" in booted.run(f"systemctl show -p NRestarts noregret-{name}").stdout
        )
    ready = "curl -sf http://127.0.0.1:8000/readyz"
    assert until(lambda: booted.run(ready, check=False).returncode == 0)


def test_database_away__predict_goes_on_and_a_machine_that_boots_so_serves(installed: tuple[Machine, str]) -> None:
    booted, key = installed
    body = {"unit": "u", "inputs": [[5.1, 3.5, 1.4, 0.2]]}
    booted.run("systemctl mask --now postgresql@15-main")
    assert call(booted, key, "/endpoints/iris/predict", body)[0] == 200
    booted.off()
    booted.boot()
    assert until(lambda: call(booted, key, "/endpoints/iris/predict", body)[0] == 200, 180.0)
    booted.run("systemctl unmask postgresql@15-main; systemctl start postgresql@15-main")
    booted.run("systemctl restart noregret-migrate; systemctl restart noregret.target")
    strict = "curl -sf http://127.0.0.1:8001/readyz?strict=1"
    assert until(lambda: booted.run(strict, check=False).returncode == 0, 120.0)


def test_upgrade__as_the_guide_says__ends_ready(installed: tuple[Machine, str]) -> None:
    booted, key = installed
    booted.run(_blocks()[1])
    body = {"unit": "u", "inputs": [[5.1, 3.5, 1.4, 0.2]]}
    assert until(lambda: call(booted, key, "/endpoints/iris/predict", body)[0] == 200)
