"""The pages about protocols do what they say: each one's code, run by the public client that it is
about."""

import json
import subprocess

import pytest
from noregret.access.keys import create_key

from tests.client_environments import RUN_SECONDS, python_of
from tests.conftest import ACTOR, Api, endpoint_of, static_model
from tests.guide_code import code_of
from tests.protocols.models import iris, upload

ROWS = [[5.1, 3.5, 1.4, 0.2]]
MLFLOW_ROWS = f"import pandas\nrows = [dict(zip(['sl', 'sw', 'pl', 'pw'], row)) for row in {ROWS}]\nframe = pandas.DataFrame(rows)\n"


def said(page: str, environment: str, web: str, key: str, before: str = "", **variables: str) -> str:
    """What the page's code prints, with a last line that prints its last expression."""
    instead = {"KEY": key} | ({} if page == "mlflow-clients.md" else {"localhost:8000": web})
    (code,) = code_of(page, **instead)
    if page == "mlflow-clients.md":
        host, port = web.split(":")
        code = code.replace("localhost:8000", web).replace("localhost", host).replace('"8000/', f'"{port}/')
    *body, last = code.strip().splitlines()
    ran = subprocess.run(
        [str(python_of(environment)), "-c", "\n".join([before, *body, f"print({last})"])],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        env=variables,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


@pytest.fixture
def key(platform: None) -> str:
    return create_key(name="reader", scopes=["predict", "feedback", "manage"], actor=ACTOR)[1]


def test_pages__about_protocols__run_as_they_stand(web: str, key: str) -> None:
    alice = Api(key)
    upload(alice, iris(texts=True), "iris", "1")
    upload(alice, iris(texts=True, names=True), "fraud", "1")
    endpoint_of("iris", "iris@1", deadline_ms=2000)
    endpoint_of("fraud", "fraud@1", deadline_ms=2000)
    endpoint_of("checkout", static_model("checkout", "1", {"button": "green"}))
    assert "setosa" in said("open-inference.md", "triton-http", web, key)
    told = said("openfeature.md", "ofrep", web, key)
    assert told.startswith("{'button': 'green'} checkout@1 ")
    fed = alice.post("/api/v1/feedback", {"decision_id": told.split()[-1], "value": 1})
    assert fed.status == 202, json.dumps(fed.body)
    assert "'predictions': ['setosa']" in said(
        "mlflow-clients.md", "mlflow", web, key, before=MLFLOW_ROWS, MLFLOW_TRACKING_TOKEN=key
    )
