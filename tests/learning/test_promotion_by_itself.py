"""Who is promoted without a person: the default by policy, the warnings, and what every enabled arm must have shown."""

from collections.abc import Callable
from typing import Any

import pytest
from noregret.experiments.arms import set_enabled
from noregret.experiments.models import Experiment
from noregret.learning.results import results
from noregret.learning.round import learn
from past_traffic import WINDOW, begin_earlier, decide, fill, reward

from tests.conftest import Api, endpoint_of, static_model

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
