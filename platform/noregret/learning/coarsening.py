"""Makes intervals longer with age, so that a year of an arm has some two thousand of them and not
three million.

No interval is longer than a sixtieth of its age: a chart has sixty points, and an attribution
window is looked at in sixtieths. Sums add, so nothing is lost but resolution. What needs ten
seconds keeps them: the decisions that a fading memory reaches back to, and the moment at which a
canary took its step. An interval never reaches over midnight (UTC).

From which instant on which length is in force is written with the experiment's evidence
(`coarse_until`), and is moved in the transaction that merges, so that whoever computes intervals
anew makes the same ones. What is added late begins an interval of ten seconds beside a longer one;
the sums are right all the same, and it is merged the next time.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from noregret.experiments.models import Experiment
from noregret.experiments.policies import made_policy

from . import clock
from .models import ExperimentEvidence
from .totals import INTERVAL_SECONDS, interval_start

LENGTHS = (60, 600, 3600, 21_600, 86_400)
"""Seconds; each holds a whole number of the one before, and midnight is an end of each."""
AGE = 60
"""How many times as old as long an interval is at least."""
AT_ONCE = 10
"""Intervals are merged when so many of a length can be made: a round finds nothing to do most of
the time."""
PIECE = timedelta(days=1)
ROUND_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Lengths:
    """Which interval an instant lies in. `until`: by seconds, before when they are so long; `kept`:
    an instant that keeps ten seconds."""

    until: dict[int, datetime]
    kept: datetime | None

    @classmethod
    def of(cls, experiment: Experiment, held: ExperimentEvidence) -> "Lengths":
        until = {int(seconds): datetime.fromisoformat(at) for seconds, at in held.coarse_until.items()}
        return cls(until, experiment.canary_since)

    def interval(self, at: datetime) -> tuple[datetime, int]:
        """Its start and its seconds."""
        for seconds in reversed(LENGTHS):
            until = self.until.get(seconds)
            if until is not None and at < until:
                start = _floor(at, seconds)
                if self.kept_start(seconds) != start:
                    return start, seconds
        return interval_start(at), INTERVAL_SECONDS

    def kept_start(self, seconds: int) -> datetime | None:
        """Where the interval of this length would begin that is not made, for what it holds keeps
        ten seconds."""
        return None if self.kept is None else _floor(self.kept, seconds)


def _floor(at: datetime, seconds: int) -> datetime:
    return datetime.fromtimestamp(int(at.timestamp()) // seconds * seconds, tz=UTC)


_FIRST = "SELECT min(start) FROM learning_arminterval WHERE arm_id = ANY(%(arms)s) AND seconds < %(seconds)s"

# Moments merge as ArmStatistics do.
_MERGE = """
WITH short AS (
    DELETE FROM learning_arminterval
    WHERE arm_id = ANY(%(arms)s) AND start < %(until)s AND seconds < %(seconds)s AND (%(kept)s::timestamptz IS NULL
        OR date_bin(make_interval(secs => %(seconds)s), start, 'epoch') <> %(kept)s)
    RETURNING *
), placed AS (
    SELECT *, date_bin(make_interval(secs => %(seconds)s), start, 'epoch') AS at,
        sum(reward_total) OVER long / nullif(sum(rewards) OVER long, 0) AS mean
    FROM short WINDOW long AS (PARTITION BY arm_id, date_bin(make_interval(secs => %(seconds)s), start, 'epoch'))
)
INSERT INTO learning_arminterval AS held (arm_id, start, seconds, decisions, failures, rewards, reward_total, reward_m2)
SELECT arm_id, at, %(seconds)s, sum(decisions), sum(failures), sum(rewards), sum(reward_total),
    sum(reward_m2 + CASE WHEN rewards > 0 THEN rewards * power(reward_total / rewards - mean, 2) ELSE 0 END)
