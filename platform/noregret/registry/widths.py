"""Follows the number of features through an estimator: what reaches each step, and what the step
takes.

Runs only in the inspecting child process. scikit-learn compares the two itself when it predicts;
here the comparison is made once, before the model is taken, and names the step. What a step gives
on is seen by running it on example rows; what it says itself counts where it takes none of them.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from serving.runtimes.estimator_columns import is_text_reader

_PASSED_ON = ("best_estimator_", "estimator", "estimator_", "regressor_")
"""Attributes with the one fitted estimator that gets the rows as they come."""


class WidthsDiffer(ValueError):
    """A step takes another number of features than reaches it; the message says which, and how
    many."""


def check(estimator: Any, features: int | None = None, path: str = "the model") -> None:
    """Raises WidthsDiffer. `features`: how many reach the estimator; None where that is not
    known."""
    taken = vars(estimator).get("n_features_in_") if hasattr(estimator, "__dict__") else None
    if taken is not None and features is not None and taken != features:
        raise WidthsDiffer(f"{path} takes {taken} features, and {features} reach it")
    for name, inner, width in _inside(estimator, features if taken is None else taken):
        check(inner, width, f"{name} in {path}")


def _inside(estimator: Any, features: int | None) -> Iterator[tuple[str, Any, int | None]]:
    """(name, estimator, features that reach it) of each fitted estimator that this one hands rows
    to."""
    held = getattr(estimator, "__dict__", {})
    if isinstance(held.get("steps"), list):
        for position, (name, step) in enumerate(held["steps"], start=1):
            if step is not None and not isinstance(step, str):
                yield name, step, features
                if position < len(held["steps"]):
                    features = _given_on(name, step, features)
        return
    if isinstance(held.get("transformers_"), list):
        columns = held.get("_transformer_to_input_indices", {})
        for name, transformer, _ in held["transformers_"]:
            if not isinstance(transformer, str):
                yield name, transformer, len(columns[name]) if name in columns else None
        return
    for name, transformer in held.get("transformer_list") or ():
        if not isinstance(transformer, str):
            yield name, transformer, features
    for name in _PASSED_ON:
        # An estimator that was fitted along with the one that holds it; what was only its pattern
        # is not fitted.
        inner = held.get(name)
        if hasattr(inner, "__dict__") and "n_features_in_" in vars(inner):
            selected = held.get("n_features_") if name == "estimator_" and "support_" in held else features
            yield name, inner, selected
    for i, wrapped in enumerate(held.get("calibrated_classifiers_") or ()):
        yield f"calibrated_classifiers_[{i}]", wrapped, features
    members = held.get("estimators_")
    for i, member in enumerate([] if members is None else getattr(members, "ravel", lambda: members)()):
        if isinstance(member, str):
            continue
        width = features
        if held.get("estimators_features_") is not None:
            width = len(held["estimators_features_"][i])
        elif "order_" in held and features is not None:  # a chain: each takes the answers of those before it
            width = features + i
        yield f"estimators_[{i}]", member, width


def _given_on(name: str, transformer: Any, features: int | None) -> int:
    """How many features a step gives on: as many as it makes, or as it says. Raises WidthsDiffer
    where neither can be known."""
    made = _made(transformer, features)
    width = _said(transformer) if made is None else made
    if width is None:
        # What comes next may read its rows without looking at how wide they are.
        raise WidthsDiffer(
            f"how many features {name} gives on can't be known: it takes no example rows, and does not say"
        )
    return width


def _said(transformer: Any) -> int | None:
    names = getattr(transformer, "feature_names_in_", None)
    if is_text_reader(transformer) and isinstance(vars(transformer).get("n_features"), int):  # it hashes
        return int(transformer.n_features)
    try:
        return len(transformer.get_feature_names_out(names))
    except Exception:  # many can't say, each in its own way
        return None


def _made(transformer: Any, features: int | None) -> int | None:
    taken = getattr(transformer, "n_features_in_", features)
    if not isinstance(taken, int) or taken < 1:
        return None
    try:
        examples = list(_examples(transformer, taken))
    except (
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
    ):  # what is inside is no list of steps, columns or categories
        return None
    for rows in examples:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                shape = np.shape(transformer.transform(rows))
        except Exception:  # noqa: S112 - each has its own about rows that it does not take
            continue
        return shape[1] if len(shape) == 2 and shape[0] == len(rows) else None
    return None


def _examples(transformer: Any, features: int) -> Iterator[Any]:
    """Rows to try one after the other: some steps take no zeros, and some only values that they
    know."""
    for otherwise in (0.0, 1.0):
        known = _known(transformer, features) or [None] * features
        row = [otherwise if value is None else value for value in known]
        are_numbers = all(isinstance(value, int | float) for value in row)
        yield np.array([row, row], dtype=np.float64 if are_numbers else object)


def _known(transformer: Any, features: int) -> list[Any] | None:
    """For each feature a category that a step knows, or that one inside it does; None where it
    takes any value."""
    held = getattr(transformer, "__dict__", {})
    categories, places = held.get("categories_"), held.get("_transformer_to_input_indices")
    if isinstance(categories, list):
        return [known.tolist()[0] for known in categories] if len(categories) == features else None
    if isinstance(held.get("transformers_"), list) and isinstance(places, dict):
        row: list[Any] = [None] * features
        for name, inner, _ in held["transformers_"]:
            columns = list(places.get(name, ()))
            for column, value in zip(columns, _known(inner, len(columns)) or (), strict=False):
                row[column] = value if row[column] is None else row[column]
        return row
    if is_text_reader(transformer):
        return ["text"] * features
    for _, inner in (*(held.get("steps") or ()), *(held.get("transformer_list") or ())):
        # What comes before an encoder mostly hands its values on: an imputer, say.
        known = _known(inner, features)
        if known is not None:
            return known
    return None
