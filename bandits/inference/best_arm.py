"""How probable it is that each arm is best, and what choosing it would cost, by quadrature over the
posteriors.

P(i best) is the integral of f_i times the product of the other arms' F_j; E[max] follows from the
product of all F_j. One quadrature (bandits.inference.quadrature) does both, for one set of arms and
for many sets at once. That P(best) sums to 1 says whether its panels were fine enough; of the rows
where it does not, they are made finer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from bandits.posteriors import Mirrored, Posterior
from bandits.statistics import Array

from .quadrature import COARSE, FINE, cuts_of, nodes

_PASSES = ((COARSE, 1), (FINE, 1), (FINE, 2), (FINE, 4), (FINE, 8))
"""What is tried one after the other: the quantiles between which panels lie, and into how many each
is divided."""
_GOOD_SUM = 1e-11
_SUM_TOLERANCE = 1e-6
"""What the quadrature may miss before it is divided by its sum: what is logged is what is drawn
from, so only the policy's own rule is off by so little. More is a fault, and raised."""
_ARMS_AT_ONCE = 512  # more rows of arms would leave the processor's cache, and be slower


class _Summed(NamedTuple):
    """`best` (N, K): P(best). `greatest` (N,): the expectation of the greatest mean."""

    best: Array
    greatest: Array


@dataclass(frozen=True, slots=True)
class _Apart:
    """K posteriors of one arm each, of whatever families, as one with parameters (1, K)."""

    each: Sequence[Posterior]

    def _of_each(self, name: str, x: Any) -> Array:
        columns = np.broadcast_to(x, (*np.shape(x)[:-1], len(self.each)))
        return np.stack([np.asarray(getattr(arm, name)(columns[..., i])) for i, arm in enumerate(self.each)], axis=-1)

    @property
    def mean(self) -> Array:
        return np.array([[float(arm.mean) for arm in self.each]])

    def pdf(self, x: Any) -> Array:
        return self._of_each("pdf", x)

    def cdf(self, x: Any) -> Array:
        return self._of_each("cdf", x)

    def quantile(self, q: Any) -> Array:
        return self._of_each("quantile", q)

    def sample(self, rng: np.random.Generator, size: Any = None) -> Array:
        return np.array([[arm.sample(rng, size) for arm in self.each]])


def _parameters(posterior: Any) -> list[Array]:
    """Its parameters, broadcast to one shape."""
    return list(np.broadcast_arrays(*(np.asarray(getattr(posterior, field.name)) for field in fields(posterior))))


def _with_parameters(posterior: Any, change: Callable[[Array], Array]) -> Posterior:
    """The same posteriors after a change of their parameters' shape, or of which rows there are."""
    if isinstance(posterior, Mirrored):
        return Mirrored(_with_parameters(posterior.posterior, change))
    return cast(Posterior, type(posterior)(*map(change, _parameters(posterior))))


def _in_rows(posteriors: Posterior | Sequence[Posterior]) -> tuple[Posterior, tuple[int, ...]]:
    """One posterior with parameters (N, K), and the shape (..., K) that is answered."""
    if isinstance(posteriors, Sequence):
        shape: tuple[int, ...] = (len(posteriors),)
        rows: Posterior = _Apart(posteriors)
    else:
        shape = np.shape(posteriors.mean) or (1,)
        rows = (
            posteriors
            if len(shape) == 2
            else _with_parameters(posteriors, lambda parameter: parameter.reshape(-1, shape[-1]))
        )
    if shape[-1] < 1:
        raise ValueError("at least one arm was expected")
    return rows, shape


