"""Old days of the ledger: closed one by one into a base sum of each experiment, and then dropped
whole.

A day may go when nothing of it can be learned any more: every experiment that had begun has closed
its buckets past it, or is over with all its windows; no reward of it waits to be folded, and no
decision of it waits in a stream. Then each experiment's kept sums up to the day's end are computed
from the ledger, and stored in the transaction that moves the ledger's horizon: from there on no
rebuild reads a row before it and none comes in. The tables are detached and dropped afterwards, as
soon as nobody is in the way.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog
from django.db import OperationalError, ProgrammingError, connection, transaction
from django.db.models import Exists, OuterRef

from noregret.experiments.models import Baseline, Endpoint, Experiment
from noregret.learning import from_devices, kept_intervals, waiting
from noregret.learning.baselines import name_of
from noregret.learning.buckets import bucket_width
from noregret.learning.evidence import RULES
from noregret.learning.kept import resummed, snapshot
from noregret.learning.kept_evidence import next_bucket
from noregret.learning.models import ExperimentEvidence, LedgerBase
from noregret.learning.rebuild import Computed
from noregret.learning.unfinished import LEARNED_AT_ONCE, unsettled
from noregret.learning.watched.watching import unsummed
from noregret.redis_client import decision_log
from serving.ledger import horizon, ingest, partitions
from serving.models import Reward

log = structlog.get_logger(__name__)

MOST_WAITING = 20_000
"""With more decisions than this in a stream the learner is behind, and nothing is dropped."""
TRIES, PAUSE_SECONDS = 40, 0.05


@dataclass(slots=True)
class Dropped:
    """What a round did. `blocked`: why the oldest day that is old enough stays, in words; empty
    where none has to."""

    closed: list[date] = field(default_factory=list)
    tables: int = 0
    blocked: str = ""


def drop_old_days(now: datetime, keep_days: int, *, seconds: float = 300.0) -> Dropped:
    """Close and drop the days that are over for `keep_days` days, oldest first; for about so many
    seconds. Raises redis.RedisError."""
    dropped = Dropped()
    until = time.monotonic() + seconds
    for day in old_days(now, keep_days):
        if _is_closed(day):  # by another worker, meanwhile
            continue
        dropped.blocked = next(blockers(day), "")
        if dropped.blocked or time.monotonic() > until:
            break
        if not _close(day):
            dropped.blocked = f"{day}: it changed, or somebody reads it; the next round tries again"
            break
        dropped.closed.append(day)
        log.info("day of the ledger closed", day=str(day))
    dropped.tables = drop_closed()
    return dropped


def old_days(now: datetime, keep_days: int) -> list[date]:
    """The days (UTC), not closed yet, of which something may lie in the ledger and which ended
    `keep_days` days ago or more."""
    last = now.astimezone(UTC).date() - timedelta(days=keep_days + 1)
    begins = horizon.begins_at()
    with connection.cursor() as cursor:
        days = {*partitions.days(cursor), *partitions.all_days_in_default(cursor, last)}
    return sorted(day for day in days if day <= last and (begins is None or _ends(day)[1] > begins))


def _is_closed(day: date) -> bool:
    begins = horizon.begins_at()
    return begins is not None and begins >= _ends(day)[1]


def _ends(day: date) -> tuple[datetime, datetime]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start, start + timedelta(days=1)


_UNFOLDED = """
SELECT 1 FROM serving_reward WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND NOT folded AND NOT late
AND decided_at < %(end)s AND decided_at < coalesce(%(until)s, 'infinity'::timestamptz) LIMIT 1
"""


def blockers(day: date) -> Iterator[str]:
    """Why a day can't be dropped yet, in words. Raises redis.RedisError."""
    end = _ends(day)[1]
    open_ones = set(unsettled().values_list("pk", flat=True))
    at_once = set(Experiment.objects.filter(LEARNED_AT_ONCE).values_list("pk", flat=True))
    begun = Experiment.objects.filter(started_at__lt=end).select_related("evidence").order_by("pk")
    for experiment in begun:
        held = ExperimentEvidence.objects.filter(experiment=experiment).first()
        if held is None or held.rules < RULES:
            yield f"{day}: the sums of {experiment.name} are to be made anew first"
        elif not held.gone_through:
            yield f"{day}: {experiment.name} goes through what an earlier version left"
        elif experiment.pk in open_ones and (
            held.closed_until is None
            or held.closed_until < next_bucket(end, bucket_width(experiment.reward_.window_seconds))
        ):
            yield f"{day}: {experiment.name} has learned until {held.closed_until}"
        else:
            asked: dict[str, Any] = {"experiment": experiment.pk, "metric": experiment.reward_.metric, "end": end}
            with connection.cursor() as cursor:
                cursor.execute(_UNFOLDED, asked | {"until": None if experiment.pk in at_once else held.closed_until})
                if cursor.fetchone():
                    yield f"{day}: rewards of {experiment.name} are not folded yet"
            if unsummed(experiment, end):
                yield f"{day}: values that {experiment.name} watches are not summed yet"
    waiting = Reward.objects.filter(experiment_id=OuterRef("pk"), folded=False, late=False, decided_at__lt=end)
    for baseline in Baseline.objects.filter(Exists(waiting), begun_at__lt=end).select_related("endpoint"):
        yield f"{day}: rewards of {name_of(baseline)} are not folded yet"
    yield from _waiting(day, end)


