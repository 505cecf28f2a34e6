"""What a stranger found where features meet: failing controls, paused experiments, numbers of 65
bits, canaries without an end."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.utils import timezone
from noregret.experiments.errors import Conflict
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning.models import ArmStatistics
from noregret.learning.rebuild import rebuild
from noregret.rollout.endpoints import update_endpoint
from noregret.rollout.transitions import move
from noregret.steering import pending
from noregret.steering.round import learn

from bandits.belief import believe
from bandits.inference import probability_best
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics as Statistics
from serving.models import Decision
from serving.process import process
from tests.conftest import Api, endpoint_of, python_model, start_experiment
from tests.learning.past_traffic import begin_earlier, decide, reward
from tests.learning.told import results

Start = Callable[..., Experiment]


def again(experiment: Experiment) -> Experiment:
    return Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment.pk)


def test_control_that_fails__is_told_as_503_and_counted(alice: Api) -> None:
    """What nobody could answer is in the ledger like what the champion answered for another arm:
    else the control never fails."""
    python_model("m", "a", "raises")
    python_model("m", "b", "raises")
    endpoint_of("m", "m@a")
    experiment = start_experiment(
        {"name": "e", "endpoint": "m", "strategy": "ab", "arms": [{"name": n, "model": f"m@{n}"} for n in "ab"]}
    )
    process().store.refresh()
    for i in range(40):
        assert alice.post("/api/v1/endpoints/m/predict", {"inputs": [[1.0]], "unit": f"u{i}"}).status == 503
    learn(experiment.endpoint_id)
    assert set(Decision.objects.values_list("fallback_reason", flat=True)) <= {"no_answer"}
    shown = results(again(experiment))
    assert shown["decisions"] == 40
    assert [arm["error_rate"] for arm in shown["arms"]] == [1.0, 1.0]
    assert shown["comparison"]["sample_ratio_p"] > 0.01


BOUNDED = {"kind": "continuous", "minimum": 0, "maximum": 1, "default": 0, "window_seconds": 1}


@pytest.mark.parametrize("strategy", ["ab", "canary"])
def test_bounded_rewards__arm_that_fails__is_neither_beaten_nor_beats_anybody(two_arms: Start, strategy: str) -> None:
    """Every reward of both arms is .9; half of b's decisions fail, and have none."""
    arms = [{"name": n, "model": f"page@{n}"} for n in "ab"] if strategy == "ab" else [{"name": "b", "model": "page@b"}]
    experiment = two_arms(
        strategy=strategy,
        arms=arms,
        reward=BOUNDED,
        guardrails=[{"metric": "error_rate", "max": 0.95, "action": "rollback"}],
        **({"canary": {"steps": [0.5, 1.0], "bake_seconds": 600}} if strategy == "canary" else {}),
    )
    begin_earlier(experiment)
    rng, begun = random.Random(4), timezone.now() - timedelta(seconds=100)
    names = [arm.name for arm in experiment.arms.order_by("position")]
    for i in range(900):
        arm = rng.choice(names)
        failed = arm == "b" and rng.random() < 0.5
        identity = decide(experiment, arm, at=begun + timedelta(milliseconds=i), failed=failed)
        if not failed:
            reward(experiment, arm, identity, 0.9)
    learn(experiment.endpoint_id)
    shown = results(again(experiment))
    assert shown["status"] == "running"
    assert shown["recommendation"]["action"] == "continue"


def test_sample_ratio_alarm__nothing_is_promoted_on_such_figures(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1})
    begin_earlier(experiment)
    rng = random.Random(5)
    for i in range(600):
        arm = "b" if rng.random() < 0.8 else "a"  # logged as even
        identity = decide(experiment, arm, at=timezone.now() - timedelta(seconds=100 - 0.05 * i))
        reward(experiment, arm, identity, float(rng.random() < {"a": 0.2, "b": 0.8}[arm]))
    learn(experiment.endpoint_id)
    shown = results(again(experiment))
    assert shown["comparison"]["sample_ratio_p"] < 1e-6
    assert shown["status"] == "running"
    assert "the split did not go as logged" in shown["recommendation"]["reason"]


def test_paused_experiment__beside_one_that_runs__changes_no_champion(two_arms: Start, alice: Api) -> None:
    paused = move(two_arms(), "pause", actor="t")
    start_experiment(
        {"name": "other", "endpoint": "pages", "strategy": "canary", "arms": [{"name": "new", "model": "page@b"}]}
    )
    answer = alice.post("/api/v1/experiments/e/promote", {"arm": "b"})
    assert answer.status == 409
    assert "the experiment other runs on this endpoint" in answer["detail"]
    assert Endpoint.objects.get().champion.version == "a"
    assert again(paused).status == "paused"


