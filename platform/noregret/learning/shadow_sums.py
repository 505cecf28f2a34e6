"""A challenger's predictions on copies beside the champion's, as sums that are kept: added when
predictions are stored, and when it is heard what was true. Nothing is read again at a look.

A prediction and its outcome come in either order and are counted together by whoever comes second:
the store takes outcomes that were claimed (`summed`), the claim takes predictions that were stored.
Both hold the rows of ShadowStatistics, so neither misses the other. What an earlier version left is
gone through once, in pieces; until then nothing is shown.
"""

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection, transaction

from noregret.experiments.models import Arm, Experiment
from serving.feedback import MAX_VALUE
from serving.ledger import latency

from .clock import EARLIEST, FOREVER
from .kept import rows_from
from .models import ShadowStatistics
from .watched.watches import OUTCOME

PIECE = 20_000
ROUND_SECONDS = 0.3
LARGEST = sys.float_info.max
"""Differences that no float holds are shown as the largest that one does."""
_FINEST, _GROWTH = 1e-9, math.log(1.05)


@dataclass(slots=True)
class Mean:
    """A count and a mean of numbers from 0 to LARGEST: their sum would be none."""

    count: int = 0
    mean: float = 0.0

    def add(self, other: "Mean") -> None:
        if other.count:
            self.count += other.count
            self.mean += (other.mean - self.mean) * (other.count / self.count)


@dataclass(slots=True)
class Score:
    """What was said of requests of one row, where the truth was told: how many were numbers, how
    many of them right, how far off."""

    right: int = 0
    off: Mean = field(default_factory=Mean)

    def count(self, said: float | None, truth: float) -> None:
        if said is not None:
            self.right += said == truth
            self.off.add(Mean(1, min(abs(said - truth), LARGEST)))

    def add(self, other: "Score") -> None:
        self.right += other.right
        self.off.add(other.off)


@dataclass(slots=True)
class ShadowSums:
    """What is known of a challenger. Changes in place; sums of parts add up to those of the whole.

    `differences`: counts by the logarithm of the difference, in steps of 5 %, from 1e-9 on; `told`:
    predictions whose truth was told.
    """

    predictions: int = 0
    errors: int = 0
    compared: int = 0
    agreed: int = 0
    difference: Mean = field(default_factory=Mean)
    highest: float = 0.0
    differences: dict[int, int] = field(default_factory=dict)
    latencies: list[int] = field(default_factory=list)
    champion_latencies: list[int] = field(default_factory=list)
    told: int = 0
    score: Score = field(default_factory=Score)
    champion_score: Score = field(default_factory=Score)

    def count(
        self,
        latency_ms: tuple[float, float | None],
        error: str | None,
        agrees: bool | None,
        difference: float | None,
    ) -> None:
        """One prediction; `latency_ms` are the challenger's and the champion's, None where the
        champion was not called."""
        self.predictions += 1
        self.errors += error is not None
        if agrees is not None:
            self.compared += 1
            self.agreed += agrees
        if difference is not None and not math.isnan(difference):
            bounded = min(difference, LARGEST)
            self.difference.add(Mean(1, bounded))
            self.highest = max(self.highest, bounded)
            step = _step(bounded)
            self.differences[step] = self.differences.get(step, 0) + 1
        own, champion = (latency.count([] if each is None else [each]) for each in latency_ms)
        self.latencies = latency.add(self.latencies, own)
        self.champion_latencies = latency.add(self.champion_latencies, champion)

    def count_outcome(self, predicted: str | None, champion: str, truth: float) -> None:
        """What was true of a request; predictions as JSON lists. Only requests of one row are
        scored."""
        if not abs(truth) <= MAX_VALUE:  # NaN is not
            return
        said = None if predicted is None else msgspec.json.decode(predicted)
        if said is not None and len(said) == 1:
            self.told += 1
            self.score.count(_number(said[0]), truth)
            answered = msgspec.json.decode(champion)
            self.champion_score.count(_number(answered[0]) if answered else None, truth)

    def add(self, other: "ShadowSums") -> None:
        self.predictions += other.predictions
        self.errors += other.errors
        self.compared += other.compared
        self.agreed += other.agreed
        self.difference.add(other.difference)
        self.highest = max(self.highest, other.highest)
        for step, count in other.differences.items():
            self.differences[step] = self.differences.get(step, 0) + count
        self.latencies = latency.add(self.latencies, other.latencies)
        self.champion_latencies = latency.add(self.champion_latencies, other.champion_latencies)
        self.told += other.told
        self.score.add(other.score)
        self.champion_score.add(other.champion_score)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"differences": {str(step): n for step, n in sorted(self.differences.items())}}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "ShadowSums":
        return msgspec.convert(state, cls, strict=False)


