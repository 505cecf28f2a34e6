"""What all estimators share: checked inputs, importance weights, and an estimate with its interval
and its warnings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.statistics import Array

from .interval import Atoms, clustered, limits, standard_error

SMALL_SAMPLE = 100.0
"""An effective sample size below which the target was hardly seen."""
FEW_OUTCOMES = 20.0
"""Effective successes or failures below which an estimate says little, whatever the sample size."""
UNKNOWN_RANGE = 10.0
"""Rewards without bounds of which fewer stand out tell nothing of how large the next may be."""
EXTREME_SHARE = 0.05
"""A single decision's share of all weight above which the estimate hangs on it."""
UNSUPPORTED_SHARE = 1e-3
"""How much of the target's choices the log may be unable to show before an estimate is refused."""
_SUM_TOLERANCE = 1e-6
_NO_CHANCE = 1e-9
_SURELY = 1e-4
"""Level of the check that weights have mean 1."""


class Unsupported(ValueError):
    """The log can't answer: the logging policy could not have chosen what the target policy
    would."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The target policy's mean reward: `value`, its standard error, a two-sided interval, in reward
    units.

    `interval` is None where nothing bounds it: rewards without declared bounds, of which too few
    stand out, or a single unit; the warnings say so. `effective_sample_size` is how many decisions
    (or units) drawn by the target itself would say as much (Kish 1965), `warnings` sentences on
    what to mistrust. `successes` is how many rewards above the least possible, of equal weight,
    would say as much: what a small rate is known from.
    """

    value: float
    standard_error: float
    interval: tuple[float, float] | None
    effective_sample_size: float
    decisions: int
    warnings: tuple[str, ...] = ()
    successes: float = 0.0


@dataclass(frozen=True, slots=True)
class Logged:
    """A checked log: rewards (n,), weights (n,) = target / logged probability of the chosen arm;
    target probabilities (n, K) and the chosen arm (n,) where they are known.

    `ratios` and `masses` (n, m) are the weights that could have been drawn and the target's
    probability of each: of every arm where their logged probabilities are known, else of the chosen
    arm and of all others together. `unseen` is the mean probability that the target gives to what
    had no chance. `by_arm`: column k of `ratios` is arm k, else the first is the chosen arm;
    `every_arm`: no arm's chance is unknown. `bounds` are the rewards' least and greatest, as
    declared, or as seen where `within` has no such limit. `clusters` (n,) numbers the unit of each
    decision, where units return. `unit_jump` is the jump of outcomes that are 1 away, `warnings`
    what is to be mistrusted whatever the estimator.
    """

    rewards: Array
    weights: Array
    target: Array | None
    actions: NDArray[np.int64] | None
    ratios: Array
    masses: Array
    by_arm: bool
    every_arm: bool
    unseen: float
    bounds: tuple[float, float]
    within: tuple[float, float]
    clusters: NDArray[np.int64] | None
    unit_jump: float = 0.0
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def bounded(self) -> bool:
        return bool(np.isfinite(self.within).all())

    def jump(self, distances: Array) -> float:
        """The largest jump of a mean of weight x distance: `distances` (n, m) of outcomes from what
        is expected of them."""
        away = np.maximum(distances, 0.0)
        jumps, masses = self.ratios * away, self.masses * away
        if self.clusters is not None:
            # A unit may keep its arm and its outcome: all of its decisions are one jump.
            columns = range(jumps.shape[1])
            jumps = np.stack([clustered(jumps[:, k], self.clusters) for k in columns], axis=1).max(axis=1)
            masses = clustered(masses.sum(axis=1), self.clusters)
        return Atoms(jumps.ravel(), masses.ravel()).largest(len(self))


