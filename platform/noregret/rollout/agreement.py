"""Whether a model takes the rows of another: what differs in their columns, in words."""

from typing import Any

import msgspec

from noregret.registry.models import ModelVersion
from serving.runtimes.columns import Column, Columns

MOST_TOLD = 5
_NAME = 64


def difference(model: ModelVersion, champion: ModelVersion) -> str | None:
    """What keeps `model` from taking each row that `champion` takes, or None.

    Rows are checked by the champion's columns. So a model may take nulls that the champion does
    not, and not the other way round. A model whose rows nobody knows beforehand takes any.
    """
    ours, theirs = _columns(model.signature), _columns(champion.signature)
    if ours is None or theirs is None:
        return None
    are_named = model.signature["feature_names"] is not None and champion.signature["feature_names"] is not None
    told = _in_names(ours, theirs) if are_named else []
    if not told and len(ours) != len(theirs):
        told = [f"it takes {len(ours)} columns, not {len(theirs)}"]
    if not told:
        told = [words for pair in zip(ours, theirs, strict=True) for words in _in_column(*pair)]
    if not told:
        return None
    rest = f", and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
    return f"{model.model} differs from {champion.model}: {'; '.join(told[:MOST_TOLD])}{rest}"


def _columns(signature: dict[str, Any]) -> Columns | None:
    columns, features, names = signature.get("columns"), signature["features"], signature["feature_names"]
    if columns is not None:
        return msgspec.convert(columns, Columns)
    if features is None:
        return None
    return tuple(Column(names[place] if names else f"x{place}") for place in range(features))


def _in_names(ours: Columns, theirs: Columns) -> list[str]:
    here, there = [column.name for column in ours], [column.name for column in theirs]
    if here == there:
        return []
    known, wanted = set(here), set(there)
    told = [f"it has no column {name[:_NAME]}" for name in there if name not in known]
    told += [f"it has a column {name[:_NAME]} besides" for name in here if name not in wanted]
    if not told:
        place = next(i for i, pair in enumerate(zip(here, there, strict=True)) if pair[0] != pair[1])
        told = [f"its column {place} is {here[place][:_NAME]}, not {there[place][:_NAME]}"]
    return told


def _in_column(ours: Column, theirs: Column) -> list[str]:
    name = theirs.name[:_NAME]
    if ours.type != theirs.type:
        return [f"its column {name} is of type {ours.type}, not {theirs.type}"]
    if theirs.nullable and not ours.nullable:
        return [f"its column {name} takes no null"]
    return []