def _step(difference: float) -> int:
    return 0 if difference <= _FINEST else math.ceil((math.log(difference) - math.log(_FINEST)) / _GROWTH)


def step_middle(step: int) -> float:
    """A difference that stands for those of a step."""
    return 0.0 if step == 0 else math.exp(min(math.log(_FINEST) + (step - 0.5) * _GROWTH, math.log(LARGEST)))


def _number(value: Any) -> float | None:
    """A prediction as a number, where it is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def locked(experiment_id: int, arms: Iterable[int] = ()) -> dict[int, ShadowStatistics]:
    """The rows of an experiment's challengers by arm id, made where there are none; in the caller's
    transaction."""
    known = Arm.objects.filter(experiment=experiment_id, pk__in=list(arms))
    ShadowStatistics.objects.bulk_create([ShadowStatistics(arm=arm) for arm in known], ignore_conflicts=True)
    rows = ShadowStatistics.objects.select_for_update(of=("self",)).filter(arm__experiment=experiment_id)
    return {row.arm_id: row for row in rows.order_by("arm_id")}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What of a stored prediction is summed."""

    decision_id: UUID
    decided_at: datetime
    arm_id: int
    latency_ms: tuple[float, float | None]
    error: str | None
    agrees: bool | None
    difference: float | None
    predicted: str | None
    champion: str


_TOLD = """
SELECT r.decision_id, r.value FROM serving_reward AS r
JOIN unnest(%(ids)s::uuid[], %(times)s::timestamptz[]) AS asked (id, at) ON r.decided_at = asked.at AND r.decision_id = asked.id
WHERE r.metric = %(metric)s AND r.summed
"""


def add_predictions(rows: dict[int, ShadowStatistics], predictions: Sequence[Prediction]) -> None:
    """Add predictions that were just stored to the locked rows of their challengers."""
    asked: dict[str, Any] = {
        "ids": [each.decision_id for each in predictions],
        "times": [each.decided_at for each in predictions],
        "metric": OUTCOME,
    }
    with connection.cursor() as cursor:
        cursor.execute(_TOLD, asked)
        truths = dict(cursor.fetchall())
    for arm, row in rows.items():
        until = row.summed_until or EARLIEST
        sums = ShadowSums()
        for each in predictions:
            if each.arm_id == arm and each.decided_at < until:
                sums.count(each.latency_ms, each.error, each.agrees, each.difference)
                if each.decision_id in truths:
                    sums.count_outcome(each.predicted, each.champion, truths[each.decision_id])
        _save(row, sums)


def _save(row: ShadowStatistics, new: ShadowSums, **changes: Any) -> None:
    if new.predictions or new.told or changes:
        held = ShadowSums.from_dict(row.sums)
        held.add(new)
        ShadowStatistics.objects.filter(pk=row.pk).update(sums=held.to_dict(), **changes)


_OF_OUTCOMES = """
SELECT s.arm_id, s.decided_at, s.predicted::text, s.champion_predicted::text, told.value FROM serving_shadowprediction AS s
JOIN unnest(%(ids)s::uuid[], %(times)s::timestamptz[], %(values)s::float8[]) AS told (id, at, value)
    ON s.decided_at = told.at AND s.decision_id = told.id
WHERE s.experiment_id = %(experiment)s AND s.predicted IS NOT NULL
"""


