"""When to promote: evidence that may be looked at as often as one likes, against what is needed.

For every ordered pair of arms there is a number, the evidence that the one is better (bandits.inference.evidence). By Ville's inequality
and a union bound, promoting i when every E_ij reaches K / alpha is wrong with probability at most alpha, at any stopping time.

Needs true propensities and decisions that are independent given the past: where a unit keeps its arm, it counts once.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bandits.statistics import ArmStatistics, Array

from .design import _EDGE, _log_factors
from .log_factors import STEPS, averaged


class Compared(Protocol):
    """What a verdict is made from; any rule's evidence is."""

    @property
    def arms(self) -> int: ...

    def e_values(self) -> Array: ...

    def noninferiority_e_values(self) -> Array | None: ...


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


Action = Literal["continue", "promote", "stop"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence allows. `arm` is the leader's position, whatever the action; `evidence` its weakest E_ij."""

    action: Action
    arm: int | None
    evidence: float
    needed: float


def verdict(evidence: Compared, alpha: float, enabled: NDArray[np.bool_] | None = None) -> Verdict:
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
