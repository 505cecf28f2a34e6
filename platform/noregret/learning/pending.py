"""Which endpoints have something to learn or to publish. A lost wake-up costs nothing: this is asked anew each second."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from noregret.experiments.models import Endpoint, Experiment
from noregret.redis_client import client, keys
from serving.ledger.ingest import appended_at
from serving.models import Reward
from serving.redis_keys import ACCESS, Keys

from . import clock, publishing
from .mature import AFTER_END, overdue_seconds
from .schedule import with_an_end
from .watches import OUTCOME


@dataclass(frozen=True, slots=True)
class Pending:
    """Endpoints by id."""

    learn: list[int]
    publish: list[int]
    overtake: dict[int, int] = field(default_factory=dict)
    """Endpoints whose version in Redis is ahead of the database's, and that version."""
    access: bool = False
    """The API keys are missing from Redis, or older there than in the database."""
    behind_seconds: float = 0.0
    """How long what waits longest has waited: a decision, a reward, or a bucket that could be closed."""


def unsettled() -> QuerySet[Experiment]:
    """Experiments whose buckets are not all closed: those that are going on, and ended ones until their windows are over."""
    begun = Experiment.objects.filter(started_at__isnull=False)
    return begun.filter(
        Q(ended_at__isnull=True)
        | Q(evidence__closed_until__isnull=True)
        | Q(evidence__closed_until__lt=F("ended_at") + AFTER_END)
    )


def unscored() -> QuerySet[Experiment]:
    """Experiments with copies that were told what was true since their last round: labels come long after windows, and after the end."""
    began = OuterRef("started_at") - timedelta(days=1)
    waiting = Reward.objects.filter(experiment_id=OuterRef("pk"), metric=OUTCOME, summed=False, decided_at__gte=began)
    mirrored = Q(strategy=Experiment.Strategy.SHADOW) | Q(apprentice=True)
    recent = Q(ended_at__isnull=True) | Q(ended_at__gt=clock.now() - timedelta(days=92))
    begun = Experiment.objects.filter(mirrored, recent, started_at__isnull=False).exclude(reward__metric=OUTCOME)
    return begun.filter(Exists(waiting))


def not_gone_through() -> QuerySet[Experiment]:
    """Experiments, ended ones too, of which not everything is in the sums that an earlier version did not keep."""
    return Experiment.objects.filter(started_at__isnull=False, evidence__gone_through=False)


LEARNED_AT_ONCE = Q(reward__default=None) | Q(reward__pending="exposure")
"""noregret.experiments.rewards.learned_when_matured, the other way round, for rows of experiments."""

# An experiment at a time, by the index `reward_to_fold`: rewards that wait for their bucket to close may be millions, and are not read.
# What lies more than a day behind the closed buckets was left over by a crash: the experiment's next round finds it.
_WAITING = """
SELECT e.endpoint_id, extract(epoch FROM clock_timestamp() - min(waiting.recorded_at))::float8
FROM experiments_experiment AS e JOIN learning_experimentevidence AS held ON held.experiment_id = e.id
CROSS JOIN LATERAL (
    SELECT min(r.recorded_at) AS recorded_at FROM serving_reward AS r
    WHERE r.experiment_id = e.id AND NOT r.folded AND NOT r.late
    AND r.decided_at >= COALESCE(held.closed_until, e.started_at) - interval '1 day'
    AND r.decided_at < CASE WHEN e.reward->>'default' IS NULL OR e.reward->>'pending' = 'exposure'
        THEN 'infinity' ELSE held.closed_until END
) AS waiting
WHERE e.started_at IS NOT NULL AND (e.ended_at IS NULL OR e.ended_at > clock_timestamp() - interval '92 days')
AND waiting.recorded_at IS NOT NULL
GROUP BY e.endpoint_id
"""


def _waiting_rewards() -> dict[int, float]:
    """For each endpoint with rewards that could be folded, how many seconds the oldest has waited."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        waited: dict[int, float] = dict(cursor.fetchall())
    return waited


def _overdue() -> dict[int, float]:
    """For each endpoint with a bucket to close, for how many seconds it could have been. Long windows need no look at every second."""
    now = clock.now()
    found: dict[int, float] = {}
    for experiment in unsettled().select_related("evidence"):
        try:
            seconds = overdue_seconds(experiment, now)
        except Exception:  # a damaged row: its own round says what is wrong, and all others go on
            seconds = 0.0
        if seconds >= 0.0:
            found[experiment.endpoint_id] = max(seconds, found.get(experiment.endpoint_id, 0.0))
    return found


def _timed() -> set[int]:
    """Endpoints of experiments whose next step comes by the clock, traffic or not."""
    canaries = Experiment.objects.filter(strategy=Experiment.Strategy.CANARY, status=Experiment.Status.RUNNING)
    return {*canaries.values_list("endpoint_id", flat=True), *with_an_end()}


def find() -> Pending:
    """Ask PostgreSQL, and Redis in one round trip. Raises redis.RedisError."""
    endpoints = list(Endpoint.objects.values_list("pk", "name", "policy_version"))
    waited = _waiting_rewards()
    overdue = _overdue()
    rest = unscored().values_list("endpoint_id").union(not_gone_through().values_list("endpoint_id"))
    learn = overdue.keys() | waited.keys() | _timed() | publishing.overdue() | {endpoint for (endpoint,) in rest}
    behind = max((*overdue.values(), *waited.values()), default=0.0)
    publish: list[int] = []
    overtake: dict[int, int] = {}
    found = _ask_redis(keys(), [name for _, name, _ in endpoints])
    for (pk, _, version), (oldest, held, announced) in zip(endpoints, found.endpoints, strict=True):
        if oldest:
            learn.add(pk)
            behind = max(behind, found.now - appended_at(oldest[0][0]).timestamp())
        if not found.index or announced < version or held is None or int(held) < version:
            publish.append(pk)
        elif int(held) > version:
            overtake[pk] = int(held)
    access = not found.index or found.access is None or found.access < _access_version()
    return Pending(sorted(learn), publish, overtake, access, behind)


@dataclass(frozen=True, slots=True)
class _Held:
    """What Redis holds. `endpoints`: (first entry of the stream, version, version in the index) each."""

    now: float  # Redis's clock, which also stamps the entries
    index: bool
    access: int | None
    endpoints: list[tuple[Any, Any, Any]]


def _ask_redis(names: Keys, endpoints: list[str]) -> _Held:
    with client().pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.exists(names.epoch)
        pipeline.hget(names.snapshot(ACCESS), "version")
        pipeline.hgetall(names.versions)
        for name in endpoints:
            pipeline.xrange(names.decisions(name), count=1)
            pipeline.hget(names.snapshot(name), "version")
        (seconds, microseconds), epoch, access, versions, *rest = pipeline.execute()
    announced = {name.decode(): int(version) for name, version in versions.items()}
    return _Held(
        seconds + microseconds / 1e6,
        bool(epoch),
        None if access is None else min(int(access), announced.get(ACCESS, -1)),
        [(rest[2 * i], rest[2 * i + 1], announced.get(name, -1)) for i, name in enumerate(endpoints)],
    )


def _access_version() -> int:
    """The version of the last build of the keys (noregret.access.publish), 0 before the first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM access_snapshot_version")
        version: int = cursor.fetchone()[0]
    return version
