"""Rollouts as callers meet them: sticky units, arms that fail for long, features, holdouts."""

from collections.abc import Callable
from typing import Any

import pytest
from noregret.experiments.models import Experiment
from noregret.learning.models import ArmStatistics
from noregret.redis_client import client, keys
from noregret.rollout.publish import publish_endpoint
from noregret.steering.round import learn
from noregret.trail.models import AuditEntry

from serving import process as processes
from serving.breaker import FAILURES
from serving.models import Decision
from serving.process import process
from serving.sticky import Assignment
from tests.callables import CALLS
from tests.conftest import Api, endpoint_of, python_model, start_experiment

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
DECIDE = "/api/v1/endpoints/pages/decide"
PREDICT = "/api/v1/endpoints/pages/predict"


def moved_to(experiment: Experiment, means: dict[str, float]) -> None:
    """As if so much had been learned, so that the policy's probabilities move."""
    for arm in experiment.arms.all():
        ArmStatistics.objects.filter(arm=arm).update(rewards=1000, mean=means[arm.name])
    Experiment.objects.filter(pk=experiment.pk).update(asked="")
    endpoint = experiment.endpoint
    endpoint.refresh_from_db()
    type(endpoint).objects.filter(pk=endpoint.pk).update(policy_version=endpoint.policy_version + 1)
    publish_endpoint(endpoint.pk)
    process().store.refresh()


