"""A database that answers and takes no reward is told by readiness."""

from typing import Any

from django.db import connection

from serving.ledger.rewards import RewardWriter
from serving.process import process
from tests.conftest import Api


def test_readiness__database_that_only_answers__is_told_with_the_cause_and_takes_nobody_out(alice: Api) -> None:
    assert alice.get("/readyz")["checks"]["database"]["ok"]
    parts = process()
    parts.rewards.close()
    options = connection.settings_dict["OPTIONS"] | {"target_session_attrs": "standby"}
    away = RewardWriter(connection.settings_dict | {"OPTIONS": options}, size=2)
    object.__setattr__(parts, "rewards", away)
    try:
        found: Any = alice.get("/readyz")
        told = found["checks"]["database"]
        assert (told["ok"], "not in hot standby mode" in told["problem"]) == (False, True)
        assert alice.get("/readyz?strict=1").status == 503
    finally:
        away.close()


def test_readiness__probing__leaves_no_reward(alice: Api) -> None:
    from serving.models import Reward

    for _ in range(3):
        assert alice.get("/readyz")["checks"]["database"]["ok"]
    assert Reward.objects.count() == 0
