"""Where to sum functions of several arms' posteriors: nodes and weights of Gauss-Legendre on
panels, for many rows at once.

The panels follow the arms' own quantiles. Each arm says how fine they must be where it lies: one
panel from each of its quantiles to the next. Where arms overlap, the finest of them decides. So a
hundred arms that lie together need hardly more nodes than one.

Rejected: one rule over the whole range (64 nodes summed to 0.9555 when a fresh Beta(1, 1) met
mature arms), Monte Carlo (gives a small arm exactly 0), and panels cut at every quantile of every
arm (a hundred arms then need a hundred times the nodes: a second a snapshot).
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from bandits.posteriors import Posterior
from bandits.statistics import Array

_TAIL = 1e-15  # what is left out at either end of a posterior
_NODES = 8


def _both_sides(lower: Sequence[float]) -> Array:
    below = np.array([_TAIL, *lower])
    return np.concatenate((below, [0.5], 1.0 - below[::-1]))


COARSE = _both_sides([1e-10, 1e-6, 1e-3, 0.03, 0.25])
"""The quantiles that an arm's panels end at, (L,): enough for bell shapes, to 1e-13."""
FINE = _both_sides([10.0**-decade for decade in range(14, 0, -1)] + [0.3])
"""As many as heavy tails ask for: Student's t of few degrees of freedom, which a new arm of
continuous rewards has."""


@cache
def _rule() -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(_NODES)


def cuts_of(posterior: Posterior, levels: Array = COARSE) -> Array:
    """Where each arm's panels end, (L, N, K), for a posterior with parameters (N, K)."""
    return np.asarray(posterior.quantile(levels[:, None, None]), dtype=np.float64)


def nodes(cuts: Array, low: Array, high: Array, finer: int = 1) -> tuple[Array, Array]:
    """Nodes and weights, (M, N) each, from `low` to `high` (N,), for functions that are smooth
    between the `cuts` (L, N, F).

    Each of F features has L cuts in ascending order: an arm's quantiles, or those of one that is
    shifted. `finer` divides every panel into so many.
    """
    edges = _edges(cuts, low, high, finer)
    x, w = _rule()
    half = (edges[:, 1:, None] - edges[:, :-1, None]) / 2.0
    middle = (edges[:, 1:, None] + edges[:, :-1, None]) / 2.0
    rows = len(edges)
    return (middle + half * x).reshape(rows, -1).T, (half * w).reshape(rows, -1).T


def _edges(cuts: Array, low: Array, high: Array, finer: int) -> Array:
    """Panel edges, (N, P + 1): as many for every row as the row that needs most."""
    if len(low) == 1:
        return _edges_of_one(cuts[:, 0], float(low[0]), float(high[0]), finer)[None, :]
    levels, rows, features = cuts.shape
    flat = np.moveaxis(cuts, 1, 0).reshape(rows, levels * features)
    order = np.argsort(flat, axis=1)
    points = np.take_along_axis(flat, order, axis=1)
    # Between two points that follow each other, the panel of each feature that they lie in: how
    # many of its cuts came before.
    panel = np.cumsum((order % features)[:, :, None] == np.arange(features), axis=1)[:, :-1]
    widths = np.diff(cuts, axis=0)  # (L - 1, N, F)
    safe = np.where(widths > 0.0, widths, np.inf)
    density = np.zeros((levels + 1, rows, features))
    density[1:levels] = 1.0 / safe
    at = density[panel, np.arange(rows)[:, None, None], np.arange(features)].max(axis=2)
    points = np.clip(points, low[:, None], high[:, None])
    passed = np.concatenate((np.zeros((rows, 1)), np.cumsum(at * np.diff(points, axis=1), axis=1)), axis=1)
    total = passed[:, -1:]
    most = float(total.max(initial=0.0))
    if not np.isfinite(most):
        raise ValueError("posteriors have no quantiles")
    panels = max(int(np.ceil(finer * most)), finer)
    # One interpolation for all rows: row n goes from n to n + 1.
    of_row = np.arange(rows)[:, None]
    share = np.divide(passed, total, out=np.zeros_like(passed), where=total > 0.0)
    wanted = np.linspace(0.0, 1.0, panels + 1)[1:-1] + of_row
    inner = np.interp(wanted.ravel(), (share + of_row).ravel(), points.ravel()).reshape(rows, panels - 1)
    return np.concatenate((low[:, None], inner, high[:, None]), axis=1)


def _edges_of_one(cuts: Array, low: float, high: float, finer: int) -> Array:
    """The same for one row, (P + 1,), `cuts` (L, F): a request waits for it."""
    levels, features = cuts.shape
    points = np.sort(cuts, axis=None)
    panel = np.empty((features, len(points) - 1), dtype=np.int64)
    for feature in range(features):
        panel[feature] = np.searchsorted(cuts[:, feature], points[:-1], side="right")
    widths = cuts[1:] - cuts[:-1]
    density = np.zeros((levels + 1, features))
    np.divide(1.0, widths, out=density[1:levels], where=widths > 0.0)
    at = density[panel, np.arange(features)[:, None]].max(axis=0)
    points = points.clip(low, high)
    passed = np.zeros(len(points))
    np.cumsum(at * (points[1:] - points[:-1]), out=passed[1:])
    most = float(passed[-1])
    if not np.isfinite(most):
        raise ValueError("posteriors have no quantiles")
    panels = max(int(np.ceil(finer * most)), finer)
    edges: Array = np.interp(np.arange(panels + 1) * (most / panels), passed, points)
    edges[0], edges[-1] = low, high
    return edges
