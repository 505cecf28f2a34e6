"""Sums over decisions, as values that add: the live fold and the rebuild use the same ones, so they give the same numbers."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from bandits.inference.sample_ratio import SampleRatio
from serving.ledger import latency

INTERVAL_SECONDS = 10


def padded(propensities: Sequence[float], arms: int) -> list[float]:
    """For `arms` arms: one that was added after a decision had no chance then."""
    return [*propensities, *([0.0] * (arms - len(propensities)))]


def are_probabilities(propensities: Sequence[float]) -> bool:
    """Are these numbers, all of 0 to 1? A ledger that was written by hand may hold others, or NULL."""
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
class CountedDecision:
    """What of a decision is counted. Propensities are by arm position."""

    arm_id: int
    decided_at: datetime
    propensities: Sequence[float]
    latency_ms: float
    failed: bool
    trial: bool = True


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
    def of(cls, decisions: Iterable[CountedDecision], arm_ids: Sequence[int]) -> "DecisionTotals":
        """Totals of an experiment's decisions; `arm_ids` by position."""
        totals = cls()
        latencies: dict[int, list[float]] = {}
        seats = {arm: i for i, arm in enumerate(arm_ids)}
        trials: list[tuple[int, list[float]]] = []
        for decision in decisions:
            totals.decisions[decision.arm_id] += 1
            totals.intervals[decision.arm_id, interval_start(decision.decided_at)] += 1
            if decision.failed:
                totals.failures[decision.arm_id] += 1
                totals.failed_intervals[decision.arm_id, interval_start(decision.decided_at)] += 1
            latencies.setdefault(decision.arm_id, []).append(decision.latency_ms)
            if not are_probabilities(decision.propensities):
                continue  # it happened; how likely that was nobody knows
            if decision.trial:
                trials.append((seats[decision.arm_id], padded(decision.propensities[: len(arm_ids)], len(arm_ids))))
        totals.split = SampleRatio.zeros(len(arm_ids))
        if trials:
            totals.split = totals.split.observe(
                np.array([seat for seat, _ in trials]), np.array([shares for _, shares in trials])
            )
        totals.latencies = {arm: latency.count(values) for arm, values in latencies.items()}
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
