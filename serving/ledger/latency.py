"""Latencies as counts in logarithmic buckets: statistics that add, so shards and rebuilds merge
without loss.

Bucket i holds latencies up to FIRST_MS * GROWTH**i; a quantile read from it is off by at most
GROWTH - 1, that is 5 %.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

FIRST_MS = 0.01
GROWTH = 1.05
BUCKETS = 340  # up to 1.6e5 ms
_LOG_GROWTH = math.log(GROWTH)


def bucket(latency_ms: float) -> int:
    """The index of the bucket of a latency in milliseconds."""
    if not latency_ms > FIRST_MS:
        return 0
    return math.ceil(min(math.log(latency_ms / FIRST_MS) / _LOG_GROWTH, BUCKETS - 1))


def _first_above(i: int) -> float:
    """The least latency of the bucket after `i`, by `bucket` itself."""
    edge = FIRST_MS * GROWTH**i
    while bucket(edge) > i:
        edge = math.nextafter(edge, 0.0)
    while bucket(edge) <= i:
        edge = math.nextafter(edge, math.inf)
    return edge


STARTS = np.array([_first_above(i) for i in range(BUCKETS - 1)])
"""(BUCKETS - 1,): where the second bucket begins, and each after it. By them many latencies are
counted at once, here and in the database (`width_bucket`), and lie where `bucket` has them to the
last bit."""


def buckets(latencies_ms: NDArray[np.float64]) -> NDArray[np.int64]:
    """`bucket` of each of (n,)."""
    return np.searchsorted(STARTS, latencies_ms, side="right").astype(np.int64)


def count(latencies_ms: Iterable[float]) -> list[int]:
    """Counts by bucket, trailing zeros cut."""
    counts = [0] * BUCKETS
    for latency in latencies_ms:
        counts[bucket(latency)] += 1
    return _trim(counts)


def add(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Merge two histograms."""
    long, short = (left, right) if len(left) >= len(right) else (right, left)
    return [value + (short[i] if i < len(short) else 0) for i, value in enumerate(long)]


def quantile(counts: Sequence[int], q: float) -> float | None:
    """The q-quantile in milliseconds (upper edge of its bucket), or None when nothing was
    counted."""
    total = sum(counts)
    if not total:
        return None
    target = q * total
    seen = 0
    for i, value in enumerate(counts):
        seen += value
        if seen >= target:
            return FIRST_MS * GROWTH**i
    raise AssertionError("unreachable: the counts sum to their total")


def over(counts: Sequence[int], limit_ms: float) -> int:
    """How many latencies were more than `limit_ms`, to the resolution of a bucket: one that the
    limit cuts is let off."""
    return sum(counts[bucket(limit_ms) + 1 :])


def _trim(counts: list[int]) -> list[int]:
    while counts and not counts[-1]:
        counts.pop()
    return counts
