"""Where silence means something, no policy takes the answers that came first for all there are."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from noregret.experiments.models import Experiment
from noregret.learning.models import ArmStatistics
from noregret.learning.rebuild import rebuild
from noregret.rollout.publish import build
from noregret.steering.pending import find
from noregret.steering.round import learn
from past_traffic import begin_earlier, decide, reward

from bandits import policies
from bandits.context import ContextSchema
from serving import snapshot
from serving.models import Reward
from serving.routing import router

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
CONTEXT = {"fields": [{"name": "age", "type": "number", "min": 0, "max": 100}]}
RATE = 0.3
MEMORIES: list[dict[str, Any]] = [{}, {"discount": 0.9999}, {"sliding_window": 5000}]


def traffic(experiment: Experiment, seconds_ago: float, n: int, *, fast: str = "b") -> None:
    """Two arms alike: both are answered in three of ten cases, one at once and the other after half
    of the window; never by a 0."""
    rng = random.Random(8)
    for i in range(n):
        arm = "a" if i % 2 else "b"
        delay = 1.0 if arm == fast else 50.0
        identity = decide(experiment, arm, seconds_ago=seconds_ago - 0.001 * i, context={"age": 50})
        if rng.random() < RATE and delay < seconds_ago:
            reward(experiment, arm, identity, 1.0, delay=delay)


def served(experiment: Experiment) -> tuple[snapshot.Experiment, list[float]]:
    made = build(experiment.endpoint_id).experiment
    assert made is not None
    x = ContextSchema.from_document(CONTEXT["fields"]).encode({"age": 50})
    return made, list(router(made).route(None, x).propensities)


@pytest.mark.parametrize("memory", MEMORIES, ids=["all", "discount", "window"])
@pytest.mark.parametrize("name", policies.names())
def test_default_reward__of_open_decisions__is_learned_when_the_window_has_closed(
    two_arms: Start, name: str, memory: dict[str, Any]
) -> None:
    if name in policies.contextual_names() and "sliding_window" in memory:
        pytest.skip("a contextual policy forgets by discount")
    experiment = two_arms(
        policy={"name": name, "burn_in": 0, "floor": 0.0, "params": memory},
        reward={"kind": "binary", "window_seconds": 100, "default": 0},
        promotion={"auto": False},
        context=CONTEXT,
    )
    begin_earlier(experiment)
    traffic(experiment, 20, 100)
    learn(experiment.endpoint_id)
    assert (
        Reward.objects.filter(arm_id=experiment.arms.get(name="b").pk).count() > 10
    )  # answers came, of the fast arm alone
    made, shares = served(experiment)
    assert [arm.count for arm in made.arms] == [0.0, 0.0]
    assert sum(shares) == pytest.approx(1.0)
    if not policies.make(name).counts_own_pulls:
        assert shares == pytest.approx([0.5, 0.5])
    assert find().lagging == {}  # feedback of twenty seconds ago waits by design, and nothing is behind

    traffic(experiment, 300, 400)
    learn(experiment.endpoint_id)
    made, _ = served(experiment)
    for arm in made.arms:
        assert arm.count == pytest.approx(200, rel=0.25)
        assert arm.mean == pytest.approx(RATE, abs=4 * (RATE * (1 - RATE) / 200) ** 0.5)
    assert rebuild(experiment, write=False) == []


def test_fixed_split__with_a_default__shows_closed_buckets_only(two_arms: Start) -> None:
    experiment = two_arms(
        strategy="ab",
        reward={"kind": "binary", "window_seconds": 100, "default": 0},
        promotion={"auto": False},
    )
    begin_earlier(experiment)
    traffic(experiment, 300, 200)
    traffic(experiment, 20, 200)
    learn(experiment.endpoint_id)
    for row in ArmStatistics.objects.all():
        assert row.rewards == 100
        assert row.mean == pytest.approx(RATE, abs=0.2)


def test_no_default__is_learned_at_once(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 100}, promotion={"auto": False})
    begin_earlier(experiment)
    traffic(experiment, 20, 100)
    assert experiment.endpoint_id in find().learn
    learn(experiment.endpoint_id)
    assert ArmStatistics.objects.get(arm__name="b").rewards > 10


@pytest.mark.parametrize("memory", [{"discount": 0.9995}, {"sliding_window": 300}])
def test_exposure__with_a_policy_that_forgets__is_corrected(two_arms: Start, memory: dict[str, Any]) -> None:
    """Twenty seconds in, a's open decisions can't have answered and weigh nothing; b's all could,
    and weigh what the memory leaves them."""
    experiment = two_arms(
        policy={"name": "thompson", "burn_in": 0, "params": memory},
        reward={"kind": "binary", "window_seconds": 100, "default": 0, "pending": "exposure"},
        promotion={"auto": False},
    )
    begin_earlier(experiment)
    traffic(experiment, 300, 400)
    traffic(experiment, 20, 200)
    learn(experiment.endpoint_id)
    made, _ = served(experiment)
    known = {arm.name: arm for arm in made.arms}
    # Of the window's last 300 steps 200 are open; by discount the closed 400 weigh .9995 ** 200 to
    # .9995 ** 600, .82 on average.
    closed, fresh = (50.0, 100.0) if "sliding_window" in memory else (200 * 0.82, 100 * 0.95)
    assert known["a"].count == pytest.approx(closed, rel=0.05)
    assert known["b"].count == pytest.approx(closed + fresh, rel=0.05)
    assert known["a"].mean == pytest.approx(RATE, abs=0.2)
    assert known["b"].mean == pytest.approx(RATE, abs=0.15)
    assert rebuild(experiment, write=False) == []
