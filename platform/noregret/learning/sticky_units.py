"""Arms of sticky units, from the ledger back into Redis, when Redis was emptied.

Which arm: that of the unit's first decision within the time that an assignment lives (30 days),
among the arms that are enabled. A request that excluded arms may have got another than the unit's,
so others come first. What a device decided is not asked: a device keeps its units' arms itself,
and nothing that it tells decides what is served here. The last decision was rejected: while Redis
was away, or empty, units were routed afresh, and that is what their last decisions tell. A unit
that came between the loss and the restoration gets its former arm back; what it is given by this
that differs from before: an arm that was disabled and enabled again gets the units back that it
had lost.

Batches of units, for a bounded time a call; how far it came is kept in Redis, so that whoever goes
on repeats little.
"""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import connection
from django.db.models import QuerySet

from noregret.experiments.models import Experiment
from noregret.redis_client import client, keys
from serving import redis_clients
from serving.ledger import backlog, ingest
from serving.sticky import KEPT_SECONDS, Assignment, Restoration

from . import clock

log = structlog.get_logger(__name__)

UNITS = 5000
SECONDS_A_CALL = 3.0

_VISITS = """
SELECT unit, decision_id FROM serving_firstvisit
WHERE experiment_id = %(experiment)s AND unit > %(after)s ORDER BY unit LIMIT %(limit)s
"""

# By the decision's time and id: one look into one day's index each.
_FIRST = """
SELECT decision.unit, decision.arm_id, decision.propensities
FROM unnest(%(times)s::timestamptz[], %(ids)s::uuid[]) AS visit (decided_at, id)
CROSS JOIN LATERAL (
    SELECT unit, arm_id, propensities FROM serving_decision AS d
    WHERE d.decided_at = visit.decided_at AND d.id = visit.id AND d.experiment_id = %(experiment)s AND d.arm_id = ANY(%(arms)s)
    AND d.excluded IS NULL AND d.edge_decided_at IS NULL
    LIMIT 1
) AS decision
"""

# Of those who came first long ago, on an arm that is out, or with arms excluded: a look into each
# day's index.
_LATER = """
SELECT visit.unit, decision.arm_id, decision.propensities
FROM unnest(%(units)s::varchar[]) AS visit (unit)
CROSS JOIN LATERAL (
    SELECT arm_id, propensities FROM serving_decision
    WHERE experiment_id = %(experiment)s AND unit = visit.unit AND decided_at >= %(since)s AND arm_id = ANY(%(arms)s)
    AND NOT holdout AND proposed_arm_id IS NULL AND edge_decided_at IS NULL
    ORDER BY excluded IS NOT NULL, decided_at LIMIT 1
) AS decision
"""


def to_restore() -> list[int]:
    """The running experiments whose units Redis may not know, in one round trip. Raises
    redis.RedisError."""
    found = list(_sticky().values_list("pk", "endpoint__name"))
    if not found:
        return []
    names = keys()
    with client().pipeline(transaction=False) as pipeline:
        for pk, endpoint in found:
            pipeline.get(names.restored(endpoint, pk))
        states = pipeline.execute(raise_on_error=False)
    # One that can't be asked for waits for its server.
    return [
        pk
        for (pk, _), state in zip(found, states, strict=True)
        if not isinstance(state, Exception) and not Restoration.is_finished(state)
    ]


def restore(experiment_id: int) -> int:
    """Put arms back for a while; how many were. May be called beside itself. Raises
    redis.RedisError."""
    experiment = _sticky().select_related("endpoint").filter(pk=experiment_id).first()
    if experiment is None:
        return 0
    restoration = Restoration(client(), keys(), experiment.endpoint.name, experiment.pk)
    after = restoration.done_until()
    until = time.monotonic() + SECONDS_A_CALL
    written = 0
    while after is not None:
        server = redis_clients.shard_of(client(), keys().restored(experiment.endpoint.name, experiment.pk))
        used, maximum = backlog.memory(server)
        if not backlog.leaves_reserve(used, maximum):
            log.warning(
                "arms of units not restored: Redis is full", experiment=experiment.name, used=used, maximum=maximum
            )
            break
        after, found = _batch(experiment, after)
        written += restoration.put(found)
        if after is None:
            restoration.finish()
            log.info("arms of units restored", experiment=experiment.name, last=written)
            return written
        restoration.note(after)
        if time.monotonic() >= until:
            break
    return written


def _sticky() -> QuerySet[Experiment]:
    return Experiment.objects.filter(status=Experiment.Status.RUNNING, strategy=Experiment.Strategy.BANDIT, sticky=True)


def _batch(experiment: Experiment, after: str) -> tuple[str | None, dict[str, Assignment]]:
    """The assignments of the next units after one, without those that have not come lately; and the
    last unit, None after the end."""
    since = clock.now() - timedelta(seconds=KEPT_SECONDS)
    asked: dict[str, Any] = {
        "experiment": experiment.pk,
        "arms": list(experiment.arms.filter(enabled=True).values_list("pk", flat=True)),
        "since": since,
    }
    with connection.cursor() as cursor:
        cursor.execute(_VISITS, asked | {"after": after, "limit": UNITS})
        visits: dict[str, UUID] = dict(cursor.fetchall())
        recent = [decision for decision in visits.values() if ingest.decided_at(decision.bytes) >= since]
        times = [ingest.decided_at(decision.bytes) for decision in recent]
        cursor.execute(_FIRST, asked | {"times": times, "ids": recent})
        found = {unit: Assignment(arm, split) for unit, arm, split in cursor.fetchall()}
        others = [unit for unit in visits if unit not in found]
        if others:
            cursor.execute(_LATER, asked | {"units": others})
            found |= {unit: Assignment(arm, split) for unit, arm, split in cursor.fetchall()}
    return (list(visits)[-1] if len(visits) == UNITS else None), found