FROM placed GROUP BY arm_id, at
ON CONFLICT (arm_id, start) DO UPDATE SET
    seconds = greatest(held.seconds, EXCLUDED.seconds),
    decisions = held.decisions + EXCLUDED.decisions,
    failures = held.failures + EXCLUDED.failures,
    rewards = held.rewards + EXCLUDED.rewards,
    reward_total = held.reward_total + EXCLUDED.reward_total,
    reward_m2 = held.reward_m2 + EXCLUDED.reward_m2 + CASE WHEN held.rewards > 0 AND EXCLUDED.rewards > 0 THEN
        power(held.reward_total / held.rewards - EXCLUDED.reward_total / EXCLUDED.rewards, 2)
        * held.rewards * EXCLUDED.rewards::float8 / (held.rewards + EXCLUDED.rewards) ELSE 0 END
"""


def coarsen(experiment: Experiment) -> bool:
    """Merge what has become old enough; False where more is left. Safe beside itself and beside
    whoever adds to intervals."""
    now = min(clock.now(), experiment.ended_at or clock.FOREVER)
    evidence = ExperimentEvidence.objects.get(experiment=experiment)
    lengths = Lengths.of(experiment, evidence)
    arms = list(experiment.arms.values_list("pk", flat=True))
    due = [seconds for seconds in LENGTHS if _is_due(lengths, seconds, now, experiment.started_at)]
    if not due:
        return True
    remembered = _remembered_since(experiment, arms)
    stop = time.monotonic() + ROUND_SECONDS
    for seconds in due:
        target = _floor(now - timedelta(seconds=AGE * seconds), seconds)
        if remembered is not None:
            target = min(target, _floor(remembered, seconds))
        while _merge(experiment, arms, seconds, target):
            if time.monotonic() >= stop:
                return False
    return True


def _is_due(lengths: Lengths, seconds: int, now: datetime, began: datetime | None) -> bool:
    since = lengths.until.get(seconds, began)
    return since is not None and now - since > timedelta(seconds=(AGE + AT_ONCE) * seconds)


def _merge(experiment: Experiment, arms: Sequence[int], seconds: int, target: datetime) -> bool:
    """Go a piece further towards `target`; True where more is left."""
    with transaction.atomic(), connection.cursor() as cursor:
        held = ExperimentEvidence.objects.select_for_update().get(experiment=experiment)
        before = Lengths.of(experiment, held).until.get(seconds)
        asked: dict[str, Any] = {"arms": list(arms), "seconds": seconds}
        if before is None:
            cursor.execute(_FIRST, asked)
            first = cursor.fetchone()[0]
            before = target if first is None else _floor(first, seconds)
        until = min(target, before + max(PIECE, timedelta(seconds=AT_ONCE * seconds)))
        kept = experiment.canary_since
        if until > before:
            cursor.execute(_MERGE, asked | {"until": until, "kept": None if kept is None else _floor(kept, seconds)})
        coarse = held.coarse_until | {str(seconds): max(until, before).isoformat()}
        ExperimentEvidence.objects.filter(pk=held.pk).update(coarse_until=coarse)
    return until < target


_REMEMBERED = """
SELECT start FROM (
    SELECT start, sum(sum(decisions)) OVER (ORDER BY start DESC) AS steps
    FROM learning_arminterval WHERE arm_id = ANY(%(arms)s) GROUP BY start
) AS counted WHERE steps >= %(steps)s ORDER BY start DESC LIMIT 1
"""


def _remembered_since(experiment: Experiment, arms: Sequence[int]) -> datetime | None:
    """From when on a fading memory holds decisions; None for one that forgets nothing, whose policy
    reads no interval."""
    policy = made_policy(experiment)
    if policy is None or policy.contextual or not policy.memory.forgets:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_REMEMBERED, {"arms": list(arms), "steps": int(min(policy.memory.horizon(), 2**62)) + 1})
        row = cursor.fetchone()
    began: datetime | None = row[0] if row is not None else experiment.started_at
    return began
