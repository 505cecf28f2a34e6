"""The models that are served while it is measured: a scaler and a logistic regression on Fisher's
irises.

Small on purpose: what is measured is the way to a model and back. Every peer's own introduction
serves irises too. (Not named models: Django imports an app's module of that name in every process,
and scikit-learn takes longer to import than all of the platform.)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TRAINED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Irises:
    """`train_rows` (n, 4) in cm with `train_labels` (n,), and `rows` (m, 4) that no model has
    seen."""

    train_rows: NDArray[np.float64]
    train_labels: NDArray[np.int64]
    rows: NDArray[np.float64]


def irises() -> Irises:
    rows, labels = load_iris(return_X_y=True)
    train_rows, held_out, train_labels, _ = train_test_split(
        rows, labels, train_size=TRAINED_SHARE, random_state=0, stratify=labels
    )
    return Irises(train_rows, train_labels, held_out)


def pipeline(data: Irises, penalty: float = 1.0) -> Any:
    """A trained StandardScaler + LogisticRegression; `penalty` is the regression's C."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000)).fit(
        data.train_rows, data.train_labels
    )


def artifact(data: Irises, number: int) -> bytes:
    """The skops file of the model of that number, from 1: each has a penalty of its own."""
    saved: bytes = skops.io.dumps(pipeline(data, 2.0 ** (number - 1)))
    return saved
