"""The linear form of a fitted scikit-learn estimator, where it has one. Runs only in the inspecting
child process.

A scaler of each feature for itself, or none, and a linear model behind it.
"""

from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.linear_model._base import LinearClassifierMixin, LinearModel
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

from serving.runtimes.linear import MAX_WEIGHTS, LinearForm, Link

_PROBABILISTIC = (LogisticRegression, LogisticRegressionCV, LinearDiscriminantAnalysis)
"""Whose probabilities are the logistic function of the sums, or their softmax."""


def linear_form(estimator: Any) -> LinearForm | None:
    """None for whatever is not such a model. Whether it answers as the estimator does is for who
    compares them."""
    steps = [step for _, step in estimator.steps] if type(estimator) is Pipeline else [estimator]
    *before, last = [step for step in steps if step is not None and step != "passthrough"] or [None]
    link, classes = _link(last)
    if link is None or len(before) > 1:
        return None
    weights = np.atleast_2d(np.asarray(last.coef_, dtype=np.float64))
    if weights.ndim != 2 or weights.size > MAX_WEIGHTS or (link == "identity" and len(weights) != 1):
        return None
    centers, factors = np.zeros(weights.shape[1]), np.ones(weights.shape[1])
    if before:
        scaling = _scaling(before[0], weights.shape[1])
        if scaling is None:
            return None
        centers, factors = scaling
    intercepts = np.broadcast_to(np.asarray(last.intercept_, dtype=np.float64).ravel(), len(weights))
    weights = weights * factors
    if not all(np.isfinite(values).all() for values in (centers, weights, intercepts)):
        return None
    return LinearForm(centers.tolist(), weights.tolist(), intercepts.tolist(), link, classes)


def _link(model: Any) -> tuple[Link | None, list[int | str] | None]:
    kind = type(model)
    if not kind.__module__.startswith("sklearn."):  # a subclass may answer otherwise
        return None, None
    if not issubclass(kind, LinearClassifierMixin):
        return ("identity" if issubclass(kind, LinearModel) else None), None
    if hasattr(model, "predict_proba") and kind not in _PROBABILISTIC:
        return None, None
    classes: list[int | str] = np.asarray(model.classes_).tolist()
    return "two-classes" if len(classes) == 2 else "many-classes", classes


def _scaling(scaler: Any, features: int) -> tuple[Any, Any] | None:
    """(centers, factors) of features: a feature's value is (value - center) * factor."""
    if type(scaler) is StandardScaler:
        centers = scaler.mean_ if scaler.with_mean else np.zeros(features)
        return centers, 1.0 / scaler.scale_ if scaler.with_std else np.ones(features)
    if type(scaler) is MaxAbsScaler and not getattr(scaler, "clip", False):
        return np.zeros(features), 1.0 / scaler.scale_
    if type(scaler) is MinMaxScaler and not scaler.clip:
        low, _ = scaler.feature_range
        return scaler.data_min_ - low / scaler.scale_, scaler.scale_
    return None
