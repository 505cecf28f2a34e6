"""Which endpoints have something to learn or to publish, and which lag. A lost wake-up costs
nothing: this is asked anew each second.

What is wrong with one endpoint, or with a row of one experiment, hides no other.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import redis
from django.db import connection
from django.db.models import Count, OuterRef, Subquery

from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.learning import baselines, clock, from_devices, waiting
from noregret.learning.buckets import GRACE_SECONDS
from noregret.learning.closing import is_closed_until, overdue_seconds
from noregret.learning.health import BEHIND_SECONDS
from noregret.learning.models import without_sums
from noregret.learning.unfinished import not_gone_through, unscored, unsettled
from noregret.learning.upgrade import out_of_date
from noregret.redis_client import client, decision_log, keys
from serving.learner_sign import Lag
from serving.redis_keys import ACCESS, Keys

from . import publishing
from .failing import Failure, Part, failures
from .schedule import with_an_end

_LONGEST_WHY = 300  # every web process reads it a few times a second


@dataclass(frozen=True, slots=True)
class Pending:
    """Endpoints by id. `learn`: whoever waits longest is first, so that a learner which can't keep
    up with all of them starves none."""

    learn: list[int]
    publish: list[int]
    overtake: dict[int, int] = field(default_factory=dict)
    """Endpoints whose version in Redis is ahead of the database's, and that version."""
    access: bool = False
    """The API keys are missing from Redis, or older there than in the database."""
    names: dict[int, str] = field(default_factory=dict)
    behind: dict[str, list[Lag]] = field(default_factory=dict)
    """What waits of each endpoint and for how long: decisions, rewards, buckets that could be
    closed; and what fails since when."""
    mended: list[tuple[Part, str]] = field(default_factory=list)
    """Failures that are noted and over: somebody else has done it, or the endpoint is no more."""

    @property
    def lagging(self) -> dict[str, Lag]:
        """The endpoints that are behind by more than BEHIND_SECONDS, with everything that is."""
        late = {
            name: [lag for lag in lags if lag.seconds > BEHIND_SECONDS] for name, lags in sorted(self.behind.items())
        }
        return {
            name: Lag(round(max(lag.seconds for lag in lags), 1), "; ".join(lag.why for lag in lags)[:_LONGEST_WHY])
            for name, lags in late.items()
            if lags
        }


# From when on they are looked for: days before are not even planned for, which would take longer
# each second than all the rest.
_EARLIEST = """
SELECT min(COALESCE(held.folded_until, COALESCE(held.closed_until, e.started_at) - interval '1 day'))
FROM experiments_experiment AS e JOIN learning_experimentevidence AS held ON held.experiment_id = e.id
WHERE e.started_at IS NOT NULL AND (e.ended_at IS NULL OR e.ended_at > clock_timestamp() - interval '92 days')
"""
# An experiment at a time, by the index `reward_to_fold`: rewards that wait for their bucket to
# close may be millions, and are not read. From where all is folded: what lies more than a day
# behind the closed buckets, where that is not known, was left over by a crash, and the experiment's
# next round finds it.
_WAITING = """
SELECT e.endpoint_id, extract(epoch FROM clock_timestamp() - waiting.recorded_at)::float8,
    CASE WHEN e.reward->>'default' IS NULL OR e.reward->>'pending' = 'exposure'
        THEN NULL ELSE extract(epoch FROM clock_timestamp() - held.closed_until)::float8 END,
    e.reward->>'window_seconds'
FROM experiments_experiment AS e JOIN learning_experimentevidence AS held ON held.experiment_id = e.id
CROSS JOIN LATERAL (
    SELECT min(r.recorded_at) AS recorded_at FROM serving_reward AS r
    WHERE r.experiment_id = e.id AND NOT r.folded AND NOT r.late AND r.decided_at >= %(earliest)s
    AND r.decided_at >= COALESCE(held.folded_until, COALESCE(held.closed_until, e.started_at) - interval '1 day')
    AND r.decided_at < CASE WHEN e.reward->>'default' IS NULL OR e.reward->>'pending' = 'exposure'
        THEN 'infinity' ELSE held.closed_until END
) AS waiting
WHERE e.started_at IS NOT NULL AND (e.ended_at IS NULL OR e.ended_at > clock_timestamp() - interval '92 days')
AND waiting.recorded_at IS NOT NULL
"""


