"""Rows on which a compiled model is held against its original: where that has been. Runs only in
the inspecting child process.

Rows combine, feature by feature, the values that a model remembers, the nearest doubles and floats
on both sides, and the decimals around: what data look like, and where answers change. Which of them
the model takes is for the caller to find out.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .trace_reader import Reader
from .traces import JOINT, USUAL, VALUES, Rows, Traces

ROWS = 3072
"""At most as many rows of values combined; whole rows that the model remembers come on top."""
_SEED = 20_240_501


@dataclass(frozen=True, slots=True)
class CheckRows:
    """Rows (n, features), the sample's first; `exact` are the features that take no other values
    than those seen."""

    rows: Any  # an array, or of columns a Table
    exact: frozenset[int]


def check_rows(estimator: Any, features: int, sample: Rows | None) -> CheckRows:
    """Seeded rows where this estimator's data were; whether it answers each of them is for the
    caller to find out."""
    generator = np.random.default_rng(_SEED)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        traces = Reader(generator).model(estimator, features)
        if sample is not None:
            traces += Traces([np.unique(column)[:VALUES] for column in sample.T], sample[:JOINT])
        rows = _rows(traces.thinned(generator), generator)
    rows = rows[np.isfinite(rows).all(axis=1)]
    return CheckRows(rows if sample is None else np.concatenate((sample, rows)), traces.exact)


def _rows(traces: Traces, generator: np.random.Generator) -> Rows:
    own = [held if len(held) else USUAL for held in traces.values]
    near = [held if column in traces.exact else neighbours(held) for column, held in enumerate(own)]
    free = [column for column in range(traces.features) if column not in traces.exact]

    def drawn(lists: list[Rows], rows: int) -> Rows:
        columns = [_drawn(generator, held, rows) for held in lists]
        return np.stack(columns, axis=1) if columns else np.empty((rows, 0))

    part = ROWS // 6
    parts = [drawn(near, 2 * part), drawn(own, part)]
    between = drawn(own, part)
    for column in free:
        between[:, column] = generator.uniform(own[column].min(), own[column].max(), part)
    parts += [rounded(drawn(near, part), free, generator), rounded(between, free, generator)]
    joint = traces.filled(generator)
    if len(joint):
        joint = joint[np.isfinite(joint).all(axis=1)][:JOINT]
        parts += [
            joint,
            rounded(joint.copy(), free, generator),
            rounded(_beside(joint, free, generator), free, generator),
        ]
    return np.concatenate(parts)


def _beside(rows: Rows, columns: Sequence[int], generator: np.random.Generator) -> Rows:
    """A few last digits away, as another row of the same data would be: where neighbours are
    equally far."""
    aside = rows.copy()
    for column in columns:
        step = 10.0 ** generator.integers(-2, 1, len(rows))
        aside[:, column] += step * generator.integers(-2, 3, len(rows))
    return aside


def _drawn(generator: np.random.Generator, held: Rows, rows: int) -> Rows:
    """Each value once where there is room for it, in any order, and as many again as are
    missing."""
    once = generator.permutation(held)[:rows]
    return generator.permutation(np.concatenate((once, generator.choice(held, rows - len(once)))))


def rounded(rows: Rows, columns: Sequence[int], generator: np.random.Generator) -> Rows:
    """With as few decimals as data have: a row's numbers all with none to three, or each with two
    or three digits of its span."""
    if not len(columns) or not len(rows):
        return rows
    held = rows[:, columns]
    span = np.ptp(held, axis=0)
    span = np.where(span > 0.0, span, np.maximum(np.abs(held).max(axis=0), 1.0))
    digits = np.clip(-np.floor(np.log10(span)), -300, 300).astype(int)
    choice = generator.choice(6, len(rows), p=(0.15, 0.35, 0.1, 0.1, 0.15, 0.15))
    for decimals in range(4):
        held[choice == decimals] = np.round(held[choice == decimals], decimals)
    for choices, more in ((4, 1), (5, 2)):
        for position in range(len(columns)):
            held[choice == choices, position] = np.round(
                held[choice == choices, position], int(digits[position]) + more
            )
    rows[:, columns] = held
    return rows


def neighbours(values: Rows) -> Rows:
    """The values, the next doubles and floats on both sides, the points where floats change, and
    the decimals around."""
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
        below = np.nextafter(single, np.float32(-np.inf)).astype(np.float64)
        above = np.nextafter(single, np.float32(np.inf)).astype(np.float64)
        middle = single.astype(np.float64)
        turns = np.concatenate(((below + middle) / 2, (above + middle) / 2))
        exact = np.concatenate((values, turns))
        near = [values, middle, below, above, turns, np.nextafter(exact, -np.inf), np.nextafter(exact, np.inf)]
        for step in (1.0, 0.1, 0.01):
            near += [np.floor(values / step) * step, np.ceil(values / step) * step]
            near += [np.round(values, 1), np.round(values, 2)]
        held = np.unique(np.concatenate(near))
    finite: Rows = held[np.isfinite(held)]
    return finite if len(finite) else USUAL
