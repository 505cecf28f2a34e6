"""The demo's world: scans of handwritten digits that scikit-learn bundles, and three models that
read them unequally well."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

TRAINED_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained model, ready to be registered."""

    version: str
    title: str
    artifact: bytes  # a skops file
    accuracy: float  # on the held-out scans; the platform is not told


@dataclass(frozen=True, slots=True)
class Digits:
    """`images` (n, 64) pixel intensities 0-16 and `labels` (n,) of the scans that no model was
    trained on."""

    images: NDArray[np.float64]
    labels: NDArray[np.int64]
    candidates: list[Candidate]
    permuted: Candidate
    """Trained on labels that were given to the wrong scans: truly worse."""
    inverted: Candidate
    """Trained on scans with black and white exchanged."""


BRIGHTEST = 16.0


def load(seed: int) -> Digits:
    """Split, train and hold out, all from one seed."""
    images, labels = load_digits(return_X_y=True)
    train_images, images, train_labels, labels = train_test_split(
        images, labels, train_size=TRAINED_SHARE, random_state=seed, stratify=labels
    )
    models: list[tuple[str, Any]] = [
        ("a shallow decision tree", DecisionTreeClassifier(max_depth=5, random_state=seed)),
        ("naive Bayes", GaussianNB()),
        ("logistic regression", make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
    ]
    candidates = []
    for number, (title, model) in enumerate(models, start=1):
        model.fit(train_images, train_labels)
        candidates.append(Candidate(str(number), title, skops.io.dumps(model), float(model.score(images, labels))))
    wrong = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    wrong.fit(train_images, np.random.default_rng(seed).permutation(train_labels))
    permuted = Candidate(
        "4",
        "logistic regression, trained on permuted labels",
        skops.io.dumps(wrong),
        float(wrong.score(images, labels)),
    )
    other = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    other.fit(BRIGHTEST - train_images, train_labels)
    inverted = Candidate(
        "5", "logistic regression, trained on inverted scans", skops.io.dumps(other), float(other.score(images, labels))
    )
    return Digits(images, labels, candidates, permuted, inverted)
