"""The design-based e-process: decisions are weighed by the probabilities that they were drawn with.

For an ordered pair of arms (i, j) and a decision whose arm A is one of them, with logged
propensities e and q = e_i / (e_i + e_j), and an alternative a_i > a_j that was fixed before the
outcome Y in [0, 1], the factor is

    Y * a_A / (q a_i + (1 - q) a_j)  +  (1 - Y) * (1 - a_A) / (q (1 - a_i) + (1 - q) (1 - a_j))

Under "i is not better than j" its conditional expectation is at most 1, whatever the (logged)
allocation and under common drift, so the product over decisions is a test supermartingale; averaged
over a grid of alternatives it stays one.

Every decision must have an outcome: where silence means nothing, "drawn" and "drawn and answered"
have different probabilities, and arms that are alike and answered at different rates are told
apart. There the conditional rule is the right one. And the mean must not depend on what the
propensity depends on: not for policies that look at the request.

Alternatives come from earlier buckets only, so the same buckets always give the same numbers.
Source: Ramdas et al. 2023 (e-processes).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bandits.statistics import ArmStatistics, Array

from .log_factors import EDGE, STEPS, averaged, kept, pack, unpack
from .protocol import Bucket


@dataclass(frozen=True, slots=True)
class DesignEvidence:
    """`superior` (K, K, G) and `noninferior` (K, K, G) are sums of log factors: that i is better
    than j, and that i is less than `indifference` worse than j (None where that is 0)."""

    rule: ClassVar[str] = "design"

    indifference: float
    superior: Array
    noninferior: Array | None
    matured: ArmStatistics

    @classmethod
    def empty(cls, arms: int, indifference: float = 0.0) -> Self:
        shape = (arms, arms, len(STEPS))
        noninferior = np.zeros(shape) if indifference > 0 else None
        return cls(indifference, np.zeros(shape), noninferior, ArmStatistics.zeros(arms))

    @property
    def arms(self) -> int:
        return self.matured.arms

    def with_arms(self, arms: int) -> Self:
        more = arms - self.arms
        if more <= 0:
            return self
        pairs = ((0, more), (0, more), (0, 0))
        return replace(
            self,
            superior=np.pad(self.superior, pairs),
            noninferior=None if self.noninferior is None else np.pad(self.noninferior, pairs),
            matured=self.matured.padded((0, more)),
        )

    def observe_all(self, buckets: Iterable[Bucket]) -> Self:
        evidence = self
        for bucket in buckets:
            evidence = evidence.observe(bucket)
        return evidence

    def observe(self, bucket: Bucket) -> Self:
        bucket.check(self.arms)
        if not len(bucket):
            return self
        arm, outcome, propensities = bucket.arm, bucket.outcome, bucket.propensities
        count, mean, _ = self.matured.pooled()
        pooled = float(((count * mean + 0.5) / (count + 1.0))[0])
        noninferior = self.noninferior
        if noninferior is not None:
            noninferior = kept(noninferior + _log_factors(arm, outcome, propensities, pooled, self.indifference))
        return replace(
            self,
            superior=kept(self.superior + _log_factors(arm, outcome, propensities, pooled, 0.0)),
            noninferior=noninferior,
            matured=self.matured + ArmStatistics.from_rewards(arm, outcome, self.arms),
        )

    def e_values(self) -> Array:
        return averaged(self.superior)

    def noninferiority_e_values(self) -> Array | None:
        return None if self.noninferior is None else averaged(self.noninferior)

    def to_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "indifference": self.indifference,
            "superior": pack(self.superior),
            "noninferior": pack(self.noninferior),
            "matured": self.matured.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        superior = unpack(state["superior"])
        if superior is None:
            raise ValueError("a state of evidence has no sums")
        return cls(
            state["indifference"],
            superior,
            unpack(state["noninferior"]),
            ArmStatistics.from_dict(state["matured"]),
        )


def _log_factors(arm: NDArray[np.int64], outcome: Array, propensities: Array, pooled: float, margin: float) -> Array:
    """Sums of log factors of one bucket, (K, K, G), that i is better than j by more than -margin.

    With a margin m, i's outcomes become (Y + m) / (1 + m) and j's Y / (1 + m): equal there means i
    worse by m.
    """
    arms = propensities.shape[1]
    high, low = alternatives(np.asarray(pooled), margin)  # (G,)
    sums = np.zeros((arms, arms, len(STEPS)))
    for chosen in np.unique(arm):
        mine = arm == chosen
        e = propensities[mine]  # (n, K)
        own = e[:, [chosen]] / (e[:, [chosen]] + e)  # P(chosen | chosen or the other), (n, K)
        as_better = ((outcome[mine] + margin) / (1.0 + margin))[:, None, None]
        as_worse = (outcome[mine] / (1.0 + margin))[:, None, None]
        q = own[:, :, None]
        sums[chosen] += log_factor(as_better, high, q * high + (1.0 - q) * low).sum(axis=0)
        sums[:, chosen] += log_factor(as_worse, low, q * low + (1.0 - q) * high).sum(axis=0)
    sums[np.arange(arms), np.arange(arms)] = 0.0
    return sums


def alternatives(pooled: Array, margin: float = 0.0) -> tuple[Array, Array]:
    """The greater and the smaller mean of each alternative of the grid around pooled means (...,),
    each (..., G)."""
    within = np.clip(pooled, EDGE, 1.0 - EDGE)
    centre = special.logit((within + margin / 2.0) / (1.0 + margin))[..., None]
    return special.expit(centre + STEPS / 2.0), special.expit(centre - STEPS / 2.0)


def log_factor(outcome: Array, own: Array, mixed: Array) -> Array:
    """Of outcomes in [0, 1] whose arm has the mean `own` by an alternative, and whatever was drawn
    the mean `mixed`."""
    factor: Array = np.log(outcome * own / mixed + (1.0 - outcome) * (1.0 - own) / (1.0 - mixed))
    return factor
