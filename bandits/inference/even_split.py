"""What a bandit earned beyond an even split of the same decisions, from sums over them.

By the arms' own means the answer is wrong: an arm that began with bad luck is served less, its mean
is not mended, and between five equal arms a gain is found in nearly every run. Weighted by the
inverse of the probability that they were drawn with, the outcomes of an arm speak for all decisions
alike, whatever the allocation, whatever drifts, and whatever of the request it looked at.

Of each rewarded decision that was drawn from k arms with propensity e the weight is w = 1 / (k e):
the arms that had a chance share it evenly. An arm's even share is the sum of 1 / k over the
decisions at which it had a chance, its weighted mean the sum of w Y over that of w
(self-normalised, so that arms which are answered at different rates, and rewards far from 0, do no
harm), and an even split would have earned the sum of even share times weighted mean. An arm that is
left out of the draw, or came later, is in no split of that time.

Which arm a decision got is chance, too: what happened to be drawn more than its probability earns
or costs something that no policy did. The interval holds that luck, so that a policy which draws
evenly is told no gain by it. Its variance follows from how each decision was drawn; of sums over
them it is known to be at most that of as many draws by the shares that came about, for a variance
is concave in them.

Sources: Horvitz & Thompson 1952; Hajek 1971; Zou & Donner 2008 (one interval from several).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .intervals import combined, interval


@dataclass(frozen=True, slots=True)
class EvenSplit:
    """Sums over rewarded decisions by arm, which add.

    `moments`: ArmStatistics of shape (3, K), of the outcomes weighted by w^0, w^1 and w^2. `share`
    (K,): the arms' even shares.
    """

    moments: ArmStatistics
    share: Array

    @classmethod
    def of(cls, arm: NDArray[np.int64], reward: Array, propensities: Array) -> "EvenSplit":
        """Of decisions: `arm` (n,) positions, `reward` (n,), `propensities` (n, K) as logged, the
        chosen one's more than 0."""
        arms = propensities.shape[1]
        chance = propensities > 0
        even = 1.0 / chance.sum(axis=1)
        weight = even / propensities[np.arange(len(arm)), arm]
        parts = [_weighted(arm, reward, weight**power, arms) for power in range(3)]
        moments = ArmStatistics(
            *(np.stack([getattr(part, name) for part in parts]) for name in ("count", "mean", "m2"))
        )
        return cls(moments, (chance * even[:, None]).sum(axis=0))

    @classmethod
    def from_sums(cls, level: Array, count: Array, total: Array, squares: Array, share: Array) -> "EvenSplit":
        """From sums by power p of w, (3, K) each: of w^p, w^p (Y - level) and w^p (Y - level)^2;
        `level` (K,) is near outcomes."""
        above = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        mean = np.where(count > 0, level + above, 0.0)
        return cls(ArmStatistics(count, mean, np.maximum(squares - total * above, 0.0)), share)

    def without(self, arms: NDArray[np.bool_]) -> "EvenSplit":
        """The same of the other arms alone: even shares of `arms` (K,), none of which has an
        outcome, go to those that had a chance, evenly."""
        others = (self.share > 0) & ~arms
        spread = float(self.share[arms].sum()) / max(int(others.sum()), 1)
        return EvenSplit(self.moments, np.where(others, self.share + spread, 0.0))

    def __add__(self, other: "EvenSplit") -> "EvenSplit":
        return EvenSplit(self.moments + other.moments, self.share + other.share)


@dataclass(frozen=True, slots=True)
class Saved:
    """Reward beyond an even split's, positive where more was earned, with its 95 % interval (or as
    asked)."""

    value: float
    low: float
    high: float


def saved(
    sums: EvenSplit,
    reward: RewardModel,
    alpha: float = 0.05,
    means: ArmStatistics | None = None,
    draws: float | None = None,
) -> Saved | None:
    """What was earned beyond an even split, in reward units; a smaller sum counts as more where the
    reward is to be minimized.

    `means`: statistics of the weighted means where outcomes are not independent of each other
    (units). `draws`: how often an arm was drawn, where that is less often than there are outcomes
    (units keep theirs). None until every arm that had a chance has a reward, and where never more
    than one arm had a chance.
    """
    count, weight, squared = sums.moments.count
    used = sums.share > 0
    if used.sum() < 2 or not (count[used] > 0).all():
        return None
    safe = np.where(weight > 0, weight, 1.0)
    mean = np.where(weight > 0, sums.moments.mean[1], 0.0)
    # Counts and shares have one sum, the decisions: taken from a common level, means far from 0
    # lose nothing.
    level = float(mean[used].mean())
    earned = float((count * (sums.moments.mean[0] - level))[used].sum())
    value = earned - float((sums.share * (mean - level))[used].sum())
    # As many independent outcomes as have the variance of the weighted mean, and what its error
    # moves the value by: an outcome counts once as earned, and w * share / sum(w) times against it.
    size = np.square(weight) / np.where(squared > 0, squared, 1.0)
    ratio = sums.share / safe
    moved = np.sqrt(np.maximum(count - 2.0 * ratio * weight + np.square(ratio) * squared, 0.0) * size)
    spread = sums.moments.m2[1] / safe
    heavy = (sums.moments.m2[2] + squared * np.square(sums.moments.mean[2] - mean)) / np.where(
        squared > 0, squared, 1.0
    )
    # Where the heavily weighed outcomes vary more than the others the weighted mean is worth fewer
    # of them.
    worth = np.where(
        used, size * np.minimum(1.0, np.where(heavy > spread, spread / np.where(heavy > 0, heavy, 1.0), 1.0)), 0.0
    )
    statistics = means or ArmStatistics(worth, mean, spread * worth)
    low, high = interval(statistics, reward, alpha)
    signed = np.where(count < sums.share, -moved, moved)
    below, above = combined(value, signed[used], mean[used], low[used], high[used])
    luck = float(ndtri(1.0 - alpha / 2.0)) * _luck(count[used], sums.moments.mean[0][used] - level, draws)
    below, above = value - float(np.hypot(value - below, luck)), value + float(np.hypot(above - value, luck))
    return Saved(-value, -above, -below) if reward.direction == "minimize" else Saved(value, below, above)


def _luck(count: Array, mean: Array, draws: float | None) -> float:
    """By how much (a standard deviation, or more) what was earned varies with the arms that are
    drawn: `count` (K,) outcomes of `mean` (K,), drawn `draws` times."""
    outcomes = float(count.sum())
    share = count / outcomes
    variance = float((share * np.square(mean - (share * mean).sum())).sum())
    return outcomes * math.sqrt(variance / (draws or outcomes))


def _weighted(arm: NDArray[np.int64], reward: Array, weight: Array, arms: int) -> ArmStatistics:
    count: Array = np.bincount(arm, weights=weight, minlength=arms).astype(np.float64)
    total: Array = np.bincount(arm, weights=weight * reward, minlength=arms).astype(np.float64)
    mean = np.divide(total, count, out=np.zeros(arms), where=count > 0)
    m2 = np.bincount(arm, weights=weight * np.square(reward - mean[arm]), minlength=arms).astype(np.float64)
    return ArmStatistics(count, mean, m2)
