"""What a policy is given of what was learned: everything, or what its memory left, or means
corrected for windows that are open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from django.db import connection

from bandits.delay import DelayHistograms, exposure_corrected
from bandits.memory import Memory
from bandits.policies import ContextualPolicy, Policy
from bandits.statistics import ArmStatistics as Statistics
from bandits.statistics import Array
from noregret.experiments.models import Arm, Experiment

from . import clock
from .models import ArmStatistics, ExperimentEvidence


def statistics_of(arms: Sequence[Arm]) -> Statistics:
    """The learned moments of arms over the whole experiment, by position."""
    held = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__in=arms)}
    rows = [held[arm.pk] for arm in arms]
    return Statistics(
        np.array([row.rewards for row in rows], dtype=np.float64),
        np.array([row.mean for row in rows], dtype=np.float64),
        np.array([row.m2 for row in rows], dtype=np.float64),
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What a policy chooses by, each (K,) by position.

    `remembered`: the statistics that its memory left. `learned`: how many rewards were ever
    learned, which burn-in counts. `open`: decisions that are out, neither answered nor matured, as
    far as the memory reaches, for policies that count their pulls.
    """

    remembered: Statistics
    learned: Array
    open: Array


def known_to_policy(experiment: Experiment, arms: Sequence[Arm], policy: Policy | ContextualPolicy | None) -> Known:
    """What a policy chooses by; one that learns from features has more
    (noregret.learning.contextual), and None is a fixed split."""
    everything = statistics_of(arms)
    nothing_open = np.zeros(len(arms))
    if policy is None or policy.contextual:
        return Known(everything, everything.count, nothing_open)
    memory = policy.memory
    blocks = _Blocks.read(arms, memory) if memory.forgets else None
    remembered = everything if blocks is None else memory.recall(blocks.learned, blocks.steps)
    weights = None if blocks is None else blocks.weights(memory)
    if experiment.reward_.pending != "exposure":
        counts = policy.counts_own_pulls
        return Known(remembered, everything.count, _unanswered(experiment, arms, weights) if counts else nothing_open)
    rewards, exposure, decided = _exposed(experiment, arms, weights)
    corrected = exposure_corrected(remembered, rewards, exposure)
    # An open decision counts by its exposure already, and by the rest of it as a pull that is out.
    counted = corrected.count - remembered.count + rewards
    return Known(corrected, np.maximum(everything.count, corrected.count), np.maximum(decided - counted, 0.0))


OPEN_AT_MOST = timedelta(days=3)
"""How far back decisions without an answer are counted as out, where silence means nothing: each
snapshot reads so much."""

# No interval is longer than a day (noregret.learning.coarsening).
_INTERVALS = """
SELECT arm_id, start, seconds, decisions, rewards FROM learning_arminterval
WHERE arm_id = ANY(%(arms)s) AND start > %(since)s::timestamptz - interval '1 day'
    AND start + make_interval(secs => seconds) > %(since)s
"""
_SUMS = """
SELECT arm_id, sum(inside * decisions), sum(inside * rewards) FROM (
    SELECT arm_id, decisions, rewards,
        LEAST(1.0, extract(epoch FROM start - %(since)s::timestamptz)::float8 / seconds + 1.0) AS inside
    FROM learning_arminterval
    WHERE arm_id = ANY(%(arms)s) AND start > %(since)s::timestamptz - interval '1 day'
        AND start + make_interval(secs => seconds) > %(since)s
) AS held GROUP BY arm_id
"""


def _unanswered(experiment: Experiment, arms: Sequence[Arm], weights: Mapping[datetime, float] | None) -> Array:
    """Decisions in open buckets without a reward, (K,); by the weights of what is remembered.

    From sums alone. Of the interval that the last closed bucket ends in, the part that is open
    counts.
    """
    rows = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__in=arms)}
    if weights is None and experiment.reward_.default is not None:
        # Every closed decision has a reward, so what has none is open.
        left = (rows[arm.pk].decisions - rows[arm.pk].failures - rows[arm.pk].rewards for arm in arms)
        return np.maximum(np.fromiter(left, dtype=np.float64, count=len(arms)), 0.0)
    now = clock.now()
    since = max(_open_since(experiment, now), now - OPEN_AT_MOST)
    decisions, rewards = ({arm.pk: 0.0 for arm in arms} for _ in range(2))
    if weights is None:
        with connection.cursor() as cursor:
            cursor.execute(_SUMS, {"arms": list(rows), "since": since})
            for arm, decided, rewarded in cursor.fetchall():
                decisions[arm], rewards[arm] = decided, rewarded
    else:
        for arm, start, seconds, decided, rewarded in _intervals(arms, since):
            inside = min(1.0, (start - since).total_seconds() / seconds + 1.0)
            weight = inside * weights.get(start, 0.0)
            decisions[arm] += weight * decided
            rewards[arm] += weight * rewarded
    served = _shares_served(arms, rows)
    return np.maximum([decisions[arm.pk] * served[i] - rewards[arm.pk] for i, arm in enumerate(arms)], 0.0)


