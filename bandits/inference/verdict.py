"""When to promote: evidence that may be looked at as often as one likes, against what is needed.

For every ordered pair of arms there is a number, the evidence that the one is better
(bandits.inference.evidence). By Ville's inequality and a union bound, promoting i when every E_ij
reaches K / alpha is wrong with probability at most alpha, at any stopping time. An arm that was
taken out before any of its outcomes counted was in no comparison, and is not among the K; one that
had some still is, for who was left to be compared was then chosen by looking.

Needs true propensities and decisions that are independent given the past: where a unit keeps its
arm, it counts once.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bandits.statistics import ArmStatistics, Array


class Compared(Protocol):
    """What a verdict is made from; any rule's evidence is."""

    @property
    def arms(self) -> int: ...

    @property
    def matured(self) -> ArmStatistics: ...

    def e_values(self) -> Array: ...

    def noninferiority_e_values(self) -> Array | None: ...


Action = Literal["continue", "promote", "stop"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence allows. `arm` is the leader's position, whatever the action; `evidence` its
    weakest E_ij."""

    action: Action
    arm: int | None
    evidence: float
    needed: float


def needed_of(evidence: Compared, alpha: float, enabled: NDArray[np.bool_]) -> float:
    """K / alpha, of the arms that are enabled (K,) or had an outcome."""
    return int((enabled | (evidence.matured.count > 0)).sum()) / alpha


def verdict(evidence: Compared, alpha: float, enabled: NDArray[np.bool_] | None = None) -> Verdict:
    """Promote the leader when its evidence against every other enabled arm reaches K / alpha.

    `stop`: no enabled arm is better than another by `indifference` or more, each pair shown at
    level alpha.
    """
    mask = np.ones(evidence.arms, dtype=np.bool_) if enabled is None else enabled
    needed = needed_of(evidence, alpha, mask)
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
    """About how many more outcomes a leader with this `evidence` after `matured` outcomes needs, at
    the rate so far.

    The logarithm of the evidence grows in proportion to the outcomes, once there is some; None
    before it has doubled.
    """
    if not evidence >= 2.0 or matured <= 0.0:
        return None
    grown = float(np.log(evidence))
    return max(float(np.log(needed)) - grown, 0.0) / grown * matured
