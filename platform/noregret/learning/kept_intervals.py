"""An arm's decisions and rewards by interval, held against the ledger and mended where they are:
millions of rows, and none in memory.

An interval is a sum of its own: it is compared in the database, a day at a time, and what differs
is made anew an hour at a time, with the experiment's evidence locked for so long. Intervals before
a base (LedgerBase) are as they were when their days were dropped.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from noregret.experiments.models import Experiment
from serving.ledger import horizon

from .coarsening import LENGTHS, Lengths
from .comparing import TOLERANCE
from .kept import rows
from .models import SUMS, ArmInterval, ExperimentEvidence, LedgerBase
from .totals import INTERVAL_SECONDS

_TOLD = 20
"""So many intervals that differ are told one by one."""


def _bin(seconds: int, at: str) -> str:
    return f"date_bin('{seconds} seconds', {at}, 'epoch')"


def _by_length(at: str, says: Callable[[int], str]) -> str:
    """What `says` gives for the length of the interval that an instant lies in, as
    `coarsening.Lengths.interval` has it."""
    longer = " ".join(
        f"WHEN {at} < %(until_{seconds})s::timestamptz AND {_bin(seconds, at)} IS DISTINCT FROM %(kept_{seconds})s::timestamptz "
        f"THEN {says(seconds)}"
        for seconds in reversed(LENGTHS)
    )
    return f"CASE {longer} ELSE {says(INTERVAL_SECONDS)} END"


def _interval(at: str) -> str:
    """The start of the interval that an instant lies in."""
    return _by_length(at, lambda seconds: _bin(seconds, at))


_LEDGER = f"""
SELECT arm_id, start, coalesce(decisions, 0) AS decisions, coalesce(failures, 0) AS failures, coalesce(rewards, 0) AS rewards,
    coalesce(total, 0) AS reward_total, coalesce(m2, 0) AS reward_m2
FROM (
    SELECT arm_id, {_interval("decided_at")} AS start, count(*) AS decisions, count(fallback_reason) AS failures FROM serving_decision
    WHERE experiment_id = %(experiment)s AND arm_id = ANY(%(arms)s) AND decided_at >= %(start)s AND decided_at < %(end)s
    GROUP BY 1, 2
) AS decided FULL JOIN (
    SELECT arm_id, {_interval("decided_at")} AS start, count(*) AS rewards, sum(value) AS total, var_pop(value) * count(*) AS m2
    FROM serving_reward WHERE experiment_id = %(experiment)s AND arm_id = ANY(%(arms)s) AND metric = %(metric)s
    AND folded AND NOT late AND decided_at >= %(start)s AND decided_at < %(end)s
    GROUP BY 1, 2
) AS rewarded USING (arm_id, start)
"""  # noqa: S608 - constants
# What came late lies beside the longer interval that it belongs to, until it is merged. Moments
# merge as ArmStatistics do.
_LIVE = f"""
SELECT arm_id, at AS start, sum(decisions)::bigint AS decisions, sum(failures)::bigint AS failures, sum(rewards)::bigint AS rewards,
    sum(reward_total) AS reward_total,
    sum(reward_m2 + CASE WHEN rewards > 0 THEN rewards * power(reward_total / rewards - mean, 2) ELSE 0 END) AS reward_m2
FROM (
    SELECT *, sum(reward_total) OVER whole / nullif(sum(rewards) OVER whole, 0) AS mean
    FROM (
        SELECT *, {_interval("start")} AS at FROM learning_arminterval
        WHERE arm_id = ANY(%(arms)s) AND start >= %(start)s AND start < %(end)s
    ) AS placed WINDOW whole AS (PARTITION BY arm_id, at)
) AS around GROUP BY arm_id, at
"""  # noqa: S608 - constants
_COLUMNS = ("decisions", "failures", "rewards", "reward_total", "reward_m2")
_EACH = ", ".join(
    f"coalesce(live.{column}, 0) AS live_{column}, coalesce(ledger.{column}, 0) AS {column}" for column in _COLUMNS
)
_MEAN = "abs(live_reward_total) / greatest(live_rewards, 1)"
_FAR = "abs(live_{0} - {0}) > {1} * greatest(1, abs(live_{0}), abs({0}))"
# What rounding of a mean leaves in squares (comparing.rounding).
_SLACK = f"16 * 2.3e-16 * {_MEAN} * sqrt(live_rewards * greatest(live_reward_m2, 0))"
_DIFFER = f"""
SELECT arm_id, start, live_decisions, live_failures, live_rewards, live_reward_total, live_reward_m2,
    decisions, failures, rewards, reward_total, reward_m2
