"""Rows of the ledger that can't be learned: set aside and shown, and everything beside them is
learned, live and in a rebuild alike."""

import io
import math
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest
from django.core.management import call_command
from django.db import connection
from noregret.experiments.models import Experiment
from noregret.learning import quarantine
from noregret.learning.drain import drain
from noregret.learning.models import ArmStatistics, ExperimentEvidence
from noregret.learning.rebuild import rebuild
from noregret.learning.unlearned import unlearned
from noregret.rollout.publish import build
from noregret.steering.round import learn

from serving.models import Decision, QuarantinedEvent, Reward
from tests.conftest import Api, endpoint_of, start_experiment, static_model
from tests.learning.past_traffic import begin_earlier, decide, fill, reward
from tests.learning.told import over_time, results

Start = Callable[..., Experiment]
BINARY = {"kind": "binary", "window_seconds": 1}
BY_HAND = {"auto": False}
CONTINUOUS = {"kind": "continuous", "window_seconds": 1}
BOUNDED = CONTINUOUS | {"minimum": 0, "maximum": 10}
CONTEXT = {
    "fields": [
        {"name": "country", "type": "category", "values": ["KR", "US"]},
        {"name": "age", "type": "number", "min": 0, "max": 100},
    ]
}
_WEIGHTED = [{"name": name, "model": f"page@{name}", "weight": 0.5} for name in "ab"]
_CANARY: dict[str, Any] = {
    "strategy": "canary",
    "arms": [{"name": "b", "model": "page@b"}],
    "canary": {"steps": [0.5, 1.0], "bake_seconds": 60, "auto": False},
    "promotion": BY_HAND,
}

KINDS: dict[str, dict[str, Any]] = {
    "binary": {"reward": BINARY},
    "binary with a default": {"reward": BINARY | {"default": 0}},
    "binary with a default, learned by exposure": {"reward": BINARY | {"default": 0, "pending": "exposure"}},
    "continuous": {"reward": CONTINUOUS},
    "bounded with a default": {"reward": BOUNDED | {"default": 0}},
    "count": {"reward": {"kind": "count", "window_seconds": 1}},
    "fixed split": {"strategy": "ab", "arms": _WEIGHTED, "reward": BINARY, "promotion": BY_HAND},
    "sticky": {"reward": BINARY, "sticky": True},
    "canary": _CANARY | {"reward": BINARY},
    "forgets": {"reward": CONTINUOUS, "policy": {"name": "thompson", "params": {"discount": 0.99}}},
    "counts its pulls": {"reward": BINARY, "policy": {"name": "ucb1"}},
    "linear": {"reward": CONTINUOUS, "policy": {"name": "lin-thompson"}, "context": CONTEXT},
    "logistic with a default": {
        "reward": BINARY | {"default": 0},
        "policy": {"name": "logistic-thompson"},
        "context": CONTEXT,
    },
}


def control_of(experiment: Experiment) -> str:
    """The name of the first arm: a canary's is made for it."""
    return str(experiment.arms.get(is_control=True).name)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((kind, 1e200) for kind in KINDS),
        ("continuous", -math.inf),
        ("binary with a default", math.nan),
        ("linear", math.nan),
    ],
)
def test_value_that_no_arithmetic_takes__is_set_aside__and_the_rest_is_learned(
    two_arms: Start, kind: str, value: float
) -> None:
    experiment = two_arms(**{"promotion": BY_HAND} | KINDS[kind])
    begin_earlier(experiment)
    fill(experiment, {control_of(experiment): (6, 4), "b": (7, 3)})
    identity = decide(experiment, "b", seconds_ago=119.0)
    reward(experiment, "b", identity, value)
    for _ in range(2):
        learn(experiment.endpoint_id)

    defaulted = experiment.reward["default"] is not None
    row = ArmStatistics.objects.get(arm__experiment=experiment, arm__name="b")
    assert (row.decisions, row.rewards) == (11, 11 if defaulted else 10)
    assert row.mean == pytest.approx(7 / row.rewards)
    assert not Reward.objects.filter(folded=False, late=False).exists()
    held = Reward.objects.get(decision_id=UUID(bytes=identity))
    if defaulted:  # as if nobody had answered; what came is kept beside it
        assert (held.value, held.defaulted, held.late) == (0.0, True, False)
        assert held.late_value == value or math.isnan(value)
    else:
        assert (held.late, held.folded, held.matured) == (True, False, False)
    event = QuarantinedEvent.objects.get()
    assert (event.stream, event.entry_id) == ("rewards of e", str(UUID(bytes=identity)))
    assert msgspec.msgpack.decode(bytes(event.body))["decision_id"] == str(UUID(bytes=identity))
    assert rebuild(experiment, write=False) == []
    assert rebuild(experiment, write=True) == []
    assert all(0.0 <= arm.propensity <= 1.0 for arm in build(experiment.endpoint_id).experiment.arms)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("reward_of", "value"), [(BINARY, 0.5), (BINARY, 2.0), ({"kind": "count", "window_seconds": 1}, -3.0)]
)
def test_value_of_another_kind__is_set_aside(two_arms: Start, reward_of: dict[str, Any], value: float) -> None:
    experiment = two_arms(reward=reward_of, promotion=BY_HAND)
    begin_earlier(experiment)
    fill(experiment, {"a": (5, 5), "b": (5, 5)})
    reward(experiment, "b", decide(experiment, "b", seconds_ago=119.0), value)
    learn(experiment.endpoint_id)
    assert sum(ArmStatistics.objects.values_list("rewards", flat=True)) == 20
    assert ExperimentEvidence.objects.get().matured == 20
    assert quarantine.set_aside("e") == 1
    assert rebuild(experiment, write=False) == []


