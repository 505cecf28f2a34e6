"""How long everything is kept that is not the ledger's days: one line each, pruned in bounded
steps.

Kept for ever: the registry, experiments with their sums, API keys, the audit trail.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import connection
from django.db.models import Q

from noregret.experiments.models import Experiment
from noregret.learning.unfinished import unsettled
from noregret.registry import stored_files
from noregret.registry.artifact_storage import artifact_source
from noregret.registry.stored_files import is_file_of_a_version
from serving.artifacts import ArtifactStore

log = structlog.get_logger(__name__)

AT_ONCE = 20_000
"""Rows a statement: locks and write-ahead log of each stay small."""
ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Age:
    """What is pruned `days` after it was over. `prune` takes the instant before which it was, and
    how many were taken out is returned."""

    what: str
    days: int
    prune: Callable[[datetime], int]


def prune(now: datetime) -> dict[str, int]:
    """Take out what is older than it is kept; how many of each. Harmless beside itself, and after a
    crash. One that fails is told and left out, and stops none of the others."""
    pruned: dict[str, int] = {}
    for age in AGES:
        try:
            pruned[age.what] = age.prune(now - timedelta(days=age.days))
        except Exception:  # a disk, or a storage that can't be made: the next hour asks again
            log.exception("not taken out", what=age.what)
    return pruned


def _in_steps(statement: str, parameters: Sequence[Any]) -> int:
    """Delete AT_ONCE rows at a time, in transactions of their own, for a bounded number of
    times."""
    count = 0
    for _ in range(ROUNDS):
        with connection.cursor() as cursor:
            cursor.execute(statement, [*parameters, AT_ONCE])
            count += cursor.rowcount
            if cursor.rowcount < AT_ONCE:
                break
    return count


def _over(before: datetime) -> list[int]:
    """Experiments that ended before, and have nothing more to learn."""
    ended = Experiment.objects.filter(Q(ended_at__lt=before)).exclude(pk__in=unsettled())
    return list(ended.values_list("pk", flat=True))


def _deliveries(before: datetime) -> int:
    return _in_steps(
        "DELETE FROM notify_delivery WHERE id IN ("
        "SELECT id FROM notify_delivery WHERE state <> 'waiting' AND created_at < %s LIMIT %s)",
        [before],
    )


def _quarantine(before: datetime) -> int:
    return _in_steps(
        "DELETE FROM serving_quarantinedevent WHERE id IN ("
        "SELECT id FROM serving_quarantinedevent WHERE at < %s LIMIT %s)",
        [before],
    )


def _first_visits(before: datetime) -> int:
    return _in_steps(
        "DELETE FROM serving_firstvisit WHERE (experiment_id, unit) IN ("
        "SELECT experiment_id, unit FROM serving_firstvisit WHERE experiment_id = ANY(%s) LIMIT %s)",
        [_over(before)],
    )


def _forgotten(before: datetime) -> int:
    """No spool is so old that a decision of theirs could still come."""
    return _in_steps(
        "DELETE FROM serving_forgottenunit WHERE digest IN ("
        "SELECT digest FROM serving_forgottenunit WHERE forgotten_at < %s LIMIT %s)",
        [before],
    )


def _intervals(before: datetime) -> int:
    """Of ended experiments: while one runs, its policy's memory and its guardrails read them."""
    return _in_steps(
        "DELETE FROM learning_arminterval WHERE id IN ("
        "SELECT i.id FROM learning_arminterval AS i JOIN experiments_arm AS a ON a.id = i.arm_id "
        # Not of days that a rebuild still compares.
        "LEFT JOIN learning_ledgerbase AS b ON b.experiment_id = a.experiment_id "
        "WHERE a.experiment_id = ANY(%s) AND i.start < b.until LIMIT %s)",
        [_over(before)],
    )


def _waiting(before: datetime) -> int:
    """Never one that was activated and waits to be counted, however late."""
    return _in_steps(
        "DELETE FROM serving_waitingdecision WHERE id IN ("
        "SELECT id FROM serving_waitingdecision WHERE open_until < %s "
        "AND (taken OR activated_at IS NULL OR event IS NULL) LIMIT %s)",
        [before],
    )


def _edge_decisions(before: datetime) -> int:
    """Never one that waits to be counted, however late."""
    return _in_steps(
        "DELETE FROM serving_edgedecision WHERE id IN ("
        "SELECT id FROM serving_edgedecision WHERE kept_until < %s AND event IS NULL LIMIT %s)",
        [before],
    )


def _artifacts(before: datetime) -> int:
    """Files that no model version names: of registrations that failed, or of versions that were
    deleted."""
    store = ArtifactStore(settings.ARTIFACT_DIR)
    at = before.timestamp()
    removed = sum(
        store.remove(sha256, at, partial(is_file_of_a_version, sha256))
        for sha256 in list(store.older_than(at))
        if not is_file_of_a_version(sha256)
    )
    source = artifact_source()
    if source is not None:
        try:
            removed += stored_files.remove_old(source, before)
        except Exception as error:  # whatever a storage's library raises: the next hour asks again
            log.warning("artefact store not cleared", error=repr(error))
    return removed


def _forms(before: datetime) -> int:
    return _in_steps(
        "DELETE FROM dashboard_unfinishedform WHERE token IN ("
        "SELECT token FROM dashboard_unfinishedform WHERE changed_at < %s LIMIT %s)",
        [before],
    )


def _jobs(before: datetime) -> int:
    return _in_steps(
        "DELETE FROM registry_registrationjob WHERE id IN ("
        "SELECT id FROM registry_registrationjob WHERE status <> 'running' AND created_at < %s LIMIT %s)",
        [before],
    )


AGES = (
    Age("webhook deliveries and e-mail, sent or given up", 30, _deliveries),
    Age("quarantined events", 90, _quarantine),
    Age("first visits of units, after their experiment ended", 30, _first_visits),
    Age("digests of forgotten units", 400, _forgotten),
    Age("arm intervals, after their experiment ended", 400, _intervals),
    Age("decisions that waited to be activated, after their window", 7, _waiting),
    Age("ids of devices' decisions, after their bundle's grace", 1, _edge_decisions),
    Age("registration jobs that ended", 30, _jobs),
    Age("unfinished forms, after they were last changed", 7, _forms),
    Age("artefacts that no model version names", 7, _artifacts),
)