def _open_since(experiment: Experiment, now: datetime) -> datetime:
    """Decisions from here on are open."""
    closed: datetime | None = ExperimentEvidence.objects.values_list("closed_until", flat=True).get(
        experiment=experiment
    )
    return closed or now - timedelta(seconds=experiment.reward_.window_seconds)


def _intervals(arms: Sequence[Arm], since: datetime) -> list[tuple[int, datetime, int, int, int]]:
    """(arm id, start, seconds, decisions, rewards) of each interval that ends later."""
    with connection.cursor() as cursor:
        cursor.execute(_INTERVALS, {"arms": [arm.pk for arm in arms], "since": since})
        rows: list[tuple[int, datetime, int, int, int]] = cursor.fetchall()
    return rows


def _shares_served(arms: Sequence[Arm], rows: Mapping[int, ArmStatistics]) -> Array:
    """Which share of its decisions each arm could serve, (K,)."""
    return np.array([1.0 - rows[arm.pk].failures / max(rows[arm.pk].decisions, 1) for arm in arms])


_BLOCKS = """
SELECT start, arm_id, decisions, rewards, reward_total, reward_m2
FROM learning_arminterval WHERE arm_id = ANY(%(arms)s) AND start >= COALESCE((
    SELECT start FROM (
        SELECT start, sum(sum(decisions)) OVER (ORDER BY start DESC) AS steps
        FROM learning_arminterval WHERE arm_id = ANY(%(arms)s) GROUP BY start
    ) AS counted WHERE steps >= %(steps)s ORDER BY start DESC LIMIT 1), '-infinity')
ORDER BY start DESC
"""


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Intervals of decision time, newest first, as far back as the memory reaches: to that
    resolution a step is a decision.

    So far back they are of ten seconds each (noregret.learning.coarsening).
    """

    starts: list[datetime]
    learned: Statistics  # (B, K)
    steps: Array  # (B,)

    @classmethod
    def read(cls, arms: Sequence[Arm], memory: Memory) -> "_Blocks":
        position = {arm.pk: i for i, arm in enumerate(arms)}
        with connection.cursor() as cursor:
            # `memory.horizon()` is finite here: beyond it a decision weighs under a millionth.
            cursor.execute(_BLOCKS, {"arms": list(position), "steps": int(min(memory.horizon(), 2**62)) + 1})
            rows = cursor.fetchall()
        starts = {start: i for i, start in enumerate(dict.fromkeys(row[0] for row in rows))}
        learned = Statistics.zeros(len(starts), len(arms))
        steps = np.zeros(len(starts))
        for start, arm, decisions, rewards, total, m2 in rows:
            at = starts[start], position[arm]
            steps[at[0]] += decisions
            learned.count[at], learned.m2[at] = rewards, m2
            learned.mean[at] = total / rewards if rewards else 0.0
        return cls(list(starts), learned, steps)

    def weights(self, memory: Memory) -> dict[datetime, float]:
        """The weight of each block in what is remembered."""
        return dict(zip(self.starts, memory.weights_of_blocks(self.steps).tolist(), strict=True))


def _exposed(
    experiment: Experiment, arms: Sequence[Arm], weights: Mapping[datetime, float] | None
) -> tuple[Array, Array, Array]:
    """Of open decisions: the rewards that came, the exposure, and how many they are, each (K,); by
    the weights of what is remembered."""
    now = clock.now()
    since = _open_since(experiment, now)
    window = timedelta(seconds=experiment.reward_.window_seconds)
    position = {arm.pk: i for i, arm in enumerate(arms)}
    statistics = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__in=arms)}
    histograms = DelayHistograms.zeros(len(arms))
    for arm_id, row in statistics.items():
        if row.delays:
            histograms.counts[position[arm_id]] = row.delays
    served = _shares_served(arms, statistics)
    rewards, exposure, decided = (np.zeros(len(arms)) for _ in range(3))
    rows = [row for row in _intervals(arms, since) if row[1] >= since]
    middles = [(now - start).total_seconds() - seconds / 2.0 for _, start, seconds, _, _ in rows]
    shares = histograms.exposure(np.clip(np.array(middles) / window.total_seconds(), 0.0, 1.0))
    for i, (arm_id, start, _, decisions, rewarded) in enumerate(rows):
        seat = position[arm_id]
        weight = 1.0 if weights is None else weights.get(start, 0.0)
        rewards[seat] += weight * rewarded
        exposure[seat] += weight * decisions * served[seat] * shares[i, seat]
        decided[seat] += weight * decisions * served[seat]
    return rewards, exposure, decided
