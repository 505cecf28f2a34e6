"""What a model takes and gives: number and names of features, outputs, classes, task. Runs only in
the inspecting child process."""

from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.validation import check_is_fitted

from .frameworks.protocol import Signature


def read(estimator: Any) -> Signature:
    """The signature of a fitted estimator. Raises ValueError for one that is not fitted."""
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise ValueError(f"the {type(estimator).__name__} is not fitted: fit it, then save it") from error
    names = getattr(estimator, "feature_names_in_", None)
    # A property of some estimators (SVC without probability) that raises when it can't be had;
    # hasattr then says no.
    outputs = ["predict", "predict_proba"] if hasattr(estimator, "predict_proba") else ["predict"]
    task = "classifier" if is_classifier(estimator) else "regressor" if is_regressor(estimator) else "other"
    return Signature(
        features=_features(estimator),
        feature_names=None if names is None else [str(name) for name in names],
        outputs=outputs,
        classes=_classes(getattr(estimator, "classes_", None)),
        task=task,
    )


def _features(estimator: Any) -> int | None:
    for name, step in getattr(estimator, "steps", None) or [("", estimator)]:
        if step is None or isinstance(step, str):  # left out of the pipeline
            continue
        if isinstance(step, IsotonicRegression):
            return 1
        features = getattr(step if name else estimator, "n_features_in_", None)
        return None if features is None else int(features)
    return None


def _classes(classes: Any) -> list[Any] | None:
    if isinstance(classes, list) and classes and all(isinstance(labels, np.ndarray) for labels in classes):
        return [labels.tolist() for labels in classes]
    return np.asarray(classes).tolist() if isinstance(classes, np.ndarray) else None
