"""Results that are asked for at once are computed once, and no change is hidden by it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from noregret.experiments.models import Arm, Experiment
from noregret.learning.shown.shared import KEPT_SECONDS, Shared, shared_results
from noregret.steering.round import learn
from past_traffic import decide, reward

from tests.conftest import Api

Start = Callable[..., Experiment]
LONG = 30.0


class Slow:
    """Makes answers when it is let, and counts how many it began."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        number = self.count
        self.began.release()
        assert self.may_end.wait(LONG)
        return f"answer {number}"


def test_answer__asked_for_by_many_at_once__is_made_once() -> None:
    shared: Shared[str] = Shared(LONG)
    slow = Slow()
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(shared.get, "key", 1, slow, LONG)
        assert slow.began.acquire(timeout=LONG)
        others = [threads.submit(shared.get, "key", 1, slow, LONG) for _ in range(3)]
        of_another_state = threads.submit(shared.get, "key", 2, slow, LONG)
        assert slow.began.acquire(timeout=LONG)
        slow.may_end.set()
        assert {first.result(LONG), *(other.result(LONG) for other in others)} == {"answer 1"}
        assert of_another_state.result(LONG) == "answer 2"
    assert slow.count == 2


def test_answer__that_can_not_be_made__fails_who_makes_it_alone() -> None:
    shared: Shared[str] = Shared(LONG)
    begun, may_end = threading.Event(), threading.Event()

    def fail() -> str:
        begun.set()
        assert may_end.wait(LONG)
        raise ValueError("no answer")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(shared.get, "key", 1, fail, LONG)
        assert begun.wait(LONG)
        other = threads.submit(shared.get, "key", 1, lambda: "its own", LONG)
        may_end.set()
        with pytest.raises(ValueError, match="no answer"):
            first.result(LONG)
        assert other.result(LONG) == "its own"
    assert shared.get("key", 1, lambda: "later", LONG) == "later"


def test_answer__is_kept__while_its_state_is_the_same_and_it_is_young() -> None:
    now = [0.0]
    shared: Shared[float] = Shared(KEPT_SECONDS, lambda: now[0])
    asked = [(0.0, 1, 0.0), (0.9, 1, 0.0), (0.95, 2, 0.95), (1.9, 2, 0.95), (2.0, 2, 2.0), (2.1, 1, 2.1)]
    for at, state, made in asked:
        now[0] = at
        assert shared.get("key", state, lambda: now[0], LONG) == made
    assert shared.get("another", 1, lambda: -1.0, LONG) == -1.0


@pytest.mark.django_db(transaction=True)
def test_results__after_any_change__are_of_it(alice: Api, two_arms: Start) -> None:
    """Asked for again and again within the second that they are kept for."""
    experiment = two_arms(promotion={"auto": False})
    first, second = shared_results(experiment.pk), shared_results(experiment.pk)
    assert second is first or second.results.as_of > first.results.as_of
    reward(experiment, "a", decide(experiment, "a", seconds_ago=5), 1.0)
    learn(experiment.endpoint_id)
    told = alice.get("/api/v1/experiments/e/results")
    assert (told["decisions"], told["rewards"]) == (1, 1)
    Arm.objects.filter(experiment=experiment, name="b").update(enabled=False)
    assert [arm["enabled"] for arm in alice.get("/api/v1/experiments/e/results")["arms"]] == [True, False]
    for action, status in (("pause", "paused"), ("resume", "running"), ("stop", "completed")):
        assert alice.post(f"/api/v1/experiments/e/{action}", {}).status == 200
        assert alice.get("/api/v1/experiments/e/results")["status"] == status
