"""What the page of an experiment asks of the database: as much with thirty experiments as with
three, and of a ledger the newest rows alone, however many lie behind them."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from noregret.bench import generated_ledger
from noregret.experiments.models import Experiment
from noregret.learning.models import ExperimentEvidence
from noregret.learning.shown import asked, shared

from tests.dashboard.test_dashboard import page
from tests.dashboard.test_experiment_page import STRATEGIES, started
from tests.dashboard.test_home import LEDGER, many

NEWEST = 100
"""What pages read at most of a ledger, here."""
BEHIND = 3000


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look computes its results."""
    monkeypatch.setattr(shared._RESULTS, "_kept_seconds", 0.0)


def asked_for(admin: Client, url: str) -> list[str]:
    """The statements of a look at a page of which nothing is kept."""
    cache.clear()
    with CaptureQueriesContext(connection) as asked:
        assert admin.get(url).status_code == 200
    return [query["sql"] for query in asked]


def test_pages__three_and_thirty_experiments__ask_the_database_as_often(admin: Client) -> None:
    experiments = [started(strategy) for strategy in ("bandit", "canary", "contextual")]
    urls = [*map(page, experiments), "/admin/", "/admin/experiments/experiment/"]
    for url in urls:
        asked_for(admin, url)  # what a process reads once
    few = {url: asked_for(admin, url) for url in urls}
    many(27)
    for url in urls:
        lots = asked_for(admin, url)
        assert len(lots) <= len(few[url]), (url, lots)


def written(experiment: Experiment) -> None:
    """A ledger of many decisions with rewards, all learned."""
    begun = timezone.now() - timedelta(days=2)
    Experiment.objects.filter(pk=experiment.pk).update(started_at=begun)
    experiment.started_at = begun
    generated_ledger.make_days(begun)
    closed = timezone.now() - timedelta(hours=1)
    reach = {"start": begun, "end": closed, "learned": True, "metric": "reward"}
    named = generated_ledger.parameters(experiment, BEHIND) | reach
    named["step"] = (closed - begun).total_seconds() / BEHIND
    with connection.cursor() as cursor:
        cursor.execute(generated_ledger.DECISIONS, named)
        cursor.execute(generated_ledger.REWARDS, named)
        cursor.execute("ANALYZE serving_decision")
        cursor.execute("ANALYZE serving_reward")
    ExperimentEvidence.objects.filter(experiment=experiment).update(closed_until=closed)


def scanned(node: dict[str, Any]) -> Iterator[float]:
    """Rows that a plan's scans of the ledger went through."""
    if LEDGER.match(re.sub(r"_p?\d+$", "", str(node.get("Relation Name", "")))):
        rows = (
            node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        )
        yield rows * node["Actual Loops"]
    for child in node.get("Plans", ()):
        yield from scanned(child)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_page__of_a_long_ledger__reads_its_newest_rows_alone(
    admin: Client, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noregret.learning.shown.segments.READ_DECISIONS", NEWEST)
    monkeypatch.setattr("noregret.dashboard.soundness.READ_DECISIONS", NEWEST)
    experiment = started(strategy)
    written(experiment)
    statements = [sql for sql in asked_for(admin, page(experiment)) if LEDGER.search(sql)]
    assert statements
    if strategy == "contextual":
        assert not [sql for sql in statements if "propensities" in sql]  # a worker reads them
        with CaptureQueriesContext(connection) as of_worker:
            asked.make(experiment.pk, asked.SEGMENTS)
        told = asked.look(experiment, asked.SEGMENTS).told
        assert told is not None
        assert told.segments is not None
        assert told.segments.decisions == NEWEST
        statements += [query["sql"] for query in of_worker if LEDGER.search(query["sql"])]
    for sql in statements:
        with transaction.atomic(), connection.cursor() as cursor:
            # Of a few thousand rows PostgreSQL would read all where of millions it would not.
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {sql[sql.index('SELECT' if 'WITH ' not in sql else 'WITH ') :]}"
            )
            (plan,) = cursor.fetchone()[0]
        assert sum(scanned(plan["Plan"])) <= 4 * NEWEST, sql