def _waiting_rewards() -> dict[int, float]:
    """For each endpoint with rewards that could be folded, how many seconds the oldest has
    waited."""
    with connection.cursor() as cursor:
        cursor.execute(_EARLIEST)
        (earliest,) = cursor.fetchone()
        if earliest is None:
            return {}
        cursor.execute(_WAITING, {"earliest": earliest})
        rows = cursor.fetchall()
    waited: dict[int, float] = {}
    for endpoint_id, since_recorded, since_closed, window in rows:
        seconds = since_recorded
        if since_closed is not None:
            # Learnable since its bucket was closed: not before that could be.
            seconds = min(seconds, since_closed - _number(window) - GRACE_SECONDS)
        waited[endpoint_id] = max(seconds, waited.get(endpoint_id, 0.0))
    return waited


def _number(text: str | None) -> float:
    """Of a row that somebody damaged, 0."""
    try:
        return float(text or 0.0)
    except ValueError:
        return 0.0


# The first decision of each experiment whose bucket is not closed, by `decision_by_experiment`.
_FIRST = """
SELECT asked.experiment_id, (
    SELECT min(decided_at) FROM serving_decision
    WHERE experiment_id = asked.experiment_id AND decided_at >= asked.closed
)
FROM unnest(%s::bigint[], %s::timestamptz[]) AS asked (experiment_id, closed)
"""


def _overdue() -> dict[int, float]:
    """For each endpoint with a bucket to close, for how many seconds a decision in one could have
    been weighed; 0 where there is none. Long windows need no look at every second."""
    now = clock.now()
    seats = Arm.objects.filter(experiment=OuterRef("pk")).order_by().values("experiment").values(count=Count("pk"))
    found: list[tuple[Experiment, int, float]] = []  # with how many arms, and seconds
    for experiment in without_sums(unsettled()).annotate(seats=Subquery(seats)):
        try:
            seconds = overdue_seconds(experiment, experiment.seats, now)
        except Exception:  # a damaged row: its own round says what is wrong, and all others go on
            seconds = 0.0
        if seconds >= 0.0:
            found.append((experiment, experiment.seats, seconds))
    first = _first_decisions([experiment for experiment, _, seconds in found if seconds > BEHIND_SECONDS])
    waits: dict[int, float] = {}
    for late, arms, seconds in found:
        if seconds > BEHIND_SECONDS:
            decided_at = first.get(late.pk)
            seconds = 0.0 if decided_at is None else overdue_seconds(late, arms, now, decided_at)
        waits[late.endpoint_id] = max(seconds, waits.get(late.endpoint_id, 0.0))
    return waits


def _first_decisions(late: Sequence[Experiment]) -> dict[int, datetime]:
    """Of experiments whose buckets could have been closed long ago: for want of a decision nothing
    waits for that."""
    if not late:
        return {}
    closed = [is_closed_until(experiment, experiment.evidence) for experiment in late]
    with connection.cursor() as cursor:
        cursor.execute(_FIRST, [[experiment.pk for experiment in late], closed])
        return {experiment_id: first for experiment_id, first in cursor.fetchall() if first is not None}


def _timed() -> set[int]:
    """Endpoints of experiments whose next step comes by the clock, traffic or not."""
    canaries = Experiment.objects.filter(strategy=Experiment.Strategy.CANARY, status=Experiment.Status.RUNNING)
    return {*canaries.values_list("endpoint_id", flat=True), *with_an_end()}


_DECISIONS = "decisions wait to be written to the ledger"
_REWARDS = "rewards wait to be learned"
_BUCKETS = "decisions whose windows are over wait to be weighed"


