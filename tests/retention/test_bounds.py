"""What runs each second looks into the days that can still change, however many the ledger has."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning.models import ExperimentEvidence
from noregret.steering import pending
from noregret.steering.round import learn

from serving.ledger import partitions
from tests.learning.past_traffic import begin_earlier, decide, reward

Start = Callable[..., Experiment]
DAYS = 40


def scanned(plan: list[dict[str, Any]]) -> set[str]:
    """The ledger's old partitions that a plan really read."""
    found: set[str] = set()
    waiting = [row["Plan"] for row in plan]
    last = f"{timezone.now() - timedelta(days=3):%Y%m%d}"
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        name = node.get("Relation Name", "")
        text = name.rpartition("_")[2]
        if name.startswith("serving_") and text.isdigit() and text < last and node.get("Actual Loops", 1):
            found.add(name)
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reward": {"kind": "binary", "window_seconds": 60, "default": 0}},
        {"strategy": "ab"},
        {
            "policy": {"name": "lin-thompson"},
            "context": {"fields": [{"name": "age", "type": "number", "min": 0, "max": 100}]},
        },
    ],
    ids=["silence", "default", "ab", "contextual"],
)
def test_round__of_an_old_experiment__reads_no_day_that_is_over(two_arms: Start, changes: dict[str, Any]) -> None:
    experiment = two_arms(
        **({"reward": {"kind": "binary", "window_seconds": 60}, "promotion": {"auto": False}} | changes)
    )
    begin_earlier(experiment, DAYS * 86_400)
    today = timezone.now().date()
    with transaction.atomic(), connection.cursor() as cursor:
        partitions.ensure(cursor, today - timedelta(days=DAYS), today)
    for days in (30, 10, 0):
        for arm in "ab":
            identity = decide(experiment, arm, seconds_ago=days * 86_400 + 90.0, unit=f"u{days}")
            reward(experiment, arm, identity, 1.0)
    learn(experiment.endpoint_id)
    learn(experiment.endpoint_id)
    assert ExperimentEvidence.objects.get().folded_until is not None
    identity = decide(experiment, "a", seconds_ago=0)
    reward(experiment, "a", identity, 1.0)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        pending.find()
        learn(experiment.endpoint_id)
    read: dict[str, set[str]] = {}
    for query in captured.captured_queries:
        sql = query["sql"]
        if "serving_decision" not in sql and "serving_reward" not in sql:
            continue
        if not sql.lstrip().upper().startswith(("SELECT", "UPDATE", "WITH")):
            continue
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + sql)
            if old := scanned(cursor.fetchone()[0]):
                read[sql[:400]] = old
            transaction.set_rollback(True)
    assert captured.captured_queries
    assert {sql: len(old) for sql, old in read.items()} == {}
