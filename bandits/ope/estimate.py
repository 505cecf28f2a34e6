"""What all estimators share: checked inputs, importance weights, and an estimate with its interval and its warnings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bandits import checks
from bandits.statistics import Array

SMALL_SAMPLE = 100.0
"""An effective sample size below which a normal interval is not to be trusted."""
EXTREME_SHARE = 0.05
"""A single decision's share of all weight above which the estimate hangs on it."""
UNSUPPORTED_SHARE = 1e-3
"""How much of the target's choices the log may be unable to show before an estimate is refused."""
_SUM_TOLERANCE = 1e-6


class Unsupported(ValueError):
    """The log can't answer: the logging policy could not have chosen what the target policy would."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The target policy's mean reward: `value`, its standard error, a two-sided interval, in reward units.

    `effective_sample_size` is how many decisions drawn by the target itself would say as much (Kish 1965), `largest_weight` the greatest
    ratio of probabilities, `warnings` sentences on what to mistrust.
    """

    value: float
    standard_error: float
    interval: tuple[float, float]
    effective_sample_size: float
    largest_weight: float
    decisions: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Logged:
    """A checked log: rewards (n,), weights (n,) = target / logged probability of the chosen arm; target probabilities (n, K) and the
    chosen arm (n,) where they are known."""

    rewards: Array
    weights: Array
    target: Array | None
    actions: NDArray[np.int64] | None


def logged(rewards: Any, propensities: Any, target_probabilities: Any, actions: Any = None) -> Logged:
    """Check a log. `target_probabilities` is (n,), of the chosen arm, or (n, K) with `actions` (n,).

    Raises ValueError for shapes and values that are none of a log's, and Unsupported where the target would choose what the log can't show.
    """
    y = np.asarray(rewards, dtype=np.float64)
    e = np.asarray(propensities, dtype=np.float64)
    target = np.asarray(target_probabilities, dtype=np.float64)
    if y.ndim != 1 or not len(y):
        raise ValueError("rewards: numbers of shape (n,) were expected, at least one")
    n = len(y)
    chosen = None if actions is None else np.asarray(actions)
    if chosen is not None and (chosen.shape != (n,) or not np.issubdtype(chosen.dtype, np.integer)):
        raise ValueError(f"actions: positions of shape ({n},) were expected")
    every = None
    if target.ndim == 2:
        if chosen is None:
            raise ValueError("target_probabilities of every arm need actions, the positions of the chosen arms")
        if not ((chosen >= 0) & (chosen < target.shape[1])).all():
            raise ValueError(f"actions: 0 to {target.shape[1] - 1} were expected")
        if len(target) != n or not (np.abs(target.sum(axis=1) - 1.0) < _SUM_TOLERANCE).all():
            raise ValueError(f"target_probabilities: ({n}, arms) were expected, with rows that sum to 1")
        every, target = target, target[np.arange(n), chosen]
        if e.ndim == 2:
            if e.shape != every.shape:
                raise ValueError("propensities: the shape of target_probabilities was expected")
            # Where every arm's logged probability is known, so is what the log could never show.
            unseen = float(np.where(e <= 0, every, 0.0).sum(axis=1).mean())
            if unseen > UNSUPPORTED_SHARE:
                raise Unsupported(_unsupported(unseen))
            e = e[np.arange(n), chosen]
    for name, array in (("propensities", e), ("target_probabilities", target)):
        if array.shape != (n,):
            raise ValueError(f"{name}: shape ({n},) was expected, as rewards have")
        if not (np.isfinite(array).all() and (array >= 0).all() and (array <= 1 + 1e-9).all()):
            raise ValueError(f"{name}: probabilities were expected")
    if not np.isfinite(y).all():
        raise ValueError("rewards: finite numbers were expected")
    if bool((e <= 0).any()):
        raise ValueError("propensities: the chosen arm's must be more than 0, for it was chosen")
    weights = target / e
    if not weights.sum() > 0:
        raise Unsupported(
            "the target policy would have chosen none of the logged decisions: the log says nothing about it"
        )
    return Logged(y, weights, every, chosen)


def _unsupported(share: float) -> str:
    return (
        f"{share:.1%} of what the target policy would choose, the logging policy could not have chosen: the log says nothing about it. "
        "Log with a floor of more than 0"
    )


def effective_sample_size(weights: Array) -> float:
    """(sum of w)^2 / sum of w^2."""
    return float(np.square(weights.sum()) / np.square(weights).sum())


def estimate(value: float, influence: Array, log: Logged, alpha: float) -> Estimate:
    """From a value and its influence function at each decision (n,), whose mean square over n is the variance. Raises ValueError."""
    checks.number("alpha", alpha, 0.0, 1.0, open_low=True)
    n = len(influence)
    error = float(np.sqrt(np.square(influence).sum() / max(n - 1, 1) / n)) if n > 1 else float("inf")
    z = float(special.ndtri(1.0 - alpha / 2.0))
    size, largest = effective_sample_size(log.weights), float(log.weights.max())
    warnings = []
    if size < SMALL_SAMPLE:
        warnings.append(
            f"the effective sample size is {size:.0f}: below {SMALL_SAMPLE:.0f} the interval is not to be trusted"
        )
    share = largest / float(log.weights.sum())
    if share > EXTREME_SHARE:
        warnings.append(f"one decision has {share:.0%} of all weight: the estimate hangs on it")
    mean_weight = float(log.weights.mean())
    spread = float(log.weights.std()) / np.sqrt(n)
    if abs(mean_weight - 1.0) > 4.0 * spread + 1e-9:
        warnings.append(
            f"the weights' mean is {mean_weight:.3g} where 1 was expected: the logged propensities are not those of the choices, "
            "or the target may choose what was never logged"
        )
    return Estimate(value, error, (value - z * error, value + z * error), size, largest, n, tuple(warnings))
