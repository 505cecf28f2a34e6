"""The code of the pages on clients, run as a reader would: block by block, on a platform."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from noregret.embedded.running import MANAGE, RunningPlatform
from noregret_client import Client

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def reader(running: RunningPlatform, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads a page, and has what its Python knows at the end."""
    monkeypatch.setenv("NOREGRET_URL", running.url)
    monkeypatch.setenv("NOREGRET_KEY", key)
    monkeypatch.chdir(tmp_path)
    clients: list[Any] = []

    def read(name: str, **given: Any) -> dict[str, Any]:
        known: dict[str, Any] = dict(given)
        for language, code in re.findall(r"```(\w+)\n(.*?)```", (DOCS / name).read_text(), re.DOTALL):
            if language == "python":
                exec(compile(code, name, "exec"), known)  # noqa: S102 - the page's own code
            elif language == "sh":
                program = code.replace(".venv/bin/python manage.py", f"{sys.executable} {MANAGE}")
                done = subprocess.run(
                    ["sh", "-ec", program], env=running.environment | os.environ, capture_output=True, text=True
                )
                assert done.returncode == 0, done.stderr
            if "client" in known and known["client"] not in clients:
                clients.append(known["client"])
        return known

    yield read
    for client in clients:
        client.close()


def test_clients__from_fitted_model_to_first_reward(reader: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas", reason="NO PANDAS: docs/clients.md is not run")
    known = reader("clients.md")
    assert known["status"] == "recorded"
    assert known["answer"].predictions == [0]
    assert known["d"].answer.learnable
    assert known["client"].feedback(known["d"].decision_id, 1) == "duplicate"
    assert known["arm"] in {"v1", "v2", None}
    first = re.search(r"```python\n(.*?)```", (DOCS / "clients.md").read_text(), re.DOTALL)
    assert first is not None
    assert len([line for line in first.group(1).splitlines() if line.strip()]) < 15


def test_prompts__thumbs_and_cost__are_told(reader: Any, client: Client) -> None:
    known = reader("prompts.md", call_model=lambda payload, question: (f"{payload['model']}: {question}", 0.002))
    assert known["text"].endswith("-1: Where is my parcel?")
    assert client.feedback(known["decision_id"], 1) == "duplicate"
    assert client.feedback(known["decision_id"], 0.002, metric="cost_usd") == "duplicate"
    arms = client.call("GET", "/api/v1/experiments/support-prompts-1")["arms"]
    assert {arm["name"] for arm in arms} == {"plain", "steps", "large", "brief"}


def test_recommender__evaluated_and_then_run(reader: Any) -> None:
    known = reader("recommender.md")
    evaluated = known["evaluated"]
    assert evaluated["estimates"]["dr"]["interval"][0] > evaluated["logged"]["value"]
    assert known["results"]["experiment"] == "offers-1"
