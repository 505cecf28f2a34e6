"""Evidence of any rule: where it begins, how it is read, and in what two of them differ.

Three rules, one protocol. `conditional` is the rule for outcomes of 0 and 1, whoever is answered
and however often. `design` is for bounded outcomes where every decision has one. `weighted` is for
policies that look at the request. No clock and no raw event enter: a caller hands over one bucket
of decision time after the other, in order, and the same buckets always give the same numbers.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .conditional import ConditionalEvidence
from .design import DesignEvidence
from .protocol import Bucket, Evidence
from .weighted import WeightedEvidence

__all__ = ["RULES", "Bucket", "Evidence", "differences", "empty", "from_dict"]

RULES: dict[str, type[ConditionalEvidence] | type[DesignEvidence] | type[WeightedEvidence]] = {
    kind.rule: kind for kind in (ConditionalEvidence, DesignEvidence, WeightedEvidence)
}


def empty(rule: str, arms: int, indifference: float = 0.0) -> Evidence:
    """Nothing seen; `indifference` in [0, 1) is the difference of means that does not matter.
    Raises ValueError, for another rule too."""
    if not 0.0 <= indifference < 1.0:
        raise ValueError(f"indifference is {indifference:g}: 0 to 1 was expected")
    return _kind(rule).empty(arms, indifference)


def from_dict(state: dict[str, Any]) -> Evidence:
    """What `to_dict` gave. A state that names no rule is from the time when there was one,
    `design`."""
    return _kind(state.get("rule", DesignEvidence.rule)).from_dict(state)


def _kind(rule: str) -> type[ConditionalEvidence] | type[DesignEvidence] | type[WeightedEvidence]:
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}: {', '.join(RULES)} was expected")
    return RULES[rule]


_PARTS = {
    "superior": "that an arm is better",
    "noninferior": "that an arm is not worse",
    "open": "its open strata",
    "floor": "its smallest propensities",
    "inverse": "its weights' sums",
    "rows": "its rows",
}


def differences(live: Evidence, ledger: Evidence, tolerance: float) -> Iterator[str]:
    """The names of the parts in which the two differ: numbers by more than `tolerance`, relative
    and absolute."""
    if live.rule != ledger.rule:
        yield f"its rule ({live.rule}, {ledger.rule})"
        return
    if live.indifference != ledger.indifference:
        yield "its indifference"
    for part in ("count", "mean", "m2"):
        if not _same(getattr(live.matured, part), getattr(ledger.matured, part), tolerance):
            yield {"count": "its count", "mean": "its mean", "m2": "its spread"}[part]
    for part, name in _PARTS.items():
        if not _same(getattr(live, part, None), getattr(ledger, part, None), tolerance):
            yield name


def _same(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and np.allclose(one, other, rtol=tolerance, atol=tolerance)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return [stratum.to_dict() for stratum in one] == [stratum.to_dict() for stratum in other]
    return one is other is None
