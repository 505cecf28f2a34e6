"""Rows of columns on which a compiled model is held against its original: where that has been. Runs
only in the inspecting child process.

Numbers are those that `check_rows` makes. Strings are the categories that the model knows, others
beside them, and texts of the words that it knows; null stands where a column is nullable.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtimes.columns import Column, Columns, Rows, Table, dtype_of, rows_from
from serving.runtimes.estimator_columns import ColumnFacts, facts_of, words_of

from .check_rows import ROWS, CheckRows, check_rows
from .original import Answers, Original, joined

_SEED = 20_261_125
_VALUES = 300  # strings tried a column
_WORDS = 12
_STRANGE = ["", " ", "é", "日本", "None", "nan", "1", "1.0", "a\nb", "__proto__", "x" * 300]
_NULLS = 0.1
_VERIFIED = 500
"""Columns whose nulls are tried one by one; beyond, what the model tells is believed."""


def check_table(estimator: Any, columns: Columns, sample: Rows | None) -> CheckRows:
    """Seeded rows, the sample's first; whether the model answers each is for the caller to find
    out."""
    generator = np.random.default_rng(_SEED)
    facts = facts_of(estimator, len(columns))
    numbers = _numbers(estimator, columns)
    rows = generator.permutation(len(numbers))[:ROWS]
    words = words_of(estimator)
    arrays = [
        _values(column, facts[place], numbers[rows, place], words, generator) for place, column in enumerate(columns)
    ]
    drawn = rows_from(columns, arrays)
    return CheckRows(drawn if sample is None else joined(sample, drawn), frozenset(range(len(columns))))


def refused_nulls(original: Original, answers: Answers, columns: Columns) -> list[tuple[int, str]]:
    """Of nullable columns, the places of those that the model takes no null in, with its reason: a
    row that it answers is asked again with null there."""
    refused = []
    for place in [place for place, column in enumerate(columns) if column.nullable][:_VERIFIED]:
        told = original.answers(_with_null(answers.rows[:4], columns, place), named=4)
        if not len(told.rows):
            refused.append((place, told.problem or ""))
    return refused


def _with_null(rows: Rows, columns: Columns, place: int) -> Rows:
    if not isinstance(rows, Table):
        changed = rows.copy()
        changed[:, place] = np.nan
        return changed
    arrays = list(rows.arrays)
    arrays[place] = np.full(len(rows), None if columns[place].type in {"string", "boolean"} else np.nan)
    return Table(columns, [array.astype(dtype_of(c)) for array, c in zip(arrays, columns, strict=True)])


def _numbers(estimator: Any, columns: Columns) -> NDArray[np.float64]:
    try:
        rows: NDArray[np.float64] = check_rows(estimator, len(columns), None).rows
    except Exception:  # an estimator of text alone remembers no numbers
        return np.zeros((ROWS, len(columns)))
    return rows


def _values(
    column: Column, facts: ColumnFacts, numbers: NDArray[np.float64], words: Sequence[str], generator: Any
) -> NDArray[Any]:
    count = len(numbers)
    known = [value for categories in facts.categories for value in categories.tolist() if value == value]
    if column.type == "string":
        values = _strings(facts, [value for value in known if isinstance(value, str)], words, generator)
        array = np.empty(count, dtype=object)
        array[:] = [values[place] for place in generator.integers(len(values), size=count)]
    elif column.type == "boolean":
        array = (generator.random(count) < 0.5).astype(dtype_of(column))
    else:
        array = numbers.copy()
        present = [float(value) for value in known if isinstance(value, int | float)]
        if present:
            often = generator.random(count) < (1.0 if facts.refuses_unknown else 0.8)
            array[often] = generator.choice(present, int(often.sum()))
            if not facts.refuses_unknown:  # beside a category, where rounding would make it one
                array[generator.random(count) < 0.1] += 0.4
        if column.type == "integer":
            array = np.clip(np.round(array), -(2.0**53), 2.0**53).astype(dtype_of(column))
    if column.nullable:
        array[generator.random(count) < _NULLS] = None if array.dtype.kind == "O" else np.nan
    return array


def _strings(facts: ColumnFacts, known: list[str], words: Sequence[str], generator: Any) -> list[str]:
    if facts.is_text:
        texts = list(_STRANGE)
        for _ in range(_VALUES):
            chosen = [str(word) for word in generator.choice(words, generator.integers(1, _WORDS))] if words else ["a"]
            chosen += ["unheard", "Of"][: generator.integers(0, 3)]
            texts.append(generator.choice([" ", ", ", ". ", "-", "\n"]).join(chosen))
        return texts + [text.upper() for text in texts[-50:]]
    if len(known) > _VALUES:
        known = [known[place] for place in generator.permutation(len(known))[:_VALUES]]
    if facts.refuses_unknown and known:
        return known
    others = [*_STRANGE, *(value.upper() for value in known[:20]), *(f"{value} " for value in known[:20])]
    # As often what it knows as what it does not.
    return others + known * max(1, len(others) // max(1, len(known)))
