"""Likelihood ratios of Fisher's noncentral hypergeometric law: of two samples and the successes of
both, how many are the first one's.

Sources: Fisher 1935 (the law); Vatutin & Mikhailov 1982 (why few terms of its sum do).
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bandits.statistics import Array

from .log_factors import STEPS

_TABLE = 2**17
_WHOLE = (16, 64)  # so many possible counts, and every one of them is summed
_STEEPEST = 10.0  # log-odds whose powers up to the 64th are no larger than a number can be


def pair_log_factors(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    first_ones: NDArray[np.int64],
    second_ones: NDArray[np.int64],
    margin: Array | None = None,
) -> tuple[Array, Array]:
    """Log factors (P, G) of P pairs of samples, that the first is better and that the second is, by
    more than -`margin` in log-odds.

    `first` and `second` (P,) count the rows, `first_ones` and `second_ones` the successes.
    """
    ones, mine = first_ones + second_ones, first_ones[:, None].astype(np.float64)
    if margin is None:
        log_odds = np.concatenate([[0.0], STEPS, -STEPS])
        totals, of_pair = np.unique(np.stack([first, second, ones]), axis=1, return_inverse=True)
        repeated = np.broadcast_to(log_odds, (totals.shape[1], len(log_odds)))
        log_z = log_normaliser(totals[0], totals[1], totals[2], repeated)[of_pair]
        null_first = null_second = log_z[:, [0]]
        better, worse = log_z[:, 1 : 1 + len(STEPS)], log_z[:, 1 + len(STEPS) :]
    else:
        null = margin[:, None]
        log_odds = np.concatenate([-null, -null + STEPS, null, null - STEPS], axis=1)  # of the first against the second
        log_z = log_normaliser(first, second, ones, log_odds)
        null_first, better = log_z[:, [0]], log_z[:, 1 : 1 + len(STEPS)]
        null_second, worse = log_z[:, [1 + len(STEPS)]], log_z[:, 2 + len(STEPS) :]
    return STEPS * mine - (better - null_first), -STEPS * mine - (worse - null_second)


def log_normaliser(
    first: NDArray[np.int64], second: NDArray[np.int64], ones: NDArray[np.int64], log_odds: Array
) -> Array:
    """ln of Z(r) = sum over x of C(first, x) C(second, ones - x) r**x, less ln(first! second!), (P,
    M) for ln r in `log_odds` (P, M).

    Each pair's number follows from the pair alone, to the last digit: whoever sums many strata at
    once gets what each gives by itself.
    """
    sums = np.empty((len(first), log_odds.shape[1]))
    counts = np.minimum(first, ones) - np.maximum(0, ones - second) + 1
    counts = np.where(np.abs(log_odds).max(axis=1, initial=0.0) < _STEEPEST, counts, _WHOLE[-1] + 1)
    sizes = np.searchsorted(_WHOLE, counts)
    for size in np.unique(sizes):
        mine = np.flatnonzero(sizes == size)
        pairs = first[mine], second[mine], ones[mine], log_odds[mine]
        sums[mine] = _sum_around_mode(*pairs) if size == len(_WHOLE) else _whole_sum(*pairs, terms=_WHOLE[size])
    return sums


def _whole_sum(
    first: NDArray[np.int64], second: NDArray[np.int64], ones: NDArray[np.int64], log_odds: Array, terms: int
) -> Array:
    """Of pairs with so many possible counts at most: each term once, whatever the odds."""
    n, m, s = (part[:, None] for part in (first, second, ones))
    low, high = np.maximum(0, s - m), np.minimum(n, s)
    steps = np.arange(terms)
    x = np.minimum(low + steps, high)
    logs = -sum(_log_factorial(cell) for cell in (x, n - x, s - x, m - s + x))
    logs = np.where(low + steps <= high, logs, -np.inf)
    top = logs.max(axis=1, keepdims=True)
    same = bool((log_odds == log_odds[0]).all())
    powers = np.exp(steps * (log_odds[:1] if same else log_odds)[..., None])
    # Not a product of matrices, which would add in an order that depends on how many pairs there
    # are.
    sums = (np.exp(logs - top)[:, None, :] * powers).sum(axis=-1)
    found: Array = np.log(sums) + top + low * log_odds
    return found


def _sum_around_mode(
    first: NDArray[np.int64], second: NDArray[np.int64], ones: NDArray[np.int64], log_odds: Array
) -> Array:
    """Of any pairs. The count is a sum of independent indicators (Vatutin & Mikhailov 1982), so
    with steps of half its standard deviation, taken only where that is 4 or more, the sum is exact
    to 1e-13; some 60 terms do for a million rows.
    """
    n, m, s = (part[:, None].astype(np.float64) for part in (first, second, ones))
    low, high = np.maximum(0.0, s - m), np.minimum(n, s)
    odds = np.exp(log_odds)
    b = (n + s + 2.0) * odds + m - s
    c = (n + 1.0) * (s + 1.0) * odds
    mode = np.floor(2.0 * c / (b + np.sqrt(np.maximum(b * b - 4.0 * (odds - 1.0) * c, 0.0))))
    mode = np.clip(mode, low, high)
    cells = (mode, n - mode, s - mode, m - s + mode)
    deviation = 1.0 / np.sqrt(sum(1.0 / (cell + 0.5) for cell in cells))
    step = np.maximum(np.floor(deviation / 2.0), 1.0)
    reach = np.ceil((7.5 * deviation + 12.0) / step)
    start = np.maximum(low, mode - reach * step)
    last = np.minimum(np.floor((high - start) / step), 2.0 * reach)
    terms = np.arange(int(last.max()) + 1)
    inside = terms <= last[..., None]
    x = start[..., None] + step[..., None] * np.minimum(terms, last[..., None])
    n, m, s = n[..., None], m[..., None], s[..., None]
    logs = x * log_odds[..., None]
    for cell in (x, n - x, s - x, m - s + x):
        logs -= _log_factorial(cell)
    logs = np.where(inside, logs, -np.inf)
    top = logs.max(axis=-1, keepdims=True)
    # Along the first axis numpy adds term after term, so that further terms of other pairs, which
    # are 0 here, change nothing.
    sums = np.ascontiguousarray(np.moveaxis(np.exp(logs - top), -1, 0)).sum(axis=0)
    found: Array = np.log(sums) + top[..., 0] + np.log(step)
    return found


def _log_factorial(whole: Array) -> Array:
    """ln x! of whole numbers; small ones from a table, five times as fast."""
    largest = float(whole.max(initial=0.0))
    if largest >= _TABLE:
        found: Array = special.gammaln(whole + 1.0)
        return found
    return _log_factorials()[whole.astype(np.int64)]


@cache
def _log_factorials() -> Array:
    found: Array = special.gammaln(np.arange(_TABLE) + 1.0)
    return found
