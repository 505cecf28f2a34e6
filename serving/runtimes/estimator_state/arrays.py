"""Sparse matrices and sources of random numbers: neither is checked when it is read from a file."""

from typing import Any

import numpy as np

from serving.runtimes.compiled_parts import StateInvalid

from .requirements import require

_RANDOM = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})


def check_sparse(matrix: Any) -> None:
    """Indices of a sparse matrix lie inside it: reading from a file does not check that, nor does
    multiplying."""
    require(matrix.format in {"csr", "csc", "coo"}, f"a sparse matrix of format {matrix.format}")
    try:
        if matrix.format == "coo":
            matrix._check()
        else:
            matrix.check_format(full_check=True)
    except ValueError as error:
        raise StateInvalid(f"a sparse matrix is damaged: {error}") from error


def check_random(source: Any) -> None:
    """Some sources of random numbers walk a table by a position that they restore as it is."""
    state = source.get_state(legacy=False) if isinstance(source, np.random.RandomState) else source.bit_generator.state
    kind = state["bit_generator"]
    position, last = {"MT19937": (state["state"].get("pos"), 624), "Philox": (state.get("buffer_pos"), 4)}.get(
        kind, (0, 0)
    )
    require(kind in _RANDOM and position is not None and 0 <= position <= last, "a source of random numbers is damaged")
