"""Builds scikit-learn's compiled structures from the state that a file claims they have, after
checking every index in it.

Their code walks arrays by indices that it never checks, and restores itself from whatever it is
given. So skops never makes one: where a file names such a type, `skops_reading` has one of these
functions called instead. A tree's nodes are checked one by one; a search tree over points is built
anew from the points, for its own numbers need no trust then.
"""

import functools
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Built = Any
"""An object of a compiled type of scikit-learn or scipy, which have no type hints."""

MAX_OUTPUTS = 100_000

LOSSES = frozenset(
    {
        "sklearn._loss._loss.CyAbsoluteError",
        "sklearn._loss._loss.CyExponentialLoss",
        "sklearn._loss._loss.CyHalfBinomialLoss",
        "sklearn._loss._loss.CyHalfGammaLoss",
        "sklearn._loss._loss.CyHalfMultinomialLoss",
        "sklearn._loss._loss.CyHalfPoissonLoss",
        "sklearn._loss._loss.CyHalfSquaredError",
        "sklearn._loss._loss.CyHalfTweedieLoss",
        "sklearn._loss._loss.CyHalfTweedieLossIdentity",
        "sklearn._loss._loss.CyHuberLoss",
        "sklearn._loss._loss.CyPinballLoss",
        "sklearn.linear_model._sgd_fast.EpsilonInsensitive",
        "sklearn.linear_model._sgd_fast.Hinge",
        "sklearn.linear_model._sgd_fast.ModifiedHuber",
        "sklearn.linear_model._sgd_fast.SquaredEpsilonInsensitive",
        "sklearn.linear_model._sgd_fast.SquaredHinge",
    }
)
_PLAIN_DISTANCES = (
    "BrayCurtisDistance",
    "CanberraDistance",
    "ChebyshevDistance",
    "DiceDistance",
    "EuclideanDistance",
    "HammingDistance",
    "HaversineDistance",
    "JaccardDistance",
    "ManhattanDistance",
    "RogersTanimotoDistance",
    "RussellRaoDistance",
    "SokalSneathDistance",
)
_PARAMETRISED_DISTANCES = ("MahalanobisDistance", "MinkowskiDistance", "SEuclideanDistance")
DISTANCES = frozenset(
    f"sklearn.metrics._dist_metrics.{name}{width}"
    for name in (*_PLAIN_DISTANCES, *_PARAMETRISED_DISTANCES)
    for width in ("", "32", "64")
)
SEARCH_TREES = frozenset(
    f"sklearn.neighbors.{name}{width}"
    for name in ("_ball_tree.BallTree", "_kd_tree.KDTree")
    for width in ("", "32", "64")
)
TREE = "sklearn.tree._tree.Tree"
TREE_PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
NUMBER_CHECK = "sklearn.utils.validation.check_array"
SPLINE = "scipy.interpolate._bsplines.BSpline"


class StateInvalid(ValueError):
    """The state in the file is not one that fitting leaves behind; the message says what is wrong
    with it."""