def test_sticky__unit__keeps_its_arm_when_probabilities_move_and_processes_restart(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(sticky=True, policy={"name": "thompson", "burn_in": 10, "floor": 0.0})
    units = [f"user-{i}" for i in range(60)]
    first = {unit: alice.post(DECIDE, {"unit": unit}).body for unit in units}
    assert {body["arm"] for body in first.values()} == {"a", "b"}
    moved_to(experiment, {"a": 0.01, "b": 0.99})
    assert alice.post(DECIDE, {"unit": "new"})["arm"] == "b"
    processes.reset()
    for unit in units:
        again = alice.post(DECIDE, {"unit": unit}).body
        # With the probability that it was drawn with: half, not what a new unit would have now.
        assert (again["arm"], again["propensity"]) == (first[unit]["arm"], 0.5)
    assert {alice.post(DECIDE, {})["arm"] for _ in range(10)} == {"b"}  # no unit, nothing to keep
    alice.post("/api/v1/experiments/e/arms/a/disable")
    process().store.refresh()
    assert {alice.post(DECIDE, {"unit": unit})["arm"] for unit in units} == {"b"}
    alice.post("/api/v1/experiments/e/arms/a/enable")
    process().store.refresh()
    assert {alice.post(DECIDE, {"unit": unit})["arm"] for unit in units} == {"b"}  # they were moved, and stay


def test_sticky__same_new_unit_met_by_two_processes__has_one_arm(two_arms: Start) -> None:
    experiment = two_arms(sticky=True)
    one = process().assignments
    ids = list(experiment.arms.order_by("position").values_list("pk", flat=True))
    first = one.get("pages", experiment.pk, "u", Assignment(ids[0], [0.5, 0.5]), ids)
    processes.reset()
    second = process().assignments.get("pages", experiment.pk, "u", Assignment(ids[1], [0.1, 0.9]), ids)
    assert first == second == Assignment(ids[0], [0.5, 0.5])
    left = client().ttl(keys().sticky("pages", experiment.pk, "u"))
    assert 29 * 86_400 < left <= 30 * 86_400
    client().set(keys().sticky("pages", experiment.pk, "v"), b"damaged")
    damaged = process().assignments.get("pages", experiment.pk, "v", Assignment(ids[1], [0.1, 0.9]), ids)
    assert damaged.arm_id == ids[1]


def test_failing_arm__is_left_alone_after_some_failures__and_no_caller_waits(alice: Api) -> None:
    endpoint_of("pages", python_model("m", "good", "ones"), deadline_ms=200)
    python_model("m", "bad", "counted_and_sleeping")
    CALLS.clear()
    experiment = start_experiment(
        {
            "name": "e",
            "endpoint": "pages",
            "strategy": "canary",
            "arms": [{"name": "bad", "model": "m@bad"}],
            "canary": {"steps": [0.5, 1.0], "bake_seconds": 3600},
            "guardrails": [{"metric": "error_rate", "max": 0.02, "action": "rollback", "min_decisions": 20}],
        }
    )
    alice.post("/api/v1/experiments/e/advance")
    process().store.refresh()
    reasons = [alice.post(PREDICT, {"inputs": [[1.0]], "unit": str(i)})["fallback_reason"] for i in range(FAILURES)]
    assert reasons == ["timeout"] * FAILURES
    answers = [alice.post(PREDICT, {"inputs": [[1.0]], "unit": str(i)}) for i in range(40)]
    assert len(CALLS) <= FAILURES, "nobody waits for a model that is not asked"
    assert {answer.status for answer in answers} == {200}
    assert {answer["fallback_reason"] for answer in answers} == {"circuit_open"}
    assert {answer["model"] for answer in answers} == {"m@good"}
    assert not any(answer["learnable"] for answer in answers)
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    assert experiment.outcome == "rolled_back"
    process().store.refresh()
    answer = alice.post(PREDICT, {"inputs": [[1.0]]}).body
    assert (answer["strategy"], answer["model"], answer["fallback_reason"]) == ("single", "m@good", None)
    assert AuditEntry.objects.get(action="guardrail.acted").details["metric"] == "error_rate"


@pytest.mark.parametrize("steps", [[0.5, 1.0], [1.0]])
def test_canary__challenger_that_always_raises__is_rolled_back_without_a_guardrail_of_ones_own(
    alice: Api, steps: list[float]
) -> None:
    endpoint_of("pages", python_model("m", "good", "ones"))
    python_model("m", "bad", "raises")
    experiment = start_experiment(
        {
            "name": "e",
            "endpoint": "pages",
            "strategy": "canary",
            "arms": [{"name": "bad", "model": "m@bad"}],
            "canary": {"steps": steps, "bake_seconds": 1},
            "promotion": {"min_rewards": 0},
        }
    )
    process().store.refresh()
    answers = [alice.post(PREDICT, {"inputs": [[1.0]], "unit": f"u{i}"}).body for i in range(int(60 / steps[0]))]
    assert {answer["model"] for answer in answers} == {"m@good"}
    Experiment.objects.filter(pk=experiment.pk).update(canary_since="2020-01-01T00:00:00Z")
    learn(experiment.endpoint_id)
    ended = Experiment.objects.select_related("endpoint__champion").get(pk=experiment.pk)
    assert (ended.outcome, ended.endpoint.champion.version) == ("rolled_back", "good")


def test_context__declared_field_of_a_wrong_type__is_a_400__and_nothing_is_recorded(
    alice: Api, two_arms: Start
) -> None:
    experiment = two_arms(
        policy={"name": "lin-thompson"},
        context={"fields": [{"name": "age", "type": "number", "min": 0, "max": 100}]},
    )
    wrong: list[dict[str, Any]] = [{"age": "old"}, {"age": True}]
    for context in wrong:
        answer = alice.post(DECIDE, {"context": context})
        assert (answer.status, answer.fields()) == (400, ["context.age"])
    good = alice.post(DECIDE, {"context": {"age": 31, "other": "x"}})
    assert good.status == 200
    assert good["propensity"] == pytest.approx(0.5)
    assert alice.post(DECIDE, {}).status == 200
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 2


def test_holdout__decisions__are_marked_in_the_ledger(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(holdout=0.5)
    answers = [alice.post(DECIDE, {"unit": f"u{i}"}).body for i in range(80)]
    learn(experiment.endpoint_id)
    marked = Decision.objects.filter(holdout=True)
    control = experiment.arms.get(name="a").pk
    assert 20 <= marked.count() <= 60
    assert set(marked.values_list("arm_id", flat=True)) == {control}
    # The bandit is even for whoever is not held out; for the others the control is certain.
    told = {(body["arm"], round(body["propensity"], 6)) for body in answers}
    assert told == {("a", 1.0), ("a", 0.5), ("b", 0.5)}
    assert marked.count() == sum(body["propensity"] == 1.0 for body in answers)


def test_apprentice__control_serves__and_the_choice_is_in_the_ledger(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(apprentice=True)
    answers = [alice.post(DECIDE, {"unit": f"u{i}"}).body for i in range(30)]
    assert {(body["arm"], body["propensity"]) for body in answers} == {("a", 1.0)}
    learn(experiment.endpoint_id)
    assert set(Decision.objects.values_list("proposed_arm_id", flat=True)) == set(
        experiment.arms.values_list("pk", flat=True)
    )
