"""What evidence is, whichever rule made it, and what it is fed: one bucket of decision time after
the other."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bandits.statistics import ArmStatistics, Array


@dataclass(frozen=True, slots=True)
class Bucket:
    """The outcomes of one stretch of decision time, in any order: a row a decision that counts.

    `arm` (n,) is the position of the arm that was chosen, `outcome` (n,) in [0, 1] with larger
    better, `propensities` (n, K) as they were logged. `allocation` (n,) labels what chose it: rows
    of one label were chosen by one fixed allocation, which no outcome among them can have steered.
    A label means the same in every bucket. `eligible` (n, K) says which arms each request was for;
    None where all were for all.
    """

    arm: NDArray[np.int64]
    outcome: Array
    propensities: Array
    allocation: NDArray[np.int64]
    eligible: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.arm)

    def check(self, arms: int) -> None:
        """Raises ValueError for outcomes outside [0, 1], another number of arms, or a chosen arm
        whose propensity is not positive."""
        if self.propensities.shape != (len(self.arm), arms):
            raise ValueError(f"propensities are {self.propensities.shape}: ({len(self.arm)}, {arms}) was expected")
        if not (len(self.outcome) == len(self.allocation) == len(self.arm)):
            raise ValueError("arm, outcome and allocation must have a value a row each")
        if self.eligible is not None and self.eligible.shape != self.propensities.shape:
            raise ValueError(f"eligible is {self.eligible.shape}: {self.propensities.shape} was expected")
        if len(self.arm) == 0:
            return
        if not (self.outcome.min() >= 0.0 and self.outcome.max() <= 1.0):  # NaN fails too
            raise ValueError("outcomes must be in [0, 1]")
        if not (self.propensities[np.arange(len(self.arm)), self.arm] > 0).all():
            raise ValueError("the chosen arm's propensity must be positive")


class Evidence(Protocol):
    """What an experiment's outcomes say of each ordered pair of arms; a value that `observe`
    carries on.

    `rule` names what made it; `indifference` is the difference of means that does not matter;
    `matured` counts the outcomes by arm, on [0, 1] with larger better.
    """

    rule: ClassVar[str]

    @property
    def indifference(self) -> float: ...

    @property
    def matured(self) -> ArmStatistics: ...

    @property
    def arms(self) -> int: ...

    def with_arms(self, arms: int) -> Self:
        """For so many arms: new ones come last, without evidence for or against them."""

    def observe(self, bucket: Bucket) -> Self:
        """After one bucket more; buckets come in order of decision time."""

    def observe_all(self, buckets: Iterable[Bucket]) -> Self:
        """After all of these, one after the other: the same numbers as `observe` gives bucket by
        bucket, sooner."""

    def e_values(self) -> Array:
        """Evidence that i is better than j, (K, K); 1 where nothing was seen.

        While i is not better than j its expectation is at most 1 at whatever moment one looks (a
        test supermartingale).
        """

    def noninferiority_e_values(self) -> Array | None:
        """Evidence that i is less than `indifference` worse than j, (K, K); None without
        indifference."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the rule's name under "rule"."""