def tree(arguments: Any, state: Any) -> Built:
    """A decision tree: `arguments` are (features, classes of each output, outputs). Raises
    StateInvalid."""
    from sklearn.tree._tree import NODE_DTYPE, Tree

    features, classes, outputs = _fields(arguments, 3, "decision tree")
    if not (_is_count(features) and _is_count(outputs) and 0 < outputs <= MAX_OUTPUTS):
        raise StateInvalid("a decision tree has no sound number of features and outputs")
    classes = np.asarray(classes)
    if classes.shape != (outputs,) or classes.dtype.kind not in "iu" or (classes < 1).any():
        raise StateInvalid(f"a decision tree of {outputs} outputs does not say how many classes each has")
    if not isinstance(state, dict):
        raise StateInvalid("a decision tree has no state")
    nodes = _array(state.get("nodes"), NODE_DTYPE, 1, "nodes of a decision tree")
    values = _array(state.get("values"), np.float64, 3, "values of a decision tree")
    count = len(nodes)
    if state.get("node_count") != count or not _is_count(state.get("max_depth")):
        raise StateInvalid(f"a decision tree says another number of nodes than the {count} that it has")
    if values.shape != (count, outputs, int(classes.max())):
        raise StateInvalid(f"values of a decision tree have shape {values.shape}, which its nodes and classes don't")
    inner = nodes["left_child"] != -1
    if np.isnan(nodes["threshold"][inner]).any() or not np.isfinite(values[~inner]).all():
        raise StateInvalid("a decision tree splits at, or answers, what is not a number")
    check_nodes(nodes["left_child"], nodes["right_child"], inner)
    check_features(nodes["feature"][inner], int(features))
    built = Tree(int(features), classes.astype(np.intp), int(outputs))
    built.__setstate__(
        {
            "max_depth": state["max_depth"],
            "node_count": count,
            "nodes": np.ascontiguousarray(nodes, dtype=NODE_DTYPE),
            "values": np.ascontiguousarray(values),
        }
    )
    return built


def tree_predictor(state: Any) -> Built:
    """A tree of histogram-based boosting. How many features reach it is checked where it is held.
    Raises StateInvalid."""
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

    if not isinstance(state, dict):
        raise StateInvalid("a boosted tree has no state")
    nodes = _array(state.get("nodes"), PREDICTOR_RECORD_DTYPE, 1, "nodes of a boosted tree")
    inner = nodes["is_leaf"] == 0
    if np.isnan(nodes["num_threshold"][inner]).any() or not np.isfinite(nodes["value"][~inner]).all():
        raise StateInvalid("a boosted tree splits at, or answers, what is not a number")
    check_nodes(nodes["left"].astype(np.int64), nodes["right"].astype(np.int64), inner)
    check_features(nodes["feature_idx"][inner], None)
    by_category = inner & (nodes["is_categorical"] != 0)
    bitsets = []
    for name in ("binned_left_cat_bitsets", "raw_left_cat_bitsets"):
        bitset = _array(state.get(name), np.uint32, 2, "categories of a boosted tree")
        if bitset.shape[1] != 8 or (nodes["bitset_idx"][by_category] >= len(bitset)).any():
            raise StateInvalid("a boosted tree splits by categories that it does not hold")
        bitsets.append(np.ascontiguousarray(bitset))
    return TreePredictor(np.ascontiguousarray(nodes), *bitsets)


def search_tree(name: str, state: Any) -> Built:
    """A KD-tree or ball tree, built anew over the points in the state. Raises StateInvalid."""
    if name not in SEARCH_TREES:
        raise StateInvalid("a search tree of an unknown kind")
    if not isinstance(state, tuple) or len(state) != 13:
        raise StateInvalid("a search tree has no sound state")
    points, leaf_size, metric, weights = state[0], state[4], state[11], state[12]
    if not isinstance(points, np.ndarray) or points.ndim != 2 or points.dtype.kind != "f":
        raise StateInvalid("a search tree holds no table of points")
    if type(metric).__module__ != "sklearn.metrics._dist_metrics" or not _is_count(leaf_size) or leaf_size < 1:
        raise StateInvalid("a search tree has no sound distance or leaf size")
    if weights is not None and (not isinstance(weights, np.ndarray) or weights.shape != (len(points),)):
        raise StateInvalid("a search tree does not hold a weight for each of its points")
    return _named(name)(points, leaf_size=int(leaf_size), metric=metric, sample_weight=weights)


