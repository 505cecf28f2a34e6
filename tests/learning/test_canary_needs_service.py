"""A canary goes on by what its challenger served: never by time, never over failures, and nobody
who failed becomes champion."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from noregret.experiments.errors import Conflict
from noregret.experiments.models import Experiment
from noregret.learning.drain import drain
from noregret.learning.rebuild import rebuild
from noregret.learning.served import unfit
from noregret.rollout.transitions import advance, move
from noregret.steering.promotion import act
from noregret.steering.round import learn
from noregret.trail.models import AuditEntry
from past_traffic import begin_earlier, decide, decided_at, fill, reward

from serving.models import ShadowPrediction
from tests.conftest import Api
from tests.learning.told import results

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
CANARY: dict[str, Any] = {
    "strategy": "canary",
    "arms": [{"name": "new", "model": "page@b"}],
    "canary": {"steps": [0.5, 1.0], "bake_seconds": 60},
    "reward": {"kind": "binary", "window_seconds": 1},
    "promotion": {"min_rewards": 0},
}


def again(experiment: Experiment) -> Experiment:
    return Experiment.objects.select_related("endpoint__champion", "promoted_arm").get(pk=experiment.pk)


def bake(experiment: Experiment) -> None:
    Experiment.objects.filter(pk=experiment.pk).update(canary_since=timezone.now() - timedelta(hours=1))


def told(experiment: Experiment) -> str:
    return str(results(again(experiment))["recommendation"]["reason"])


def test_canary__document__shows_the_guardrail_on_errors_that_it_gets(two_arms: Start) -> None:
    experiment = two_arms(**CANARY | {"guardrails": []})
    (guardrail,) = experiment.guardrails
    assert (guardrail["metric"], guardrail["versus"], guardrail["action"]) == ("error_rate", "control", "rollback")
    assert (guardrail["max"], guardrail["min_decisions"]) == (0.001, 20)


def test_canary__own_guardrail_on_errors__takes_the_place_of_the_default(two_arms: Start) -> None:
    own = {"metric": "error_rate", "max": 0.1, "action": "pause"}
    slow = {"metric": "latency_p99_ms", "max": 100, "action": "rollback"}
    experiment = two_arms(**CANARY | {"guardrails": [slow, own]})
    assert [(guardrail["metric"], guardrail["max"]) for guardrail in experiment.guardrails] == [
        ("latency_p99_ms", 100),
        ("error_rate", 0.1),
    ]


@pytest.mark.parametrize("made_before", [False, True])
def test_canary__challenger_that_always_fails__is_rolled_back_within_its_first_decisions(
    two_arms: Start, made_before: bool
) -> None:
    experiment = two_arms(**CANARY)
    if made_before:  # no guardrail in its row, as before canaries got one
        Experiment.objects.filter(pk=experiment.pk).update(guardrails=[])
    bake(experiment)
    for failures in range(1, 51):
        decide(experiment, "new", seconds_ago=5, failed=True)
        decide(experiment, "control", seconds_ago=5)
        if failures % 10 == 0:
            learn(experiment.endpoint_id)
            if again(experiment).status != "running":
                break
    ended = again(experiment)
    assert (ended.outcome, ended.canary_step, failures) == ("rolled_back", 0, 20)
    assert "error_rate of new against the control's is shown" in AuditEntry.objects.get(action="guardrail.acted").reason
    assert rebuild(experiment, write=False) == []


def test_canary__with_all_the_traffic__is_still_rolled_back_when_it_begins_to_fail(two_arms: Start) -> None:
    experiment = two_arms(**CANARY)
    for _ in range(60):
        decide(experiment, "new", seconds_ago=60)
        decide(experiment, "control", seconds_ago=60)
    learn(experiment.endpoint_id)
    advance(again(experiment), actor="t")
    AuditEntry.objects.filter(action="experiment.advanced").update(at=timezone.now() - timedelta(seconds=45))
    for _ in range(25):
        decide(experiment, "new", seconds_ago=5, share=1.0, failed=True)
    learn(experiment.endpoint_id)
    assert again(experiment).outcome == "rolled_back"


def test_canary__alone_from_the_start_and_always_failing__is_rolled_back(two_arms: Start) -> None:
    experiment = two_arms(**CANARY | {"canary": {"steps": [1.0], "bake_seconds": 60}})
    bake(experiment)
    for _ in range(20):
        decide(experiment, "new", seconds_ago=5, share=1.0, failed=True)
    learn(experiment.endpoint_id)
    assert again(experiment).outcome == "rolled_back"


def test_canary__failing_alike_in_both_arms__is_left_alone(two_arms: Start) -> None:
    experiment = two_arms(**CANARY | {"canary": {"steps": [0.5], "bake_seconds": 3600}})
    rng = random.Random(5)
    for i in range(400):
        # Both fail more in the second half: drift that strikes them alike.
        decide(experiment, "new" if i % 2 else "control", seconds_ago=300 - i * 0.7, failed=rng.random() < i / 800)
    learn(experiment.endpoint_id)
    assert again(experiment).status == "running"


def test_canary__without_traffic__waits_at_its_step_and_says_so(two_arms: Start) -> None:
    experiment = two_arms(**CANARY)
    bake(experiment)
    learn(experiment.endpoint_id)
    assert (again(experiment).status, again(experiment).canary_step) == ("running", 0)
    assert "waits for traffic: new has served 0 of the 20 decisions" in told(experiment)


def test_canary__decisions_of_the_step_before__count_for_no_other(two_arms: Start) -> None:
    experiment = two_arms(**CANARY)
    bake(experiment)
    for _ in range(25):
        decide(experiment, "new", seconds_ago=120)
    learn(experiment.endpoint_id)
    assert again(experiment).canary_step == 1
    Experiment.objects.filter(pk=experiment.pk).update(canary_since=timezone.now() - timedelta(seconds=90))
    learn(experiment.endpoint_id)
    assert again(experiment).status == "running"
    assert "new has served 0 of the 20" in told(experiment)


def test_canary__silence_means_nothing__waits_for_answers(two_arms: Start) -> None:
    experiment = two_arms(**CANARY | {"promotion": {"min_rewards": 100}})
    begin_earlier(experiment)
    bake(experiment)
    made = [decide(experiment, "new", seconds_ago=60) for _ in range(25)]
    learn(experiment.endpoint_id)
    assert again(experiment).canary_step == 0
    assert "waits for answers: 0 of 20 rewards came for new" in told(experiment)
    for identity in made:
        reward(experiment, "new", identity, 1.0)
    learn(experiment.endpoint_id)
    assert again(experiment).canary_step == 1


def test_canary__metric_of_a_guardrail_that_nobody_sends__waits_and_is_shown_as_unheard(
    two_arms: Start, alice: Api
) -> None:
    guardrail = {"metric": "refunds", "max": 3, "action": "rollback", "min_decisions": 1}
    experiment = two_arms(**CANARY | {"guardrails": [guardrail]})
    bake(experiment)
    for _ in range(25):
        decide(experiment, "new", seconds_ago=60)
    learn(experiment.endpoint_id)
    assert again(experiment).canary_step == 0
    assert "the guardrail on refunds can't be judged yet: nobody has sent refunds for new" in told(experiment)
    shown = alice.get("/api/v1/experiments/e/results").body["guardrails"]
    assert [(row["metric"], row["arms"][0]["state"]) for row in shown] == [
        ("refunds", "unheard"),
        ("error_rate", "within"),
    ]
    # What is sent for the control says nothing of the challenger, and no look goes through it.
    for _ in range(5):
        reward(experiment, "control", decide(experiment, "control", seconds_ago=60), 1.0, metric="refunds")
    learn(experiment.endpoint_id)
    with CaptureQueriesContext(connection) as asked:
        assert "nobody has sent refunds for new" in told(experiment)
    assert not [query["sql"] for query in asked if "serving_reward" in query["sql"] and "refunds" in query["sql"]]
    reward(experiment, "new", decide(experiment, "new", seconds_ago=60), 1.0, metric="refunds")
    learn(experiment.endpoint_id)
    assert again(experiment).canary_step == 1


@pytest.mark.parametrize(
    "guardrail",
    [{"metric": "latency_p90_ms", "max": 40}, {"metric": "error_rate", "max": 0.1}],
    ids=lambda one: one["metric"],
)
def test_canary__guardrail_without_enough_to_judge__holds_the_step(two_arms: Start, guardrail: dict[str, Any]) -> None:
    """50 are asked for by a guardrail, 20 by a step: all of 28 past its limit spoke for nobody."""
    experiment = two_arms(**CANARY | {"guardrails": [{**guardrail, "action": "rollback"}]})
    bake(experiment)
    bad = {"latency_ms": 55.0} if guardrail["metric"].startswith("latency") else {"failed": True}
    for _ in range(28):
        decide(experiment, "new", seconds_ago=60, **bad)
    for _ in range(20):
        decide(experiment, "new", seconds_ago=60)
    learn(experiment.endpoint_id)
    assert again(experiment).canary_step == 0
    reason = f"the guardrail on {guardrail['metric']} can't be judged yet: new has 48 of the 50 decisions asked for"
    assert reason in told(experiment)
    for _ in range(4):
        decide(experiment, "new", seconds_ago=60, **bad)
    learn(experiment.endpoint_id)
    assert (again(experiment).status, again(experiment).outcome) == ("completed", "rolled_back")


def test_promotion__arm_that_failed_every_time__is_refused_to_people_too(two_arms: Start, alice: Api) -> None:
    experiment = two_arms(promotion={"auto": False})
    assert alice.post("/api/v1/experiments/e/pause").status == 200  # no guardrail acts meanwhile
    for _ in range(7):
        decide(experiment, "b", seconds_ago=5, failed=True)
    drain(experiment.endpoint)
    refused = alice.post("/api/v1/experiments/e/promote", {"arm": "b"})
    assert refused.status == 409
    assert "b has failed in each of its 7 decisions" in refused["detail"]
    assert again(experiment).endpoint.champion.version == "a"
    assert alice.post("/api/v1/experiments/e/promote", {"arm": "a"}).status == 200  # who serves already may stay


def test_promotion__arm_never_asked__is_a_persons_to_promote(two_arms: Start, alice: Api) -> None:
    two_arms(promotion={"auto": False})
    assert alice.post("/api/v1/experiments/e/promote", {"arm": "b"}).status == 200


def test_advance__challenger_that_failed_every_time__is_refused(two_arms: Start, alice: Api) -> None:
    experiment = two_arms(**CANARY)
    for _ in range(7):
        decide(experiment, "new", seconds_ago=5, failed=True)
    drain(experiment.endpoint)
    assert alice.post("/api/v1/experiments/e/advance").status == 409
    assert again(experiment).canary_step == 0


def test_promotion__shadow_that_failed_every_time__is_refused(two_arms: Start) -> None:
    experiment = two_arms(strategy="shadow", arms=[{"name": "new", "model": "page@b"}])
    new = experiment.arms.select_related("model").get(name="new")
    for i in range(3):
        identity = decide(experiment, "control", seconds_ago=5 + i)
        ShadowPrediction.objects.create(
            decision_id=identity.hex(),
            decided_at=decided_at(identity),
            experiment_id=experiment.pk,
            arm_id=new.pk,
            latency_ms=1.0,
            champion_latency_ms=1.0,
            error="error",
            champion_predicted=[1],
        )
    with pytest.raises(Conflict, match="new has failed in each of its 3 predictions"):
        move(experiment, "promote", actor="t", arm=new)
    ShadowPrediction.objects.filter(decision_id=identity.hex()).update(error=None)
    assert move(experiment, "promote", actor="t", arm=new).outcome == "promoted"


def test_promotion__winner_that_has_begun_to_fail__is_not_promoted_by_itself(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1})
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    for _ in range(6):
        decide(experiment, "b", seconds_ago=5, failed=True)
    learn(experiment.endpoint_id)
    told = results(again(experiment))
    assert (told["evidence"]["leader"], told["recommendation"]["action"]) == ("b", "continue")
    assert "b failed in 6 of its last 10 decisions" in told["recommendation"]["reason"]
    assert again(experiment).status == "running"
    assert "b failed in 6 of its last 10 decisions" in unfit(experiment, experiment.arms.get(name="b"))
    for _ in range(60):
        decide(experiment, "b", seconds_ago=4)
    learn(experiment.endpoint_id)
    assert again(experiment).outcome == "promoted"


def test_schedule__leader_that_fails__ends_without_a_promotion(two_arms: Start) -> None:
    experiment = two_arms(
        reward={"kind": "binary", "window_seconds": 1},
        promotion={"auto": False},
        schedule={"end_at": "2020-01-01T00:00:00Z", "at_end": "promote_leader"},
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 70), "b": (40, 60)})
    for _ in range(10):
        decide(experiment, "b", seconds_ago=5, failed=True)
    learn(experiment.endpoint_id)
    ended = again(experiment)
    assert ended.outcome == "stopped"
    assert "so it is not promoted" in AuditEntry.objects.get(action="experiment.stopped").reason
    assert not act(ended)
