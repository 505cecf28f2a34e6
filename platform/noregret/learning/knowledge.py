"""What a policy is given of what was learned: everything, or what its memory left, or means corrected for windows that are open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from django.db import connection

from bandits.delay import DelayHistograms, exposure_corrected
from bandits.memory import Memory
from bandits.statistics import ArmStatistics as Statistics
from bandits.statistics import Array
from noregret.experiments.models import Arm, Experiment

from . import clock
from .models import ArmInterval, ArmStatistics, ExperimentEvidence
from .totals import INTERVAL_SECONDS


def statistics_of(arms: Sequence[Arm]) -> Statistics:
    """The learned moments of arms over the whole experiment, by position."""
    held = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__in=arms)}
    rows = [held[arm.pk] for arm in arms]
    return Statistics(
        np.array([row.rewards for row in rows], dtype=np.float64),
        np.array([row.mean for row in rows], dtype=np.float64),
        np.array([row.m2 for row in rows], dtype=np.float64),
    )


def known_to_policy(experiment: Experiment, arms: Sequence[Arm], memory: Memory) -> Statistics:
    """The statistics that a policy with this memory chooses by, by position."""
    blocks = None if not memory.forgets else _Blocks.read(arms, memory)
    known = statistics_of(arms) if blocks is None else memory.recall(blocks.learned, blocks.steps)
    if experiment.reward.get("pending") != "exposure":
        return known
    rewards, exposure = _open(experiment, arms, None if blocks is None else blocks.weights(memory))
    return exposure_corrected(known, rewards, exposure)


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
    """Ten seconds of decision time each, newest first, as far back as the memory reaches: to that resolution a step is a decision."""

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


def _open(experiment: Experiment, arms: Sequence[Arm], weights: Mapping[datetime, float] | None) -> tuple[Array, Array]:
    """Of decisions whose window is open: the rewards that came, and the exposure, each (K,); by the weights of what is remembered."""
    closed: datetime | None = ExperimentEvidence.objects.values_list("closed_until", flat=True).get(
        experiment=experiment
    )
    window = timedelta(seconds=experiment.reward["window_seconds"])
    now = clock.now()
    since = closed or now - window
    position = {arm.pk: i for i, arm in enumerate(arms)}
    statistics = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__in=arms)}
    histograms = DelayHistograms.zeros(len(arms))
    served = np.ones(len(arms))
    for arm, row in statistics.items():
        if row.delays:
            histograms.counts[position[arm]] = row.delays
        if row.decisions:
            served[position[arm]] = 1.0 - row.failures / row.decisions
    rewards, exposure = np.zeros(len(arms)), np.zeros(len(arms))
    rows = list(
        ArmInterval.objects.filter(arm__in=arms, start__gte=since).values_list(
            "arm_id", "start", "decisions", "rewards"
        )
    )
    half = INTERVAL_SECONDS / 2.0
    ages = np.array([((now - start).total_seconds() - half) / window.total_seconds() for _, start, _, _ in rows])
    shares = histograms.exposure(np.clip(ages, 0.0, 1.0))
    for i, (arm, start, decisions, rewarded) in enumerate(rows):
        seat = position[arm]
        weight = 1.0 if weights is None else weights.get(start, 0.0)
        rewards[seat] += weight * rewarded
        exposure[seat] += weight * decisions * served[seat] * shares[i, seat]
    return rewards, exposure
