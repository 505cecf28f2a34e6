"""Readiness tells everything, and takes a process out only for what another process would do
better."""

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from noregret import operations
from noregret.dashboard.home import processes as health_lines
from noregret.dashboard.home.situation import situation
from noregret.dashboard.models_here import states_here
from noregret.embedded.management.commands import doctor
from noregret.experiments.models import Experiment
from noregret.learning.health import health, sign_of_life
from noregret.registry import jobs
from noregret.registry.models import ModelVersion

from serving import probes, readiness
from serving import process as parts
from serving.readiness import Check
from tests.conftest import Api, endpoint_of, python_model, start_experiment, static_model
from tests.serving.test_data_plane_alone import asked

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


@pytest.mark.parametrize("error", [ImproperlyConfigured("no such storage"), OSError("disk gone"), TypeError("bucket")])
def test_check_that_raises__keeps_its_weight(error: Exception) -> None:
    def raises() -> NoReturn:
        raise error

    weighty, light = Check(raises, takes_out=True), Check(raises)
    status, document = readiness.told({"champions": weighty}, strict=False)
    assert (status, document["status"]) == (503, "not ready")
    assert str(error) in document["checks"]["champions"]["problem"]
    assert readiness.told({"challengers": light}, strict=False)[0] == 200
    assert readiness.told({"challengers": light}, strict=True)[0] == 503


def test_database_away__what_only_it_could_tell_is_not_known__and_takes_nobody_out() -> None:
    looks = 0

    def away() -> NoReturn:
        nonlocal looks
        looks += 1
        raise OperationalError("no route to host")

    missing = Check(away, takes_out=True, of_database=True)
    for checks in ({"database": Check(away), "migrations": missing}, {"migrations": missing}):
        status, document = readiness.told(checks, strict=False)
        assert status == 200
        assert document["checks"]["migrations"]["problem"] == "nobody knows while the database is away"
    assert looks == 2  # once a document: who waits for a server that hangs waits once


@pytest.fixture
def no_store(two_arms: Start, settings: Any) -> None:
    """A storage that can't be made, of a process that starts."""
    two_arms()
    sign_of_life()
    settings.STORAGES = settings.STORAGES | {"artifacts": {"BACKEND": "nosuch.Storage"}}
    parts.reset()


CAUSE = (
    "ImproperlyConfigured: NOREGRET_ARTIFACT_STORAGE can't be used: Could not find backend 'nosuch.Storage': "
    "No module named 'nosuch'"
)


def test_store_that_cannot_be_made__process_is_out__and_says_why(no_store: None, alice: Api) -> None:
    answer = alice.get("/readyz")
    assert (answer.status, answer["status"]) == (503, "not ready")
    checks = answer["checks"]
    assert [checks[name]["problem"] for name in ("snapshots", "champions", "challengers")] == [CAUSE] * 3
    assert checks["migrations"]["ok"]  # the database is there, and says so
    assert alice.get("/metrics").status == 200
    status, document = asked("/readyz")
    assert (status, document["checks"]["champions"]["problem"]) == (503, CAUSE)
    assert asked("/metrics")[0] == 200


def test_store_that_cannot_be_made__requests_are_told_to_come_again(no_store: None, alice: Api) -> None:
    for path, body in (
        ("/api/v1/endpoints/pages/predict", {"inputs": [[1.0, 2.0]]}),
        ("/api/v1/endpoints/pages/decide", {}),
        ("/api/v1/feedback", {"decision_id": "x", "value": 1}),
        ("/v2/models/pages/infer", {"inputs": []}),
    ):
        answer = alice.post(path, body)
        assert answer.status == 503, (path, answer.content)
        assert "nosuch" not in str(answer.content)  # whoever calls is told where to look, and not what it is
        assert "/readyz" in str(answer.content)
    # What is done is told as done: only this process doesn't see it.
    assert alice("PATCH", "/api/v1/endpoints/pages", {"deadline_ms": 400}).status == 200


def test_store_that_cannot_be_made__dashboard_says_so(no_store: None) -> None:
    now = timezone.now()
    assert situation(now, health(), ["endpoints"]).cannot_serve == CAUSE
    assert CAUSE in "".join(line.text for line in health_lines.lines(health(), now))
    assert CAUSE in states_here("pages")[0]


def test_both_planes__look_at_what_takes_a_process_out() -> None:
    weights = {name: check.takes_out for name, check in (operations._CHECKS | probes.CHECKS).items()}
    assert {name for name, weighs in weights.items() if weighs} == {"migrations", "snapshots", "champions"}
