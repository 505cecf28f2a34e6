"""Intervals: under adaptive sampling, and watched all along."""

import numpy as np
import pytest

from bandits.belief import believe
from bandits.delay import DelayHistograms, exposure_corrected
from bandits.inference.anytime import Evidence, aipw, more_needed
from bandits.inference.best_arm import probabilities_best
from bandits.inference.confidence_sequence import (
    mean_sequence,
    one_sided_boundary,
    two_sided_boundary,
    watched_aipw,
)
from bandits.policies.allocation import with_floor
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics


def test_boundaries__at_one_hundred__are_the_reference() -> None:
    assert one_sided_boundary(100.0) == pytest.approx(27.66071, abs=1e-5)
    assert two_sided_boundary(100.0) == pytest.approx(30.35209, abs=1e-5)


def test_aipw__after_thompson_sampling__covers_where_the_sample_mean_does_not() -> None:
    """The claim: 95 %. The mean of what Thompson sampling chose to see covers less, and is too low."""
    rng = np.random.default_rng(31)
    runs, means = 1000, np.array([0.5, 0.5])
    held = ArmStatistics.zeros(runs, 2)
    evidence = [Evidence.empty(2) for _ in range(runs)]
    for _ in range(20):
        propensities = with_floor(probabilities_best(believe(held, RewardModel()).posterior), 0.05)
        arm = (rng.random((runs, 50)) >= propensities[:, [0]]).astype(np.int64)
        outcome = (rng.random((runs, 50)) < means[arm]).astype(np.float64)
        for i in range(runs):
            evidence[i] = evidence[i].observe(arm[i], outcome[i], np.tile(propensities[i], (50, 1)))
        flat = ArmStatistics.from_rewards((arm + 2 * np.arange(runs)[:, None]).ravel(), outcome.ravel(), 2 * runs)
        held = held + ArmStatistics(*(part.reshape(runs, 2) for part in (flat.count, flat.mean, flat.m2)))
    estimates = [aipw(one)[0] for one in evidence]
    shown = [estimate for estimate in estimates if estimate is not None]
    assert len(shown) > 0.9 * runs
    covered = np.mean([estimate.low <= 0.5 <= estimate.high for estimate in shown])
    assert 0.93 <= covered <= 0.97
    values = np.array([estimate.value for estimate in shown])
    assert abs(values.mean() - 0.5) <= 4 * values.std() / len(values) ** 0.5 + 0.002
    assert held.mean[:, 0].mean() < 0.5 - 4 * held.mean[:, 0].std() / runs**0.5  # what is avoided
    assert all(
        wide.low <= narrow.low
        for wide, narrow in zip(watched_aipw(evidence[0]), aipw(evidence[0]), strict=True)
        if wide and narrow
    )


def test_mean_sequence__watched_at_every_step__seldom_misses() -> None:
    rng = np.random.default_rng(32)
    runs, steps, truth = 400, 3000, 0.3
    total = np.cumsum(rng.random((runs, steps)) < truth, axis=1).astype(np.float64)
    count = np.arange(1.0, steps + 1)
    mean = total / count
    missed_watched, missed_fixed = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    for t in range(99, steps, 5):
        held = ArmStatistics(np.full(runs, count[t]), mean[:, t], mean[:, t] * (1 - mean[:, t]) * count[t])
        low, high = mean_sequence(held)
        missed_watched |= (truth < low) | (truth > high)
        half = 1.96 * np.sqrt(mean[:, t] * (1 - mean[:, t]) / count[t])
        missed_fixed |= np.abs(mean[:, t] - truth) > half
    assert missed_watched.mean() <= 0.05
    assert missed_fixed.mean() > 0.2  # a fixed-sample interval that is watched misses often


def test_mean_sequence__few__is_infinite() -> None:
    low, high = mean_sequence(ArmStatistics(np.array([29.0]), np.array([0.5]), np.array([7.0])))
    assert low[0] == -np.inf
    assert high[0] == np.inf


def test_more_needed__evidence_that_grew__forecasts() -> None:
    assert more_needed(1.5, 40.0, 100.0) is None
    assert more_needed(100.0, 40.0, 100.0) == 0.0
    assert more_needed(40**0.5, 40.0, 1000.0) == pytest.approx(1000.0)


def test_exposure__slow_arm_that_is_better__is_not_given_up() -> None:
    """The better arm answers after 4,000 pulls on average, the other after 200; no feedback means 0, within a window of 20,000."""
    rng = np.random.default_rng(33)
    means, delays, horizon, batch, window = np.array([0.10, 0.07]), np.array([4000.0, 200.0]), 20_000, 100, 20_000.0
    histogram = DelayHistograms.of(
        np.repeat([0, 1], 2000), np.concatenate([rng.exponential(delay, 2000) for delay in delays]), window, 2
    )
    shares = {}
    for corrected in (False, True):
        arm, at, due = np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)
        late: list[float] = []
        for start in range(0, horizon, batch):
            came = due <= start
            rewards = np.bincount(arm[came], minlength=2).astype(np.float64)
            pulls = np.bincount(arm, minlength=2).astype(np.float64)
            if corrected:
                known = ArmStatistics(rewards, np.where(rewards > 0, 1.0, 0.0), np.zeros(2))
                exposure = histogram.exposure((start - at) / window)
                summed = np.array([exposure[arm == k, k].sum() for k in range(2)])
                held = exposure_corrected(known, rewards, summed)
            else:
                held = ArmStatistics(pulls, np.divide(rewards, pulls, out=np.zeros(2), where=pulls > 0), np.zeros(2))
            row = ArmStatistics(held.count[None], held.mean[None], held.m2[None])
            share = with_floor(probabilities_best(believe(row, RewardModel()).posterior), 0.01)[0]
            chosen = (rng.random(batch) >= share[0]).astype(np.int64)
            good = rng.random(batch) < means[chosen]
            now = np.arange(start, start + batch, dtype=np.float64)
            arm, at = np.concatenate((arm, chosen)), np.concatenate((at, now))
            due = np.concatenate((due, np.where(good, now + rng.exponential(delays[chosen]), np.inf)))
            late.append(float((chosen == 0).mean()))
        shares[corrected] = float(np.mean(late[20:]))
    assert shares[False] < 0.3  # open decisions as failures: the slow arm looks worse, and is hardly tried
    assert shares[True] > 0.8