def test_control__of_a_running_canary_or_split__is_not_taken_out(two_arms: Start, alice: Api) -> None:
    two_arms(strategy="canary", arms=[{"name": "new", "model": "page@b"}])
    answer = alice.post("/api/v1/experiments/e/arms/control/disable")
    assert (answer.status, "is the control of e" in answer["detail"]) == (409, True)


def test_canary__control_lacks_rewards__waits_while_it_can_still_get_them(two_arms: Start) -> None:
    experiment = two_arms(
        strategy="canary",
        arms=[{"name": "new", "model": "page@b"}],
        reward={"kind": "binary", "window_seconds": 1},
        canary={"steps": [0.5, 1.0], "bake_seconds": 1},
    )
    begin_earlier(experiment)
    Experiment.objects.update(canary_since=timezone.now() - timedelta(seconds=300))
    for i in range(160):
        arm = "control" if i % 8 == 0 else "new"
        share = 0.125 if arm == "control" else 0.875
        reward(experiment, arm, decide(experiment, arm, seconds_ago=60, share=share), 1.0)
    learn(experiment.endpoint_id)
    waiting = again(experiment)
    assert waiting.canary_step == 0
    assert "control has 20 of 100 rewards" in results(waiting)["recommendation"]["reason"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reward": {"kind": "continuous", "minimum": 0, "maximum": 1e20}}, "reward.maximum"),
        ({"reward": {"kind": "continuous", "minimum": -1e200, "maximum": 1}}, "reward.minimum"),
        ({"context": {"fields": [{"name": "x", "type": "number", "min": 0, "max": 1e20}]}}, "context.fields[0].max"),
        ({"guardrails": [{"metric": "cost", "max": 1e20, "action": "pause"}]}, "guardrails[0].max"),
    ],
)
def test_bounds__beyond_what_a_value_may_be__are_refused_by_name(
    alice: Api, two_arms: Start, change: dict[str, Any], field: str
) -> None:
    move(two_arms(), "stop", actor="t")
    arms = [{"name": n, "model": f"page@{n}"} for n in "ab"]
    body = {"name": "x", "endpoint": "pages", "strategy": "bandit", "arms": arms}
    answer = alice.post("/api/v1/experiments", body | change)
    assert (answer.status, answer.fields()) == (400, [field])


def test_ended_experiments__ask_for_no_round_each_second(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1})
    begin_earlier(experiment, 30)
    learn(experiment.endpoint_id)
    move(again(experiment), "stop", actor="t")
    learn(experiment.endpoint_id)
    assert pending.find().learn == []


def test_belief__rewards_that_are_all_alike__are_not_told_apart_by_rounding() -> None:
    count = np.array([300.0, 290.0])
    mean = np.array([0.8999999999999939, 0.8999999999999962])
    belief = believe(Statistics(count, mean, np.array([1e-26, 3e-26])), RewardModel("continuous", "maximize", 0.0, 1.0))
    assert probability_best(belief.posterior) == pytest.approx([0.5, 0.5], abs=1e-3)


def test_belief__offset_of_1e9__is_told_apart_as_without_it() -> None:
    """A spread of 1 beside means of 1e9 is spread, and no rounding."""
    model, count, m2 = RewardModel("continuous"), np.array([300.0, 300.0]), np.array([300.0, 300.0])
    near = believe(Statistics(count, np.array([0.0, 0.1]), m2), model)
    far = believe(Statistics(count, np.array([1e9, 1e9 + 0.1]), m2), model)
    assert probability_best(far.posterior) == pytest.approx(probability_best(near.posterior), abs=1e-5)


def test_rebuild__rewards_at_a_large_offset__is_equal(two_arms: Start) -> None:
    experiment = two_arms(
        reward={"kind": "continuous", "minimum": 1e9, "maximum": 1e9 + 2, "window_seconds": 1},
        promotion={"auto": False},
    )
    begin_earlier(experiment)
    rng = random.Random(8)
    for batch in range(4):
        for i in range(60):
            arm = "ab"[i % 2]
            identity = decide(experiment, arm, seconds_ago=90 - batch)
            reward(experiment, arm, identity, 1e9 + rng.random())
        learn(experiment.endpoint_id)
    assert ArmStatistics.objects.get(arm__name="a").rewards == 120
    assert rebuild(again(experiment), write=False) == []


def test_champion__of_an_endpoint_with_a_running_experiment__is_changed_by_nobody_else(two_arms: Start) -> None:
    experiment = two_arms()
    with pytest.raises(Conflict, match="runs on"):
        update_endpoint(experiment.endpoint, champion="page@b", deadline_ms=None, reason="", actor="t")
