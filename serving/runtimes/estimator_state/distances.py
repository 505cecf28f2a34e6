"""Centres, support vectors and neighbours: compiled distances take the sizes of their points for
granted."""

from typing import Any

import numpy as np
from sklearn.metrics._dist_metrics import DistanceMetric
from sklearn.neighbors import BallTree, KDTree
from sklearn.svm._base import LIBSVM_IMPL

from .requirements import array_of, features_of, require


def check_centres(estimator: Any) -> None:
    if "cluster_centers_" in vars(estimator):
        centres = array_of(estimator, "cluster_centers_", 2, "f")
        require(
            len(centres) > 0 and centres.shape[1] == features_of(estimator),
            f"the centres of a {type(estimator).__name__} have another width than its rows",
        )


def check_bisecting(estimator: Any) -> None:
    if "_bisecting_tree" not in vars(estimator):
        return
    features, seen, waiting = features_of(estimator), set(), [estimator._bisecting_tree]
    while waiting:
        node = waiting.pop()
        require(id(node) not in seen, "the tree of a BisectingKMeans is none")
        seen.add(id(node))
        require(
            getattr(getattr(node, "center", None), "shape", ()) == (features,),
            "a centre has another width than the rows",
        )
        waiting += [child for child in (getattr(node, "left", None), getattr(node, "right", None)) if child is not None]


def check_support_vectors(estimator: Any) -> None:
    if "support_vectors_" not in vars(estimator):
        return
    held = vars(estimator)
    name, features = type(estimator).__name__, features_of(estimator)
    require(not callable(held.get("kernel")), f"a {name} has a function as its kernel")
    require(held.get("_sparse") is False, f"a {name} was fitted on a sparse matrix: fit it on an array")
    support, vectors = array_of(estimator, "support_", 1, "i"), array_of(estimator, "support_vectors_", 2, "f")
    counts, weights = array_of(estimator, "_n_support", 1, "i"), array_of(estimator, "_dual_coef_", 2, "f")
    thresholds = array_of(estimator, "_intercept_", 1, "f")
    is_classifier = LIBSVM_IMPL.index(estimator._impl) < 2
    classes = len(held.get("classes_", ())) if is_classifier else 2
    pairs = classes * (classes - 1) // 2
    message = f"the support vectors, weights and classes of a {name} do not fit together"
    require(classes >= 2 and counts.shape == (classes,) and (counts >= 0).all(), message)
    require(not is_classifier or int(counts.sum()) == len(support), message)
    if held.get("kernel") == "precomputed":
        require(((support >= 0) & (support < features)).all() and held.get("shape_fit_", (0,))[0] == features, message)
    else:
        require(vectors.shape == (len(support), features), message)
    require(weights.shape == (classes - 1, len(support)) and thresholds.shape == (pairs,), message)
    slopes, offsets = array_of(estimator, "_probA", 1, "f"), array_of(estimator, "_probB", 1, "f")
    require(slopes.shape == offsets.shape and len(slopes) in {0, pairs}, message)


def check_neighbours(estimator: Any) -> None:
    if "_fit_X" not in vars(estimator):
        return
    held, name, features = vars(estimator), type(estimator).__name__, features_of(estimator)
    points, tree = held["_fit_X"], held.get("_tree")
    shape: tuple[int, ...] = getattr(points, "shape", ())
    message = f"the points of a {name} do not fit together"
    require(len(shape) == 2 and shape[1] == features and shape[0] == held.get("n_samples_fit_"), message)
    require(tree is None or isinstance(tree, KDTree | BallTree), message)
    require(tree is None or np.asarray(tree.data).shape == shape, message)
    for metric in ("metric", "effective_metric_"):
        require(
            held.get(metric) is None or isinstance(held[metric], str | DistanceMetric),
            f"a {name} has a function as its distance",
        )
    if "_y" not in held or "classes_" not in held:
        return
    # Votes are counted in a table by class.
    labels = np.asarray(held["_y"])
    classes = held["classes_"] if isinstance(held["classes_"], list) else [held["classes_"]]
    columns = labels.reshape(len(labels), -1).T if labels.ndim else [labels]
    require(labels.dtype.kind in "iu" and len(labels) == shape[0] and len(columns) == len(classes), message)
    for column, known in zip(columns, classes, strict=True):
        require(((column >= 0) & (column < len(known))).all(), message)


def check_distance_parameters(thing: Any) -> None:
    """What a distance takes besides the points: scipy's compiled distances take its size for
    granted."""
    for name in ("metric_params", "effective_metric_params_"):
        given = getattr(thing, "__dict__", {}).get(name) or {}
        require(isinstance(given, dict) and given.keys() <= {"p", "w", "V", "VI"}, f"{name} is no set of parameters")
        if not given.keys() <= {"p"}:
            features = features_of(thing)
            for key, value in given.items():
                wanted = {"p": (), "VI": (features, features)}.get(key, (features,))
                require(value is None or np.shape(value) == wanted, f"{key} in {name} has another width than the rows")
