"""What the checks have in common: how a state is refused, and how its sizes and arrays are read."""

from typing import Any

import numpy as np

from serving.runtimes.compiled_parts import StateInvalid


def require(condition: Any, message: str) -> None:
    if not condition:
        raise StateInvalid(message)


def is_ascending(values: Any) -> bool:
    """No value lies below the one before it; NaN does nowhere."""
    return not (values[1:] < values[:-1]).any()


def features_of(estimator: Any) -> int:
    """How many features an estimator takes: scikit-learn compares rows with it, and skips that
    where it is missing."""
    features = vars(estimator).get("n_features_in_")
    if type(features) is not int or features < 1:
        raise StateInvalid(f"a {type(estimator).__name__} does not say how many features it takes (n_features_in_)")
    return features


def array_of(estimator: Any, name: str, dimensions: int, kinds: str) -> Any:
    value = vars(estimator).get(name)
    if not isinstance(value, np.ndarray) or value.ndim != dimensions or value.dtype.kind not in kinds:
        raise StateInvalid(f"{name} of a {type(estimator).__name__} is no array of {dimensions} dimensions")
    return value
