"""Sums of log factors: how evidence that grows by multiplication is kept, written down and
averaged.

A test supermartingale is a product of factors; its logarithm is a sum, which adds up in any order.
Sums are kept as whole multiples of 2**-24, so that what is written down is what is in memory:
evidence read from a row and evidence replayed from the ledger are the same numbers. (Coarser, a
million buckets of one rare outcome each would be rounded the same way a million times.) Packed, a
hundred arms' sums are a quarter of a megabyte; as a list of decimals they would be one.
"""

import base64
import zlib
from typing import Any

import numpy as np
from scipy import special

from bandits.statistics import Array

STEPS = np.array([0.1, 0.2, 0.4, 0.8, 1.6])
"""Distances in log-odds between the two means of an alternative; log-odds steps work at every base
rate."""

EDGE = 1e-4
"""Pooled means are kept this far from 0 and 1, where log-odds end."""

_UNIT = 2.0**-24
_LIMIT = 2.0**14  # e**16384 is evidence enough in either direction


def kept(sums: Array) -> Array:
    """The sums as they are kept: whole multiples of 2**-24 between -16384 and 16384.

    Rounding is to the nearest, so it favours nobody; the lower limit can lift a product by
    e**-16384 at most.
    """
    rounded: Array = np.rint(np.clip(sums, -_LIMIT, _LIMIT) / _UNIT) * _UNIT
    return rounded + 0.0  # no minus zero


def averaged(log_factors: Array) -> Array:
    """Sums of log factors (..., G) as evidence (...): their products, averaged over the grid."""
    values = special.logsumexp(log_factors, axis=-1) - np.log(log_factors.shape[-1])
    products: Array = np.exp(np.minimum(values, 700.0))
    return products


def pack(sums: Array | None) -> dict[str, Any] | None:
    """Kept sums as JSON: their shape, and their multiples as base64 of compressed 64-bit whole
    numbers.

    First all lowest bytes, then all next ones: the high bytes, which are alike, take hardly any
    room.
    """
    if sums is None:
        return None
    planes = np.rint(sums / _UNIT).astype("<i8").reshape(-1, 1).view(np.uint8).T
    return {"shape": list(sums.shape), "units": base64.b64encode(zlib.compress(planes.tobytes())).decode()}


def unpack(state: Any) -> Array | None:
    """What `pack` wrote, or a list of numbers, as states were written once."""
    if state is None:
        return None
    if isinstance(state, list):
        return np.asarray(state, dtype=np.float64)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(state["units"])), dtype=np.uint8).reshape(8, -1)
    units = np.ascontiguousarray(planes.T).view("<i8")
    return units.reshape(state["shape"]).astype(np.float64) * _UNIT
