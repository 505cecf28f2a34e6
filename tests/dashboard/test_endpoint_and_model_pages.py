"""What the pages of endpoints, models and imports tell, and what can be done from them."""

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from noregret.dashboard.endpoint_page import evidence_of_change
from noregret.dashboard.words import time_told
from noregret.experiments.models import Baseline, Endpoint
from noregret.learning.baselines import hour_of
from noregret.learning.models import ArmStatistics, BaselineInterval
from noregret.mlflow.models import AliasMove, ImportedVersion
from noregret.registry.artifact_storage import artifact_store
from noregret.registry.models import ModelVersion
from noregret.rollout.transitions import move
from noregret.steering.round import learn
from noregret.trail.models import AuditEntry

from serving.process import process
from tests.conftest import Api, endpoint_of, python_model
from tests.serving.test_remote_models import MODELS, definition, serving


@pytest.fixture
def admin(platform: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def text(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_endpoint__cache_and_batching__are_changed_and_told(admin: Client, alice: Api) -> None:
    endpoint = endpoint_of("pages", python_model("m", "1", "ones"))
    base = f"/admin/experiments/endpoint/{endpoint.pk}"
    for action, data, told in (
        (
            "cache",
            {"entries": "50", "seconds": "60", "reason": "slow"},
            "up to 50 answers a web process, each good for 60 s",
        ),
        ("batch", {"rows": "32", "wait_ms": "2"}, "up to 32 rows a call, after a wait of 2 ms where others come"),
    ):
        assert admin.get(f"{base}/do/{action}").status_code == 200
        assert admin.post(f"{base}/do/{action}", data).status_code == 302
        assert told in text(admin, f"{base}/change/")
    entry = AuditEntry.objects.filter(action="endpoint.updated").earliest("pk")
    assert (entry.actor, entry.reason) == ("root", "slow")
    assert entry.details == {"cache": [None, {"entries": 50, "seconds": 60.0}]}
    process().store.refresh(20.0)
    for _ in range(4):
        assert alice.post("/api/v1/endpoints/pages/predict", {"inputs": [[1.0]]}).status == 200
    learn(endpoint.pk)
    page = text(admin, f"{base}/change/")
    assert "m@1: 75.0%" in page
    assert "m@1 loaded, its circuit is closed" in page
    assert admin.post(f"{base}/do/cache", {"seconds": "5"}).status_code == 400
    for action in ("cache", "batch"):
        assert admin.post(f"{base}/do/{action}", {"entries": "", "rows": ""}).status_code == 302
    endpoint = Endpoint.objects.get()
    assert (endpoint.cache, endpoint.batch) == (None, None)


def test_endpoint__made_with_a_cache_by_its_form(admin: Client) -> None:
    python_model("m", "1", "ones")
    form = {"name": "pages", "champion": "m@1", "cache.entries": "9", "batch.rows": "8"}
    assert admin.post("/admin/experiments/endpoint/add/", form).status_code == 302
    endpoint = Endpoint.objects.get()
    assert (endpoint.cache, endpoint.batch) == ({"entries": 9, "seconds": None}, {"rows": 8, "wait_ms": 0.0})


def test_model__says_what_evaluates_it_and_how_long_that_takes(admin: Client) -> None:
    common: dict[str, Any] = {
        "name": "m", "framework": "sklearn", "runtime": "onnx", "compiled_sha256": "a" * 64, "call_seconds": 0.0000421,
        "row_seconds": 0.0000015,
    }  # fmt: skip
    sums = ModelVersion.objects.create(
        version="1", compile_note="compiled to weighted sums; equal to the original on 300 rows", **common
    )
    graph = ModelVersion.objects.create(
        version="2", compile_note="compiled; equal to the original on 300 rows", **common
    )
    page = text(admin, f"/admin/registry/modelversion/{sums.pk}/change/")
    assert "Weighted sums" in page
    assert "ONNX Runtime" not in page
    assert "42.1 µs, and 1.5 µs for each row" in page
    assert "ONNX Runtime" in text(admin, f"/admin/registry/modelversion/{graph.pk}/change/")
    assert [time_told(seconds) for seconds in (0.0, 0.0421, 2.5)] == ["0 µs", "42.1 ms", "2.5 s"]


def test_imports__tell_run_and_what_became_of_the_alias(admin: Client) -> None:
    row = ImportedVersion.objects.create(
        name="fraud", version="3", mlflow_name="fraud-model", mlflow_version="3", run_id="r-1", metrics={"auc": 0.91},
        created_by="t",
    )  # fmt: skip
    AliasMove.objects.create(
        imported=row, alias="champion", endpoint="fraud", state=AliasMove.State.FAILED, due_at=datetime.now(UTC),
        problem="it answered 503",
    )  # fmt: skip
    assert "champion: failed" in text(admin, "/admin/mlflow/importedversion/")
    page = text(admin, f"/admin/mlflow/importedversion/{row.pk}/change/")
    for told in ("fraud-model", "r-1", "auc", "it answered 503"):
        assert told in page


def test_doctor__remote_models_and_aliases__are_asked_and_told(
    platform: None, alice: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as remote:
        assert alice.post(MODELS, definition(remote)).status == 201
        endpoint_of("pages", "m@1")
        said = doctor(capsys)
        assert f"ok    remote: m@1 answers at {remote.open_inference}" in said
    assert "warn  remote: m@1 at " in doctor(capsys)
    assert "ok    mlflow: 0 versions came from it" in said


def doctor(capsys: pytest.CaptureFixture[str]) -> str:
    with contextlib.suppress(SystemExit):  # a test's folders lack what a deployment has
        call_command("doctor")
    return capsys.readouterr().out


def test_model__tells_columns_where_it_serves_and_how_it_did(admin: Client, two_arms: Any) -> None:
    experiment = two_arms()
    b = ModelVersion.objects.get(version="b")
    columns = [
        {"name": "age", "type": "integer", "nullable": True},
        {"name": "<city>", "type": "string", "nullable": False},
    ]
    ModelVersion.objects.filter(pk=b.pk).update(
        signature={"columns": columns, "example_rows": [[None, "Seoul"]], "outputs": ["predict"], "classes": [0, 1]},
        sha256="a" * 64,
        framework="sklearn",
        compile_note="a step is not convertible",
    )
    base = f"/admin/registry/modelversion/{b.pk}"
    page = text(admin, f"{base}/change/")
    assert "integer, nullable" in page
    assert "&lt;city&gt;" in page
    assert "Served as it was registered: a step is not convertible." in page
    assert "It is champion of no endpoint" in page
    assert "(b, running)" in page
    assert "It was an arm of no experiment that has ended" in page
    ArmStatistics.objects.filter(arm__model=b).update(decisions=900, rewards=700, mean=0.061)
    move(experiment, "promote", actor="t", arm=experiment.arms.get(name="b"))
    page = text(admin, f"{base}/change/")
    assert "Champion of" in page
    for told in ("promoted", "900", "0.061"):
        assert told in page.split("In past experiments")[1]
    assert "a was promoted" not in page
    assert "b was promoted" in text(admin, f"/admin/registry/modelversion/{b.pk - 1}/change/")
    # The file is what was registered, and one that is gone is not there.
    assert admin.get(f"{base}/artifact").status_code == 404
    digest = artifact_store().put(b"the file")
    ModelVersion.objects.filter(pk=b.pk).update(sha256=digest)
    answer = admin.get(f"{base}/artifact")
    assert b"".join(answer.streaming_content) == b"the file"  # type: ignore[attr-defined]
    assert 'filename="page-b.skops"' in answer["Content-Disposition"]
    assert Client().get(f"{base}/artifact").status_code == 302
    artifact_store().path(digest).unlink()
    gone = admin.get(f"{base}/artifact")
    assert gone.status_code == 404
    assert "registering its version again, with the same file, restores it" in gone.content.decode()
    assert "page@b" in text(admin, "/admin/registry/modelversion/")


def test_endpoint__tells_its_baseline_and_what_made_its_champions(admin: Client, two_arms: Any) -> None:
    experiment = two_arms()
    base = f"/admin/experiments/endpoint/{experiment.endpoint_id}/change/"
    assert "Baseline of page@a" in text(admin, base)
    assert "no reward yet" in text(admin, base)
    hour = hour_of(timezone.now())
    baseline = Baseline.objects.get(endpoint=experiment.endpoint_id)
    Baseline.objects.update(reward={"kind": "binary", "metric": "clicked", "window_seconds": 60})
    sums = {"decisions": 256_878, "rewards": 25_770, "reward_total": 3_286.0, "reward_m2": 2_866.99}
    BaselineInterval.objects.create(baseline=baseline, start=hour, **sums)
    shown = text(admin, base)
    assert "256,878" in shown
    assert "25,770" in shown
    assert "12.8% (12.3% to 13.2%)" in shown
    assert "correct the error" not in shown, "nothing was sent"
    evidence = {"value": 61.3, "needed": 40.0, "rule": "anytime"}
    move(experiment, "promote", actor="learner", arm=experiment.arms.get(name="b"), evidence=evidence)
    assert "evidence 61 (40 needed)" in text(admin, base)
    assert evidence_of_change({"error_rate": 0.5, "rows": []}) == "error_rate 0.5"
    assert evidence_of_change({}) == "-"
