"""Sums over decisions, as values that add: the live fold and the rebuild use the same ones, so they
give the same numbers."""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandits.inference.sample_ratio import SampleRatio
from bandits.statistics import Array
from serving.ledger import latency

INTERVAL_SECONDS = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTERVAL = timedelta(seconds=INTERVAL_SECONDS)
_INTERVAL_US = INTERVAL_SECONDS * 1_000_000


def padded(propensities: Sequence[float], arms: int) -> list[float]:
    """For `arms` arms: one that was added after a decision had no chance then."""
    return [*propensities, *([0.0] * (arms - len(propensities)))]


def are_probabilities(propensities: Sequence[float]) -> bool:
    """Are these numbers, all of 0 to 1? A ledger that was written by hand may hold others, or
    NULL."""
    try:
        total = sum(propensities)  # with NaN the least and the greatest depend on the order
        return math.isfinite(total) and min(propensities) >= 0.0 and max(propensities) <= 1.0
    except (TypeError, ValueError):
        return False


def interval_start(at: datetime) -> datetime:
    """The start of the ten seconds that an instant lies in."""
    seconds = int(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % INTERVAL_SECONDS, tz=UTC)


@dataclass(slots=True)
class RewardIntervals:
    """Rewards by arm id and interval: what of an interval's row concerns rewards."""

    values: dict[tuple[int, datetime], list[float]] = field(default_factory=dict)

    def add(self, arm_id: int, decided_at: datetime, value: float) -> None:
        self.values.setdefault((arm_id, interval_start(decided_at)), []).append(value)

    def moments(self) -> "dict[tuple[int, datetime], RewardMoments]":
        return {key: RewardMoments.of(values) for key, values in self.values.items()}


class RewardMoments(NamedTuple):
    """Count, sum and sum of squared deviations of rewards; they add."""

    rewards: int = 0
    total: float = 0.0
    m2: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float]) -> "RewardMoments":
        total = math.fsum(values)
        mean = total / len(values)
        return cls(len(values), total, math.fsum((value - mean) ** 2 for value in values))

    def merged(self, other: "RewardMoments") -> "RewardMoments":
        if not self.rewards or not other.rewards:
            return other if other.rewards else self
        apart = self.total / self.rewards - other.total / other.rewards
        count = self.rewards + other.rewards
        return RewardMoments(
            count, self.total + other.total, self.m2 + other.m2 + apart**2 * self.rewards * other.rewards / count
        )


@dataclass(frozen=True, slots=True)
class CountedDecisions:
    """What of decisions is counted, a column each (n,).

    Times are in µs since 1970. Propensities are by arm position.
    """

    arm_ids: Sequence[int]
    decided_us: Sequence[int]
    propensities: Sequence[Sequence[float]]
    latencies_ms: Sequence[float | None]  # None: a device's, which says nothing of the service
    failed: Sequence[bool]
    trial: Sequence[bool]


@dataclass(slots=True)
class DecisionTotals:
    """Counts by arm id."""

    decisions: Counter[int] = field(default_factory=Counter)
    failures: Counter[int] = field(default_factory=Counter)
    latencies: dict[int, list[int]] = field(default_factory=dict)
    intervals: Counter[tuple[int, datetime]] = field(default_factory=Counter)
    split: SampleRatio = field(default_factory=lambda: SampleRatio.zeros(0))
    """How trials fell on the arms, against their probabilities."""
    failed_intervals: Counter[tuple[int, datetime]] = field(default_factory=Counter)

    @classmethod
    def of(cls, decisions: CountedDecisions, arm_ids: Sequence[int]) -> "DecisionTotals":
        """Totals of an experiment's decisions, all of its arms; `arm_ids` by position."""
        seats = {arm: i for i, arm in enumerate(arm_ids)}
        seat = np.array([seats[arm] for arm in decisions.arm_ids], dtype=np.int64)
        failed = np.array(decisions.failed, dtype=np.bool_)
        interval = np.array(decisions.decided_us, dtype=np.int64) // _INTERVAL_US
        totals = cls(split=SampleRatio.zeros(len(arm_ids)))
        for counts, which in ((totals.decisions, seat), (totals.failures, seat[failed])):
            numbers = np.bincount(which, minlength=len(arm_ids)).tolist()
            counts.update({arm: number for arm, number in zip(arm_ids, numbers, strict=True) if number})
        for counted, some in ((totals.intervals, slice(None)), (totals.failed_intervals, failed)):
            for arm, i in seats.items():
                starts, numbers = np.unique(interval[some][seat[some] == i], return_counts=True)
                for start, number in zip(starts.tolist(), numbers.tolist(), strict=True):
                    counted[arm, _EPOCH + start * _INTERVAL] = number
        latencies = np.array(decisions.latencies_ms, dtype=np.float64)
        timed = ~np.isnan(latencies)
        bucket = latency.buckets(latencies[timed])
        for arm, i in seats.items():
            if (counts_of := np.bincount(bucket[seat[timed] == i])).size:
                totals.latencies[arm] = counts_of.tolist()
        trial = np.array(decisions.trial, dtype=np.bool_)
        shares, known = probabilities(decisions.propensities, len(arm_ids))
        totals.split = totals.split.observe(seat[trial & known], shares[trial & known])
        return totals

    def __add__(self, other: "DecisionTotals") -> "DecisionTotals":
        timed = self.latencies.keys() | other.latencies.keys()
        return DecisionTotals(
            self.decisions + other.decisions,
            self.failures + other.failures,
            {arm: latency.add(self.latencies.get(arm, []), other.latencies.get(arm, [])) for arm in timed},
            self.intervals + other.intervals,
            self.split + other.split,
            self.failed_intervals + other.failed_intervals,
        )


def probabilities(propensities: Sequence[Sequence[float]], arms: int) -> tuple[Array, NDArray[np.bool_]]:
    """Propensities of decisions as (n, arms), and which rows (n,) hold probabilities.

    A damaged decision happened too: it is counted, and only how likely it was is not known.
    """
    # Those of a snapshot are often all the same: each run of them is looked at once.
    runs = [(vector, len(list(alike))) for vector, alike in groupby(propensities)]
    if len(runs) == len(propensities):
        return _probabilities(propensities, arms)
    shares, known = _probabilities([vector for vector, _ in runs], arms)
    rows = np.repeat(np.arange(len(runs)), [length for _, length in runs])
    return shares[rows], known[rows]


def _probabilities(propensities: Sequence[Sequence[float]], arms: int) -> tuple[Array, NDArray[np.bool_]]:
    if all(len(shares) == arms for shares in propensities):
        with suppress(TypeError, ValueError):  # what somebody wrote by hand may be no list of numbers
            numbers = np.array(propensities, dtype=np.float64).reshape(len(propensities), arms)
            return numbers, np.asarray(((numbers >= 0.0) & (numbers <= 1.0)).all(axis=1))
    known = np.array([are_probabilities(shares) for shares in propensities], dtype=np.bool_)
    rows = [
        padded(shares[:arms], arms) if is_known else [0.0] * arms
        for shares, is_known in zip(propensities, known, strict=True)
    ]
    return np.array(rows, dtype=np.float64), known
