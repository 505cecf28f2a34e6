"""Evidence for policies that look at the request: weighted outcomes, compared by betting.

There the probability of an arm depends on the request, and so does its mean. With W_i = 1{A = i} /
e_i and any number b that was fixed before, W_i (Y - b) has the expectation mu_i(x) - b at every
request x, so

    Z  =  W_i (Y - b)  -  W_j (Y - b)

has that of mu_i - mu_j averaged over requests, whatever the policy does with them. A factor 1 +
stake * Z, with a stake that was fixed before and keeps it positive, has an expectation of at most 1
while i is not better than j on average: the product over decisions is a test supermartingale, and
so is its average over stakes. Common drift changes nothing.

Z is bounded by 1 / f where no probability is below f. The f that is used is the smallest that
earlier buckets showed; a request with a smaller one, or 0, counts by a bound that holds there
still: with W' = min(W, 1/f),

    W'_i Y - b  in place of  W_i (Y - b),      W'_j (1 - Y) - (1 - b)  in place of  -W_j (Y - b)

So a policy without a floor can't steer what is compared by giving 0 where an arm is good. Only an
arm that no request of a bucket's allocation could get (switched off, or not there yet) is left out
of its comparisons meanwhile: they are about the time when both could be drawn. So are those of a
request that excludes an arm: it is compared among the arms that it was for.

An arm's comparisons begin with the bucket after the one in which a request first could get it. So
what is bet on them, and how small a probability is expected, follows from the log alone, and never
from when somebody added the arm to the experiment.

Stakes come from earlier buckets: a step in log-odds times b (1 - b) is a difference of means, and
divided by the variance of Z the stake that is best for it. Source: Waudby-Smith, Wu, Ramdas,
Karampatziakis & Mineiro 2022.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bandits.statistics import ArmStatistics, Array

from .log_factors import EDGE, STEPS, averaged, kept, pack, unpack
from .protocol import Bucket

_BOLDEST = 0.9  # no bet may lose more than this share
_SMALLEST_FLOOR = 1e-4
_HIGHEST_FLOOR = 0.1  # of an even share: whatever was seen so far, less may come
_ROWS_TO_BE_OFF = 20
_AT_ONCE = 2_000_000  # numbers of a block of log factors


@dataclass(frozen=True, slots=True)
class WeightedEvidence:
    """`superior` (K, K, G) and `noninferior` (K, K, G) are sums of log factors; `floor` (K,) the
    smallest propensities that were seen, 1 where none was, `inverse` (K,) the sums of 1 /
    propensity over `rows` (K,) requests that could get the arm."""

    rule: ClassVar[str] = "weighted"

    indifference: float
    superior: Array
    noninferior: Array | None
    matured: ArmStatistics
    floor: Array
    inverse: Array
    rows: Array

    @classmethod
    def empty(cls, arms: int, indifference: float = 0.0) -> Self:
        shape = (arms, arms, len(STEPS))
        noninferior = np.zeros(shape) if indifference > 0 else None
        single = np.zeros(arms)
        matured = ArmStatistics.zeros(arms)
        return cls(indifference, np.zeros(shape), noninferior, matured, single + 1.0, single, single)

    @property
    def arms(self) -> int:
        return self.matured.arms

    def with_arms(self, arms: int) -> Self:
        more = arms - self.arms
        if more <= 0:
            return self
        pairs, single = ((0, more), (0, more), (0, 0)), (0, more)
        return replace(
            self,
            superior=np.pad(self.superior, pairs),
            noninferior=None if self.noninferior is None else np.pad(self.noninferior, pairs),
            matured=self.matured.padded(single),
            floor=np.pad(self.floor, single, constant_values=1.0),
            inverse=np.pad(self.inverse, single),
            rows=np.pad(self.rows, single),
        )

    def observe_all(self, buckets: Iterable[Bucket]) -> Self:
        evidence = self
        for bucket in buckets:
            evidence = evidence.observe(bucket)
        return evidence

    def observe(self, bucket: Bucket) -> Self:
        bucket.check(self.arms)
        if not len(bucket):
            return self
        count, mean, _ = self.matured.pooled()
        base = float(np.clip((count * mean + 0.5) / (count + 1.0), EDGE, 1.0 - EDGE)[0])
        floor = self._lowest()
        stakes = self._stakes(base, floor)
        superior, noninferior = self.superior, self.noninferior
        for rows, on in self._by_arms_on(bucket):
            part = Bucket(bucket.arm[rows], bucket.outcome[rows], bucket.propensities[rows], bucket.allocation[rows])
            superior = superior + _log_factors(part, on, floor, base, stakes, 0.0)
            if noninferior is not None:
                noninferior = noninferior + _log_factors(part, on, floor, base, stakes, self.indifference)
        possible = bucket.propensities > 0.0
        least = np.where(possible, bucket.propensities, 1.0).min(axis=0) * (1.0 - 1e-9)
        bounded = np.maximum(bucket.propensities, _SMALLEST_FLOOR)
        return replace(
            self,
            superior=kept(superior),
            noninferior=None if noninferior is None else kept(noninferior),
            matured=self.matured + ArmStatistics.from_rewards(bucket.arm, bucket.outcome, self.arms),
            floor=np.minimum(self.floor, np.maximum(least, _SMALLEST_FLOOR)),
            inverse=self.inverse + np.where(possible, 1.0 / bounded, 0.0).sum(axis=0),
            rows=self.rows + possible.sum(axis=0),
        )

    @property
    def _there(self) -> int:
        """How many arms some request could get so far. Those that the experiment has are no part of
        the log."""
        return max(int((self.rows > 0).sum()), 1)

    def _lowest(self) -> Array:
        """The propensities (K,) below which a request counts by its bound."""
        lowest: Array = np.minimum(self.floor, _HIGHEST_FLOOR / self._there)
        return lowest

    def _stakes(self, base: float, floor: Array) -> Array:
        """(K, K, G): the best for each alternative, and no greater than keeps every factor
        positive."""
        # As many requests' worth of an even split as there are arms steadies the first estimates.
        inverse = (self.inverse + self._there**2) / (self.rows + self._there)
        best = STEPS / (inverse[:, None] + inverse[None, :])[..., None]
        loss_by_i = base / floor[:, None] + (1.0 - base)
        loss_by_j = (1.0 - base) / floor[None, :] + base
        stakes: Array = np.minimum(best, _BOLDEST / np.maximum(loss_by_i, loss_by_j)[..., None])
        return stakes

    def _by_arms_on(self, bucket: Bucket) -> list[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
        """Rows that are alike in which arms (K,) are on: they are for them, and some request of
        their allocation could get them, or there were too few to tell.

        An arm that no request of an earlier bucket could get is not there yet, however few rows
        there are.
        """
        possible = bucket.propensities > 0.0
        there = self.rows > 0
        kinds: dict[bytes, tuple[list[NDArray[np.int64]], NDArray[np.bool_]]] = {}
        order = np.argsort(bucket.allocation, kind="stable")
        _, starts = np.unique(bucket.allocation[order], return_index=True)
        for rows in np.split(order, starts[1:]):
            on = np.ones(self.arms, dtype=np.bool_) if len(rows) < _ROWS_TO_BE_OFF else possible[rows].any(axis=0)
            for alike, are_for in _by_eligible(bucket, rows):
                both = on & there & are_for
                kinds.setdefault(both.tobytes(), ([], both))[0].append(alike)
        return [(np.concatenate(parts), on) for parts, on in kinds.values()]

    def e_values(self) -> Array:
        return averaged(self.superior)

    def noninferiority_e_values(self) -> Array | None:
        return None if self.noninferior is None else averaged(self.noninferior)

    def to_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "indifference": self.indifference,
            "superior": pack(self.superior),
            "noninferior": pack(self.noninferior),
            "matured": self.matured.to_dict(),
            "floor": self.floor.tolist(),
            "inverse": self.inverse.tolist(),
            "rows": self.rows.tolist(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        superior = unpack(state["superior"])
        if superior is None:
            raise ValueError("a state of evidence has no sums")
        floor, inverse, rows = (np.asarray(state[name], dtype=np.float64) for name in ("floor", "inverse", "rows"))
        noninferior, matured = unpack(state["noninferior"]), ArmStatistics.from_dict(state["matured"])
        return cls(state["indifference"], superior, noninferior, matured, floor, inverse, rows)


def _by_eligible(bucket: Bucket, rows: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """The rows by which arms (K,) they are for."""
    if bucket.eligible is None:
        return [(rows, np.ones(bucket.propensities.shape[1], dtype=np.bool_))]
    patterns, of_row = np.unique(bucket.eligible[rows], axis=0, return_inverse=True)
    return [(rows[of_row.ravel() == i], pattern) for i, pattern in enumerate(patterns)]


def _log_factors(
    bucket: Bucket, on: NDArray[np.bool_], floor: Array, base: float, stakes: Array, margin: float
) -> Array:
    """Sums of log factors (K, K, G) that i is better than j by more than -margin, of pairs whose
    arms are both `on`."""
    arms = len(floor)
    low = (bucket.propensities < floor)[:, on].any(axis=1)
    usual = np.flatnonzero(~low)
    sums = np.zeros_like(stakes)
    for chosen in np.unique(bucket.arm[usual]):
        rows = usual[bucket.arm[usual] == chosen]
        weighted = (bucket.outcome[rows] - base) / bucket.propensities[rows, chosen]
        for start, size in _blocks(len(rows) if on[chosen] else 0, arms * len(STEPS)):
            z = weighted[start : start + size, None, None]
            sums[chosen] += np.log1p(stakes[chosen] * (z + margin)).sum(axis=0)
            sums[:, chosen] += np.log1p(stakes[:, chosen] * (margin - z)).sum(axis=0)
        if margin > 0.0:  # the pairs of other arms
            other = len(rows) * np.log1p(stakes * margin)
            other[chosen] = other[:, chosen] = 0.0
            sums += other
    rare = np.flatnonzero(low)
    for start, size in _blocks(len(rare), arms * arms * len(STEPS)):
        rows = rare[start : start + size]
        z = _bounded(bucket, rows, floor, base)
        sums += np.log1p(stakes * (z[..., None] + margin)).sum(axis=0)
    sums[~on] = 0.0
    sums[:, ~on] = 0.0
    sums[np.arange(arms), np.arange(arms)] = 0.0
    return sums


def _bounded(bucket: Bucket, rows: NDArray[np.int64], floor: Array, base: float) -> Array:
    """Z (n, K, K) of rows where some propensity is below its floor: never more than the outcome has
    in expectation."""
    e, y = bucket.propensities[rows], bucket.outcome[rows][:, None]
    chosen = bucket.arm[rows][:, None] == np.arange(len(floor))
    below = e < floor
    weight = np.where(chosen, 1.0 / np.maximum(e, floor), 0.0)
    as_better = np.where(below, weight * y - base, weight * (y - base))
    as_worse = np.where(below, weight * (1.0 - y) - (1.0 - base), weight * (base - y))
    z: Array = as_better[:, :, None] + as_worse[:, None, :]
    return z


def _blocks(rows: int, numbers_a_row: int) -> list[tuple[int, int]]:
    """(start, size) of blocks of rows that keep the numbers in memory few."""
    size = max(_AT_ONCE // numbers_a_row, 1)
    return [(start, size) for start in range(0, rows, size)]