def add_outcomes(
    experiment: Experiment, rows: Mapping[int, ShadowStatistics], outcomes: Sequence[tuple[UUID, datetime, float]]
) -> None:
    """Add what was true of decisions, (id, decided at, value), that were just claimed, to locked
    rows."""
    asked: dict[str, Any] = {
        "experiment": experiment.pk,
        "ids": [identity for identity, _, _ in outcomes],
        "times": [at for _, at, _ in outcomes],
        "values": [value for _, _, value in outcomes],
    }
    if not outcomes:
        return
    sums = {arm: ShadowSums() for arm in rows}
    with connection.cursor() as cursor:
        cursor.execute(_OF_OUTCOMES, asked)
        for arm, at, predicted, champion, truth in cursor.fetchall():
            if arm in rows and at < (rows[arm].summed_until or EARLIEST):
                sums[arm].count_outcome(predicted, champion, truth)
    for arm, new in sums.items():
        _save(rows[arm], new)


_PREDICTED = """
SELECT s.latency_ms, CASE WHEN NOT s.champion_cached THEN s.champion_latency_ms END, s.error, s.agrees, s.difference,
    CASE WHEN r.value IS NOT NULL THEN s.predicted::text END, CASE WHEN r.value IS NOT NULL THEN s.champion_predicted::text END, r.value
FROM serving_shadowprediction AS s LEFT JOIN serving_reward AS r
    ON r.decided_at = s.decided_at AND r.decision_id = s.decision_id AND r.metric = %(metric)s AND r.summed
WHERE s.experiment_id = %(experiment)s AND s.arm_id = %(arm)s AND s.decided_at >= %(start)s AND s.decided_at < %(end)s
"""
_NTH = """
SELECT decided_at FROM serving_shadowprediction
WHERE experiment_id = %(experiment)s AND arm_id = %(arm)s AND decided_at >= %(start)s ORDER BY decided_at OFFSET %(n)s LIMIT 1
"""


def catch_up(experiment: Experiment) -> bool:
    """Go on through predictions that were there before their sums; False where more is left. In the
    learner's round."""
    until = time.monotonic() + ROUND_SECONDS
    arms = list(experiment.arms.filter(is_control=False).values_list("pk", flat=True))
    while True:
        with transaction.atomic():
            behind = [row for row in locked(experiment.pk, arms).values() if row.summed_until != FOREVER]
            for row in behind:
                start = row.summed_until or EARLIEST
                sums, end = _piece(experiment, row.arm_id, start, FOREVER)
                _save(row, sums, summed_until=end)
        if not behind or time.monotonic() >= until:
            return not behind


def _piece(experiment: Experiment, arm: int, start: datetime, until: datetime) -> tuple[ShadowSums, datetime]:
    """The sums of PIECE predictions from `start` on, and until when they reach: `until` where there
    are fewer."""
    asked: dict[str, Any] = {"experiment": experiment.pk, "arm": arm, "start": start, "n": PIECE, "metric": OUTCOME}
    sums = ShadowSums()
    with connection.cursor() as cursor:
        cursor.execute(_NTH, asked)
        row = cursor.fetchone()
        # Predictions of one microsecond stay together.
        end = until if row is None else min(max(row[0], start + timedelta(microseconds=1)), until)
        cursor.execute(_PREDICTED, asked | {"end": end})
        for own, champions, error, agrees, difference, predicted, champion, truth in cursor.fetchall():
            sums.count((own, champions), error, agrees, difference)
            if truth is not None:
                sums.count_outcome(predicted, champion, truth)
    return sums, end


def of_ledger(experiment: Experiment, row: ShadowStatistics, until: datetime = FOREVER) -> ShadowSums:
    """What the ledger, and the base of what it no longer has, say of a challenger as far as its row
    has come: for `rebuild`.

    `until`: only decisions before it, for a base.
    """
    sums, start = ShadowSums(), rows_from(experiment) or EARLIEST
    end = min(row.summed_until or EARLIEST, until)
    if row.base:
        sums.add(ShadowSums.from_dict(row.base))
    while start < end:
        new, start = _piece(experiment, row.arm_id, start, end)
        sums.add(new)
    return sums
