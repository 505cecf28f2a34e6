"""Mixtures, chains and members of one against the rest: each puts its answers into a table by their
place."""

from typing import Any

import numpy as np
from sklearn.multiclass import _predict_binary

from serving.runtimes.compiled_parts import StateInvalid

from .requirements import array_of, features_of, require


def check_mixture(estimator: Any) -> None:
    """It makes a table with a column for each mean, without filling it."""
    if "means_" not in vars(estimator):
        return
    means, factors = array_of(estimator, "means_", 2, "f"), vars(estimator).get("precisions_cholesky_")
    (components, width), features = means.shape, features_of(estimator)
    shapes = {
        "full": (components, features, features),
        "tied": (features, features),
        "diag": (components, features),
        "spherical": (components,),
    }
    require(
        width == features and np.shape(factors) == shapes.get(vars(estimator).get("covariance_type", "")),
        f"the components of a {type(estimator).__name__} do not fit together",
    )


def check_chain(estimator: Any) -> None:
    """It puts its answers in order by a table that it makes without filling it."""
    if "estimators_" in vars(estimator):
        order = list(vars(estimator).get("order_", ()))
        require(
            all(isinstance(place, int | np.integer) for place in order)
            and sorted(order) == list(range(len(estimator.estimators_))),
            f"the order of a {type(estimator).__name__} is none",
        )


def check_one_vs_rest(estimator: Any) -> None:
    """Except among exclusive classes, the answers of its members are put into a sparse matrix by
    their place."""
    held = vars(estimator)
    if "estimators_" not in held or getattr(held.get("label_binarizer_"), "y_type_", "") == "multiclass":
        return
    rows = np.zeros((2, features_of(estimator)))
    for member in estimator.estimators_:
        try:
            answer = _predict_binary(member, rows)
        except Exception as error:
            raise StateInvalid(f"a member of a OneVsRestClassifier can't predict: {error}") from error
        require(np.shape(answer) == (len(rows),), "a member of a OneVsRestClassifier gives several answers a row")