def logged(
    rewards: Any,
    propensities: Any,
    target_probabilities: Any,
    actions: Any = None,
    *,
    bounds: tuple[float, float] | None = None,
    units: Sequence[Any] | NDArray[Any] | None = None,
) -> Logged:
    """Check a log. `target_probabilities` is (n,), of the chosen arm, or (n, K) with `actions`
    (n,).

    Raises ValueError for shapes and values that are none of a log's, and Unsupported where the
    target would choose what the log can't show.
    """
    y = np.asarray(rewards, dtype=np.float64)
    if y.ndim != 1 or not len(y):
        raise ValueError("rewards: numbers of shape (n,) were expected, at least one")
    if not np.isfinite(y).all():
        raise ValueError("rewards: finite numbers were expected")
    n = len(y)
    chosen, every, target = _targets(target_probabilities, actions, n)
    e = np.asarray(propensities, dtype=np.float64)
    all_e = None
    if e.ndim == 2:
        if every is None or chosen is None or e.shape != every.shape:
            raise ValueError("propensities: the shape of target_probabilities was expected")
        all_e, e = e, e[np.arange(n), chosen]
    for name, array in (("propensities", e if all_e is None else all_e), ("target_probabilities", target)):
        if len(array) != n or (array.ndim == 2) != (array is all_e):
            raise ValueError(f"{name}: shape ({n},) was expected, as rewards have")
        if not (np.isfinite(array).all() and (array >= 0).all() and (array <= 1 + 1e-9).all()):
            raise ValueError(f"{name}: probabilities were expected")
    if bool((e <= 0).any()):
        raise ValueError("propensities: the chosen arm's must be more than 0, for it was chosen")
    weights = target / e
    if all_e is not None and every is not None:
        logged_chances, masses = all_e, every
    else:
        # Of the arms that were not chosen it is known what they had together: exactly what is
        # needed where the log had no choice.
        logged_chances = np.stack((e, np.maximum(1.0 - e, 0.0)), axis=1)
        masses = np.stack((target, np.maximum(1.0 - target, 0.0)), axis=1)
    no_chance = logged_chances <= _NO_CHANCE
    unseen = float(np.where(no_chance, masses, 0.0).sum(axis=1).mean())
    if unseen > UNSUPPORTED_SHARE:
        raise Unsupported(_unsupported(unseen))
    if not weights.sum() > 0:
        raise Unsupported(
            "the target policy would have chosen none of the logged decisions: the log says nothing about it"
        )
    possible = np.where(no_chance, 0.0, masses / np.where(no_chance, 1.0, logged_chances))
    within = _within(y, bounds)
    seen = (float(y.min()), float(y.max()))
    limit = (
        within[0] if np.isfinite(within[0]) else seen[0],
        within[1] if np.isfinite(within[1]) else seen[1],
    )
    found = Logged(
        y,
        weights,
        every,
        chosen,
        possible,
        np.where(no_chance, 0.0, masses),
        all_e is not None,
        all_e is not None or (every is not None and every.shape[1] == 2),
        unseen,
        limit,
        within,
        _clusters(units, n),
    )
    found = replace(found, unit_jump=found.jump(np.ones(possible.shape)))
    _check_support(found)
    return replace(found, warnings=tuple(_warnings(found)))


def _within(rewards: Array, bounds: tuple[float, float] | None) -> tuple[float, float]:
    """Between what rewards can lie: as declared, 0 and 1 where there is nothing else, or anywhere.
    Raises ValueError."""
    if bounds is None:
        return (0.0, 1.0) if bool(((rewards == 0.0) | (rewards == 1.0)).all()) else (float("-inf"), float("inf"))
    least, greatest = float(bounds[0]), float(bounds[1])
    if not least <= float(rewards.min()) <= float(rewards.max()) <= greatest:
        raise ValueError(f"rewards: from {least:.15g} to {greatest:.15g} was expected, as bounds say")
    return least, greatest


def _targets(target_probabilities: Any, actions: Any, n: int) -> tuple[NDArray[np.int64] | None, Array | None, Array]:
    """(chosen arms or None, every arm's target probability or None, the chosen arm's). Raises
    ValueError."""
    target = np.asarray(target_probabilities, dtype=np.float64)
    chosen = None if actions is None else np.asarray(actions)
    if chosen is not None and (chosen.shape != (n,) or not np.issubdtype(chosen.dtype, np.integer)):
        raise ValueError(f"actions: positions of shape ({n},) were expected")
    if target.ndim != 2:
        return chosen, None, target
    if chosen is None:
        raise ValueError("target_probabilities of every arm need actions, the positions of the chosen arms")
    if not ((chosen >= 0) & (chosen < target.shape[1])).all():
        raise ValueError(f"actions: 0 to {target.shape[1] - 1} were expected")
    if len(target) != n or not (np.abs(target.sum(axis=1) - 1.0) < _SUM_TOLERANCE).all():
        raise ValueError(f"target_probabilities: ({n}, arms) were expected, with rows that sum to 1")
    return chosen, target, target[np.arange(n), chosen]


def _clusters(units: Sequence[Any] | NDArray[Any] | None, n: int) -> NDArray[np.int64] | None:
    """A number for each decision's unit, or None where no unit returns. A decision without a unit
    is its own."""
    if units is None:
        return None
    if len(units) != n:
        raise ValueError(f"units: {n} were expected, as many as rewards")
    numbers: dict[Any, int] = {}
    found = np.empty(n, dtype=np.int64)
    for i, unit in enumerate(units):
        found[i] = numbers.setdefault((i,) if unit is None else unit, len(numbers))
    return found if len(numbers) < n else None


def _unsupported(share: float) -> str:
    return (
        f"{share:.1%} of what the target policy would choose, the logging policy could not have chosen: the log says nothing about it. "
        "Log with a floor of more than 0"
    )