@pytest.mark.parametrize("value", [1e15, -1e15, 0.1 + 1e9])
def test_greatest_values_that_are_taken__millions_of_them__overflow_nowhere(two_arms: Start, value: float) -> None:
    experiment = two_arms(reward=CONTINUOUS, policy={"name": "thompson", "burn_in": 0}, promotion=BY_HAND)
    begin_earlier(experiment)
    fill(experiment, {"a": (5, 5), "b": (5, 5)})
    reward(experiment, "b", decide(experiment, "b", seconds_ago=119.0), value)
    learn(experiment.endpoint_id)
    assert quarantine.set_aside("e") == 0
    assert sum(ArmStatistics.objects.values_list("rewards", flat=True)) == 21
    n = 50_000_000
    ArmStatistics.objects.update(rewards=n, decisions=n, mean=value / 3, m2=n * value**2)
    fill(experiment, {"a": (5, 5), "b": (5, 5)})
    learn(experiment.endpoint_id)
    made = build(experiment.endpoint_id).experiment
    assert made is not None
    assert sum(arm.propensity for arm in made.arms) == pytest.approx(1.0)
    shown = results(experiment)
    assert all(math.isfinite(arm["mean"]) and arm["interval"][0] <= arm["interval"][1] for arm in shown["arms"])
    told = over_time(experiment)
    assert all(low <= high for arm in told["arms"] for low, high in filter(None, arm["so_far_band"]))


_MALFORMED = ("{NULL,0.5}", "{NaN,0.5}", "{0.5}", "{}", "{0.5,-0.5}", "{Infinity,0.5}", "{0.5,0.5,0.5}")


@pytest.mark.parametrize(
    ("kind", "propensities"),
    [
        *(("binary", each) for each in _MALFORMED),
        *((kind, "{NaN,0.5}") for kind in ("fixed split", "linear", "bounded with a default", "continuous")),
    ],
)
def test_decision_with_malformed_probabilities__is_passed_over_and_shown__and_the_rest_is_weighed(
    two_arms: Start, kind: str, propensities: str
) -> None:
    experiment = two_arms(**{"promotion": BY_HAND} | KINDS[kind])
    begin_earlier(experiment)
    fill(experiment, {"a": (6, 4), "b": (7, 3)})
    identity = decide(experiment, "b", seconds_ago=119.0)
    reward(experiment, "b", identity, 1.0)
    drain(experiment.endpoint)
    damage(identity, propensities=propensities)
    for _ in range(2):
        learn(experiment.endpoint_id)
    assert ExperimentEvidence.objects.get().matured == 21
    assert sum(ArmStatistics.objects.values_list("rewards", flat=True)) == 21
    assert quarantine.reasons("e") == [("decisions", quarantine.NOT_WEIGHABLE, 1)]
    state = ExperimentEvidence.objects.get().state
    if state:  # a reward without bounds has no evidence
        assert sum(state["matured"]["count"]) == 20
        assert all(map(math.isfinite, state["matured"]["mean"]))
    differences = rebuild(experiment, write=False)
    # What was counted when the row was sound is another matter: the damage came after.
    assert not [each for each in differences if "evidence" in each or "mean" in each or "rewards" in each]


