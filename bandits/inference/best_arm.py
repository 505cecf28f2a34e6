"""How probable it is that each arm is best, and what choosing it would cost, by quadrature over the posteriors.

P(i best) is the integral of f_i times the product of the other arms' F_j; E[max] follows from the product of all F_j. Both are summed by
Gauss-Legendre on panels cut at each arm's own quantiles. Rejected: one rule over the whole range (64 nodes summed to 0.9555 when a
fresh Beta(1, 1) met mature arms), and Monte Carlo (gives a small arm exactly 0).
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
from scipy import optimize

from bandits.posteriors import Mirrored, Posterior
from bandits.statistics import Array

_TAIL = 1e-15
_LEVELS = np.array(
    [1e-15, 1e-12, 1e-9, 1e-6, 1e-4, 1e-2, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1 - 1e-4, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12]
)
_MANY_ARMS = 12
_FEW_LEVELS = np.array([1e-15, 1e-6, 1e-2, 0.5, 0.9, 0.99, 0.999, 1 - 1e-6, 1 - 1e-12])
_NODES = 16
_HALVINGS = 4
_GOOD_SUM = 1e-11
_SUM_TOLERANCE = 1e-6
"""What the quadrature may miss before it is divided by its sum: what is logged is what is drawn from, so only the policy's own rule
is off by so little. More is a fault, and raised."""

Function = Callable[[Any], Array]


@cache
def _rule(nodes: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(nodes)


class _Arms:
    """K scalar posteriors, or one with parameters of shape (K,), evaluated together."""

    def __init__(self, posteriors: Posterior | Sequence[Posterior]) -> None:
        if isinstance(posteriors, Sequence):
            self._each: Sequence[Posterior] | None = posteriors
            self.count = len(posteriors)
        else:
            self._each = None
            self._all = posteriors
            self.count = int(np.asarray(posteriors.quantile(0.5)).shape[-1])
        if self.count < 1:
            raise ValueError("at least one arm was expected")

    def _call(self, name: str, x: Any) -> Array:
        if self._each is None:
            return np.asarray(getattr(self._all, name)(x), dtype=np.float64)
        columns = np.broadcast_to(x, (*np.shape(x)[:-1], self.count)) if np.ndim(x) else np.full(self.count, x)
        parts = [np.asarray(getattr(arm, name)(columns[..., i])) for i, arm in enumerate(self._each)]
        return np.stack(parts, axis=-1)

    def pdf(self, x: Array) -> Array:
        return self._call("pdf", x[:, None])

    def cdf(self, x: Array) -> Array:
        return self._call("cdf", x[:, None])

    def quantile(self, levels: Array) -> Array:
        """(levels, K)"""
        return self._call("quantile", levels[:, None])

    @property
    def mean(self) -> Array:
        if self._each is None:
            return np.asarray(self._all.mean, dtype=np.float64)
        return np.array([float(arm.mean) for arm in self._each])


def _edges(arms: _Arms, levels: Array) -> Array:
    """Panel edges over where the maximum of the arms can lie."""
    cuts = arms.quantile(levels)
    top = arms.quantile(np.array([1.0 - _TAIL]))
    # Below the highest of the arms' lower ends the product of the F_j is under 1e-15.
    low, high = float(cuts[0].max()), float(top.max())
    inside = cuts[(cuts > low) & (cuts < high)]
    return np.unique(np.concatenate(([low], inside, [high])))


def _nodes(edges: Array, nodes: int) -> tuple[Array, Array]:
    """Nodes and weights of the rule on every panel."""
    x, w = _rule(nodes)
    half = np.diff(edges)[:, None] / 2.0
    middle = (edges[1:, None] + edges[:-1, None]) / 2.0
    return (middle + half * x).ravel(), (half * w).ravel()


def _integrated(arms: _Arms) -> tuple[Array, Array, Array, float]:
    """(P(best) as summed, nodes' weights, products of all F_j at the nodes, upper end).

    The sum of P(best) says whether the panels were fine enough; they are halved until it does.
    """
    few = arms.count > _MANY_ARMS
    for levels in (_FEW_LEVELS, _LEVELS) if few else (_LEVELS,):
        edges = _edges(arms, levels)
        for _ in range(_HALVINGS + 1):
            x, w = _nodes(edges, _NODES // 2 if few else _NODES)
            cdf = arms.cdf(x)
            parts = w @ (arms.pdf(x) * _products_without_each(cdf))
            if abs(float(parts.sum()) - 1.0) < _GOOD_SUM:
                break
            edges = np.sort(np.concatenate((edges, (edges[1:] + edges[:-1]) / 2.0)))
        # Where the many arms' few levels leave more than this, a heavy tail (a new arm's) spans panels that halving can't mend.
        if abs(float(parts.sum()) - 1.0) < 1e-9:
            break
    return parts, w, cdf.prod(axis=1), float(edges[-1])


def _products_without_each(values: Array) -> Array:
    """For (n, K), the products of each row without one column: prefix times suffix, for a quotient would divide by 0."""
    n, arms = values.shape
    ones = np.ones((n, 1))
    before = np.cumprod(np.concatenate((ones, values[:, :-1]), axis=1), axis=1)
    after = np.cumprod(np.concatenate((ones, values[:, :0:-1]), axis=1), axis=1)[:, ::-1]
    products = np.asarray(before * after, dtype=np.float64)
    return products if arms > 1 else ones


def probability_best(posteriors: Posterior | Sequence[Posterior]) -> Array:
    """P(arm has the greatest mean), shape (K,); sums to 1.

    `posteriors`: K scalar posteriors, or one whose parameters have shape (K,). Raises ValueError when the quadrature misses
    more than 1e-6.
    """
    arms = _Arms(posteriors)
    if arms.count == 1:
        return np.ones(1)
    parts, _, _, _ = _integrated(arms)
    total = float(parts.sum())
    if not abs(total - 1.0) < _SUM_TOLERANCE:
        raise ValueError(f"probabilities of being best sum to {total!r}")
    probabilities: Array = parts / total
    return probabilities


def expected_loss(posteriors: Posterior | Sequence[Posterior]) -> Array:
    """E[greatest mean - this arm's mean], shape (K,), on the posteriors' scale."""
    arms = _Arms(posteriors)
    _, w, below_all, high = _integrated(arms)
    expected_maximum = high - float(w @ below_all)
    return np.maximum(expected_maximum - arms.mean, 0.0)


def potential_value_remaining(
    posteriors: Posterior | Sequence[Posterior], champion: int, quantile: float = 0.95
) -> float:
    """The `quantile` of what could still be gained over the champion: of max(0, greatest other mean - champion's mean).

    Source: Scott 2010/2015, value remaining. On the posteriors' scale.
    """
    arms = _Arms(posteriors)
    if not 0 <= champion < arms.count:
        raise ValueError(f"champion is {champion}: 0 to {arms.count - 1} was expected")
    levels = np.concatenate((_LEVELS, [1.0 - _TAIL]))
    cuts = arms.quantile(levels)
    x, w = _nodes(np.unique(cuts[:, champion]), _NODES)
    mass = w * arms.pdf(x)[:, champion]

    def below(gain: float) -> float:
        return float(mass @ np.delete(arms.cdf(x + gain), champion, axis=1).prod(axis=1)) - quantile

    if below(0.0) >= 0.0:
        return 0.0
    return float(optimize.brentq(below, 0.0, float(cuts.max() - cuts.min()), xtol=1e-12))


_BATCH_LEVELS = np.array([1e-13, 1e-9, 1e-5, 1e-3, 0.05, 0.3, 0.7, 0.95, 1 - 1e-3, 1 - 1e-5, 1 - 1e-9, 1 - 1e-13])
_BATCH_NODES = 8


def _batch_nodes(posterior: Posterior, shift: float, halvings: int) -> tuple[Array, Array]:
    """Nodes and weights (M, N) for a posterior with parameters (N, K), each row with panels at its own arms' quantiles."""
    cuts = np.asarray(posterior.quantile(_BATCH_LEVELS[:, None, None]))
    low, high = cuts[0].max(axis=-1), cuts[-1].max(axis=-1)
    edges = np.moveaxis(cuts, 1, 0).reshape(cuts.shape[1], -1)
    if shift > 0.0:
        edges = np.concatenate((edges, edges + shift), axis=1)
    edges = np.sort(np.clip(edges, low[:, None], high[:, None]), axis=1)
    for _ in range(halvings):
        edges = np.sort(np.concatenate((edges, (edges[:, 1:] + edges[:, :-1]) / 2.0), axis=1), axis=1)
    x, w = _rule(_BATCH_NODES)
    half = np.diff(edges, axis=1)[..., None] / 2.0
    middle = (edges[:, 1:, None] + edges[:, :-1, None]) / 2.0
    rows = len(edges)
    return (middle + half * x).reshape(rows, -1).T, (half * w).reshape(rows, -1).T


_ROWS_AT_ONCE = 256  # more would leave the processor's cache, and be slower


def _by_rows(posterior: Any, compute: Callable[[Any], Array]) -> Array:
    """compute(part) over slices of a posterior with parameters (N, K), put together."""
    if isinstance(posterior, Mirrored):
        return _by_rows(posterior.posterior, lambda part: compute(Mirrored(part)))
    names = [field.name for field in fields(posterior)]
    arrays = np.broadcast_arrays(*(np.asarray(getattr(posterior, name)) for name in names))
    rows = len(arrays[0])
    if rows <= _ROWS_AT_ONCE:
        return compute(posterior)
    parts = (slice(start, start + _ROWS_AT_ONCE) for start in range(0, rows, _ROWS_AT_ONCE))
    return np.concatenate([compute(type(posterior)(*(array[part] for array in arrays))) for part in parts])


def _summing_to_one(parts: Callable[[int], Array]) -> Array:
    """parts(halvings) (N, K), with panels halved until each row sums to 1, and divided by the sum."""
    for halvings in range(_HALVINGS + 1):
        found = parts(halvings)
        total = found.sum(axis=-1, keepdims=True)
        missed = float(np.abs(total - 1.0).max(initial=0.0))
        if missed < 1e-9:
            break
    if not missed < _SUM_TOLERANCE:
        raise ValueError(f"probabilities of being best miss a sum of 1 by {missed!r}")
    return np.asarray(np.maximum(found, 0.0) / total, dtype=np.float64)


def probabilities_best(posterior: Posterior) -> Array:
    """P(arm has the greatest mean) for many rows at once: parameters of shape (N, K) give (N, K); each row sums to 1.

    For requests with features, whose posteriors differ from row to row, and for simulation. Raises ValueError when the
    quadrature misses more than 1e-6.
    """
    return _by_rows(posterior, lambda part: _probabilities_best(part))


def _probabilities_best(posterior: Posterior) -> Array:
    def parts(halvings: int) -> Array:
        x, w = _batch_nodes(posterior, 0.0, halvings)
        cdf, pdf = np.asarray(posterior.cdf(x[..., None])), np.asarray(posterior.pdf(x[..., None]))
        arms = cdf.shape[-1]
        others = cdf[..., ::-1] if arms == 2 else _products_without_each(cdf.reshape(-1, arms)).reshape(cdf.shape)
        return np.asarray(np.einsum("mn,mnk->nk", w, pdf * others))

    return _summing_to_one(parts)


def probabilities_cheapest(posterior: Posterior, costs: Array, subsidy: float) -> Array:
    """P(arm is the cheapest whose value is within `subsidy` of the greatest): parameters (N, K) and costs (K,) give (N, K).

    The rule of cost-aware Thompson sampling. Of equally cheap arms the one with the greater posterior mean goes first. With x
    the greatest value, arms sorted by cost and F, f the others' distribution and density, arm i is chosen where every
    cheaper arm is below x - subsidy, and either i has the greatest value, or a dearer arm has it and i is within the subsidy.
    """
    return _by_rows(posterior, lambda part: _probabilities_cheapest(part, costs, subsidy))


def _probabilities_cheapest(posterior: Posterior, costs: Array, subsidy: float) -> Array:
    mean = np.asarray(posterior.mean)
    order = np.lexsort((-mean, np.broadcast_to(costs, mean.shape)), axis=-1)

    def parts(halvings: int) -> Array:
        x, w = _batch_nodes(posterior, subsidy, halvings)

        def by_cost(values: Any) -> Array:
            return np.take_along_axis(np.asarray(values), np.broadcast_to(order, np.shape(values)), axis=-1)

        cdf, pdf = by_cost(posterior.cdf(x[..., None])), by_cost(posterior.pdf(x[..., None]))
        lower = by_cost(posterior.cdf(x[..., None] - subsidy))
        arms = cdf.shape[-1]
        cheaper = np.concatenate((np.ones_like(lower[..., :1]), np.cumprod(lower[..., :-1], axis=-1)), axis=-1)
        found = np.empty(mean.shape)
        # Over the arms dearer than i: the distribution of their greatest value, and its density.
        dearer, density = np.ones(x.shape), np.zeros(x.shape)
        for i in range(arms - 1, -1, -1):
            chosen = pdf[..., i] * dearer + (cdf[..., i] - lower[..., i]) * density
            found[..., i] = (w * cheaper[..., i] * chosen).sum(axis=0)
            density = density * cdf[..., i] + pdf[..., i] * dearer
            dearer = dearer * cdf[..., i]
        back = np.empty_like(found)
        np.put_along_axis(back, order, found, axis=-1)
        return back

    return _summing_to_one(parts)
