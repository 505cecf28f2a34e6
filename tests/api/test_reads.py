"""Reads of the control plane that take too long are ended, and told as such; nothing else is."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.test import Client
from noregret.experiments.models import Experiment
from noregret.learning.rebuild import rebuild
from noregret.rest.reads import bounded_reads
from noregret.steering.round import learn

from tests.conftest import Api

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]


def timeout() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        return str(cursor.fetchone()[0])


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[str]:
    """Results whose statements take a second, where 50 ms are allowed."""
    settings.READ_SECONDS = 0.05
    seen: list[str] = []

    def sleep(*_: Any, **__: Any) -> dict[int, Any]:
        seen.append(timeout())
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(1)")
        return {}

    monkeypatch.setattr("noregret.learning.watched.states.states", sleep)
    return seen


def test_results__that_take_too_long__are_a_503_that_says_so(alice: Api, two_arms: Start, slow: list[str]) -> None:
    two_arms()
    answer = alice.get("/api/v1/experiments/e/results")
    assert (answer.status, answer["type"]) == (503, "/problems/read-timeout")
    assert "NOREGRET_READ_SECONDS" in answer["detail"]
    assert answer.response["Retry-After"] == "10"
    assert slow == ["50ms"]
    assert timeout() == "0"  # nothing of it is left on the connection
    assert alice.get("/api/v1/experiments/e").status == 200


def test_page__that_takes_too_long__is_a_503_that_says_so(
    two_arms: Start, slow: list[str], admin_client: Client
) -> None:
    experiment = two_arms()
    for path in (
        f"/admin/experiments/experiment/{experiment.pk}/figures.json",
        f"/admin/experiments/experiment/{experiment.pk}/change/",
    ):
        answer = admin_client.get(path)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/read-timeout")
        page = admin_client.get(path, headers={"Accept": "text/html,*/*"})
        assert (page.status_code, page["Retry-After"], page["Content-Type"][:9]) == (503, "10", "text/html")
        assert "Reading took too long" in page.content.decode()
        assert "Try again" in page.content.decode()
    assert admin_client.get("/admin/experiments/experiment/").status_code == 200


def test_changes_and_logins__that_wait_too_long__are_a_503_too(
    alice: Api, two_arms: Start, settings: Any, admin_client: Client, client: Client
) -> None:
    experiment = two_arms()
    settings.READ_SECONDS = 0.2
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as other:
        for table in ("experiments_experiment", "access_apikey", "auth_user"):
            other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        paused = alice.post("/api/v1/experiments/e/pause", {})
        page = f"/admin/experiments/experiment/{experiment.pk}/change/"
        for answer in (
            paused.response,
            admin_client.post(page, {"reason": "x"}),
            client.post("/admin/login/", {"username": "admin", "password": "a password that is wrong"}),
        ):
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/read-timeout")
    settings.READ_SECONDS = 10
    assert timeout() == "0"
    assert alice.get("/api/v1/experiments/e")["status"] == "running"
    assert alice.post("/api/v1/experiments/e/pause", {}).status == 200


def test_learner_and_rebuild__take_what_they_take(two_arms: Start, slow: list[str]) -> None:
    experiment = two_arms()
    assert timeout() == "0"
    learn(experiment.endpoint_id)
    assert rebuild(experiment, write=False) == []
    with pytest.raises(OperationalError), bounded_reads(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(1)")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.1)")
