"""Readiness tells everything, and takes a process out only for what another process would do
better."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from noregret.embedded.management.commands import doctor
from noregret.experiments.models import Experiment
from noregret.learning.health import sign_of_life
from noregret.registry import jobs
from noregret.registry.models import ModelVersion

from tests.conftest import Api, endpoint_of, python_model, start_experiment, static_model

Start = Callable[..., Experiment]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize("host", ["10.1.2.3:8000", "pod-7.cluster.local", "bad host", ""])
def test_probes__whatever_host_they_name__are_answered(platform: None, path: str, host: str) -> None:
    assert Client(headers={"Host": host}, raise_request_exception=False).get(path, HTTP_HOST=host).status_code == 200


def test_other_addresses__unknown_host__are_refused(alice: Api) -> None:
    assert alice.get("/api/v1/models", HTTP_HOST="10.1.2.3").status == 400


def test_redis_away__process_stays_in__and_strict_tells(alice: Api, two_arms: Start, settings: Any) -> None:
    two_arms()
    sign_of_life()
    assert alice.get("/readyz?strict=1").status == 200
    there, settings.REDIS_URL = settings.REDIS_URL, "unix:///nonexistent/redis.sock"
    try:
        away = alice.get("/readyz")
        assert (away.status, away["status"]) == (200, "ready, with troubles")
        assert not away["checks"]["redis"]["ok"]
        assert alice.get("/readyz?strict=1").status == 503
    finally:
        settings.REDIS_URL = there


def gone(model: str) -> None:
    """A callable that is not there any more where the web process runs."""
    name, _, version = model.partition("@")
    ModelVersion.objects.filter(name=name, version=version).update(callable="tests.callables.gone")


def test_challenger_that_does_not_load__is_told_and_takes_nobody_out(alice: Api) -> None:
    endpoint_of("pages", static_model("page", "a"))
    gone(python_model("page", "b", "sums"))
    start_experiment(
        {"name": "e", "endpoint": "pages", "strategy": "canary", "arms": [{"name": "new", "model": "page@b"}]}
    )
    sign_of_life()
    answer = alice.get("/readyz")
    assert answer.status == 200
    assert set(answer["checks"]["challengers"]["not_loaded"]) == {"pages/new"}
    assert answer["checks"]["champions"]["ok"]
    assert alice.get("/readyz?strict=1").status == 503


def test_champion_that_does_not_load__takes_this_process_out_and_is_named(alice: Api) -> None:
    gone(python_model("page", "a", "sums"))
    endpoint_of("pages", "page@a")
    answer = alice.get("/readyz")
    assert (answer.status, answer["status"]) == (503, "not ready")
    assert "page@a" in answer["checks"]["champions"]["not_loaded"]["pages"]


def test_doctor__says_whether_a_worker_inspects_uploads(platform: None) -> None:
    (good, said), *others = doctor._inspector()
    assert (good, others) == (None, [])
    assert "queue `inspect`" in said
    jobs.tend()
    (good, said), *_ = doctor._inspector()
    assert good
    assert " s ago" in said
