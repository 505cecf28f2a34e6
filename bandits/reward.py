"""What a reward is to a policy: its kind, its bounds, and which way is better."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["binary", "continuous", "count"]
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Kind, direction and bounds of a reward; `minimum` and `maximum` are in reward units, None
    where unknown.

    Raises ValueError for bounds that are the wrong way round or that the kind does not have.
    """

    kind: Kind = "binary"
    direction: Direction = "maximize"
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in {"binary", "continuous", "count"}:
            raise ValueError(f"kind is {self.kind!r}: binary, continuous or count was expected")
        if self.direction not in {"maximize", "minimize"}:
            raise ValueError(f"direction is {self.direction!r}: maximize or minimize was expected")
        if self.minimum is not None and self.maximum is not None and not self.minimum < self.maximum:
            raise ValueError("minimum must be less than maximum")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """(lowest, highest) possible reward, or None where it has no known bounds."""
        if self.kind == "binary":
            return 0.0, 1.0
        low = 0.0 if self.kind == "count" and self.minimum is None else self.minimum
        if low is None or self.maximum is None:
            return None
        return low, self.maximum
