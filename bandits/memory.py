"""What a policy remembers: everything, or less and less, or only the last of it, for worlds that
drift.

A step is one decision of the whole experiment, whichever arm it went to, so that an arm which is no
longer tried fades too and gets tried again. Source: Garivier & Moulines 2011 (discounted UCB,
sliding-window UCB).
"""

from dataclasses import dataclass

import numpy as np

from . import checks
from .statistics import ArmStatistics, Array


@dataclass(frozen=True, slots=True)
class Memory:
    """`discount` in (0, 1]: what every reward's weight is multiplied by at each step.
    `sliding_window`: how many last steps count.

    Raises ValueError for values out of range, and where both are given.
    """

    discount: float | None = None
    sliding_window: int | None = None

    def __post_init__(self) -> None:
        if self.discount is not None:
            checks.number("discount", self.discount, 0.0, 1.0, open_low=True)
        if self.sliding_window is not None:
            checks.whole("sliding_window", self.sliding_window, 1)
        if self.discount is not None and self.sliding_window is not None:
            raise ValueError("discount and sliding_window exclude each other: give one")

    @property
    def forgets(self) -> bool:
        return self.sliding_window is not None or (self.discount is not None and self.discount < 1.0)

    def weights(self, steps_since: Array) -> Array:
        """The weight of a reward whose decision was followed by so many others; 0 for what is
        forgotten."""
        if self.sliding_window is not None:
            return np.where(steps_since < self.sliding_window, 1.0, 0.0)
        return np.power(1.0 if self.discount is None else self.discount, steps_since)

    def horizon(self, least: float = 1e-6) -> float:
        """After how many steps a reward's weight is below `least`; infinite for a memory that
        forgets nothing."""
        if self.sliding_window is not None:
            return float(self.sliding_window)
        if self.discount is None or self.discount >= 1.0:
            return float("inf")
        return float(np.log(least) / np.log(self.discount))

    def weights_of_blocks(self, steps: Array) -> Array:
        """The weight of each block of time, (B,), newest first, of which `steps` (B,) counts the
        decisions.

        The mean of its steps' weights, so a block that the window cuts counts by the part that is
        inside.
        """
        steps = np.asarray(steps, dtype=np.float64)
        end = np.cumsum(steps)
        start = end - steps
        safe = np.where(steps > 0, steps, 1.0)
        if self.sliding_window is not None:
            weight = np.clip((self.sliding_window - start) / safe, 0.0, 1.0)
        elif self.discount is None or self.discount >= 1.0:
            weight = np.ones_like(steps)
        else:
            # The mean of discount ** s for s from start to end - 1.
            weight = self.discount**start * (1.0 - self.discount**steps) / ((1.0 - self.discount) * safe)
        return np.where(steps > 0, weight, 1.0 if not self.forgets else np.minimum(self.weights(start), 1.0))

    def recall(self, blocks: ArmStatistics, steps: Array) -> ArmStatistics:
        """The statistics that are remembered of blocks of time, newest first.

        `blocks` has shape (B, K): what was learned of the decisions of each block; `steps` (B,)
        counts these decisions.
        """
        weight = self.weights_of_blocks(steps)
        count = (weight[:, None] * blocks.count).sum(axis=0)
        total = (weight[:, None] * blocks.count * blocks.mean).sum(axis=0)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        spread = blocks.m2 + blocks.count * np.square(blocks.mean - mean)
        return ArmStatistics(count, mean, (weight[:, None] * spread).sum(axis=0))


EVERYTHING = Memory()
