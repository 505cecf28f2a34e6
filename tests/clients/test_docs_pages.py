"""The code of the pages on clients, run as a reader would: block by block, on a platform."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from noregret.embedded.running import MANAGE, RunningPlatform
from noregret_client import Client

from tests.clients.conftest import served_by
from tests.clients.test_javascript_client import FOLDER as JAVASCRIPT
from tests.clients.test_javascript_client import NODE, needs_node

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


AROUND_THE_PAGE = """
const told = [];
globalThis.key = process.env.NOREGRET_KEY;
globalThis.userId = "user-42";
globalThis.render = (payload) => told.push(payload);
globalThis.button = {};
const { client, choice } = await import("./page.mjs");
button.onclick();
await client.close();
console.log(JSON.stringify({ rendered: told, choice }));
"""
"""What a page has besides its own script: a visitor, and a button that is clicked."""


@needs_node
def test_clients__script_of_a_page__decides_and_tells_the_click(
    running: RunningPlatform, client: Client, key: str, tmp_path: Path
) -> None:
    client.register_payload({"label": "Buy now"}, name="button", version="1")
    client.create_endpoint("checkout", champion="button@1")
    served_by(client, "checkout", None)
    (code,) = re.findall(r"```js\n(.*?)```", (DOCS / "clients.md").read_text(), re.DOTALL)
    address = "https://noregret.example.com"
    assert address in code
    (tmp_path / "page.mjs").write_text(code.replace(address, running.url) + "export { client, choice };\n")
    (tmp_path / "run.mjs").write_text(AROUND_THE_PAGE)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "noregret-client").symlink_to(JAVASCRIPT)
    done = subprocess.run(
        [str(NODE), "run.mjs"], cwd=tmp_path, env=os.environ | {"NOREGRET_KEY": key}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["rendered"] == [{"label": "Buy now"}]
    assert client.feedback(told["choice"]["decision_id"], 1) == "duplicate"


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
