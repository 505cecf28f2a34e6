"""Who is promoted without a person: the default by policy, the warnings, and what every enabled arm
must have shown."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from noregret.experiments.models import Experiment
from noregret.learning.evidence import evidence_of
from noregret.learning.models import ExperimentEvidence
from noregret.rollout.arms import set_enabled
from noregret.rollout.warnings import warnings_of
from noregret.steering.promotion import act
from noregret.steering.round import learn
from past_traffic import WINDOW, begin_earlier, decide, fill, reward

from tests.conftest import Api, endpoint_of, static_model
from tests.learning.told import results

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
CONTEXT = {"fields": [{"name": "country", "type": "category", "values": ["KR", "US"]}]}
CONTINUOUS = {"kind": "continuous", "minimum": 0, "maximum": 1, "window_seconds": 1}


@pytest.mark.parametrize(
    ("changes", "auto", "warned"),
    [
        ({}, True, None),
        ({"policy": {"name": "uniform"}}, True, None),
        ({"policy": {"name": "thompson", "params": {"discount": 0.99}}}, False, None),
        ({"policy": {"name": "thompson", "params": {"discount": 1.0}}}, True, None),
        ({"policy": {"name": "ucb1", "params": {"sliding_window": 500}}}, False, None),
        ({"policy": {"name": "lin-thompson"}, "context": CONTEXT}, False, None),
        (
            {"policy": {"name": "thompson", "params": {"discount": 0.99}}, "promotion": {"auto": True}},
            True,
            "the policy forgets",
        ),
        (
            {"policy": {"name": "logistic-thompson"}, "context": CONTEXT, "promotion": {"auto": True}},
            True,
            "every request the same arm",
        ),
        ({"reward": CONTINUOUS}, True, "while reward.default is null and the reward is a number"),
        ({"reward": {"kind": "count", "maximum": 9}}, True, "the reward is a count"),
        ({"reward": CONTINUOUS | {"default": 0}}, True, None),
        ({"reward": CONTINUOUS, "promotion": {"auto": False}}, False, None),
        ({"strategy": "ab", "reward": CONTINUOUS}, True, "while reward.default is null"),
    ],
)
def test_promotion_auto__not_given__fits_the_policy__and_what_is_given_is_taken_with_a_warning(
    alice: Api, changes: dict[str, Any], auto: bool, warned: str | None
) -> None:
    static_model("page", "a")
    static_model("page", "b")
    endpoint_of("pages", "page@a")
    body = {"name": "e", "endpoint": "pages", "strategy": "bandit", "arms": [{"name": "b", "model": "page@b"}]}
    made = alice.post("/api/v1/experiments", body | changes)
    assert made.status == 201, made.content
    assert made["promotion"]["auto"] is auto
    told = [warning for warning in made["warnings"] if "promotion" in warning]
    assert len(told) == (warned is not None), told
    assert warned is None or warned in told[0]
    assert alice.get("/api/v1/experiments/e")["warnings"] == made["warnings"]


def three_arms(two_arms: Start, **changes: Any) -> Experiment:
    static_model("page", "c")
    arms = [{"name": name, "model": f"page@{name}"} for name in "abc"]
    return two_arms(arms=arms, **WINDOW, **changes)


def fill_three(experiment: Experiment, counts: dict[str, tuple[int, int]]) -> None:
    for arm, (ones, zeros) in counts.items():
        for i in range(ones + zeros):
            at = {"seconds_ago": 120 - 3.0 * i / (ones + zeros), "shares": [1 / 3] * 3}
            value = float((i * ones) // (ones + zeros) != ((i + 1) * ones) // (ones + zeros))  # evenly spread
            reward(experiment, arm, decide(experiment, arm, **at), value)


def test_promotion__arm_without_answers__holds_it_up_and_is_named_until_it_is_taken_out(two_arms: Start) -> None:
    """Nobody was ever told what came of c: that is no evidence that b beats it."""
    experiment = three_arms(two_arms)
    begin_earlier(experiment)
    fill_three(experiment, {"a": (30, 170), "b": (170, 30)})
    for _ in range(200):
        decide(experiment, "c", shares=[1 / 3] * 3)
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    assert experiment.status == "running"
    said = results(experiment)["recommendation"]["reason"]
    assert "c has" in said
    assert "take it out or wait" in said
    set_enabled(experiment.arms.get(name="c"), False, actor="tests")
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    assert (experiment.outcome, experiment.promoted_arm.name if experiment.promoted_arm else None) == ("promoted", "b")


def test_promotion__arm_with_too_few_rewards__holds_it_up_though_the_winner_has_enough(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    fill(experiment, {"a": (5, 85), "b": (190, 10)})
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    assert experiment.status == "running"
    said = results(experiment)["recommendation"]["reason"]
    assert "a has 90 of 100 matured rewards: take it out or wait" in said


def test_promotion__several_arms_with_too_few_rewards__the_one_with_fewest_is_named(two_arms: Start) -> None:
    experiment = three_arms(two_arms)
    begin_earlier(experiment)
    fill_three(experiment, {"a": (5, 85), "b": (170, 30), "c": (1, 9)})
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    assert "c has 10 of 100 matured rewards" in results(experiment)["recommendation"]["reason"]


def test_promotion__number_without_default__is_left_to_a_person(two_arms: Start) -> None:
    reward_ = CONTINUOUS | {"window_seconds": 1}
    experiment = two_arms(reward=reward_)
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    assert experiment.status == "running"
    shown = results(experiment)
    assert shown["recommendation"]["action"] == "continue"
    assert shown["evidence"]["leader"] == "b"


def test_leader__is_the_arm_with_the_greatest_probability__and_evidence_is_told_of_it(two_arms: Start) -> None:
    """Evidences all below 1: the largest of them is noise, and would name another arm than P(best)
    does."""
    experiment = three_arms(two_arms, policy={"name": "uniform"})
    begin_earlier(experiment)
    fill_three(experiment, {"a": (110, 90), "b": (111, 89), "c": (121, 79)})
    learn(experiment.endpoint_id)
    held = ExperimentEvidence.objects.get(experiment=experiment)
    evidence = evidence_of(experiment, held)
    assert evidence is not None
    for i, log_evidence in enumerate((-0.1, -0.7, -0.5)):
        evidence.superior[i] = log_evidence
    ExperimentEvidence.objects.filter(pk=held.pk).update(state=evidence.to_dict())
    shown = results(experiment)
    assert max(shown["arms"], key=lambda arm: arm["probability_best"])["name"] == "c"
    assert shown["evidence"]["leader"] == "c"
    assert shown["evidence"]["value"] == pytest.approx(math.exp(-0.5))
    assert re.match(r"c leads, P\(best\) \d\d\.\d%: no evidence yet \(60 needed\)", shown["recommendation"]["reason"])


def test_leader__of_a_policy_that_forgets__is_by_what_it_remembers__and_is_not_promoted_by_default(
    two_arms: Start,
) -> None:
    """All of a's good rewards came long ago, b's lately: the whole past says a, the memory of 50
    decisions says b."""
    experiment = two_arms(**WINDOW, policy={"name": "thompson", "params": {"sliding_window": 50}, "burn_in": 0})
    begin_earlier(experiment)
    for i in range(400):
        arm = "ab"[i % 2]
        reward(experiment, arm, decide(experiment, arm, seconds_ago=600 - i), float(arm == "a"))
    for i in range(60):
        arm = "ab"[i % 2]
        reward(experiment, arm, decide(experiment, arm, seconds_ago=100 - i), float(arm == "b"))
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    assert experiment.status == "running"
    shown = results(experiment)
    a, b = (arm["probability_best"] for arm in shown["arms"])
    assert a < 0.01 < 0.99 < b
    assert shown["evidence"]["leader"] == "b"
    assert "b leads by what the policy remembers" in shown["recommendation"]["reason"]
    assert b == pytest.approx(1.0 - a)


def test_round__while_nothing_is_due__does_not_ask_how_the_arms_stand(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a hundred arms that takes a third of a second, and a round has one."""
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    fill(experiment, {"a": (50, 60), "b": (60, 50)})

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a round asked")

    monkeypatch.setattr("noregret.learning.shown.recommendation.standing", never)
    learn(experiment.endpoint_id)
    assert ExperimentEvidence.objects.get(experiment=experiment).matured == 220
    assert act(Experiment.objects.select_related("endpoint").get(pk=experiment.pk)) is False


def test_schedule__leader_of_a_policy_with_features__is_none__which_is_told(two_arms: Start) -> None:
    schedule = {"max_seconds": 3600, "at_end": "promote_leader"}
    experiment = two_arms(policy={"name": "lin-ucb"}, context=CONTEXT, schedule=schedule)
    assert [said for said in warnings_of(experiment) if "no arm leads" in said]
    begin_earlier(experiment, 7200.0)
    fill(experiment, {"a": (30, 70), "b": (60, 40)})
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    assert (experiment.status, experiment.outcome) == ("completed", "stopped")
