"""The data plane as a function: API Gateway's events of both payload versions, with a Redis and
without any server."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from noregret.access.keys import create_key
from noregret.experiments.models import Experiment
from noregret.learning.drain import drain

from serving import aws_lambda
from serving.ledger.models import Decision
from serving.process import process
from tests.conftest import ACTOR

ROOT = Path(__file__).resolve().parents[2]
EVENTS = Path(__file__).parent / "lambda_events"
BOTH = ("rest-api", "http-api")
Start = Callable[..., Experiment]


def event(name: str, key: str | None) -> dict[str, Any]:
    """A recorded event, with a key."""
    recorded: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    if key is not None:
        recorded["headers"]["authorization"] = f"Bearer {key}"
        if "multiValueHeaders" in recorded:
            recorded["multiValueHeaders"]["authorization"] = [f"Bearer {key}"]
    return recorded


@pytest.mark.parametrize("name", BOTH)
def test_event__of_either_version__is_answered_and_recorded(name: str, two_arms: Start) -> None:
    experiment = two_arms()
    key = create_key(name="function", scopes=["predict"], actor=ACTOR)[1]
    assert aws_lambda.handler(event(name, None), None)["statusCode"] == 401
    answer = aws_lambda.handler(event(name, key), None)
    assert answer["statusCode"] == 200
    told = json.loads(answer["body"])
    assert told["payload"] == {"text": {"a": "A", "b": "B"}[told["arm"]]}
    assert told["learnable"] is True
    drain(experiment.endpoint)
    row = Decision.objects.get()
    assert (row.unit, row.request_id) == ("user-42", "r-1")
    assert process().signer.read(told["decision_id"]).id == row.id.bytes


def test_function__that_reaches_no_server__serves_what_was_packed__and_queues_its_decisions(
    two_arms: Start, tmp_path: Path
) -> None:
    experiment = two_arms()
    key = create_key(name="function", scopes=["predict"], actor=ACTOR)[1]
    packed = tmp_path / "packed"
    call_command("put-snapshots", "--out", str(packed), stdout=io.StringIO())
    code = (
        "import json, sys\n"
        "from serving.aws_lambda import handler\n"
        "answers = [handler(event, None) for event in json.loads(sys.argv[1])]\n"
        "print(json.dumps(answers))\n"
        "heavy = {'rest_framework', 'unfold', 'sklearn', 'pandas', 'skops', 'celery', 'onnx'} & sys.modules.keys()\n"
        "print(json.dumps(sorted(heavy)))\n"
    )
    storage = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(packed)}}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO")} | {
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "platform"))),
        "NOREGRET_DATA_DIR": str(tmp_path / "data"),
        "NOREGRET_SNAPSHOTS": "storage",
        "NOREGRET_ARTIFACT_STORAGE": json.dumps(storage),
        "NOREGRET_DECISION_QUEUE": "tests.serving.lambda_queue.send",
    }
    events = json.dumps([event(name, key) for name in BOTH])
    ran = subprocess.run(
        [sys.executable, "-c", code, events], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    answers, heavy = map(json.loads, ran.stdout.splitlines())
    assert [answer["statusCode"] for answer in answers] == [200, 200], answers
    told = [json.loads(answer["body"]) for answer in answers]
    assert all(one["learnable"] for one in told)
    assert heavy == []
    texts = (tmp_path / "queue.txt").read_text().splitlines()
    records = [{"messageId": str(number), "body": text} for number, text in enumerate([*texts, *texts, "no decision"])]
    assert aws_lambda.take_decisions({"Records": records}, None) == {"batchItemFailures": []}
    drain(experiment.endpoint)
    assert {row.id.bytes for row in Decision.objects.all()} == {
        process().signer.read(one["decision_id"]).id for one in told
    }
