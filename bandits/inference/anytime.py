"""When to promote: a design-based e-process that may be looked at as often as one likes.

For an ordered pair of arms (i, j) and a decision whose arm A is one of them, with logged propensities e and q = e_i / (e_i + e_j), and an
alternative a_i > a_j that was fixed before the outcome Y in [0, 1], the factor is

    Y * a_A / (q a_i + (1 - q) a_j)  +  (1 - Y) * (1 - a_A) / (q (1 - a_i) + (1 - q) (1 - a_j))

Under "i is not better than j" its conditional expectation is at most 1, whatever the (logged) allocation and under common drift, so
the product over decisions is a test supermartingale; averaged over a grid of alternatives it stays one. By Ville's inequality and a
union bound, promoting i when every E_ij reaches K / alpha is wrong with probability at most alpha, at any stopping time.

Needs true propensities and decisions that are independent given the past: where a unit keeps its arm, it counts once. No
clock and no raw event enter this module: a caller hands over one bucket of decision time after the other, in order. Alternatives and
AIPW baselines come from earlier buckets only, so the same buckets always give the same numbers.

Sources: Ramdas et al. 2023 (e-processes); Hadad et al. 2021 (AIPW under adaptive sampling).
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bandits.statistics import ArmStatistics, Array

STEPS = np.array([0.1, 0.2, 0.4, 0.8, 1.6])
"""Distances in log-odds between the two means of an alternative; log-odds steps work at every base rate."""
_EDGE = 1e-4  # pooled means are kept this far from 0 and 1, where log-odds end


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the matured decisions of an experiment say, as a value that grows bucket by bucket.

    `superior` (K, K, G) and `noninferior` (K, K, G) are sums of log factors: that i is better than j, and that i is
    less than `indifference` worse than j (kept only where that is positive). `matured` holds the outcomes by arm,
    `scores` the AIPW scores by arm, all on the outcome's [0, 1] scale with larger better.
    """

    indifference: float
    superior: Array
    noninferior: Array | None
    matured: ArmStatistics
    scores: ArmStatistics

    @classmethod
    def empty(cls, arms: int, indifference: float = 0.0) -> "Evidence":
        """Nothing seen; `indifference` in [0, 1) is the difference of means that does not matter."""
        if not 0.0 <= indifference < 1.0:
            raise ValueError(f"indifference is {indifference:g}: 0 to 1 was expected")
        shape = (arms, arms, len(STEPS))
        return cls(
            indifference,
            np.zeros(shape),
            np.zeros(shape) if indifference > 0 else None,
            ArmStatistics.zeros(arms),
            ArmStatistics.zeros(arms),
        )

    @property
    def arms(self) -> int:
        return self.matured.arms

    def with_arms(self, arms: int) -> "Evidence":
        """For so many arms: new ones come last, without evidence for or against them."""
        more = arms - self.arms
        if more <= 0:
            return self
        pairs, single = ((0, more), (0, more), (0, 0)), (0, more)
        return replace(
            self,
            superior=np.pad(self.superior, pairs),
            noninferior=None if self.noninferior is None else np.pad(self.noninferior, pairs),
            matured=self.matured.padded(single),
            scores=self.scores.padded(single),
        )

    def observe(self, arm: NDArray[np.int64], outcome: Array, propensities: Array) -> "Evidence":
        """After one bucket: `arm` (n,) positions, `outcome` (n,) in [0, 1], `propensities` (n, K) as logged.

        The order of rows does not matter. Raises ValueError for outcomes outside [0, 1] and for a chosen arm whose
        logged propensity is not positive.
        """
        rows = np.arange(len(arm))
        if len(arm) == 0:
            return self
        if outcome.min() < 0.0 or outcome.max() > 1.0:
            raise ValueError("outcomes must be in [0, 1]")
        if not (propensities[rows, arm] > 0).all():
            raise ValueError("the chosen arm's propensity must be positive")
        count, mean, _ = self.matured.pooled()
        pooled = float(np.clip((count * mean + 0.5) / (count + 1.0), _EDGE, 1.0 - _EDGE)[0])
        noninferior = self.noninferior
        if noninferior is not None:
            noninferior = noninferior + _log_factors(arm, outcome, propensities, pooled, self.indifference)
        return replace(
            self,
            superior=self.superior + _log_factors(arm, outcome, propensities, pooled, 0.0),
            noninferior=noninferior,
            matured=self.matured + ArmStatistics.from_rewards(arm, outcome, self.arms),
            scores=self.scores + self._scores(arm, outcome, propensities),
        )

    def _scores(self, arm: NDArray[np.int64], outcome: Array, propensities: Array) -> ArmStatistics:
        """AIPW scores: baseline + 1{A = a} (Y - baseline) / e_a, for every arm that could have been chosen."""
        baseline = (self.matured.total + 0.5) / (self.matured.count + 1.0)
        scores = np.broadcast_to(baseline, propensities.shape).copy()
        rows = np.arange(len(arm))
        scores[rows, arm] += (outcome - baseline[arm]) / propensities[rows, arm]
        open_arms = propensities > 0
        count = open_arms.sum(axis=0).astype(np.float64)
        safe = np.where(count > 0, count, 1.0)
        mean = np.where(open_arms, scores, 0.0).sum(axis=0) / safe
        m2 = np.where(open_arms, np.square(scores - mean), 0.0).sum(axis=0)
        return ArmStatistics(count, np.where(count > 0, mean, 0.0), m2)

    def e_values(self) -> Array:
        """Evidence that i is better than j, (K, K); 1 on the diagonal and where nothing was seen."""
        return averaged(self.superior)

    def noninferiority_e_values(self) -> Array | None:
        """Evidence that i is less than `indifference` worse than j, (K, K); None without indifference."""
        return None if self.noninferior is None else averaged(self.noninferior)

    def to_dict(self) -> dict[str, Any]:
        return {
            "indifference": self.indifference,
            "superior": self.superior.tolist(),
            "noninferior": None if self.noninferior is None else self.noninferior.tolist(),
            "matured": self.matured.to_dict(),
            "scores": self.scores.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "Evidence":
        noninferior = state["noninferior"]
        return cls(
            state["indifference"],
            np.asarray(state["superior"], dtype=np.float64),
            None if noninferior is None else np.asarray(noninferior, dtype=np.float64),
            ArmStatistics.from_dict(state["matured"]),
            ArmStatistics.from_dict(state["scores"]),
        )


def averaged(log_factors: Array) -> Array:
    """Sums of log factors (..., G) as evidence (...): their products, averaged over the grid."""
    values = special.logsumexp(log_factors, axis=-1) - np.log(log_factors.shape[-1])
    products: Array = np.exp(np.minimum(values, 700.0))
    return products


def _log_factors(arm: NDArray[np.int64], outcome: Array, propensities: Array, pooled: float, margin: float) -> Array:
    """Sums of log factors of one bucket, (K, K, G), that i is better than j by more than -margin.

    With a margin m, i's outcomes become (Y + m) / (1 + m) and j's Y / (1 + m): equal there means i worse by m.
    """
    arms = propensities.shape[1]
    centre = special.logit((pooled + margin / 2.0) / (1.0 + margin))
    high, low = special.expit(centre + STEPS / 2.0), special.expit(centre - STEPS / 2.0)  # (G,)
    sums = np.zeros((arms, arms, len(STEPS)))
    for chosen in np.unique(arm):
        mine = arm == chosen
        e = propensities[mine]  # (n, K)
        own = e[:, [chosen]] / (e[:, [chosen]] + e)  # P(chosen | chosen or the other), (n, K)
        as_better = ((outcome[mine] + margin) / (1.0 + margin))[:, None, None]
        as_worse = (outcome[mine] / (1.0 + margin))[:, None, None]
        q = own[:, :, None]
        sums[chosen] += np.log(_factor(as_better, high, q * high + (1.0 - q) * low)).sum(axis=0)
        sums[:, chosen] += np.log(_factor(as_worse, low, q * low + (1.0 - q) * high)).sum(axis=0)
    sums[np.arange(arms), np.arange(arms)] = 0.0
    return sums


def alternatives(pooled: Array) -> tuple[Array, Array]:
    """The greater and the smaller mean of each alternative of the grid around pooled means (...,), each (..., G)."""
    centre = special.logit(np.clip(pooled, _EDGE, 1.0 - _EDGE))[..., None]
    return special.expit(centre + STEPS / 2.0), special.expit(centre - STEPS / 2.0)


def counted_log_factors(ones: Array, zeros: Array, propensities: Array, pooled: Array) -> Array:
    """Sums of log factors of many experiments' buckets at once, (N, K, K, G), for binary outcomes and one propensity an arm.

    `ones` and `zeros` (N, K) count outcomes by arm, `propensities` are (N, K), `pooled` (N,) the means of earlier buckets. The same
    numbers as `Evidence.observe`, for simulation.
    """
    high, low = (side[:, None, None, :] for side in alternatives(pooled))
    first, second = propensities[:, :, None], propensities[:, None, :]
    both = first + second
    q = np.where(both > 0, first / np.where(both > 0, both, 1.0), 0.5)[..., None]
    mixed = q * high + (1.0 - q) * low
    log_mixed, log_rest = np.log(mixed), np.log1p(-mixed)
    better, worse = (slice(None), slice(None), None, None), (slice(None), None, slice(None), None)
    sums: Array = (
        ones[better] * (np.log(high) - log_mixed)
        + zeros[better] * (np.log1p(-high) - log_rest)
        + ones[worse] * (np.log(low) - log_mixed)
        + zeros[worse] * (np.log1p(-low) - log_rest)
    )
    seats = np.arange(propensities.shape[1])
    sums[:, seats, seats] = 0.0
    return sums


def single_log_factors(arm: NDArray[np.int64], outcome: Array, propensities: Array, pooled: Array) -> Array:
    """Log factors of one decision each of many experiments, (N, K, K, G): `arm` (N,), `outcome` (N,) in [0, 1], the rest as above."""
    runs, arms = propensities.shape
    rows = np.arange(runs)
    own = propensities[rows, arm]
    q = (own[:, None] / (own[:, None] + propensities))[..., None]  # P(chosen | chosen or the other), (N, K, 1)
    high, low = (side[:, None, :] for side in alternatives(pooled))
    y = outcome[:, None, None]
    found = np.zeros((runs, arms, arms, len(STEPS)))
    found[rows, arm] += np.log(_factor(y, high, q * high + (1.0 - q) * low))
    found[rows, :, arm] += np.log(_factor(y, low, q * low + (1.0 - q) * high))
    found[rows, arm, arm] = 0.0
    return found


def _factor(outcome: Array, own: Array, mixed: Array) -> Array:
    factor: Array = outcome * own / mixed + (1.0 - outcome) * (1.0 - own) / (1.0 - mixed)
    return factor


Action = Literal["continue", "promote", "stop"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence allows. `arm` is the leader's position, whatever the action; `evidence` its weakest E_ij."""

    action: Action
    arm: int | None
    evidence: float
    needed: float


def verdict(evidence: Evidence, alpha: float, enabled: NDArray[np.bool_] | None = None) -> Verdict:
    """Promote the leader when its evidence against every other enabled arm reaches K / alpha.

    `stop`: no enabled arm is better than another by `indifference` or more, each pair shown at level alpha.
    """
    mask = np.ones(evidence.arms, dtype=np.bool_) if enabled is None else enabled
    needed = evidence.arms / alpha
    seats = np.flatnonzero(mask)
    if len(seats) < 2:
        return Verdict("continue", None, 1.0, needed)
    e = evidence.e_values()[np.ix_(seats, seats)]
    np.fill_diagonal(e, np.inf)
    weakest = e.min(axis=1)
    best = int(weakest.argmax())
    leader, value = int(seats[best]), float(weakest[best])
    if value >= needed:
        return Verdict("promote", leader, value, needed)
    alike = evidence.noninferiority_e_values()
    if alike is not None:
        pairs = alike[np.ix_(seats, seats)]
        np.fill_diagonal(pairs, np.inf)
        if float(pairs.min()) >= 1.0 / alpha:
            return Verdict("stop", leader, value, needed)
    return Verdict("continue", leader, value, needed)


def more_needed(evidence: float, needed: float, matured: float) -> float | None:
    """About how many more outcomes a leader with this `evidence` after `matured` outcomes needs, at the rate so far.

    The logarithm of the evidence grows in proportion to the outcomes, once there is some; None before it has doubled.
    """
    if not evidence >= 2.0 or matured <= 0.0:
        return None
    grown = float(np.log(evidence))
    return max(float(np.log(needed)) - grown, 0.0) / grown * matured
