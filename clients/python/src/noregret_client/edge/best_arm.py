"""How probable it is that each of several arms has the greatest value, their values being
independent normals: what a Thompson policy chooses by. The standard library alone.

P(k best) is the integral of arm k's density times the others' distributions: Gauss-Legendre on
panels between every arm's own quantiles, so that narrow and wide arms are summed equally well.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

_LEVELS = (
    -8.5,
    -7.0,
    -5.75,
    -4.75,
    -4.0,
    -3.25,
    -2.5,
    -1.75,
    -1.0,
    -0.35,
    0.35,
    1.0,
    1.75,
    2.5,
    3.25,
    4.0,
    4.75,
    5.75,
    7.0,
    8.5,
)
"""Standard deviations from an arm's mean at which panels end."""
# Positive nodes of the rule of eight points, and their weights.
_RULE = (
    (0.1834346424956498, 0.3626837833783620),
    (0.5255324099163290, 0.3137066458778873),
    (0.7966664774136267, 0.2223810344533745),
    (0.9602898564975363, 0.1012285362903763),
)
_ROOT_HALF = math.sqrt(0.5)
_DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
_FEW = 2


def probability_best(means: Sequence[float], deviations: Sequence[float]) -> list[float]:
    """P(best) of each of K arms, summing to 1; deviations are positive."""
    if len(means) == 1:
        return [1.0]
    if len(means) == _FEW:  # the difference of two normals is one
        apart = (means[0] - means[1]) / math.hypot(*deviations)
        return [_below(apart), _below(-apart)]
    best = [0.0] * len(means)
    for x, weight in _nodes(means, deviations):
        z = [(x - mean) / deviation for mean, deviation in zip(means, deviations, strict=True)]
        below = [_below(one) for one in z]
        for i, rest in enumerate(_products_without_each(below)):
            best[i] += weight * rest * _DENSITY * math.exp(-0.5 * z[i] * z[i]) / deviations[i]
    total = sum(best)
    return [one / total for one in best]


def _below(z: float) -> float:
    return 0.5 * math.erfc(-z * _ROOT_HALF)


def _nodes(means: Sequence[float], deviations: Sequence[float]) -> list[tuple[float, float]]:
    """Points and weights. Below the highest of the arms' lower ends nobody is best."""
    ends = sorted(
        {mean + level * deviation for mean, deviation in zip(means, deviations, strict=True) for level in _LEVELS}
    )
    low = max(mean + _LEVELS[0] * deviation for mean, deviation in zip(means, deviations, strict=True))
    nodes: list[tuple[float, float]] = []
    for left, right in pairwise(ends):
        if right <= low:
            continue
        middle, half = (left + right) / 2.0, (right - left) / 2.0
        for point, weight in _RULE:
            nodes += [(middle - half * point, half * weight), (middle + half * point, half * weight)]
    return nodes


def _products_without_each(values: Sequence[float]) -> list[float]:
    """The products of all but one: a quotient would divide by 0."""
    before, after = [1.0], [1.0]
    for value in values[:-1]:
        before.append(before[-1] * value)
    for value in reversed(values[1:]):
        after.append(after[-1] * value)
    return [left * right for left, right in zip(before, reversed(after), strict=True)]
