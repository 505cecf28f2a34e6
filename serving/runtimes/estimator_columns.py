"""What a fitted scikit-learn estimator tells of its columns: categories, text, gaps.

Steps are read by what they hold, not by what they are called; only readers of text are told by
name. A column that no step tells of has no facts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TEXT_READERS = frozenset({"CountVectorizer", "HashingVectorizer", "TfidfVectorizer"})
_NAN = float("nan")
_MOST_WORDS = 2000


@dataclass(slots=True)
class ColumnFacts:
    """Of one column of the rows that an estimator takes."""

    categories: list[NDArray[Any]] = field(default_factory=list)  # as each encoder of it knows them
    is_text: bool = False
    takes_gaps: bool = False
    tolerates_gaps: bool = False  # whether or not any was there when it was fitted
    missing: Any = None  # what stands for null in a column of objects: None or NaN
    missing_is_category: bool = False
    refuses_unknown: bool = False


def is_text_reader(thing: Any) -> bool:
    """Does it take texts themselves, and no table of them?"""
    steps = getattr(thing, "steps", None)
    if steps:
        used = [step for _, step in steps if step is not None and not isinstance(step, str)]
        return bool(used) and is_text_reader(used[0])
    members = getattr(thing, "transformer_list", None)
    if members:
        return is_text_reader(members[0][1])
    inner = _only_inner(thing)
    return is_text_reader(inner) if inner is not None else type(thing).__name__ in _TEXT_READERS


def facts_of(estimator: Any, features: int) -> list[ColumnFacts]:
    """Of each column, by its place."""
    facts = [ColumnFacts() for _ in range(features)]
    _read(estimator, facts)
    return facts


def words_of(estimator: Any) -> list[str]:
    """Some of the words that its readers of text know."""
    words: list[str] = []
    for reader in _text_readers(estimator):
        words += list(getattr(reader, "vocabulary_", ()))[:_MOST_WORDS]
    return words


def _text_readers(thing: Any) -> Iterator[Any]:
    if type(thing).__name__ in _TEXT_READERS:
        yield thing
    held = (getattr(thing, name, None) or () for name in ("steps", "transformer_list"))
    for inner in [part for parts in held for _, part in parts] + [part for _, part, _ in _transformers(thing)]:
        yield from _text_readers(inner)
    inner = _only_inner(thing)
    if inner is not None:
        yield from _text_readers(inner)


def _transformers(thing: Any) -> Sequence[tuple[str, Any, Any]]:
    transformers: Sequence[tuple[str, Any, Any]] = getattr(thing, "transformers_", ())
    return transformers


def _read(thing: Any, facts: Sequence[ColumnFacts]) -> bool:
    """Adds what a part tells of the columns that it takes; does it give the same columns on, each
    in its place?"""
    if thing is None or isinstance(thing, str):
        return thing is None or thing == "passthrough"
    if type(thing).__name__ in _TEXT_READERS:
        for one in facts:
            one.is_text = True
        return False
    if steps := getattr(thing, "steps", None):
        return all(_read(step, facts) for _, step in steps)
    if hasattr(thing, "transformers_"):
        _read_by_columns(thing, facts)
        return False
    if members := getattr(thing, "transformer_list", None):
        for _, member in members:
            _read(member, facts)
        return False
    preprocessor = getattr(thing, "_preprocessor", None)
    if hasattr(thing, "_bin_mapper"):  # histogram-based boosting
        if preprocessor is not None:
            _read(preprocessor, facts)
        for one in facts:
            one.tolerates_gaps = True
            if not one.missing_is_category:
                one.missing = _NAN
        return False
    if hasattr(thing, "categories_"):
        _read_encoder(thing, facts)
        return False
    if hasattr(thing, "missing_values"):
        return _read_imputer(thing, facts)
    for inner in _inner(thing):
        if getattr(inner, "n_features_in_", len(facts)) == len(facts):
            _read(inner, facts)
    return getattr(thing, "n_features_in_", None) == len(facts) and hasattr(thing, "scale_")


def _read_by_columns(thing: Any, facts: Sequence[ColumnFacts]) -> None:
    places_of = getattr(thing, "_transformer_to_input_indices", {})
    for name, inner, _ in _transformers(thing):
        places = [int(place) for place in places_of.get(name, ())]
        if places and max(places) < len(facts):
            _read(inner, [facts[place] for place in places])


def _read_encoder(encoder: Any, facts: Sequence[ColumnFacts]) -> None:
    for one, known in zip(facts, encoder.categories_, strict=False):
        known = np.asarray(known)
        one.categories.append(known)
        one.refuses_unknown |= getattr(encoder, "handle_unknown", None) == "error"
        missing = [value for value in known.tolist()[-2:] if value is None or value != value]
        if missing:
            # Whatever filled gaps before it left this one.
            one.takes_gaps = one.missing_is_category = True
            one.missing = missing[0]


def _read_imputer(imputer: Any, facts: Sequence[ColumnFacts]) -> bool:
    missing = imputer.missing_values
    is_gap = missing is None or missing != missing
    statistics = getattr(imputer, "statistics_", None)
    for place, one in enumerate(facts):
        if is_gap:
            one.takes_gaps = True
            if not one.missing_is_category:
                one.missing = missing
        if isinstance(statistics, np.ndarray) and statistics.dtype.kind == "O" and place < len(statistics):
            value = statistics[place]
            if isinstance(value, str | bool | np.bool_):
                one.categories.append(np.array([value], dtype=object))
    drops = isinstance(statistics, np.ndarray) and statistics.dtype.kind == "f" and bool(np.isnan(statistics).any())
    return not (drops or getattr(imputer, "add_indicator", False))


def _inner(thing: Any) -> Iterator[Any]:
    """The estimators that see the same columns."""
    inner = _only_inner(thing)
    if inner is not None:
        yield inner
    held = getattr(thing, "estimators_", None)
    if isinstance(held, list):
        yield from (one for one in held[:3] if hasattr(one, "steps") or hasattr(one, "fit"))
    if isinstance(held, list) and hasattr(thing, "final_estimator_") and getattr(thing, "passthrough", False):
        yield thing.final_estimator_


def _only_inner(thing: Any) -> Any:
    for name in ("best_estimator_", "estimator_", "regressor_", "classifier_"):
        inner = getattr(thing, name, None)
        if inner is not None and hasattr(inner, "fit"):
            return inner
    calibrated = getattr(thing, "calibrated_classifiers_", None)
    return calibrated[0].estimator if calibrated else None
