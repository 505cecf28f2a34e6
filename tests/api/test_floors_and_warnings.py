"""A floor that is not given leaves the policy its traffic, however many arms there are; one that
takes too much is told."""

from typing import Any

import pytest
from noregret.experiments.models import Experiment
from noregret.learning.models import ArmStatistics
from noregret.rollout.publish import build
from noregret.steering.round import learn

from tests.conftest import Api, endpoint_of, static_model

pytestmark = pytest.mark.django_db(transaction=True)
EXPERIMENTS = "/api/v1/experiments"


@pytest.fixture
def make(alice: Api) -> Any:
    """Creates an experiment `e` with so many arms."""

    def create(arms: int, **changes: Any) -> Api:
        for i in range(arms + 1):
            static_model("page", f"v{i}", i)
        endpoint_of("pages", "page@v0")
        seats = [{"name": f"v{i}", "model": f"page@v{i}"} for i in range(arms)]
        return alice.post(
            EXPERIMENTS, {"name": "e", "endpoint": "pages", "strategy": "bandit", "arms": seats} | changes
        )

    return create


@pytest.mark.parametrize(("arms", "floor"), [(2, 0.01), (10, 0.01), (20, 0.005), (100, 0.001)])
def test_floor__not_given__scales_with_the_arms(make: Any, arms: int, floor: float) -> None:
    answer = make(arms, policy={"name": "thompson"})
    assert answer.status == 201, answer.content
    assert answer["policy"] == {"name": "thompson", "params": {}, "floor": pytest.approx(floor), "burn_in": 100}
    assert answer["warnings"] == []


def test_hundred_arms__default_floor__the_best_arm_gets_its_traffic(make: Any, alice: Api) -> None:
    """With a floor of 0.01 all of the traffic was an even split, for ever."""
    make(100, reward={"window_seconds": 1})
    alice.post(f"{EXPERIMENTS}/e/start")
    experiment = Experiment.objects.get()
    for row in ArmStatistics.objects.select_related("arm"):
        rate = 0.9 if row.arm.position == 7 else 0.1
        ArmStatistics.objects.filter(pk=row.pk).update(rewards=1000, mean=rate, m2=1000 * rate * (1 - rate))
    learn(experiment.endpoint_id)
    made = build(experiment.endpoint_id).experiment
    assert made is not None
    assert made.arms[7].propensity == pytest.approx(0.9 + 0.001, abs=1e-6)
    assert min(arm.propensity for arm in made.arms) == pytest.approx(0.001, abs=1e-6)


def test_floor__given__is_kept_and_told_where_floors_take_much(make: Any, alice: Api) -> None:
    answer = make(100, policy={"floor": 0.01})
    assert answer["policy"]["floor"] == 0.01
    told = (
        "100 arms with a floor of 1.00% each take 100% of the traffic whatever is learned, and leave nothing to the policy: "
        "a smaller floor earns more."
    )
    assert answer["warnings"] == [told]
    assert alice.get(f"{EXPERIMENTS}/e")["warnings"] == [told]


@pytest.mark.parametrize(("floor", "told"), [(0.05, 0), (0.0501, 1), (0.25, 1)])
def test_warnings__floors_of_a_fifth__are_the_edge(make: Any, floor: float, told: int) -> None:
    assert len(make(4, policy={"floor": floor})["warnings"]) == told


def test_arm_added__floor_not_given__follows__and_a_given_one_stays(make: Any, alice: Api) -> None:
    make(10)
    added = alice.post(f"{EXPERIMENTS}/e/arms", {"name": "more", "model": "page@v10"})
    assert added.status == 201, added.content
    assert added["policy"]["floor"] == pytest.approx(0.1 / 11)


def test_arm_added__given_floor__stays(make: Any, alice: Api) -> None:
    make(10, policy={"floor": 0.01})
    assert alice.post(f"{EXPERIMENTS}/e/arms", {"name": "more", "model": "page@v10"})["policy"]["floor"] == 0.01


def test_warnings__fixed_split__has_none(make: Any) -> None:
    assert make(3, strategy="ab")["warnings"] == []
