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

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bandits.statistics import ArmStatistics, Array

from .hypergeometric import pair_log_factors
from .log_factors import STEPS, averaged, kept, pack, unpack
from .protocol import Bucket

SMALLEST_STRATUM = 20
ROWS_AN_ARM = 10
"""A stratum ends at 10 rows an arm, 20 at least: of smaller ones, too much is lost by taking S as
given."""
_MOST_OPEN = 8
_AT_ONCE = 4096  # pairs whose sums are taken in one go: about 30 MB
_NUMBERS_AT_ONCE = 2_000_000  # log factors of buckets that are found together


def enough(arms: int) -> int:
    """Rows at which a stratum ends, and rows without it after which it has ended."""
    return max(SMALLEST_STRATUM, ROWS_AN_ARM * arms)


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
    def is_over(self) -> bool:
        return bool(self.count.sum() >= self.enough or self.since >= self.enough)

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
        """Raises ValueError for outcomes that are neither 0 nor 1, too.

        Strata are counted bucket by bucket; what those say that have ended is found for many
        buckets at once.
        """
        evidence, ended, margins = self, list[list[Stratum]](), list[Array]()
        at_once = max(_NUMBERS_AT_ONCE // self.superior.size, 1)
        for bucket in buckets:
            bucket.check(self.arms)
            if not len(bucket):
                continue
            if not ((bucket.outcome == 0.0) | (bucket.outcome == 1.0)).all():
                raise ValueError("the conditional rule is for outcomes of 0 and 1")
            open_, over = self._sorted(evidence._carried_on(bucket))
            if over:
                ended.append(over)
                margins.append(evidence._margins())
            matured = evidence.matured + ArmStatistics.from_rewards(bucket.arm, bucket.outcome, self.arms)
            evidence = replace(evidence, matured=matured, open=open_)
            if len(ended) >= at_once:
                evidence = evidence._weighed(ended, margins)
                ended.clear()
                margins.clear()
        return evidence._weighed(ended, margins) if ended else evidence

    def _weighed(self, ended: list[list[Stratum]], margins: list[Array]) -> Self:
        """With what the strata say that ended in each of some buckets, one bucket after the other;
        `margins` were each bucket's."""
        ones, count = (
            np.stack([getattr(one, name) for strata in ended for one in strata]) for name in ("ones", "count")
        )
        of = np.repeat(np.arange(len(ended)), [len(strata) for strata in ended])
        superior, noninferior = self.superior, self.noninferior
        for sums in summed_log_factors(ones, count, of=of, experiments=len(ended)):
            superior = kept(superior + sums)
        if noninferior is not None:
            for sums in summed_log_factors(ones, count, np.stack(margins), of=of, experiments=len(ended)):
                noninferior = kept(noninferior + sums)
        return replace(self, superior=superior, noninferior=noninferior)

    def _carried_on(self, bucket: Bucket) -> list[Stratum]:
        """Every open stratum after the bucket's rows, and those that begin with it."""
        open_ = {one.key: one for one in self.open}
        new = {one.key: one for one in _counted(bucket, self.arms)}
        strata = []
        for key in sorted(open_.keys() | new.keys()):
            before, more = open_.get(key), new.get(key)
            if before is None or more is None:
                one = before or more
                assert one is not None  # the key is of one of the two
                strata.append(one if before is None else replace(one, since=one.since + len(bucket)))
                continue
            strata.append(replace(before, ones=before.ones + more.ones, count=before.count + more.count, since=0))
        return strata

    @staticmethod
    def _sorted(strata: list[Stratum]) -> tuple[tuple[Stratum, ...], list[Stratum]]:
        """Those that stay open and those that have ended. Of too many open ones, the longest unseen
        and the oldest labels end."""
        going: list[Stratum] = []
        ended: list[Stratum] = []
        for one in strata:
            (ended if one.is_over else going).append(one)
        going.sort(key=lambda one: (one.since, -one.label, one.propensities))
        return tuple(going[:_MOST_OPEN]), ended + going[_MOST_OPEN:]

    def _margins(self) -> Array:
        """What the margin is in log-odds for each pair, (K, K), from the strata that have ended.

        Between means p - m/2 and p + m/2 it is the smaller the nearer p is to one half, and the
        smaller margin claims less. So p, the pair's pooled mean, is moved towards one half by two
        standard errors, and by m/2, which unequal counts can shift it.
        """
        if self.noninferior is None:
            return np.zeros(0)
        count, total = self.matured.count.copy(), self.matured.total
        for one in self.open:
            count, total = count - one.count, total - one.ones
        n = count[:, None] + count[None, :]
        mean = np.clip((total[:, None] + total[None, :] + 0.5) / (n + 1.0), 0.0, 1.0)
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


def _counted(bucket: Bucket, arms: int) -> Iterator[Stratum]:
    """The bucket's strata. Arms that an allocation does not know yet are no part of it: zeros at
    its end say nothing."""
    alike = bucket.allocation[0] == bucket.allocation[-1] and (bucket.propensities[0] == bucket.propensities[-1]).all()
    if (
        alike
        and (bucket.allocation == bucket.allocation[0]).all()
        and (bucket.propensities == bucket.propensities[0]).all()
    ):
        count = np.bincount(bucket.arm, minlength=arms)
        ones = np.bincount(bucket.arm[bucket.outcome == 1.0], minlength=arms)
        yield _begun(int(bucket.allocation[0]), np.round(bucket.propensities[0], 9) + 0.0, ones, count)
        return
    rounded = np.round(bucket.propensities, 9) + 0.0
    labels, first, of_label = np.unique(bucket.allocation, return_index=True, return_inverse=True)
    if (rounded == rounded[first[of_label]]).all():
        kinds, of_row = [(int(label), rounded[row]) for label, row in zip(labels, first, strict=True)], of_label
    else:
        vectors, of_vector = np.unique(rounded, axis=0, return_inverse=True)
        codes, of_row = np.unique(of_label * len(vectors) + of_vector, return_inverse=True)
        kinds = [(int(labels[code // len(vectors)]), vectors[code % len(vectors)]) for code in codes]
    flat = of_row * arms + bucket.arm
    size = len(kinds) * arms
    count = np.bincount(flat, minlength=size).reshape(-1, arms)
    ones = np.bincount(flat[bucket.outcome == 1.0], minlength=size).reshape(-1, arms)
    for (label, vector), successes, rows in zip(kinds, ones, count, strict=True):
        yield _begun(label, vector, successes, rows)


def _begun(label: int, propensities: Array, ones: NDArray[np.int64], count: NDArray[np.int64]) -> Stratum:
    """A stratum of rows that were drawn with these propensities (K,)."""
    last = int(np.flatnonzero(propensities)[-1]) + 1
    known = propensities[:last]
    digest = blake2b(known.tobytes(), digest_size=8).hexdigest()
    return Stratum(label, digest, ones, count, 0, enough(int(np.count_nonzero(known))))


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
