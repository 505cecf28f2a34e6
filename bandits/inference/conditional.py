"""The conditional e-process: within a stratum, who had the successes, given how many there were.

A stratum is what one fixed allocation decided: no outcome inside it steered it. Of a pair of arms
it holds n_i and n_j answered decisions and S successes of both. While the arms are alike there, S_i
is hypergeometric, whatever their mean, the propensities and how often each arm is answered, and
whatever the mean does meanwhile. With an odds ratio r of i against j it is Fisher's noncentral
hypergeometric,

    P(S_i = x)  =  C(n_i, x) C(n_j, S - x) r**x / Z(r)

so the factor for "i is better than j" is the likelihood ratio w**S_i Z(1) / Z(w), whose expectation
is at most 1 for every r <= 1: the likelihood ratio is monotone. Factors multiply over strata, and
are then averaged over ln w in STEPS. With an indifference the law below the line is that of the
odds ratio which the margin is at the pooled mean of earlier strata; exact for a margin in odds.

A stratum ends by how many rows it has or how many passed since, never by what they said or whose
they were. Only ended strata count: a look in between must not see a part that is seen again as a
whole. Rows of one label whose propensities differ (a policy that counts its own pulls, requests
that exclude an arm) are strata of their own, since time could tell the arms apart there.

Nothing but counts enters, so outcomes are 0 or 1. For bounded ones the tilted permutation law would
test equal distributions, not equal means. Sources: Fisher 1935 (the law); Ramdas et al. 2023
(e-processes). Counting with each propensity times the arm's share of answers so far was rejected:
between equal arms it promotes in up to all runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bandits.statistics import ArmStatistics, Array

from .counted import Counts, Kinds
from .hypergeometric import pair_log_factors
from .log_factors import STEPS, averaged, kept, pack, unpack
from .protocol import Bucket

_MOST_OPEN = 8
_AT_ONCE = 4096  # pairs whose sums are taken in one go: about 30 MB
_NUMBERS_AT_ONCE = 2_000_000  # propensities of buckets, or log factors, that are looked at together


@dataclass(frozen=True, slots=True)
class Stratum:
    """A stratum that is not over: `ones` and `count` (K,) by arm, and how many rows of others came
    `since` its last.

    It is over at `enough` rows, which the arms that its allocation could choose decide, not those
    that the experiment has by now.
    """

    label: int
    propensities: str  # a digest: rows of one label may have been drawn from several
    ones: NDArray[np.int64]
    count: NDArray[np.int64]
    since: int
    enough: int

    @property
    def key(self) -> tuple[int, str]:
        return self.label, self.propensities

    def to_dict(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "propensities": self.propensities,
            "ones": self.ones.tolist(),
            "count": self.count.tolist(),
            "since": self.since,
            "enough": self.enough,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        ones, count = (np.asarray(state[name], dtype=np.int64) for name in ("ones", "count"))
        return cls(state["label"], state["propensities"], ones, count, state["since"], state["enough"])


@dataclass(frozen=True, slots=True)
class ConditionalEvidence:
    """`superior` (K, K, G) and `noninferior` (K, K, G) are sums of log factors over the strata that
    have ended, `open` the others."""

    rule: ClassVar[str] = "conditional"

    indifference: float
    superior: Array
    noninferior: Array | None
    matured: ArmStatistics
    open: tuple[Stratum, ...] = ()

    @classmethod
    def empty(cls, arms: int, indifference: float = 0.0) -> Self:
        shape = (arms, arms, len(STEPS))
        noninferior = np.zeros(shape) if indifference > 0 else None
        return cls(indifference, np.zeros(shape), noninferior, ArmStatistics.zeros(arms))

    @property
    def arms(self) -> int:
        return self.matured.arms

    def with_arms(self, arms: int) -> Self:
        more = arms - self.arms
        if more <= 0:
            return self
        pairs = ((0, more), (0, more), (0, 0))
        return replace(
            self,
            superior=np.pad(self.superior, pairs),
            noninferior=None if self.noninferior is None else np.pad(self.noninferior, pairs),
            matured=self.matured.padded((0, more)),
            open=tuple(
                replace(one, ones=np.pad(one.ones, (0, more)), count=np.pad(one.count, (0, more))) for one in self.open
            ),
        )

    def observe(self, bucket: Bucket) -> Self:
        return self.observe_all((bucket,))

    def observe_all(self, buckets: Iterable[Bucket]) -> Self:
        """Raises ValueError for outcomes that are neither 0 nor 1, too."""
        evidence, waiting, numbers = self, list[Bucket](), 0
        for bucket in buckets:
            if len(bucket):
                waiting.append(bucket)
                numbers += bucket.propensities.size
            if numbers >= _NUMBERS_AT_ONCE:
                evidence = evidence.observe_counts(Counts.of(waiting, self.arms))
                waiting, numbers = [], 0
        return evidence.observe_counts(Counts.of(waiting, self.arms)) if waiting else evidence

    def observe_counts(self, counts: Counts) -> Self:
        """The same of buckets that are counted: whole ones, in order.

        Which strata go on is found bucket by bucket; what those say that have ended is found for
        many buckets at once. Raises ValueError for outcomes that are neither 0 nor 1.
        """
        if not len(counts):
            return self
        if not ((counts.outcome == 0.0) | (counts.outcome == 1.0)).all():
            raise ValueError("the conditional rule is for outcomes of 0 and 1")
        kinds = Kinds.of(counts)
        strata = _Strata(self.open)
        for start, end in pairwise(kinds.starts):
            strata.observe(kinds, start, end)
        before, before_total = np.rint(self.matured.count), np.rint(self.matured.total)
        matured = _of_ones(before_total + kinds.ones.sum(axis=0), before + kinds.count.sum(axis=0))
        ones, count = strata.sums(self.open, kinds, self.arms)
        evidence = replace(self, matured=matured, open=strata.open(ones, count))
        if not strata.ended:
            return evidence
        of, ended = np.array(strata.ended).T
        _, of = np.unique(of, return_inverse=True)
        ones, count = ones[ended], count[ended]
        margins = None
        if self.noninferior is not None:
            for one in self.open:
                before, before_total = before - one.count, before_total - one.ones
            margins = self._margins(_sums_before(before_total, ones, of), _sums_before(before, count, of))
        return evidence._weighed(ones, count, of, margins)

    def _weighed(
        self, ones: NDArray[np.int64], count: NDArray[np.int64], of: NDArray[np.int64], margins: Array | None
    ) -> Self:
        """With what strata say that ended in buckets `of`, one bucket after the other; `margins`
        were each bucket's."""
        superior, noninferior = self.superior, self.noninferior
        at_once = max(_NUMBERS_AT_ONCE // self.superior.size, 1)
        for first in range(0, int(of[-1]) + 1, at_once):
            start, end = np.searchsorted(of, (first, first + at_once))
            some, buckets = (ones[start:end], count[start:end]), of[start:end] - first
            experiments = int(buckets[-1]) + 1
            for sums in summed_log_factors(*some, of=buckets, experiments=experiments):
                superior = kept(superior + sums)
            if noninferior is not None and margins is not None:
                of_them = margins[first : first + experiments]
                for sums in summed_log_factors(*some, of_them, of=buckets, experiments=experiments):
                    noninferior = kept(noninferior + sums)
        return replace(self, superior=superior, noninferior=noninferior)

    def _margins(self, total: Array, count: Array) -> Array:
        """What the margin is in log-odds for each pair, (buckets, K, K), from the strata that had
        ended before: `total` of `count` outcomes (buckets, K).

        Between means p - m/2 and p + m/2 it is the smaller the nearer p is to one half, and the
        smaller margin claims less. So p, the pair's pooled mean, is moved towards one half by two
        standard errors, and by m/2, which unequal counts can shift it.
        """
        n = count[:, :, None] + count[:, None, :]
        mean = np.clip((total[:, :, None] + total[:, None, :] + 0.5) / (n + 1.0), 0.0, 1.0)
        half = self.indifference / 2.0
        moved = half + 2.0 * np.sqrt(mean * (1.0 - mean) / (n + 1.0))
        centre = np.where(mean < 0.5, np.minimum(mean + moved, 0.5), np.maximum(mean - moved, 0.5))
        margins: Array = special.logit(centre + half) - special.logit(centre - half)
        return margins

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
            "open": [one.to_dict() for one in self.open],
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        superior = unpack(state["superior"])
        if superior is None:
            raise ValueError("a state of evidence has no sums")
        return cls(
            state["indifference"],
            superior,
            unpack(state["noninferior"]),
            ArmStatistics.from_dict(state["matured"]),
            tuple(Stratum.from_dict(one) for one in state["open"]),
        )


@dataclass(slots=True)
class _Going:
    """A stratum that goes on, by its number; `rows` are of all arms."""

    number: int
    rows: int
    since: int
    enough: int


class _Strata:
    """Which strata go on and which have ended, bucket after bucket. Their counts are added up
    afterwards, all at once."""

    def __init__(self, open_: Sequence[Stratum]) -> None:
        self.ended: list[tuple[int, int]] = []
        """(bucket, number of the stratum)"""
        self._going = {one.key: _Going(i, int(one.count.sum()), one.since, one.enough) for i, one in enumerate(open_)}
        self._number_of: list[int] = []
        self._strata = len(open_)
        self._bucket = 0

    def observe(self, kinds: Kinds, start: int, end: int) -> None:
        """After a bucket's kinds. Of too many open strata, the longest unseen and the oldest labels
        end."""
        rows = kinds.rows[start:end]
        bucket_rows = sum(rows)
        for one in self._going.values():
            one.since += bucket_rows
        for key, more, rows_to_end in zip(
            zip(kinds.label[start:end], kinds.digest[start:end], strict=True),
            rows,
            kinds.enough[start:end],
            strict=True,
        ):
            going = self._going.get(key)
            if going is None:
                going = self._going[key] = _Going(self._strata, 0, 0, rows_to_end)
                self._strata += 1
            going.rows += more
            going.since = 0
            self._number_of.append(going.number)
        over = [key for key, one in self._going.items() if one.rows >= one.enough or one.since >= one.enough]
        for key in sorted(over):
            self._end(key)
        if len(self._going) > _MOST_OPEN:
            for key in self._in_order()[_MOST_OPEN:]:
                self._end(key)
        self._bucket += 1

    def _end(self, key: tuple[int, str]) -> None:
        self.ended.append((self._bucket, self._going.pop(key).number))

    def _in_order(self) -> list[tuple[int, str]]:
        return sorted(self._going, key=lambda key: (self._going[key].since, -key[0], key[1]))

    def sums(self, open_: Sequence[Stratum], kinds: Kinds, arms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`ones` and `count` (strata, K) by number of the stratum."""
        ones, count = (np.zeros((self._strata, arms), dtype=np.int64) for _ in range(2))
        for number, one in enumerate(open_):
            ones[number], count[number] = one.ones, one.count
        np.add.at(ones, self._number_of, kinds.ones)
        np.add.at(count, self._number_of, kinds.count)
        return ones, count

    def open(self, ones: NDArray[np.int64], count: NDArray[np.int64]) -> tuple[Stratum, ...]:
        """Those that go on, of which `sums` gave the counts."""
        return tuple(
            Stratum(*key, ones[one.number], count[one.number], one.since, one.enough)
            for key, one in ((key, self._going[key]) for key in self._in_order())
        )


def _of_ones(total: Array, count: Array) -> ArmStatistics:
    """Of `count` outcomes of 0 and 1, `total` of them 1: (K,), exact, however they came."""
    mean = np.divide(total, count, out=np.zeros(len(count)), where=count > 0)
    return ArmStatistics(count.astype(np.float64), mean, (count - total) * mean)


def _sums_before(known: Array, added: NDArray[np.int64], of: NDArray[np.int64]) -> Array:
    """What was `known` (K,) before each bucket, (buckets, K): with what strata (n, K) added that
    ended in buckets `of` (n,) before."""
    sums = np.zeros((int(of[-1]) + 1, len(known)))
    np.add.at(sums, of, added)
    before: Array = known + np.cumsum(sums, axis=0) - sums
    return before


def summed_log_factors(
    ones: NDArray[np.int64],
    count: NDArray[np.int64],
    margins: Array | None = None,
    of: NDArray[np.int64] | None = None,
    experiments: int = 1,
) -> Array:
    """Sums over strata of log factors that i is better than j by more than -margin: `ones`, `count`
    (strata, K) by arm.

    Of one experiment, (K, K, G), or with `of` (strata,) of each of so many experiments or buckets,
    (experiments, K, K, G). `margins` (experiments, K, K) are in log-odds, symmetric; none at all if
    None.
    """
    arms = ones.shape[1]
    better, worse = np.triu_indices(arms, 1)
    sums = np.zeros((experiments, arms, arms, len(STEPS)))
    stratum, pair = np.nonzero(_tell(ones, count, better, worse))
    for start in range(0, len(stratum), _AT_ONCE):
        s, p = stratum[start : start + _AT_ONCE], pair[start : start + _AT_ONCE]
        i, j = better[p], worse[p]
        experiment = np.zeros(len(s), dtype=np.int64) if of is None else of[s]
        margin = None if margins is None else margins[experiment, i, j]
        for_i, for_j = pair_log_factors(count[s, i], count[s, j], ones[s, i], ones[s, j], margin)
        np.add.at(sums, (experiment, i, j), for_i)
        np.add.at(sums, (experiment, j, i), for_j)
    return sums[0] if of is None else sums


def _tell(
    ones: NDArray[np.int64], count: NDArray[np.int64], better: NDArray[np.int64], worse: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which pairs of which strata say anything, (strata, pairs): both arms have rows, and not all
    outcomes are the same."""
    successes = ones[:, better] + ones[:, worse]
    rows = count[:, better] + count[:, worse]
    found: NDArray[np.bool_] = (count[:, better] > 0) & (count[:, worse] > 0) & (successes > 0) & (successes < rows)
    return found
