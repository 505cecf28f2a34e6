"""Buckets of decisions as counts: a row for all decisions of a bucket that are alike.

What depends on nothing but counts reads a million decisions as a few ten thousand rows, and finds
the strata of many buckets at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bandits.statistics import Array

from .protocol import Bucket

SMALLEST_STRATUM = 20
ROWS_AN_ARM = 10
"""A stratum ends at 10 rows an arm, 20 at least: of smaller ones, too much is lost by taking S as
given."""


def enough(arms: int) -> int:
    """Rows at which a stratum ends, and rows without it after which it has ended."""
    return max(SMALLEST_STRATUM, ROWS_AN_ARM * arms)


@dataclass(frozen=True, slots=True)
class Counts:
    """Decisions of many buckets, in any order inside each.

    `bucket` (n,) numbers the buckets and never falls. `arm`, `outcome` and `allocation` (n,) are
    those of `Bucket`. `propensities` (v, K) are the different vectors, `vector` (n,) is the place
    of a row's. `rows` (n,) says how many decisions a row stands for.
    """

    bucket: NDArray[np.int64]
    arm: NDArray[np.int64]
    outcome: Array
    allocation: NDArray[np.int64]
    propensities: Array
    vector: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, buckets: Sequence[Bucket], arms: int) -> Self:
        """One row a decision. Raises ValueError, as `Bucket.check` does."""
        joined = Bucket(
            *(
                np.concatenate([getattr(bucket, name) for bucket in buckets])
                for name in ("arm", "outcome", "propensities", "allocation")
            )
        )
        joined.check(arms)
        number = np.repeat(np.arange(len(buckets)), [len(bucket) for bucket in buckets])
        vectors, vector = distinct(joined.propensities)
        rows = np.ones(len(joined), dtype=np.int64)
        return cls(number, joined.arm, joined.outcome, joined.allocation, vectors, vector, rows)

    def __len__(self) -> int:
        return len(self.bucket)


def distinct(propensities: Array) -> tuple[Array, NDArray[np.int64]]:
    """The different vectors (v, K) of propensities (n, K), and which of them each row (n,) has."""
    changes = np.ones(len(propensities), dtype=np.bool_)
    changes[1:] = (propensities[1:] != propensities[:-1]).any(axis=1)
    vectors, which = np.unique(propensities[changes], axis=0, return_inverse=True)
    return vectors, which.ravel()[np.cumsum(changes) - 1]


@dataclass(frozen=True, slots=True)
class Kinds:
    """Decisions of one bucket, label and vector of propensities, for each of which there is a kind.

    In order of bucket, label and digest. `enough` rows end a stratum of the kind. `ones` and
    `count` (kinds, K) are by arm, `rows` of all arms. `starts` (b + 1,) are the places where
    buckets begin, and the end.
    """

    label: list[int]
    digest: list[str]
    enough: list[int]
    rows: list[int]
    ones: NDArray[np.int64]
    count: NDArray[np.int64]
    starts: list[int]

    @classmethod
    def of(cls, counts: Counts) -> Self:
        """Arms that an allocation does not know yet are no part of it: zeros at its end say
        nothing."""
        arms = counts.propensities.shape[1]
        # Rounded, for what was computed twice may differ in its last digits.
        known = [np.trim_zeros(vector, "b") for vector in np.round(counts.propensities, 9) + 0.0]
        names = [blake2b(vector.tobytes(), digest_size=8).hexdigest() for vector in known]
        digests, digest_of = np.unique(names, return_inverse=True)
        ends_at = np.array([enough(int(np.count_nonzero(vector))) for vector in known])
        digest = digest_of[counts.vector]
        order = np.lexsort((digest, counts.allocation, counts.bucket))
        keys = np.stack([counts.bucket[order], counts.allocation[order], digest[order]])
        new = np.ones(len(order), dtype=np.bool_)
        new[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
        bucket, label, digest = keys[:, new]
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.cumsum(new) - 1
        flat, size = place * arms + counts.arm, len(bucket) * arms
        count = np.bincount(flat, weights=counts.rows, minlength=size).reshape(-1, arms)
        ones = np.bincount(flat, weights=counts.rows * counts.outcome, minlength=size).reshape(-1, arms)
        return cls(
            label.tolist(),
            digests[digest].tolist(),
            ends_at[counts.vector[order[new]]].tolist(),
            count.sum(axis=1).astype(np.int64).tolist(),
            ones.astype(np.int64),
            count.astype(np.int64),
            [0, *(np.flatnonzero(np.diff(bucket)) + 1).tolist(), len(bucket)],
        )