def _mean_weight_limits(log: Logged) -> tuple[float, float]:
    """Between what the weights' expectation surely lies: 1, if they are what they say."""
    mean = float(log.weights.mean())
    jumps = (min(mean, 1.0) * log.unit_jump, log.unit_jump)
    return limits(mean, clustered(log.weights - mean, log.clusters), len(log), jumps, _SURELY)


def _check_support(log: Logged) -> None:
    """Where not every arm's chance is known, a lack of support shows only in weights that are too
    small. Raises Unsupported."""
    if log.every_arm:
        return
    _, high = _mean_weight_limits(log)
    if high < 1.0 - UNSUPPORTED_SHARE:
        raise Unsupported(
            f"the weights' mean is {log.weights.mean():.3g} where 1 was expected, and not by chance: the target policy would choose what "
            "the logging policy could not, or the logged propensities are not those of the choices"
        )


def effective_sample_size(weights: Array) -> float:
    """(sum of w)^2 / sum of w^2."""
    squared = float(np.square(weights).sum())
    return float(np.square(weights.sum())) / squared if squared > 0.0 else 0.0


def estimate(
    value: float,
    influence: Array,
    log: Logged,
    alpha: float,
    jumps: tuple[float, float],
    bias: tuple[float, float] = (0.0, 0.0),
) -> Estimate:
    """From a value and its influence function at each decision (n,), whose mean square over n is
    the variance.

    `jumps` are the largest downwards and upwards (Logged.jump), `bias` how far the truth may lie
    below and above what the estimator aims at. Raises ValueError.
    """
    checks.number("alpha", alpha, 0.0, 1.0, open_low=True)
    n = len(log)
    by_cluster = clustered(influence, log.clusters)
    span = log.bounds[1] - log.bounds[0]
    low, high = limits(value, by_cluster, n, jumps, alpha)
    low, high = low - bias[0] - log.unseen * span, high + bias[1] + log.unseen * span
    warnings = list(log.warnings)
    least, greatest = log.within
    interval: tuple[float, float] | None = (min(max(low, least), greatest), max(min(high, greatest), least))
    size, successes = effective_sample_size(clustered(log.weights, log.clusters)), _outcomes(log)[0]
    if not log.bounded and len(by_cluster) < 2:
        interval = None
        warnings.append("all decisions are one unit's: nothing tells how others differ, and no interval holds")
    elif not log.bounded and _stand_out(log) < UNKNOWN_RANGE:
        interval = None
        warnings.append(
            "rewards have no declared bounds, and too few stand out to tell how large the next may be: no interval holds "
            f"(effective sample size {size:.0f}, effective successes {successes:.1f})"
        )
    return Estimate(
        value,
        standard_error(by_cluster, n),
        interval,
        size,
        n,
        tuple(warnings),
        successes,
    )


def _stand_out(log: Logged) -> float:
    """How many rewards of equal size would say as much of how large they are, whatever their
    weights."""
    return effective_sample_size(clustered(log.rewards - log.bounds[0], log.clusters))


def _outcomes(log: Logged) -> tuple[float, float]:
    """Effective numbers of (successes, failures): of weighted distances from the least reward, and
    from the greatest."""
    least, greatest = log.bounds
    return (
        effective_sample_size(clustered(log.weights * (log.rewards - least), log.clusters)),
        effective_sample_size(clustered(log.weights * (greatest - log.rewards), log.clusters)),
    )


def _warnings(log: Logged) -> list[str]:
    weights = clustered(log.weights, log.clusters)
    size = effective_sample_size(weights)
    found = []
    if size < SMALL_SAMPLE:
        found.append(f"the effective sample size is {size:.0f}: below {SMALL_SAMPLE:.0f} an estimate says little")
    for name, count in zip(("successes", "failures"), _outcomes(log), strict=True):
        if log.bounded and count < FEW_OUTCOMES:
            found.append(
                f"the log holds {count:.1f} effective {name} of the target's: below {FEW_OUTCOMES:.0f} an estimate says little, "
                "and its interval is wide for what was not seen"
            )
    share = float(weights.max()) / float(weights.sum())
    if share > EXTREME_SHARE:
        whose = "decision" if log.clusters is None else "unit"
        found.append(f"one {whose} has {share:.0%} of all weight: the estimate hangs on it")
    low, high = _mean_weight_limits(log)
    if low > 1.0 + _SUM_TOLERANCE or high < 1.0 - UNSUPPORTED_SHARE:
        found.append(
            f"the weights' mean is {log.weights.mean():.3g} where 1 was expected: the logged propensities are not those of the choices, "
            "or the target may choose what was never logged"
        )
    return found