def find() -> Pending:
    """Ask PostgreSQL and Redis, each in a few round trips, however many endpoints there are. Raises
    redis.RedisError."""
    endpoints = list(Endpoint.objects.values_list("pk", "name", "policy_version"))
    names = {pk: name for pk, name, _ in endpoints}
    waited = _waiting_rewards()
    for endpoint_id, seconds in baselines.waiting().items():
        waited[endpoint_id] = max(seconds, waited.get(endpoint_id, 0.0))
    overdue = _overdue()
    learn = overdue.keys() | waited.keys() | _timed() | publishing.overdue()
    learn |= waiting.endpoints_to_take() | from_devices.endpoints_to_take()
    behind: dict[str, list[Lag]] = {name: [] for name in names.values()}
    for seconds_by_endpoint, why in ((overdue, _BUCKETS), (waited, _REWARDS)):
        for pk, seconds in seconds_by_endpoint.items():
            if pk in names:  # or it was made a moment ago
                behind[names[pk]].append(Lag(seconds, why))
    for experiments in (out_of_date(), unscored(), not_gone_through()):
        learn |= set(experiments.values_list("endpoint_id", flat=True))
    publish: list[int] = []
    overtake: dict[int, int] = {}
    found = _ask_redis(keys(), list(names.values()))
    for (pk, name, version), (oldest, held, announced) in zip(endpoints, found.endpoints, strict=True):
        if isinstance(oldest, Exception):
            learn.add(pk)  # its round says what is wrong with the stream
        elif oldest is not None:
            learn.add(pk)
            behind[name].append(Lag(found.now - oldest.timestamp(), _DECISIONS))
        if isinstance(held, Exception) or not found.index or announced < version or held is None or int(held) < version:
            publish.append(pk)
        elif int(held) > version:
            overtake[pk] = int(held)
        if ("round", name) in found.failing:
            learn.add(pk)  # what failed is done again, whether or not anything else has come
    access = not found.index or found.access is None or found.access < _access_version()
    unpublished = {names[pk] for pk in publish} | ({ACCESS} if access else set())
    mended = []
    for (part, name), failure in found.failing.items():
        if name in (unpublished if part == "publish" else behind):
            failing = "its snapshot can't be published" if part == "publish" else "its rounds fail"
            # Causes first: what waits for them is told if there is room.
            behind.setdefault(name, []).insert(0, Lag(found.now - failure.since, f"{failing}: {failure.why}"))
        else:
            mended.append((part, name))
    return Pending(
        _longest_first(learn, names, behind),
        _in_turn(publish, names, found),
        overtake,
        access,
        names,
        {name: lags for name, lags in behind.items() if lags},
        mended,
    )


def _longest_first(learn: Iterable[int], names: dict[int, str], behind: dict[str, list[Lag]]) -> list[int]:
    waits = {pk: max((lag.seconds for lag in behind.get(names.get(pk, ""), ())), default=0.0) for pk in learn}
    return sorted(waits, key=lambda pk: (-waits[pk], pk))


def _in_turn(publish: Iterable[int], names: dict[int, str], found: "_Held") -> list[int]:
    """First what has not failed; what has, once its pause is over, the fewest failures first."""
    failed = {pk: found.failing.get(("publish", names[pk])) for pk in publish}
    due = [pk for pk, failure in failed.items() if failure is None or failure.pause_is_over(found.now)]
    return sorted(due, key=lambda pk: 0 if (failure := failed[pk]) is None else failure.tries)


@dataclass(frozen=True, slots=True)
class _Held:
    """What Redis holds. `endpoints`: (when the stream's first entry was appended, version, version
    in the index) each, or the error that came of it; the version is the index's where it was
    another's turn."""

    now: float  # Redis's clock, which also stamps the entries
    index: bool
    access: int | None
    endpoints: list[tuple[datetime | redis.RedisError | None, Any, int]]
    failing: dict[tuple[Part, str], Failure]


_GENERAL = 5  # commands that ask for what is no endpoint's own
LOOKS_AT_ALL = 10
"""In so many looks every snapshot itself is looked at, for one may be gone that the index knows of;
the index is read at each."""
_AT_LEAST = 100
_looks = itertools.count()


def _turn(endpoints: list[str]) -> slice:
    """Whose snapshots this look asks for."""
    size = max(_AT_LEAST, -(-len(endpoints) // LOOKS_AT_ALL))
    first = next(_looks) % max(-(-len(endpoints) // size), 1) * size
    return slice(first, first + size)


def _ask_redis(names: Keys, endpoints: list[str]) -> _Held:
    turn = _turn(endpoints)
    with client().pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.exists(names.epoch)
        pipeline.hget(names.snapshot(ACCESS), "version")
        pipeline.hgetall(names.versions)
        pipeline.hgetall(names.failing)
        for name in endpoints[turn]:
            pipeline.hget(names.snapshot(name), "version")
        answers = pipeline.execute(raise_on_error=False)
    general, held = answers[:_GENERAL], answers[_GENERAL:]
    for answer in general:  # an endpoint's key of another kind is that endpoint's trouble alone
        if isinstance(answer, Exception):
            raise answer
    (seconds, microseconds), epoch, access, versions, failing = general
    announced = {name.decode(): int(version) for name, version in versions.items()}
    of_index = [announced.get(name, -1) for name in endpoints]
    versions_held = list[Any](of_index)
    versions_held[turn] = held
    return _Held(
        seconds + microseconds / 1e6,
        bool(epoch),
        None if access is None else min(int(access), announced.get(ACCESS, -1)),
        list(zip(decision_log().oldest_of_each(endpoints), versions_held, of_index, strict=True)),
        failures(failing),
    )


def _access_version() -> int:
    """The version of the last build of the keys (noregret.access.publish), 0 before the first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM access_snapshot_version")
        version: int = cursor.fetchone()[0]
    return version