def distance(name: str, state: Any) -> Built:
    """A distance, from (p, vector, matrix). Raises StateInvalid."""
    if name not in DISTANCES:
        raise StateInvalid("a distance of an unknown kind")
    power, vector, matrix = _fields(state, 3, "distance")
    kind = _named(name)
    short = name.rpartition(".")[2].rstrip("0123456789")
    if short == "MinkowskiDistance":
        return kind(_number(power), _vector(vector) if np.size(vector) else None)
    if short == "SEuclideanDistance":
        return kind(_vector(vector))
    if short == "MahalanobisDistance":
        square = np.asarray(matrix)
        if square.ndim != 2 or square.shape[0] != square.shape[1] or square.dtype.kind != "f":
            raise StateInvalid("a Mahalanobis distance holds no square matrix")
        return kind(VI=square)
    return kind()


def loss(name: str, arguments: Any) -> Built:
    """A compiled loss, which holds at most one number. Raises StateInvalid."""
    if name not in LOSSES:
        raise StateInvalid("a loss of an unknown kind")
    if arguments is None:
        arguments = ()
    if not isinstance(arguments, tuple) or len(arguments) > 1:
        raise StateInvalid("a loss has no sound state")
    return _named(name)(*(_number(argument) for argument in arguments))


def spline(knots: Any, coefficients: Any, degree: Any, extrapolate: Any, axis: Any) -> Built:
    """A B-spline; scipy's own constructor checks that its parts fit together. Raises
    StateInvalid."""
    for part in (knots, coefficients):
        if not isinstance(part, np.ndarray) or part.dtype.kind != "f":
            raise StateInvalid("a spline has no sound knots and coefficients")
    if not _is_count(degree) or not _is_count(axis) or extrapolate not in (True, False, "periodic"):
        raise StateInvalid("a spline has no sound degree")
    try:
        return _named(SPLINE)(knots, coefficients, degree, extrapolate, axis)
    except ValueError as error:
        raise StateInvalid(f"a spline does not fit together: {error}") from error


def number_check() -> Built:
    """What histogram-based boosting with categories checks the other columns with: a function, but
    always this one."""
    from sklearn.ensemble._hist_gradient_boosting.common import X_DTYPE

    return functools.partial(_named(NUMBER_CHECK), dtype=[X_DTYPE], ensure_all_finite=False)


def check_nodes(left: NDArray[np.int64], right: NDArray[np.int64], inner: NDArray[np.bool_]) -> None:
    """Every child comes after its parent and exists, and no node has two parents: so there is no
    cycle either."""
    if not len(inner):
        raise StateInvalid("a tree has no nodes")
    parents = np.flatnonzero(inner)
    children = np.concatenate((left[inner], right[inner]))
    if (children <= np.tile(parents, 2)).any() or (children >= len(inner)).any():
        raise StateInvalid("a tree has nodes that lead nowhere or back")
    if len(np.unique(children)) != len(children):
        raise StateInvalid("a tree has a node with two parents")


def check_features(read: NDArray[np.int64], features: int | None) -> None:
    """Every feature that is read exists."""
    if (read < 0).any() or (features is not None and (read >= features).any()):
        raise StateInvalid("a tree reads features which do not exist")


def _fields(value: Any, count: int, what: str) -> tuple[Any, ...]:
    if not isinstance(value, tuple) or len(value) != count:
        raise StateInvalid(f"a {what} has no sound state")
    return value


def _array(value: Any, dtype: Any, dimensions: int, what: str) -> NDArray[Any]:
    """`value`, where it is an array of just this type."""
    if not isinstance(value, np.ndarray) or value.ndim != dimensions:
        raise StateInvalid(f"the {what} are no array of {dimensions} dimensions")
    if value.dtype != dtype:
        raise StateInvalid(f"the {what} are of another type than the one that this version of scikit-learn has")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(0 <= value < 2**31)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise StateInvalid("a number was expected")
    return float(value)


def _vector(value: Any) -> NDArray[np.float64]:
    vector = np.asarray(value)
    if vector.ndim != 1 or vector.dtype.kind != "f":
        raise StateInvalid("a distance holds no vector of numbers")
    return vector.astype(np.float64)


def _named(name: str) -> Any:
    module, _, short = name.rpartition(".")
    return getattr(import_module(module), short)
