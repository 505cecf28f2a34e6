"""What a policy that looks at the request earned beyond one arm for all: from weighted outcomes of
the decisions that were logged.

An arm that is chosen by features is seen on the requests that suit it, so its plain mean says
nothing of the others. Weighted by the inverse of its probability it does: with a level c, c + 1{A =
i} (Y - c) / e_i has the mean that arm i would have on all requests (Horvitz & Thompson 1952). The
policy's own reward less that score has the difference as its mean, decision by decision.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bandits.ope.estimate import UNSUPPORTED_SHARE
from bandits.statistics import Array

LEAST_CHOICES = 50
LEAST_UNLIKE = 10
"""An arm's interval is told from so many choices of it, of which so many differ from the most
frequent outcome: below, a normal limit says nothing. (With fewer, and outcomes of 0 and 1, an arm
that never yet failed would look certain.)"""
MOST_OF_WEIGHT = 0.05


@dataclass(frozen=True, slots=True)
class OneArm:
    """What one arm would earn a decision, and what the policy earned beyond that; intervals (low,
    high), None where not knowable."""

    value: float | None
    gain: float | None
    interval: tuple[float, float] | None


def against_one_arm(
    rewards: Array,
    arm: NDArray[np.int64],
    propensities: Array,
    alpha: float = 0.05,
    eligible: NDArray[np.bool_] | None = None,
) -> list[OneArm]:
    """Of every arm: `rewards` (n,), `arm` (n,) as chosen, `propensities` (n, K) as logged; n of one
    decision each, independent. An arm is told of those that it was `eligible` (n, K) for, of all
    where None.

    Each interval is at level alpha / K, so that they hold together: whoever looks at the best arm's
    alone has not chosen by luck.
    """
    n, arms = propensities.shape
    if n == 0:
        return [OneArm(None, None, None)] * arms
    level = float(rewards.mean())
    z = float(special.ndtri(1.0 - alpha / (2.0 * arms)))
    told = []
    for i in range(arms):
        rows = slice(None) if eligible is None else eligible[:, i]
        told.append(_one(rewards[rows], arm[rows] == i, propensities[rows, i], level, z))
    return told


def _one(rewards: Array, chosen: NDArray[np.bool_], propensity: Array, level: float, z: float) -> OneArm:
    n, choices = len(rewards), int(chosen.sum())
    if choices == 0 or float((propensity <= 0).mean()) > UNSUPPORTED_SHARE:
        return OneArm(None, None, None)  # where it had no chance, nothing is known of it
    weights = 1.0 / propensity[chosen]
    scores = np.full(n, level)
    scores[chosen] += (rewards[chosen] - level) * weights
    gains = rewards - scores
    gain = float(gains.mean())
    _, counts = np.unique(rewards[chosen], return_counts=True)
    enough = choices >= LEAST_CHOICES and choices - int(counts.max()) >= LEAST_UNLIKE
    if not enough or float(weights.max()) > MOST_OF_WEIGHT * float(weights.sum()):
        return OneArm(float(scores.mean()), gain, None)
    error = float(gains.std(ddof=1)) / np.sqrt(n)
    return OneArm(float(scores.mean()), gain, (gain - z * error, gain + z * error))
