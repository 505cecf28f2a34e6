"""The code of docs/pipelines.md, run as a reader would, on the service's own WSGI application."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from noregret.access.keys import create_key

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pipelines.md"


def test_page__from_a_fitted_pipeline_to_an_experiment(platform: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from noregret.wsgi import application  # with it the process begins to serve

    client = httpx.Client
    monkeypatch.setattr(httpx, "Client", partial(client, transport=httpx.WSGITransport(application)))
    monkeypatch.setenv("NOREGRET_URL", "http://localhost")
    monkeypatch.setenv("NOREGRET_KEY", create_key(name="me", scopes=["predict", "feedback", "manage"], actor="test")[1])
    known: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(code, PAGE.name, "exec"), known)  # noqa: S102 - the page's own code
    http = known["http"]
    assert [http.get(f"/api/v1/models/stays/{version}").json()["compiled"] for version in (1, 2)] == [True, False]
    assert http.get("/api/v1/experiments/stays-gaps").json()["status"] == "running"
    http.close()
    assert known["columns"] == [
        {"name": "country", "type": "string", "nullable": True},
        {"name": "plan", "type": "string", "nullable": True},
        {"name": "age", "type": "number", "nullable": True},
    ]
    rows = known["pd"].DataFrame({"country": ["KR", "US"], "plan": ["pro", "free"], "age": [31.0, 64.0]})
    assert known["labels"] == known["first"].predict(rows).tolist()
    (error,) = known["wrong"].json()["errors"]
    assert error == {"field": "inputs[0].age", "message": "a number was expected, not a string"}
    assert str(error["message"]) in PAGE.read_text()
