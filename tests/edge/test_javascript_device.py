"""The JavaScript edge client in Node, against this process's own application."""

import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.utils import timezone
from noregret.experiments.models import Experiment
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from serving.models import Decision, EdgeDecision, Reward
from tests.client_environments import onnxruntime_web_files
from tests.conftest import Api, static_model
from tests.edge.conftest import X, Y, drained, served
from tests.programs import NODE

SCRIPT = Path(__file__).with_name("javascript_device.mjs")
DIST = Path(__file__).resolve().parents[2] / "clients" / "javascript" / "dist"
RUN_SECONDS = 200
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(NODE is None, reason="NO NODE: the JavaScript edge client is not run"),
]


@pytest.fixture
def seen(url: str, device_key: str) -> Callable[..., Any]:
    """What a device in Node sees in a scene; `meanwhile` is done where it pauses."""

    def run(scene: str, endpoint: str, meanwhile: Callable[[], None] | None = None, **given: Any) -> Any:
        asked = {"dist": str(DIST), "url": url, "key": device_key, "endpoint": endpoint, "scene": scene, **given}
        with tempfile.TemporaryFile("w+") as errors:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
            with subprocess.Popen([str(NODE), str(SCRIPT), json.dumps(asked)], text=True, **pipes) as node:
                try:
                    if meanwhile is not None:
                        assert node.stdout is not None
                        assert node.stdout.readline() == "paused\n"
                        meanwhile()
                    output, _ = node.communicate("\n", timeout=RUN_SECONDS)
                except subprocess.TimeoutExpired:
                    node.kill()
                    raise
            errors.seek(0)
            assert node.returncode == 0, errors.read()[-3000:]
        return json.loads(output)

    return run


@pytest.mark.parametrize("has_runtime", [False, True])
def test_device__offline_and_with_answers_lost__predicts_and_tells_each_event_once(
    seen: Callable[..., Any], irises: Experiment, has_runtime: bool
) -> None:
    rows = X[::5].tolist()
    told = seen("irises", "irises", rows=rows, runtime=str(onnxruntime_web_files()) if has_runtime else None)
    assert told["before"].startswith("NoBundle: there is no bundle of irises here")
    assert told["refreshed"] == [True, False]
    assert told["fetched"] == int(has_runtime)
    arms = Counter(answer["arm"] for answer in told["answers"])
    assert set(arms) == ({"linear", "tree"} if has_runtime else {"linear"})
    by_arm = {
        "linear": make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
        "tree": DecisionTreeClassifier(random_state=0).fit(X, Y),
    }
    for i, answer in enumerate(told["answers"]):
        model = by_arm[answer["arm"]]
        assert answer["outputs"]["predict"] == model.predict(X[::5][i : i + 1]).tolist()
        shares = model.predict_proba(X[::5][i : i + 1])
        assert np.array(answer["outputs"]["predict_proba"]) == pytest.approx(shares, abs=1e-5)
        assert answer["arm"] == told["answers"][i % 10]["arm"]  # its unit keeps it
    starts = [
        "row 0: 4 values were expected",
        "at least one row",
        "no arm of irises",
        "a text of 1 to 256 characters",
        "half a surrogate",
    ]
    assert len(told["refusals"]) == len(starts)
    for refusal, start in zip(told["refusals"], starts, strict=True):
        assert start in refusal
    assert told["told"] == [True, False] * len(rows)
    # The first upload's answer was lost: what it told was told again.
    assert told["uploads"][0] == {"told": {"duplicate": 2 * len(rows)}, "waiting": 0}
    assert told["uploads"][1:] == [{"told": {}, "waiting": 0}, {"told": {"recorded": 2}, "waiting": 0}]
    assert told["away"][0].startswith("Unreachable")
    assert told["away"][1:] == [told["away"][1], 2]
    assert told["next"]["arm"] == told["answers"][0]["arm"]
    assert told["expired"].startswith("NoBundle: the bundle of irises was good until")
    drained(irises)
    assert EdgeDecision.objects.count() == Reward.objects.count() == len(rows) + 1
    assert Decision.objects.count() == len(rows) + 1
    kept = {row.unit for row in Decision.objects.all()}
    assert kept == {*(f"u-{i}" for i in range(10)), "offline"}


def test_device__signature_key_or_clock_wrong__says_so_or_goes_by_the_platforms(
    seen: Callable[..., Any], irises: Experiment
) -> None:
    told = seen("trust", "irises", rows=X[:1].tolist())
    assert told["changed"].startswith("BundleNotTrusted: the bundle's signature is not its own")
    assert told["other"].startswith("BundleNotTrusted: the bundle is signed with a key that is not trusted")
    assert told["withdrawn"].startswith("NotAuthorized")
    assert told["uploaded"] == {"told": {"recorded": 1}, "waiting": 0}
    drained(irises)
    decided_at = Decision.objects.get().edge_decided_at
    assert abs(decided_at - timezone.now()) < timedelta(minutes=5)


def test_device__contextual_and_sticky_with_a_holdout__is_believed_by_two_bundles(
    seen: Callable[..., Any], two_arms: Callable[..., Experiment], alice: Api
) -> None:
    static_model("page", "c", {"text": "C"})
    experiment = two_arms(
        policy={"name": "lin-thompson", "burn_in": 10},
        arms=[{"name": name, "model": f"page@{name}"} for name in "abc"],
        context={
            "fields": [
                {"name": "age", "type": "number", "min": 0, "max": 120},
                {"name": "country", "type": "category", "values": ["KR", "US"]},
            ]
        },
        sticky=True,
        holdout=0.2,
    )
    for i in range(60):
        body = {"unit": f"before-{i}", "context": {"age": i, "country": "KR"}}
        choice = alice.post("/api/v1/endpoints/pages/decide", body).body
        alice.post("/api/v1/feedback", {"decision_id": choice["decision_id"], "value": i % 2})
    drained(experiment)
    served()

    def without_c() -> None:
        assert alice.post("/api/v1/experiments/e/arms/c/disable").status == 200
        served()

    told = seen("contextual", "pages", without_c)
    assert set(map(str, told["wrong"])) == {"ContextInvalid: age: must be a finite number"}
    assert told["uploaded"] == {"told": {"recorded": 400}, "waiting": 0}
    first, second = told["choices"][:200], told["choices"][200:]
    assert {choice["arm"] for choice in first} == {"a", "b", "c"}
    assert {choice["arm"] for choice in second} == {"a", "b"}
    before = {choice["unit"]: choice["arm"] for choice in first if "unit" in choice and "exclude" not in choice}
    after = [choice for choice in second if choice.get("unit") in before and "exclude" not in choice]
    assert all(choice["arm"] == before[choice["unit"]] for choice in after if before[choice["unit"]] != "c")
    assert any(before[choice["unit"]] == "c" for choice in after)
