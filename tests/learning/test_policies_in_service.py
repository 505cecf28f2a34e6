"""Every policy in the running service: what was learned reaches the snapshot, routes with true
probabilities, and is rebuilt alike."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning.models import ArmInterval, ArmStatistics, ExperimentEvidence
from noregret.learning.rebuild import rebuild
from noregret.rollout.publish import build
from noregret.steering.round import learn
from past_traffic import begin_earlier, decide, fill, reward

from bandits import policies
from bandits.context import ContextInvalid, ContextSchema
from serving import snapshot
from serving.routing import router
from tests.learning.told import results

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
FIELDS = [
    {"name": "age", "type": "number", "min": 0, "max": 100},
    {"name": "country", "type": "category", "values": ["KR", "US"]},
]
CONTEXT = {"fields": FIELDS}


def fill_by_age(experiment: Experiment, n: int, *, seconds_ago: float) -> None:
    """The young like arm a, the old arm b: contexts decide, and on average the arms are equal."""
    rng = random.Random(3)
    begun = timezone.now() - timedelta(seconds=seconds_ago)
    for i in range(n):
        age = rng.choice([10, 90])
        arm = rng.choice(["a", "b"])
        good = (arm == "a") == (age == 10)
        at = begun + timedelta(seconds=3.0 * i / n)
        identity = decide(experiment, arm, at=at, context={"age": age, "country": "KR", "more": "logged"})
        reward(experiment, arm, identity, float(rng.random() < (0.9 if good else 0.1)))


def document(experiment: Experiment) -> snapshot.Experiment:
    made = snapshot.decode_endpoint(snapshot.encode(build(experiment.endpoint_id))).experiment
    assert made is not None
    return made


def shares(made: snapshot.Experiment, context: dict[str, Any] | None) -> list[float]:
    schema = ContextSchema.from_document(made.context)
    x = schema.encode(context) if made.context else None
    return list(router(made).route(None, x)[1])


@pytest.mark.parametrize("name", policies.names())
def test_policy__in_the_service__learns_and_serves_and_is_rebuilt(two_arms: Start, name: str) -> None:
    experiment = two_arms(
        policy={"name": name, "burn_in": 10, "floor": 0.02},
        reward={"kind": "binary", "window_seconds": 1},
        promotion={"auto": False},
        context=CONTEXT,
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (20, 130), "b": (100, 50)})
    learn(experiment.endpoint_id)
    found = shares(document(experiment), {"age": 20, "country": "KR"})
    assert sum(found) == pytest.approx(1.0, abs=1e-9)
    assert min(found) >= 0.02 - 1e-12
    # Top-two explores two arms evenly by design, and an even split is even.
    assert found[1] > 0.6 or name in {"uniform", "top-two-thompson", "softmax", "ucb1", "ucb-tuned"}
    assert found[1] >= found[0] - 1e-9
    shown = results(experiment)
    if name in policies.contextual_names():
        assert shown["arms"][1]["probability_best"] is None  # its arms served different requests
    else:
        assert shown["arms"][1]["probability_best"] > 0.999
    assert rebuild(experiment, write=False) == []


@pytest.mark.parametrize("name", policies.contextual_names())
@pytest.mark.parametrize("window", [1, 3600])
def test_contextual_policy__learns_by_features__from_closed_and_open_windows(
    two_arms: Start, name: str, window: float
) -> None:
    experiment = two_arms(
        policy={"name": name, "burn_in": 10, "floor": 0.02, "params": {"alpha": 0.3}},
        reward={"kind": "binary", "window_seconds": window},
        promotion={"auto": False},
        context=CONTEXT,
    )
    begin_earlier(experiment)
    fill_by_age(experiment, 300, seconds_ago=120)
    learn(experiment.endpoint_id)
    held = ExperimentEvidence.objects.get(experiment=experiment)
    assert (held.matured == 300) == (window == 1)
    assert bool(held.learned) == (window == 1)
    made = document(experiment)
    young, old = shares(made, {"age": 10, "country": "KR"}), shares(made, {"age": 90, "country": "KR"})
    assert young[0] > 0.9
    assert old[1] > 0.9
    assert [arm.propensity for arm in made.arms] == [0.0, 0.0]  # no probability is told that no request has
    assert results(experiment)["arms"][0]["propensity"] is None
    assert rebuild(experiment, write=False) == []
    ExperimentEvidence.objects.filter(pk=held.pk).update(learned={"arms": []})
    if window == 1:
        assert "models learned differs" in " ".join(rebuild(experiment, write=True))
        assert rebuild(experiment, write=False) == []
        again = shares(document(experiment), {"age": 10, "country": "KR"})
        if not policies.make(name).counts_own_pulls:
            assert again == pytest.approx(young, abs=1e-9)


def test_contextual_policy__minimize__is_the_mirror(two_arms: Start) -> None:
    experiment = two_arms(
        policy={"name": "logistic-thompson", "burn_in": 0},
        reward={"kind": "binary", "window_seconds": 1, "direction": "minimize"},
        promotion={"auto": False},
        context=CONTEXT,
    )
    begin_earlier(experiment)
    fill_by_age(experiment, 300, seconds_ago=120)
    learn(experiment.endpoint_id)
    assert shares(document(experiment), {"age": 10, "country": "KR"})[1] > 0.9


def test_contextual_policy__own_pulls__spread_the_traffic(two_arms: Start) -> None:
    experiment = two_arms(policy={"name": "lin-ucb", "burn_in": 0, "floor": 0.0}, context=CONTEXT)
    made = document(experiment)
    routing = router(made)
    x = ContextSchema.from_document(FIELDS).encode({"age": 50, "country": "US"})
    chosen = [routing.route(None, x)[0] for _ in range(200)]
    assert 60 < sum(chosen) < 140  # without counting its own pulls all would go to one arm until the next snapshot


def test_context__missing_or_unknown__is_answered__and_of_a_wrong_type_refused() -> None:
    schema = ContextSchema.from_document(FIELDS)
    assert schema.encode(None).tolist() == [1.0, 0.5, 0.0, 0.0, 1.0]
    assert schema.encode({"age": 200, "country": "FR"}).tolist() == [1.0, 1.0, 0.0, 0.0, 1.0]
    with pytest.raises(ContextInvalid, match="age"):
        schema.encode({"age": "old"})


@pytest.mark.parametrize("params", [{"discount": 0.99}, {"sliding_window": 300}])
def test_memory__world_that_changed__the_newer_rewards_decide(two_arms: Start, params: dict[str, Any]) -> None:
    experiment = two_arms(
        policy={"name": "thompson", "params": params, "burn_in": 0},
        reward={"kind": "binary", "window_seconds": 1},
        promotion={"auto": False},
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (250, 50), "b": (50, 250)})
    learn(experiment.endpoint_id)
    assert shares(document(experiment), None)[0] > 0.95
    # 400 decisions later, a minute on, it is the other way round; over all 1,000 the arm a is still
    # far ahead.
    rng = random.Random(5)
    begun = timezone.now() - timedelta(seconds=50)
    for i in range(400):
        arm = "a" if i % 2 else "b"
        identity = decide(experiment, arm, at=begun + timedelta(seconds=3.0 * i / 400))
        reward(experiment, arm, identity, float(rng.random() < (0.6 if arm == "b" else 0.3)))
    learn(experiment.endpoint_id)
    rows = {row.arm.name: row.mean for row in ArmStatistics.objects.select_related("arm")}
    assert rows["a"] > rows["b"] + 0.1
    made = document(experiment)
    assert shares(made, None)[1] > 0.95
    assert sum(arm.count for arm in made.arms) < 400
    assert rebuild(experiment, write=False) == []


def test_memory__continuous_reward__keeps_its_spread(two_arms: Start) -> None:
    experiment = two_arms(
        policy={"name": "thompson", "params": {"discount": 0.999999}, "burn_in": 0},
        reward={"kind": "continuous", "window_seconds": 1, "minimum": 0, "maximum": 100},
        promotion={"auto": False},
    )
    begin_earlier(experiment)
    rng = np.random.default_rng(4)
    for i in range(120):
        arm = "a" if i % 2 else "b"
        identity = decide(experiment, arm, seconds_ago=60 - i * 0.3)
        reward(experiment, arm, identity, float(rng.normal(50, 10)))
        if i == 60:
            learn(experiment.endpoint_id)
    learn(experiment.endpoint_id)
    made = document(experiment)
    rows = {row.arm.name: row for row in ArmStatistics.objects.select_related("arm")}
    assert ArmInterval.objects.count() > 4
    for arm in made.arms:
        assert arm.mean == pytest.approx(rows[arm.name].mean, rel=1e-3)
        assert arm.m2 == pytest.approx(rows[arm.name].m2, rel=1e-2)
    assert rebuild(experiment, write=False) == []


def test_subsidy__cheaper_arm_within_it__is_served(two_arms: Start) -> None:
    experiment = two_arms(
        policy={"name": "thompson", "params": {"subsidy": 0.2}, "burn_in": 0, "floor": 0.01},
        arms=[{"name": "a", "model": "page@a", "cost": 1.0}, {"name": "b", "model": "page@b", "cost": 5.0}],
        reward={"kind": "binary", "window_seconds": 1},
        promotion={"auto": False},
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (100, 100), "b": (120, 80)})
    learn(experiment.endpoint_id)
    assert shares(document(experiment), None)[0] > 0.9  # b is better by 0.1, which is less than the subsidy
    fill(experiment, {"a": (10, 190), "b": (190, 10)})
    learn(experiment.endpoint_id)
    assert shares(document(experiment), None)[1] > 0.9


def test_exposure__open_windows__count_by_the_chance_that_feedback_came(two_arms: Start) -> None:
    """Arm b is better and answers at once, arm a answers after half of the window: while windows
    are open, a looks worse than it is."""
    experiment = two_arms(
        policy={"name": "thompson", "burn_in": 0},
        reward={"kind": "binary", "window_seconds": 100, "default": 0, "pending": "exposure"},
        promotion={"auto": False},
    )
    begin_earlier(experiment)
    rng = random.Random(2)

    def traffic(seconds_ago: float, n: int) -> None:
        for i in range(n):
            arm = "a" if i % 2 else "b"
            delay = 50.0 if arm == "a" else 1.0
            identity = decide(experiment, arm, seconds_ago=seconds_ago)
            if rng.random() < 0.5 and delay < seconds_ago:
                reward(experiment, arm, identity, 1.0, delay=delay)

    traffic(300, 200)
    traffic(20, 200)
    learn(experiment.endpoint_id)
    assert sum(sum(row.delays) for row in ArmStatistics.objects.all()) > 60
    known = {arm.name: arm for arm in document(experiment).arms}
    rewarded = {row.arm.name: row for row in ArmStatistics.objects.select_related("arm")}
    # Twenty seconds in, no feedback of a's open decisions can have come, and all of b's has: a's
    # open ones weigh nothing, b's all.
    assert known["a"].count == pytest.approx(100, abs=5)
    assert known["b"].count == pytest.approx(200, abs=5)
    assert known["a"].mean == pytest.approx(0.5, abs=0.2)
    assert known["b"].mean == pytest.approx(0.5, abs=0.15)
    assert (
        rewarded["b"].mean > known["b"].mean + 0.1
    )  # as far as is known so far, every open decision with feedback was a success
    assert rebuild(experiment, write=False) == []


COUNTING = [name for name in policies.names() if policies.make(name).counts_own_pulls]


def serve(experiment: Experiment, requests: int, rng: random.Random, *, seconds_ago: float) -> list[int]:
    """What one process serves from the present snapshot: so many decisions for each arm, all
    without an answer yet."""
    made = document(experiment)
    routing = router(made)
    schema = ContextSchema.from_document(made.context) if made.context else None
    served = [0, 0]
    for i in range(requests):
        context = {"age": rng.choice([10, 90]), "country": "KR"}
        x = schema.encode(context) if schema else None
        position, shares = routing.route(None, x)[:2]
        served[position] += 1
        decide(experiment, "ab"[position], seconds_ago=seconds_ago - i * 0.01, shares=list(shares), context=context)
    return served


@pytest.mark.parametrize("silence", [None, 0])
@pytest.mark.parametrize("name", COUNTING)
def test_counting_policy__rewards_that_come_later__open_decisions_count_as_pulls(
    two_arms: Start, name: str, silence: int | None
) -> None:
    """Three snapshots that serve 120 requests each, none of them answered, divide them as one
    snapshot would."""
    experiment = two_arms(
        policy={"name": name, "burn_in": 0, "floor": 0.0},
        reward={"kind": "binary", "window_seconds": 100, "default": silence},
        promotion={"auto": False},
        context=CONTEXT,
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (20, 20), "b": (22, 18)})
    learn(experiment.endpoint_id)
    rng = random.Random(4)
    routing, schema = router(document(experiment)), ContextSchema.from_document(FIELDS)
    at_once = [0, 0]
    for _ in range(360):
        at_once[routing.route(None, schema.encode({"age": rng.choice([10, 90]), "country": "KR"})).position] += 1
    assert min(at_once) > 20
    rounds = []
    for seconds_ago in (50, 40, 30):
        rounds.append(serve(experiment, 120, rng, seconds_ago=seconds_ago))
        learn(experiment.endpoint_id)
        made = document(experiment)
        if name not in policies.contextual_names():
            assert [arm.open for arm in made.arms] == [sum(served[i] for served in rounds) for i in (0, 1)]
    served = [sum(one[i] for one in rounds) for i in (0, 1)]
    assert served == pytest.approx(at_once, abs=12)


def test_open_decisions__answered_or_matured_or_failed__are_open_no_more(two_arms: Start) -> None:
    experiment = two_arms(
        policy={"name": "ucb1"}, reward={"kind": "binary", "window_seconds": 100}, promotion={"auto": False}
    )
    begin_earlier(experiment)
    for i in range(30):
        decide(experiment, "a", seconds_ago=200)  # its window is over, and silence means nothing
        decide(experiment, "b", seconds_ago=50, failed=i < 10)
        reward(experiment, "a", decide(experiment, "a", seconds_ago=50), 1.0)
    learn(experiment.endpoint_id)
    assert [arm.open for arm in document(experiment).arms] == pytest.approx([0, 20], abs=1e-6)


@pytest.mark.parametrize("params", [{"discount": 0.99}, {"sliding_window": 100}])
@pytest.mark.parametrize("name", ["thompson", "kl-ucb", "lin-thompson"])
def test_burn_in__memory_shorter_than_it__ends_all_the_same(two_arms: Start, name: str, params: dict[str, Any]) -> None:
    if name == "lin-thompson" and "sliding_window" in params:
        pytest.skip("a contextual policy forgets by discount")
    experiment = two_arms(
        policy={"name": name, "params": params},
        reward={"kind": "binary", "window_seconds": 1},
        promotion={"auto": False},
        context=CONTEXT,
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (180, 20), "b": (20, 180)})
    learn(experiment.endpoint_id)
    made = document(experiment)
    assert [arm.learned for arm in made.arms] == [200.0, 200.0]
    if name != "lin-thompson":
        assert max(arm.count for arm in made.arms) < 100
    assert shares(made, {"age": 20, "country": "KR"})[0] > 0.6  # stuck in its burn-in it has 0.5