def _slices(
    posterior: Posterior, rows: NDArray[np.int64], arms: int, every: bool
) -> Iterator[tuple[NDArray[np.int64], Posterior]]:
    """(rows, posterior of these) few enough to be summed at once; `every` where these are all rows
    that there are."""
    size = max(_ARMS_AT_ONCE // arms, 1)
    if every and len(rows) <= size:
        yield rows, posterior
        return
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield part, _with_parameters(posterior, lambda parameter, part=part: parameter[part])  # type: ignore[misc]  # of this turn


def _products_without_each(values: Array) -> Array:
    """For (..., K), the products along the last axis without each: prefix times suffix, for a
    quotient would divide by 0."""
    if values.shape[-1] == 2:
        return values[..., ::-1]
    ones = np.ones((*values.shape[:-1], 1))
    before = np.cumprod(np.concatenate((ones, values[..., :-1]), axis=-1), axis=-1)
    after = np.cumprod(np.concatenate((ones, values[..., :0:-1]), axis=-1), axis=-1)[..., ::-1]
    return np.asarray(before * after, dtype=np.float64)


def _summed(
    posterior: Posterior, shape: tuple[int, ...], integrate: Callable[[Posterior, Array, int], _Summed]
) -> _Summed:
    """`integrate(part, levels, finer)` of all rows (N, K), those that miss a sum of 1 once more
    with finer panels, as often as it helps.

    Raises ValueError where a row's probabilities miss 1 by more than 1e-6 still.
    """
    arms = shape[-1]
    count = int(np.prod(shape[:-1], dtype=np.int64))
    best, greatest, missed = np.empty((count, arms)), np.empty(count), np.full(count, np.inf)
    left = np.arange(count)
    for levels, finer in _PASSES:
        before = missed[left]
        for rows, part in _slices(posterior, left, arms, len(left) == count):
            best[rows], greatest[rows] = integrate(part, levels, finer)
            missed[rows] = np.abs(best[rows].sum(axis=1) - 1.0)
        # What finer panels hardly change is rounding: of densities at parameters of 1e8, say.
        going = (missed[left] > _GOOD_SUM) & ((missed[left] < before / 4.0) | (missed[left] > _SUM_TOLERANCE))
        left = left[going]
        if not len(left):
            break
    worst = float(missed.max(initial=0.0))
    if not worst < _SUM_TOLERANCE:
        raise ValueError(f"probabilities of being best miss a sum of 1 by {worst!r}")
    best = np.maximum(best, 0.0)
    return _Summed(best / best.sum(axis=1, keepdims=True), greatest)


def _best_and_greatest(posterior: Posterior, levels: Array, finer: int) -> _Summed:
    cuts = cuts_of(posterior, levels)
    # Below the highest of the arms' lower ends the product of the F_j is under 1e-15.
    low, high = cuts[0].max(axis=-1), cuts[-1].max(axis=-1)
    x, w = nodes(cuts, low, high, finer)
    cdf, pdf = np.asarray(posterior.cdf(x[..., None])), np.asarray(posterior.pdf(x[..., None]))
    others = _products_without_each(cdf)
    below_all = others[..., 0] * cdf[..., 0]
    return _Summed(np.einsum("mn,mnk->nk", w, pdf * others), high - (w * below_all).sum(axis=0))


def probability_best(posteriors: Posterior | Sequence[Posterior]) -> Array:
    """P(arm has the greatest mean), (..., K); each row sums to 1.

    `posteriors`: K scalar posteriors, or one whose parameters have shape (..., K): one set of arms,
    or one for each of many requests or simulated runs. Raises ValueError when the quadrature misses
    more than 1e-6.
    """
    rows, shape = _in_rows(posteriors)
    if shape[-1] == 1:
        return np.ones(shape)
    return _summed(rows, shape, _best_and_greatest).best.reshape(shape)


def expected_loss(posteriors: Posterior | Sequence[Posterior]) -> Array:
    """E[greatest mean - this arm's mean], (..., K), on the posteriors' scale.

    `posteriors` as for `probability_best`.
    """
    rows, shape = _in_rows(posteriors)
    if shape[-1] == 1:
        return np.zeros(shape)
    greatest = _summed(rows, shape, _best_and_greatest).greatest
    losses: Array = np.maximum(greatest[:, None] - np.asarray(rows.mean, dtype=np.float64), 0.0)
    return losses.reshape(shape)


def potential_value_remaining(
    posteriors: Posterior | Sequence[Posterior], champion: int, quantile: float = 0.95
) -> float:
    """The `quantile` of what could still be gained over the champion: of max(0, greatest other mean
    - champion's mean).

    Source: Scott 2010/2015, value remaining. On the posteriors' scale.
    """
    from scipy import optimize  # here: whoever chooses alone, in an exported package, has no scipy

    row, shape = _in_rows(posteriors)
    if not 0 <= champion < shape[-1]:
        raise ValueError(f"champion is {champion}: 0 to {shape[-1] - 1} was expected")
    cuts = cuts_of(row, FINE)
    low, high = cuts[0, :, champion], cuts[-1, :, champion]
    own = np.arange(shape[-1]) == champion

    def below(gain: float) -> float:
        x, w = nodes(np.where(own, cuts, cuts - gain), low, high)
        density = np.asarray(row.pdf(x[..., None]))[..., own][..., 0]
        others = np.asarray(row.cdf(x[..., None] + gain))[..., ~own].prod(axis=-1)
        return float((w * density * others).sum()) - quantile

    if below(0.0) >= 0.0:
        return 0.0
    return float(optimize.brentq(below, 0.0, float(cuts.max() - cuts.min()), xtol=1e-12))


def probability_cheapest(posterior: Posterior, costs: Array, subsidy: float) -> Array:
    """P(arm is the cheapest whose value is within `subsidy` of the greatest): parameters (..., K)
    and costs (K,) give (..., K).

    The rule of cost-aware Thompson sampling. Of equally cheap arms the one with the greater
    posterior mean goes first. With x the greatest value, arms sorted by cost and F, f the others'
    distribution and density, arm i is chosen where every cheaper arm is below x - subsidy, and
    either i has the greatest value, or a dearer arm has it and i is within the subsidy.
    """
    rows, shape = _in_rows(posterior)

    def integrate(part: Posterior, levels: Array, finer: int) -> _Summed:
        return _cheapest(part, levels, finer, costs, subsidy)

    return _summed(rows, shape, integrate).best.reshape(shape)


def _cheapest(posterior: Posterior, levels: Array, finer: int, costs: Array, subsidy: float) -> _Summed:
    mean = np.asarray(posterior.mean)
    order = np.lexsort((-mean, np.broadcast_to(costs, mean.shape)), axis=-1)
    cuts = cuts_of(posterior, levels)
    # What happens at an arm's quantiles happens at the subsidy above them, too.
    low, high = cuts[0].max(axis=-1), cuts[-1].max(axis=-1)
    x, w = nodes(np.concatenate((cuts, cuts + subsidy), axis=-1), low, high, finer)

    def by_cost(values: Any) -> Array:
        return np.take_along_axis(np.asarray(values), np.broadcast_to(order, np.shape(values)), axis=-1)

    cdf, pdf = by_cost(posterior.cdf(x[..., None])), by_cost(posterior.pdf(x[..., None]))
    lower = by_cost(posterior.cdf(x[..., None] - subsidy))
    cheaper = np.concatenate((np.ones_like(lower[..., :1]), np.cumprod(lower[..., :-1], axis=-1)), axis=-1)
    best = np.empty(mean.shape)
    # Over the arms dearer than i: the distribution of their greatest value, and its density.
    dearer, density = np.ones(x.shape), np.zeros(x.shape)
    for i in range(mean.shape[-1] - 1, -1, -1):
        chosen = pdf[..., i] * dearer + (cdf[..., i] - lower[..., i]) * density
        best[..., i] = (w * cheaper[..., i] * chosen).sum(axis=0)
        density = density * cdf[..., i] + pdf[..., i] * dearer
        dearer = dearer * cdf[..., i]
    in_place = np.empty_like(best)
    np.put_along_axis(in_place, order, best, axis=-1)
    return _Summed(in_place, high - (w * dearer).sum(axis=0))