@pytest.mark.parametrize("context", ['{"age": 1' + "0" * 400 + "}", '{"age": "old"}', '{"country": 7}', '["KR"]', "17"])
def test_context_that_the_policy_cannot_read__is_passed_over_and_shown(two_arms: Start, context: str) -> None:
    experiment = two_arms(**KINDS["linear"])
    begin_earlier(experiment)
    for i in range(20):
        arm = "ab"[i % 2]
        seen = {"country": "KR", "age": 30}
        reward(experiment, arm, decide(experiment, arm, seconds_ago=119.0, context=seen), float(i))
    identity = decide(experiment, "b", seconds_ago=118.0, context={"age": 1})
    reward(experiment, "b", identity, 1.0)
    drain(experiment.endpoint)
    damage(identity, context=context)
    learn(experiment.endpoint_id)
    learned = ExperimentEvidence.objects.get().learned
    assert sum(learned["rewards"]["count"]) == 20
    assert quarantine.reasons("e") == [("decisions", quarantine.NOT_READABLE, 1)]
    assert rebuild(experiment, write=False) == []
    assert build(experiment.endpoint_id).experiment is not None


_DAMAGE = {
    "propensities": "UPDATE serving_decision SET propensities = %s::float8[] WHERE id = %s",
    "context": "UPDATE serving_decision SET context = %s::jsonb WHERE id = %s",
}


def damage(identity: bytes, **columns: str) -> None:
    """As a row is that somebody wrote by hand, or that was written before it was checked."""
    with connection.cursor() as cursor:
        for column, text in columns.items():
            cursor.execute(_DAMAGE[column], [text, UUID(bytes=identity)])


def test_results__tell_how_many_rows_were_set_aside(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(reward=CONTINUOUS, promotion=BY_HAND)
    fill(experiment, {"a": (5, 5), "b": (5, 5)})
    for _ in range(3):
        reward(experiment, "b", decide(experiment, "b"), 1e200)
    learn(experiment.endpoint_id)
    shown = alice.get("/api/v1/experiments/e/results")
    assert (shown.status, shown["rewards"], shown["learner"]["set_aside"]) == (200, 20, 3)
    assert [arm["mean"] for arm in shown["arms"]] == [0.5, 0.5]


def test_rows_set_aside__the_others_of_another_experiment__are_not_counted(platform: None) -> None:
    made = []
    for name in ("one", "two"):
        for version in "ab":
            static_model(name, version)
        endpoint_of(name, f"{name}@a")
        arms = [{"name": arm, "model": f"{name}@{arm}"} for arm in "ab"]
        body = {"name": name, "endpoint": name, "strategy": "bandit", "arms": arms, "reward": BINARY}
        made.append(start_experiment(body))
    reward(made[0], "b", decide(made[0], "b"), math.inf)
    for experiment in made:
        learn(experiment.endpoint_id)
    assert (quarantine.set_aside("one"), quarantine.set_aside("two")) == (1, 0)


def test_check__tells_rows_that_wait__and_rows_that_were_set_aside(two_arms: Start) -> None:
    experiment = two_arms(reward=BINARY)
    begin_earlier(experiment, 300)
    fill(experiment, {"a": (3, 3), "b": (3, 3)})
    drain(experiment.endpoint)
    assert rebuild(experiment, write=False) == []
    assert unlearned(experiment) == [
        "12 rewards have waited to be learned for more than 60 s",
        "12 decisions, whose windows have been over for more than 60 s, wait to be weighed",
    ]
    reward(experiment, "b", decide(experiment, "b", seconds_ago=119.0), 0.5)
    learn(experiment.endpoint_id)
    assert unlearned(experiment) == ["1 rewards were set aside: its value is neither 0 nor 1"]
    out = io.StringIO()
    call_command("rebuild", check=True, stdout=out)
    assert out.getvalue().splitlines() == [
        "e: 1 rewards were set aside: its value is neither 0 nor 1",
        "e: equal to the ledger",
    ]


def test_check__learned_when_matured__what_is_open_waits_for_nobody(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 3600, "default": 0})
    begin_earlier(experiment, 1800)
    reward(experiment, "b", decide(experiment, "b", seconds_ago=1200.0), 1.0)
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 1
    assert unlearned(experiment) == []
