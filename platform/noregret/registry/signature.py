"""What a model takes and gives: number and names of features, outputs, classes, task. Runs only in the inspecting child process."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor


@dataclass(frozen=True, slots=True)
class Signature:
    """As kept in the registry; `classes` are the labels as they were trained."""

    features: int | None
    feature_names: list[str] | None
    outputs: list[str]
    classes: list[Any] | None
    task: str
    example_rows: list[list[float]] | None = None  # that the model answers

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read(estimator: Any) -> Signature:
    """The signature of a fitted estimator. Raises ValueError for one that is not fitted."""
    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        raise ValueError("the model does not know its number of features (n_features_in_): is it fitted?")
    names = getattr(estimator, "feature_names_in_", None)
    classes = getattr(estimator, "classes_", None)
    # A property of some estimators (SVC without probability) that raises when it can't be had; hasattr then says no.
    outputs = ["predict", "predict_proba"] if hasattr(estimator, "predict_proba") else ["predict"]
    task = "classifier" if is_classifier(estimator) else "regressor" if is_regressor(estimator) else "other"
    return Signature(
        features=int(features),
        feature_names=None if names is None else [str(name) for name in names],
        outputs=outputs,
        classes=np.asarray(classes).tolist() if isinstance(classes, np.ndarray) else None,
        task=task,
    )