def _waiting(day: date, end: datetime) -> Iterator[str]:
    """Decisions of the day that are not drained yet."""
    now = datetime.now(tz=UTC)
    for name in Endpoint.objects.values_list("name", flat=True):
        batch = ingest.read(decision_log(), name, MOST_WAITING, now)
        if len(batch.entry_ids) >= MOST_WAITING:
            yield f"{day}: more than {MOST_WAITING:,} decisions of {name} wait to be drained"
        elif any(decision.decided_at < end for decision in batch.decisions):
            yield f"{day}: decisions of {name} wait to be drained"
    if waiting.any_to_take(end):
        yield f"{day}: decisions that were activated wait to be drained"
    if from_devices.any_to_take(end):
        yield f"{day}: decisions of devices wait to be drained"


_WITH_ROWS = """
SELECT e.id FROM experiments_experiment AS e WHERE e.started_at IS NOT NULL AND (
    EXISTS (SELECT 1 FROM serving_decision AS d WHERE d.experiment_id = e.id AND d.decided_at < %(end)s)
    OR EXISTS (SELECT 1 FROM serving_reward AS r WHERE r.experiment_id = e.id AND r.decided_at < %(end)s))
ORDER BY e.id
"""
# Of rows of the day: what could change while it is summed up.
_COUNTS = """
SELECT (SELECT count(*) FROM serving_decision WHERE decided_at >= %(start)s AND decided_at < %(end)s),
    count(*) FILTER (WHERE folded AND NOT late), count(*) FILTER (WHERE matured)
FROM serving_reward WHERE decided_at >= %(start)s AND decided_at < %(end)s
"""


def _close(day: date) -> bool:
    """Store each experiment's base, and let the ledger begin after the day; False where somebody
    was in the way."""
    start, end = _ends(day)
    with connection.cursor() as cursor:
        cursor.execute(_WITH_ROWS, {"end": end})
        experiments = list(Experiment.objects.filter(pk__in=[row[0] for row in cursor.fetchall()]).order_by("pk"))
    with snapshot():
        horizon.hold_days()
        if _is_closed(day):  # its rows are in a base that goes further: this one would take it back
            return False
        seen = _state(start, end)
        bases = [(experiment, Computed(experiment, until=end, compare=True).by_itself()) for experiment in experiments]
        documents = [computed.documents() for _, computed in bases]
    for experiment, computed in bases:
        # What is shown of the day from now on: nobody can compare it any more.
        kept_intervals.mend(experiment, computed.intervals)
    for _ in range(TRIES):
        with transaction.atomic():
            if horizon.free_days():
                if _state(start, end) != seen:
                    return False
                if not all(part.set_aside(one, start, end) for one in experiments for part in resummed()):
                    transaction.set_rollback(True)
                    return False
                for experiment, document in zip(experiments, documents, strict=True):
                    LedgerBase.objects.update_or_create(
                        experiment=experiment, defaults={"until": end, "sums": document}
                    )
                horizon.move_to(end)
                return True
        time.sleep(PAUSE_SECONDS)
    return False


def _state(start: datetime, end: datetime) -> Sequence[Any]:
    """Numbers that tell whether anything of a day's sums, or the horizon, has changed."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, {"start": start, "end": end})
        counts: tuple[Any, ...] = cursor.fetchone()
    return (*counts, horizon.begins_at(), horizon.rewritten())


def drop_closed() -> int:
    """Drop the tables of closed days, and what came into the default ones for them; how many. Goes
    on where another ended."""
    begins = horizon.begins_at()
    if begins is None:
        return 0
    with connection.cursor() as cursor:
        tables = partitions.tables_before(cursor, begins.date())
    count = 0
    for table, name in tables:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                partitions.drop(cursor, table, name)
            count += 1
        except (OperationalError, ProgrammingError) as error:
            # Somebody reads or writes it, and the next round is soon enough; or another dropped it
            # meanwhile.
            log.warning("day not dropped", table=name, error=str(error).strip())
    with connection.cursor() as cursor:
        partitions.empty_default(cursor, begins)
    return count
