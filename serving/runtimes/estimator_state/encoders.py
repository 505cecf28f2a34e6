"""Encoders: a search in values that are out of order leads to any place, and a category to a column
that may not exist."""

import itertools
from numbers import Real
from typing import Any

import numpy as np

from serving.runtimes.compiled_parts import StateInvalid

from .requirements import features_of, require

_UNKNOWN = 1.5e308
"""A value that no category has: so an encoder is seen to take one that it does not know."""


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, Real) and value != value)


def _check_order(known: Any, what: str) -> None:
    """
    Sorted, without duplicates, missing values last: as numpy's search takes for granted.

    Text in an array of objects is looked up by a dictionary, and may have any order that its author
    gave.
    """
    require(isinstance(known, np.ndarray) and known.ndim == 1 and len(known) > 0, f"{what} are none")
    require(known.dtype.kind in "biufOUS", f"{what} are neither numbers nor text")
    values = known.tolist()
    missing = next((place for place, value in enumerate(values) if _is_missing(value)), len(values))
    present, absent = values[:missing], values[missing:]
    require(
        all(_is_missing(value) for value in absent) and len({value is None for value in absent}) == len(absent),
        f"{what} are out of order: missing values come last, and once",
    )
    kind: Any = str if known.dtype.kind == "U" or (present and isinstance(present[0], str)) else (Real, np.bool_)
    if present and isinstance(present[0], bytes):
        kind = bytes
    require(all(isinstance(value, kind) for value in present), f"{what} are neither all numbers nor all text")
    require(len(set(present)) == len(present), f"{what} hold one twice")
    if known.dtype.kind == "O" and kind in (str, bytes):
        return
    require(all(low < high for low, high in itertools.pairwise(present)), f"{what} are out of order")


def check_categories(encoder: Any) -> None:
    if "categories_" not in vars(encoder):
        return
    categories, name = encoder.categories_, type(encoder).__name__
    require(isinstance(categories, list) and len(categories) == features_of(encoder), "an encoder without categories")
    for column, known in enumerate(categories):
        _check_order(known, f"the categories of feature {column} of a {name}")
    if vars(encoder).get("_infrequent_enabled"):
        _check_rare_categories(encoder)


def _check_rare_categories(encoder: Any) -> None:
    """A value that is not known becomes the first of the rare ones, and the place of that is looked
    up like any other's."""
    held = vars(encoder)
    rare, places = held.get("_infrequent_indices"), held.get("_default_to_infrequent_mappings")
    message = f"the rare categories of a {type(encoder).__name__} do not fit together"
    features = len(encoder.categories_)
    require(isinstance(rare, list) and isinstance(places, list) and len(rare) == len(places) == features, message)
    for known, chosen, mapping in zip(encoder.categories_, rare, places, strict=True):
        if chosen is None and mapping is None:
            continue
        for indices in (chosen, mapping):
            require(
                isinstance(indices, np.ndarray) and indices.ndim == 1 and len(indices) and indices.dtype.kind == "i",
                message,
            )
            require(((indices >= 0) & (indices < len(known))).all(), message)
        # An ordinal encoder leaves out the place of a missing value.
        require(len(mapping) in {len(known), len(known) - 1} and int(chosen.max()) < len(mapping), message)


def check_classes(encoder: Any) -> None:
    if "classes_" in vars(encoder):
        _check_order(encoder.classes_, f"the classes of a {type(encoder).__name__}")


def check_encoder(encoder: Any) -> None:
    """Every category leads to a column that exists: seen by encoding each of them once, and one
    that is not known."""
    if "categories_" not in vars(encoder):
        return
    categories, features = encoder.categories_, features_of(encoder)
    known_rows = max(len(known) for known in categories)
    are_numbers = all(known.dtype.kind in "biuf" for known in categories)
    rows = np.empty((known_rows, features), dtype=np.float64 if are_numbers else object)
    for column, known in enumerate(categories):
        rows[:, column] = known[np.arange(known_rows) % len(known)]
    makes_sparse = encoder.sparse_output
    encoder.sparse_output = True
    try:
        encoder.transform(rows).check_format(full_check=True)
        if encoder.handle_unknown != "error" and are_numbers:
            encoder.transform(np.full((1, features), _UNKNOWN)).check_format(full_check=True)
    except Exception as error:
        raise StateInvalid(f"an encoder whose categories have no column: {error}") from error
    finally:
        encoder.sparse_output = makes_sparse


def check_target_encoder(encoder: Any) -> None:
    """It makes a table without filling it, and writes as many columns as it holds encodings."""
    held = vars(encoder)
    if "encodings_" not in held:
        return
    require("categories_" in held, "a TargetEncoder without categories")
    kind, classes, encodings = held.get("target_type_"), held.get("classes_"), held["encodings_"]
    means, message = (
        held.get("target_mean_"),
        "the encodings, categories and classes of a TargetEncoder do not fit together",
    )
    require(kind in {"binary", "multiclass", "continuous"}, message)
    columns_each = 1
    if kind == "continuous":
        require(classes is None, message)
    else:
        _check_order(classes, "the classes of a TargetEncoder")
        columns_each = len(classes) if kind == "multiclass" else 1
    wanted = [len(known) for known in encoder.categories_ for _ in range(columns_each)]
    require(isinstance(encodings, list) and len(encodings) == len(wanted), message)
    for encoding, length in zip(encodings, wanted, strict=True):
        require(
            isinstance(encoding, np.ndarray) and encoding.dtype.kind == "f" and encoding.shape == (length,), message
        )
    require(np.shape(means) == ((columns_each,) if kind == "multiclass" else ()), message)
