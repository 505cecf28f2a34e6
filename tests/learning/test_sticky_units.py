"""Redis emptied: sticky units get their arms back from the ledger."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from noregret.experiments.models import Arm, Experiment
from noregret.learning import sticky_units
from noregret.redis_client import client, keys
from noregret.steering import tasks
from noregret.steering.round import learn

from serving import process as processes
from serving.models import Decision
from serving.process import Process, process
from serving.sticky import PROVISIONAL_SECONDS, RESTORED, Assignment
from tests.conftest import Api
from tests.learning.test_celery import Learners, learners, wait_until
from tests.serving.test_rollouts_served import moved_to

__all__ = ["learners"]

Start = Callable[..., Experiment]
DECIDE = "/api/v1/endpoints/pages/decide"
POLICY = {"name": "thompson", "burn_in": 10, "floor": 0.0}
UNITS = [f"unit-{i:03d}" for i in range(80)] + ["ünit", "z" * 256, "a:b{c}"]


def met(api: Api, units: list[str]) -> dict[str, tuple[str, float]]:
    bodies = {unit: api.post(DECIDE, {"unit": unit}).body for unit in units}
    return {unit: (body["arm"], body["propensity"]) for unit, body in bodies.items()}


def emptied(experiment: Experiment) -> None:
    """Redis loses all; web processes start anew, and the learner publishes."""
    for name in client().scan_iter(f"{keys().prefix}*"):
        client().delete(name)
    processes.reset()
    tasks._look()
    process().store.refresh()


def restore_all(experiment: Experiment) -> None:
    while sticky_units.to_restore():
        sticky_units.restore(experiment.pk)


def test_redis_emptied__sticky_units__keep_their_arms(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(sticky=True, policy=POLICY)
    first = met(alice, UNITS)
    assert {arm for arm, _ in first.values()} == {"a", "b"}
    learn(experiment.endpoint_id)
    moved_to(experiment, {"a": 0.01, "b": 0.99})
    emptied(experiment)
    assert sticky_units.to_restore() == [experiment.pk]
    restore_all(experiment)
    assert met(alice, UNITS) == first
    assert met(alice, ["new"]) == {"new": ("b", pytest.approx(1.0, abs=1e-6))}


def test_redis_emptied__unit_that_comes_before_the_restoration__has_one_arm_meanwhile__and_its_own_again(
    alice: Api, two_arms: Start
) -> None:
    experiment = two_arms(sticky=True, policy=POLICY)
    first = met(alice, UNITS)
    learn(experiment.endpoint_id)
    moved_to(experiment, {"a": 0.1, "b": 0.9})
    emptied(experiment)
    other = processes.make()
    meanwhile = met(alice, UNITS)
    arms = [{unit: arm for unit, (arm, _) in told.items()} for told in (first, meanwhile)]
    assert arms[0] != arms[1]  # nobody could know
    assert met(alice, UNITS) == meanwhile
    assert {unit: arm_of(other, experiment, unit) for unit in UNITS} == {
        unit: arm for unit, (arm, _) in meanwhile.items()
    }
    learn(experiment.endpoint_id)  # these decisions are in the ledger too
    restore_all(experiment)
    soon = time.monotonic() + PROVISIONAL_SECONDS + 0.1
    for parts in (process(), other):
        found = {unit: arm_of(parts, experiment, unit, now=soon) for unit in UNITS}
        assert found == {unit: arm for unit, (arm, _) in first.items()}
    other.close()


def arm_of(parts: Process, experiment: Experiment, unit: str, now: float | None = None) -> str:
    arms = list(experiment.arms.order_by("position"))
    ids = [arm.pk for arm in arms]
    held = parts.assignments.get("pages", experiment.pk, unit, Assignment(ids[0], [0.5, 0.5]), ids, now=now)
    return arms[ids.index(held.arm_id)].name


def test_marker_lost_alone__assignments_that_redis_has__stand(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(sticky=True, policy=POLICY)
    restore_all(experiment)
    first = met(alice, UNITS)
    learn(experiment.endpoint_id)
    arms = {arm.name: arm.pk for arm in Arm.objects.all()}
    with connection.cursor() as cursor:  # as if the ledger knew otherwise
        cursor.execute("UPDATE serving_decision SET arm_id = %s", [arms["a"]])
    client().delete(keys().restored("pages", experiment.pk))
    restore_all(experiment)
    processes.reset()
    assert met(alice, UNITS) == first


def test_restoration__arm_disabled_since__gives_the_arm_that_the_unit_was_moved_to(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(sticky=True, policy=POLICY)
    first = met(alice, UNITS)
    learn(experiment.endpoint_id)
    alice.post("/api/v1/experiments/e/arms/a/disable")
    process().store.refresh()
    half = UNITS[::2]
    assert {arm for arm, _ in met(alice, half).values()} == {"b"}
    learn(experiment.endpoint_id)
    emptied(experiment)
    restore_all(experiment)
    known = {unit for unit in UNITS if client().exists(keys().sticky("pages", experiment.pk, unit))}
    assert known == {*half, *(unit for unit in UNITS if first[unit][0] == "b")}


def test_restoration__of_a_month_and_no_more__gives_the_first_arm_within_it(
    alice: Api, two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = two_arms(sticky=True, policy=POLICY)
    arms = list(experiment.arms.order_by("position").values_list("pk", flat=True))
    met(alice, ["gone", "back", "late"])
    learn(experiment.endpoint_id)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE serving_decision SET arm_id = %s", [arms[0]])
    later = datetime.now(UTC) + timedelta(days=31)
    monkeypatch.setattr(sticky_units.clock, "now", lambda: later)
    with connection.cursor() as cursor:  # as if it had come again a month later, to another arm
        cursor.execute(
            "INSERT INTO serving_decision (id, decided_at, experiment_id, arm_id, propensities, propensity, policy_version, unit, "
            "latency_ms, holdout, trial) SELECT gen_random_uuid(), decided_at + interval '31 days' - interval '1 hour', experiment_id, "
            "%s, propensities, propensity, policy_version, unit, 1, false, false FROM serving_decision WHERE unit = 'back'",
            [arms[1]],
        )
    _, restored = sticky_units._batch(experiment, "")
    assert {unit: assignment.arm_id for unit, assignment in restored.items()} == {"back": arms[1]}


def test_restoration__held_out_and_apprentice__have_no_arm_to_keep(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(sticky=True, policy=POLICY, holdout=0.5)
    met(alice, UNITS)
    learn(experiment.endpoint_id)
    held_out = set()
    with connection.cursor() as cursor:
        cursor.execute("SELECT unit FROM serving_decision WHERE holdout")
        held_out = {row[0] for row in cursor.fetchall()}
    assert 0 < len(held_out) < len(UNITS)
    emptied(experiment)
    restore_all(experiment)
    known = {unit for unit in UNITS if client().exists(keys().sticky("pages", experiment.pk, unit))}
    assert known == {*UNITS} - held_out


def test_restoration__cut_short__goes_on_where_it_was(
    alice: Api, two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = two_arms(sticky=True, policy=POLICY)
    first = met(alice, UNITS)
    learn(experiment.endpoint_id)
    emptied(experiment)
    monkeypatch.setattr(sticky_units, "UNITS", 10)
    monkeypatch.setattr(sticky_units, "SECONDS_A_CALL", 1e-9)
    units: list[str] = []
    whole = sticky_units._batch

    def noted(*arguments: Any) -> Any:
        last, found = whole(*arguments)
        units.extend(found)
        return last, found

    monkeypatch.setattr(sticky_units, "_batch", noted)
    calls = 0
    while sticky_units.to_restore():
        sticky_units.restore(experiment.pk)
        calls += 1
        assert calls < 20
    assert sorted(units) == sorted(UNITS)
    assert calls == 9
    assert met(alice, UNITS) == first


@pytest.mark.parametrize("changes", [{"strategy": "ab", "policy": None}, {"sticky": False}])
def test_experiment_whose_units_need_no_memory__is_not_restored(two_arms: Start, changes: dict[str, Any]) -> None:
    two_arms(**{"sticky": False} | {key: value for key, value in changes.items() if value is not None})
    assert sticky_units.to_restore() == []


def test_redis_full__units_that_nobody_knows__are_routed_and_not_remembered(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(sticky=True, policy=POLICY)
    known = met(alice, UNITS)
    processes.reset()
    process().backlog.has_reserve = False
    process().shipper.close()
    process().backlog.has_reserve = False
    assert met(alice, UNITS) == known
    assert alice.post(DECIDE, {"unit": "new"})["learnable"]
    assert not client().exists(keys().sticky("pages", experiment.pk, "new"))


def test_redis_emptied_under_a_running_learner__units_have_their_arms_again(
    learners: Learners, alice: Api, two_arms: Start
) -> None:
    learners.worker()
    learners.beat()
    experiment = two_arms(sticky=True, policy=POLICY)
    marker = keys().restored("pages", experiment.pk)
    first = met(alice, UNITS)
    wait_until(lambda: Decision.objects.count() == len(UNITS) and client().get(marker) == RESTORED)
    processes.reset()
    for name in client().scan_iter(f"{keys().prefix}*"):
        client().delete(name)
    wait_until(lambda: client().get(marker) == RESTORED)
    assert process().store.refresh()
    assert met(alice, UNITS) == first
