"""Loads in interleaved rounds: what else the machine does falls on all of them alike.

A ratio is taken within each round, and the median of the rounds is told: one disturbed round
changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .load import Measured

ROUNDS = 5
WARM_UP = 0.5
"""Of a round: connections, caches and threads are there after it."""

Load = Callable[[float, "Rounds"], Measured]
"""Runs for so many seconds; it may look at what the same round has measured before it."""


@dataclass(slots=True)
class Rounds:
    """What each load measured, a value a round."""

    measured: dict[str, list[Measured]] = field(default_factory=dict)

    def run(self, loads: Mapping[str, Load], seconds: float, tell: Callable[[str], None]) -> None:
        """`seconds` for each load over all rounds, after a warm-up. Raises LoadFailed."""
        for number in range(ROUNDS + 1):
            tell("warming up" if number == 0 else f"round {number} of {ROUNDS}")
            for name, load in loads.items():
                measured = load(seconds / ROUNDS * (WARM_UP if number == 0 else 1.0), self)
                if number > 1:
                    self.measured[name].append(measured)
                else:  # the warm-up's is there for the loads of its own round alone
                    self.measured[name] = [measured]

    def latest(self, name: str) -> Measured:
        return self.measured[name][-1]

    def per_second(self, name: str) -> list[float]:
        return [measured.per_second for measured in self.measured.get(name, ())]

    def p99_ms(self, name: str) -> list[float]:
        return [measured.percentile_ms(0.99) for measured in self.measured.get(name, ())]

    def p50_ms(self, name: str) -> list[float]:
        return [measured.percentile_ms(0.5) for measured in self.measured.get(name, ())]


def ratios(upper: list[float], lower: list[float], times: float = 1.0) -> list[float]:
    """Round by round; empty where either was not measured."""
    if not upper or not lower:
        return []
    return [times * above / below for above, below in zip(upper, lower, strict=True) if below]