FROM (
    SELECT coalesce(live.arm_id, ledger.arm_id) AS arm_id, coalesce(live.start, ledger.start) AS start, {_EACH}
    FROM ({_LIVE}) AS live
    FULL JOIN ({_LEDGER}) AS ledger ON live.arm_id = ledger.arm_id AND live.start = ledger.start
) AS both_sides
WHERE live_decisions <> decisions OR live_failures <> failures OR live_rewards <> rewards
    OR {_FAR.format("reward_total", TOLERANCE)} OR {_FAR.format("reward_m2", TOLERANCE)} + {_SLACK}
ORDER BY start, arm_id
"""  # noqa: S608 - constants
_INSERT = f"""
INSERT INTO learning_arminterval (arm_id, start, seconds, {", ".join(_COLUMNS)})
SELECT arm_id, start, {_by_length("start", str)}, {", ".join(_COLUMNS)} FROM ({_LEDGER}) AS ledger
"""  # noqa: S608 - constants


@dataclass(slots=True)
class Differing:
    """Which intervals differ from the ledger: how many, the first of them in words, and the hours
    that they lie in."""

    count: int = 0
    told: list[str] = field(default_factory=list)
    hours: set[datetime] = field(default_factory=set)

    def add(self, other: "Differing") -> None:
        self.count += other.count
        self.told += other.told[: _TOLD - len(self.told)]
        self.hours |= other.hours

    def differences(self) -> Iterator[str]:
        yield from self.told
        if self.count > len(self.told):
            yield f"{self.count - len(self.told):,} more intervals differ from the ledger's"


def compare(experiment: Experiment, start: datetime, end: datetime) -> Differing:
    """The intervals that begin from `start` to `end` and differ. In a snapshot of the database.

    An instant inside an interval stands for the interval's begin.
    """
    differing = Differing()
    names = dict(experiment.arms.values_list("pk", "name"))
    start, end = (_lengths(experiment).interval(at)[0] for at in (start, end))
    if start >= end:
        return differing
    for chunk in rows(_DIFFER, _asked(experiment, start, end)):
        for arm, at, *numbers in chunk:
            differing.count += 1
            differing.hours.add(at.replace(minute=0, second=0, microsecond=0))
            if len(differing.told) < _TOLD:
                live, ledger = tuple(numbers[:5]), tuple(numbers[5:])
                differing.told.append(
                    f"{names[arm]}: interval from {at:%Y-%m-%d %H:%M:%S} is {live}, the ledger has {ledger}"
                )
    return differing


def mend(experiment: Experiment, differing: Differing) -> None:
    """Make the hours anew in which intervals differ, each in a transaction of its own."""
    for hour in sorted(differing.hours):
        with transaction.atomic(), connection.cursor() as cursor:
            horizon.hold_days()
            # Whoever learns adds to intervals with this row locked, so the ledger as it is read now
            # is all that they hold.
            held = ExperimentEvidence.objects.defer(*SUMS).select_for_update().get(experiment=experiment)
            if LedgerBase.objects.filter(experiment=experiment, until__gt=hour).exists():
                continue  # its day was dropped meanwhile
            start, seconds = Lengths.of(experiment, held).interval(hour)
            end = max(hour + timedelta(hours=1), start + timedelta(seconds=seconds))
            ArmInterval.objects.filter(arm__experiment=experiment, start__gte=start, start__lt=end).delete()
            cursor.execute(_INSERT, _asked(experiment, start, end))


def _asked(experiment: Experiment, start: datetime, end: datetime) -> dict[str, Any]:
    lengths = _lengths(experiment)
    return {
        "experiment": experiment.pk,
        "metric": experiment.reward_.metric,
        "arms": list(experiment.arms.values_list("pk", flat=True)),
        "start": start,
        "end": end,
        **{f"until_{seconds}": lengths.until.get(seconds) for seconds in LENGTHS},
        **{f"kept_{seconds}": lengths.kept_start(seconds) for seconds in LENGTHS},
    }


def _lengths(experiment: Experiment) -> Lengths:
    held = ExperimentEvidence.objects.defer(*SUMS).filter(experiment=experiment).first()
    return Lengths({}, None) if held is None else Lengths.of(experiment, held)
