"""Which columns a fitted estimator's rows have: as the caller names them, else as the model and its
sample tell. Runs only in the inspecting child process.

Types are read from categories and readers of text, gaps from encoders, imputers and boosting. A
column that nothing tells of is one of numbers. A model whose columns are all numbers without gaps
has none, as before there were columns.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from serving.runtimes.columns import Column, Columns, ColumnType
from serving.runtimes.estimator_columns import ColumnFacts, facts_of, is_text_reader

from .frameworks.protocol import Signature

MOST_SAMPLED = 1000  # rows of a sample whose types are looked at


class ColumnsDiffer(ValueError):
    """The columns that the caller names are not the model's, or a row can't hold what the model
    knows of one; the message says which."""


def with_columns(estimator: Any, known: Signature, given: Columns | None, sample: Sequence[Any] | None) -> Signature:
    """The signature with its columns. Raises ColumnsDiffer."""
    features = 1 if is_text_reader(estimator) else known.features
    if given is not None:
        _check_given(given, known.feature_names, features)
        _check_categories(given, facts_of(estimator, len(given)))
        return _signature(known, given, is_named=True)
    if features is None:
        return known
    names = known.feature_names or ([f"x{place}" for place in range(features)] if features > 1 else ["x0"])
    facts = facts_of(estimator, features)
    if known.feature_names is None and features == 1 and facts[0].is_text:
        names = ["text"]
    rows = list(sample or ())[:MOST_SAMPLED]
    is_named = known.feature_names is not None
    columns = tuple(
        _column(name, one, [_value(row, place, name) for row in rows], is_named=is_named)
        for place, (name, one) in enumerate(zip(names, facts, strict=True))
    )
    _check_categories(columns, facts)
    return _signature(known, columns, is_named=is_named)


def _check_categories(columns: Columns, facts: Sequence[ColumnFacts]) -> None:
    """Raises ColumnsDiffer for a whole number that the model tells from others, and that no row of
    these columns holds exactly: each row with it would be refused, or answered as another's.
    """
    for column, one in zip(columns, facts, strict=True):
        for value in (value for known in one.categories for value in known.tolist()):
            if type(value) is int and not _is_held(column, value):
                raise ColumnsDiffer(
                    f"column {column.name[:64]!r} has the category {str(value)[:40]}, which a row holds only as another "
                    f"number ({column}): make it text before the model is fitted"
                )


def _is_held(column: Column, value: int) -> bool:
    if column.type == "integer" and not column.nullable:
        return -(2**63) < value < 2**63
    if column.type in ("integer", "number"):  # doubles
        return -(2**53) <= value <= 2**53 or (
            column.type == "number" and abs(value) < 2**1023 and int(float(value)) == value
        )
    return True


def _check_given(given: Columns, names: list[str] | None, features: int | None) -> None:
    if features is not None and len(given) != features:
        raise ColumnsDiffer(f"`columns` names {len(given)} columns where the model takes {features}")
    for place, (column, name) in enumerate(zip(given, names or (), strict=False)):
        if column.name != name:
            message = (
                f"`columns` calls column {place} {column.name[:64]!r}: the model was fitted on {name[:64]!r} there"
            )
            raise ColumnsDiffer(message)


def _signature(known: Signature, columns: Columns, *, is_named: bool) -> Signature:
    is_typed = any(column.type != "number" for column in columns)
    is_plain = not is_typed and not any(column.nullable for column in columns)
    return replace(
        known,
        features=len(columns),
        feature_names=[column.name for column in columns] if is_named or is_typed else None,
        columns=None if is_plain else columns,
    )


def _column(name: str, facts: ColumnFacts, seen: list[Any], *, is_named: bool) -> Column:
    kind = _told(facts, is_named=is_named) or _of_sample(seen)
    has_null = any(value is None for value in seen)
    return Column(name, kind, facts.takes_gaps or has_null or (facts.tolerates_gaps and is_named))


def _told(facts: ColumnFacts, *, is_named: bool) -> ColumnType | None:
    """The type that the model tells of, or None."""
    if facts.is_text:
        return "string"
    kinds: set[ColumnType] = set()
    for known in facts.categories:
        values = [value for value in known.tolist() if value is not None and value == value]
        if not values:
            continue
        if all(isinstance(value, str) for value in values):
            kinds.add("string")
        elif known.dtype.kind == "f" or not is_named:
            # An array of numbers was fitted on, whatever their kind.
            kinds.add("boolean" if known.dtype.kind == "O" and _are(values, bool) else "number")
        elif _are(values, bool):
            kinds.add("boolean")
        elif all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            kinds.add("integer")
        else:
            kinds.add("number")
    return kinds.pop() if len(kinds) == 1 else "number" if kinds else None


def _of_sample(values: list[Any]) -> ColumnType:
    """Whole numbers do not tell of integers: JSON writes 5.0 as 5."""
    present = [value for value in values if value is not None]
    if present and _are(present, str):
        return "string"
    return "boolean" if present and _are(present, bool) else "number"


def _are(values: Sequence[Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)


def _value(row: Any, place: int, name: str) -> Any:
    """Of a sample's row, which need not be sound yet; 0 where there is none."""
    if isinstance(row, dict):
        return row.get(name, 0)
    return row[place] if place < len(row) else 0


def refusing_null(columns: Columns, places: Sequence[int]) -> Columns:
    """The same, with null in none of the columns at these places."""
    return tuple(
        Column(column.name, column.type) if place in places else column for place, column in enumerate(columns)
    )
