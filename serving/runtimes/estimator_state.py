"""Checks a loaded estimator for state that scikit-learn's compiled code would trust, and that an honest fit never leaves behind.

Most of scikit-learn is numpy, which checks every index; a wrong shape there is an exception. Trees, boosting, libsvm, k-means,
neighbours and sparse matrices are not: they take sizes from one attribute and read another. Two more things leave the memory that is
meant: a search in values that are out of order, whose place depends on what was sought before, and a table that is made without
being filled, where one attribute says how wide it is and another how much is written. For each of them this module says what must
agree. It also holds that no attribute stands in a method's place, for a method skipped is a check skipped.

scikit-learn itself compares the width of the rows with `n_features_in_` wherever an estimator is called from outside; so what is needed
here is that this number is there, and that what lies inside agrees with it.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse
from scipy.special import comb
from sklearn.cluster import BisectingKMeans, KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest
from sklearn.ensemble._forest import BaseForest
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics._dist_metrics import DistanceMetric
from sklearn.mixture._base import BaseMixture
from sklearn.multiclass import OneVsRestClassifier, _predict_binary
from sklearn.multioutput import ClassifierChain, RegressorChain
from sklearn.neighbors import BallTree, KDTree
from sklearn.neighbors._base import NeighborsBase
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    LabelBinarizer,
    LabelEncoder,
    OneHotEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    SplineTransformer,
    TargetEncoder,
)
from sklearn.preprocessing._encoders import _BaseEncoder
from sklearn.svm._base import LIBSVM_IMPL, BaseLibSVM
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree
from sklearn.utils import check_array

from .compiled_parts import StateInvalid

_RANDOM = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})
_UNKNOWN = 1.5e308
"""A value that no category has: so an encoder is seen to take one that it does not know."""
_MOST_TERMS = 1_000_000
"""Terms of a polynomial, with which a single row takes 8 MB."""


def check(estimator: Any) -> None:
    """Raises StateInvalid."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for part in parts(estimator):
            _check_names(part)
            _check_feature_names(part)
            _check_distance_parameters(part)
            for kind, look in _CHECKS:
                if isinstance(part, kind):
                    look(part)


def choose_columns_by_position(estimator: Any) -> None:
    """Have column transformers that were fitted on a table with names take rows without: scikit-learn only takes such a table again."""
    for part in parts(estimator):
        if not isinstance(part, ColumnTransformer) or "transformers_" not in vars(part):
            continue
        places = part._transformer_to_input_indices
        part.transformers_ = [
            (name, transformer, _by_position(columns, places[name]))
            for name, transformer, columns in part.transformers_
        ]


def run_in_one_thread(estimator: Any) -> None:
    """Requests are what runs in parallel: as many threads or processes as the file says would stand in their way, or be too many."""
    for part in parts(estimator):
        held = getattr(part, "__dict__", {})
        if "n_jobs" in held:
            part.n_jobs = None
        if "_n_threads" in held:
            part._n_threads = 1


def _by_position(columns: Any, places: Sequence[int]) -> Any:
    if isinstance(columns, str):  # one column, handed on without a second dimension
        return int(places[0])
    if isinstance(columns, slice):
        return list(places) if isinstance(columns.start, str) or isinstance(columns.stop, str) else columns
    return list(places) if any(isinstance(column, str) for column in columns) else columns


def parts(estimator: Any) -> Iterator[Any]:
    """All objects of an estimator, each once, those inside before what holds them."""
    seen: set[int] = set()
    waiting: list[tuple[Any, bool]] = [(estimator, False)]
    while waiting:
        thing, is_done = waiting.pop()
        if is_done:
            yield thing
            continue
        if id(thing) in seen or thing is None or isinstance(thing, str | bytes | int | float | type):
            continue
        seen.add(id(thing))
        waiting.append((thing, True))
        waiting.extend((inner, False) for inner in _inside(thing))


def _inside(thing: Any) -> list[Any]:
    inside: list[Any] = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    if isinstance(thing, dict):
        inside += thing.values()
    elif isinstance(thing, list | tuple | set | frozenset) or (
        isinstance(thing, np.ndarray) and thing.dtype.kind == "O"
    ):
        inside += list(thing.ravel()) if isinstance(thing, np.ndarray) else list(thing)
    return inside


def _require(condition: Any, message: str) -> None:
    if not condition:
        raise StateInvalid(message)


def _check_names(thing: Any) -> None:
    """No attribute of the file stands in the place of one of the class, a method above all."""
    if isinstance(thing, type) or not type(thing).__module__.startswith("sklearn."):
        return
    for name in getattr(thing, "__dict__", ()):
        for base in type(thing).__mro__:
            # Some estimators have a plain switch on the class that fitting sets on the object.
            if name in base.__dict__ and not isinstance(base.__dict__[name], bool):
                raise StateInvalid(f"a {type(thing).__name__} has an attribute in the place of its {name}")


def _check_feature_names(thing: Any) -> None:
    """A name for each feature: with more or fewer, scikit-learn can't say what a step gives on."""
    names = getattr(thing, "__dict__", {}).get("feature_names_in_")
    if names is None or not type(thing).__module__.startswith("sklearn."):
        return
    features = getattr(thing, "n_features_in_", None)  # some ask the estimator inside
    _require(
        isinstance(names, np.ndarray)
        and names.shape == (features,)
        and all(isinstance(name, str) for name in names.tolist()),
        f"feature_names_in_ of a {type(thing).__name__} does not name each of its {features} features",
    )


def _is_ascending(values: Any) -> bool:
    """No value lies below the one before it; NaN does nowhere."""
    return not (values[1:] < values[:-1]).any()


def _features(estimator: Any) -> int:
    """How many features an estimator takes: scikit-learn compares rows with it, and skips that where it is missing."""
    features = vars(estimator).get("n_features_in_")
    if type(features) is not int or features < 1:
        raise StateInvalid(f"a {type(estimator).__name__} does not say how many features it takes (n_features_in_)")
    return features


def _array(estimator: Any, name: str, dimensions: int, kinds: str) -> Any:
    value = vars(estimator).get(name)
    if not isinstance(value, np.ndarray) or value.ndim != dimensions or value.dtype.kind not in kinds:
        raise StateInvalid(f"{name} of a {type(estimator).__name__} is no array of {dimensions} dimensions")
    return value


def _check_tree(estimator: Any) -> None:
    if "tree_" not in vars(estimator):
        return
    features = _features(estimator)
    _require(type(estimator.tree_) is Tree, "a decision tree without nodes")
    if estimator.tree_.n_features != features:
        # The nodes were checked against the tree's own width.
        raise StateInvalid(
            f"a {type(estimator).__name__} takes {features} features, and its nodes read from {estimator.tree_.n_features}"
        )
    outputs = vars(estimator).get("n_outputs_")
    _require(outputs == estimator.tree_.n_outputs, "a decision tree says another number of outputs than its nodes have")


def _check_members(estimator: Any, members: Any, features: int, kind: type) -> None:
    for member in members:
        _require(isinstance(member, kind) and "tree_" in vars(member), "an ensemble of trees holds something else")
        if _features(member) != features:
            raise StateInvalid(
                f"a {type(estimator).__name__} hands {features} features to a tree that takes {_features(member)}"
            )


def _check_forest(estimator: Any) -> None:
    if "estimators_" in vars(estimator):
        _check_members(estimator, estimator.estimators_, _features(estimator), BaseDecisionTree)


def _check_isolation_forest(estimator: Any) -> None:
    if "estimators_" not in vars(estimator):
        return
    features, drawn = _features(estimator), vars(estimator).get("_max_features")
    _check_members(estimator, estimator.estimators_, drawn if isinstance(drawn, int) else -1, BaseDecisionTree)
    columns = vars(estimator).get("estimators_features_")
    _require(
        isinstance(columns, list)
        and len(columns) == len(estimator.estimators_)
        and all(isinstance(chosen, np.ndarray) and chosen.shape == (drawn,) for chosen in columns)
        and (drawn == features or drawn < features),
        "an IsolationForest does not say which features each tree takes",
    )


def _check_boosting(estimator: Any) -> None:
    if "estimators_" not in vars(estimator):
        return
    features, members = _features(estimator), estimator.estimators_
    _require(
        isinstance(members, np.ndarray) and members.ndim == 2 and members.size > 0, "boosting holds no table of trees"
    )
    _check_members(estimator, members.ravel(), features, BaseDecisionTree)
    # The trees add to a table that the initial estimator begins: it must have a column for each.
    try:
        begun = estimator._raw_predict_init(np.zeros((2, features), dtype=np.float32))
    except Exception as error:
        raise StateInvalid(f"the initial estimator of boosting can't predict: {error}") from error
    _require(begun.shape == (2, members.shape[1]), "the initial estimator of boosting has another number of outputs")


def _check_bins(mapper: Any) -> None:
    if "is_categorical_" not in vars(mapper):
        return
    flags = _array(mapper, "is_categorical_", 1, "u")
    _require(flags.dtype == np.uint8, "boosting does not say which features are categories")
    thresholds, counts = vars(mapper).get("bin_thresholds_"), vars(mapper).get("n_bins_non_missing_")
    _require(
        isinstance(thresholds, list)
        and len(thresholds) == len(flags)
        and getattr(counts, "shape", None) == flags.shape,
        "boosting does not hold the bins of each feature",
    )


def _check_histogram_boosting(estimator: Any) -> None:
    if "_predictors" not in vars(estimator):
        return
    features, mapper = _features(estimator), vars(estimator).get("_bin_mapper")
    _require(type(mapper) is _BinMapper and "is_categorical_" in vars(mapper), "boosting holds no bins")
    flags = mapper.is_categorical_
    preprocessor, width = vars(estimator).get("_preprocessor"), features
    if preprocessor is not None:
        # Boosting leaves it to this one to compare the width of the rows.
        _require(
            type(preprocessor) is ColumnTransformer and _features(preprocessor) == features,
            "the categories of boosting are encoded by something else than it makes",
        )
        try:
            width = preprocessor.transform(np.zeros((2, features))).shape[1]
        except Exception as error:
            raise StateInvalid(f"the categories of boosting can't be encoded: {error}") from error
    _require(len(flags) == width, f"boosting is handed {width} features and holds bins of {len(flags)}")
    trees_each = vars(estimator).get("n_trees_per_iteration_")
    for predictors in estimator._predictors:
        _require(isinstance(predictors, list) and len(predictors) == trees_each, "boosting holds no table of trees")
        for predictor in predictors:
            _require(type(predictor) is TreePredictor, "boosting holds something else than trees")
            inner = predictor.nodes[predictor.nodes["is_leaf"] == 0]
            read, by_category = inner["feature_idx"], inner["is_categorical"] != 0
            if (read >= width).any():
                raise StateInvalid(f"a boosted tree reads feature {int(read.max())} of {width}")
            _require(flags[read[by_category]].all(), "a boosted tree splits a number by categories")


def _check_centres(estimator: Any) -> None:
    if "cluster_centers_" in vars(estimator):
        centres = _array(estimator, "cluster_centers_", 2, "f")
        _require(
            len(centres) > 0 and centres.shape[1] == _features(estimator),
            f"the centres of a {type(estimator).__name__} have another width than its rows",
        )


def _check_bisecting(estimator: Any) -> None:
    if "_bisecting_tree" not in vars(estimator):
        return
    features, seen, waiting = _features(estimator), set(), [estimator._bisecting_tree]
    while waiting:
        node = waiting.pop()
        _require(id(node) not in seen, "the tree of a BisectingKMeans is none")
        seen.add(id(node))
        _require(
            getattr(getattr(node, "center", None), "shape", ()) == (features,),
            "a centre has another width than the rows",
        )
        waiting += [child for child in (getattr(node, "left", None), getattr(node, "right", None)) if child is not None]


def _check_support_vectors(estimator: Any) -> None:
    if "support_vectors_" not in vars(estimator):
        return
    held = vars(estimator)
    name, features = type(estimator).__name__, _features(estimator)
    _require(not callable(held.get("kernel")), f"a {name} has a function as its kernel")
    _require(held.get("_sparse") is False, f"a {name} was fitted on a sparse matrix: fit it on an array")
    support, vectors = _array(estimator, "support_", 1, "i"), _array(estimator, "support_vectors_", 2, "f")
    counts, weights = _array(estimator, "_n_support", 1, "i"), _array(estimator, "_dual_coef_", 2, "f")
    thresholds = _array(estimator, "_intercept_", 1, "f")
    is_classifier = LIBSVM_IMPL.index(estimator._impl) < 2
    classes = len(held.get("classes_", ())) if is_classifier else 2
    pairs = classes * (classes - 1) // 2
    message = f"the support vectors, weights and classes of a {name} do not fit together"
    _require(classes >= 2 and counts.shape == (classes,) and (counts >= 0).all(), message)
    _require(not is_classifier or int(counts.sum()) == len(support), message)
    if held.get("kernel") == "precomputed":
        _require(((support >= 0) & (support < features)).all() and held.get("shape_fit_", (0,))[0] == features, message)
    else:
        _require(vectors.shape == (len(support), features), message)
    _require(weights.shape == (classes - 1, len(support)) and thresholds.shape == (pairs,), message)
    slopes, offsets = _array(estimator, "_probA", 1, "f"), _array(estimator, "_probB", 1, "f")
    _require(slopes.shape == offsets.shape and len(slopes) in {0, pairs}, message)


def _check_neighbours(estimator: Any) -> None:
    if "_fit_X" not in vars(estimator):
        return
    held, name, features = vars(estimator), type(estimator).__name__, _features(estimator)
    points, tree = held["_fit_X"], held.get("_tree")
    shape: tuple[int, ...] = getattr(points, "shape", ())
    message = f"the points of a {name} do not fit together"
    _require(len(shape) == 2 and shape[1] == features and shape[0] == held.get("n_samples_fit_"), message)
    _require(tree is None or isinstance(tree, KDTree | BallTree), message)
    _require(tree is None or np.asarray(tree.data).shape == shape, message)
    for metric in ("metric", "effective_metric_"):
        _require(
            held.get(metric) is None or isinstance(held[metric], str | DistanceMetric),
            f"a {name} has a function as its distance",
        )
    if "_y" not in held or "classes_" not in held:
        return
    # Votes are counted in a table by class.
    labels = np.asarray(held["_y"])
    classes = held["classes_"] if isinstance(held["classes_"], list) else [held["classes_"]]
    columns = labels.reshape(len(labels), -1).T if labels.ndim else [labels]
    _require(labels.dtype.kind in "iu" and len(labels) == shape[0] and len(columns) == len(classes), message)
    for column, known in zip(columns, classes, strict=True):
        _require(((column >= 0) & (column < len(known))).all(), message)


def _check_distance_parameters(thing: Any) -> None:
    """What a distance takes besides the points: scipy's compiled distances take its size for granted."""
    for name in ("metric_params", "effective_metric_params_"):
        given = getattr(thing, "__dict__", {}).get(name) or {}
        _require(isinstance(given, dict) and given.keys() <= {"p", "w", "V", "VI"}, f"{name} is no set of parameters")
        if not given.keys() <= {"p"}:
            features = _features(thing)
            for key, value in given.items():
                wanted = {"p": (), "VI": (features, features)}.get(key, (features,))
                _require(value is None or np.shape(value) == wanted, f"{key} in {name} has another width than the rows")


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, Real) and value != value)


def _check_order(known: Any, what: str) -> None:
    """
    Sorted, without duplicates, missing values last: as numpy's search takes for granted.

    Text in an array of objects is looked up by a dictionary, and may have any order that its author gave.
    """
    _require(isinstance(known, np.ndarray) and known.ndim == 1 and len(known) > 0, f"{what} are none")
    _require(known.dtype.kind in "biufOUS", f"{what} are neither numbers nor text")
    values = known.tolist()
    missing = next((place for place, value in enumerate(values) if _is_missing(value)), len(values))
    present, absent = values[:missing], values[missing:]
    _require(
        all(_is_missing(value) for value in absent) and len({value is None for value in absent}) == len(absent),
        f"{what} are out of order: missing values come last, and once",
    )
    kind: Any = str if known.dtype.kind == "U" or (present and isinstance(present[0], str)) else (Real, np.bool_)
    if present and isinstance(present[0], bytes):
        kind = bytes
    _require(all(isinstance(value, kind) for value in present), f"{what} are neither all numbers nor all text")
    _require(len(set(present)) == len(present), f"{what} hold one twice")
    if known.dtype.kind == "O" and kind in (str, bytes):
        return
    _require(all(low < high for low, high in itertools.pairwise(present)), f"{what} are out of order")


def _check_categories(encoder: Any) -> None:
    if "categories_" not in vars(encoder):
        return
    categories, name = encoder.categories_, type(encoder).__name__
    _require(isinstance(categories, list) and len(categories) == _features(encoder), "an encoder without categories")
    for column, known in enumerate(categories):
        _check_order(known, f"the categories of feature {column} of a {name}")
    if vars(encoder).get("_infrequent_enabled"):
        _check_rare_categories(encoder)


def _check_rare_categories(encoder: Any) -> None:
    """A value that is not known becomes the first of the rare ones, and the place of that is looked up like any other's."""
    held = vars(encoder)
    rare, places = held.get("_infrequent_indices"), held.get("_default_to_infrequent_mappings")
    message = f"the rare categories of a {type(encoder).__name__} do not fit together"
    features = len(encoder.categories_)
    _require(isinstance(rare, list) and isinstance(places, list) and len(rare) == len(places) == features, message)
    for known, chosen, mapping in zip(encoder.categories_, rare, places, strict=True):
        if chosen is None and mapping is None:
            continue
        for indices in (chosen, mapping):
            _require(
                isinstance(indices, np.ndarray) and indices.ndim == 1 and len(indices) and indices.dtype.kind == "i",
                message,
            )
            _require(((indices >= 0) & (indices < len(known))).all(), message)
        # An ordinal encoder leaves out the place of a missing value.
        _require(len(mapping) in {len(known), len(known) - 1} and int(chosen.max()) < len(mapping), message)


def _check_classes(encoder: Any) -> None:
    if "classes_" in vars(encoder):
        _check_order(encoder.classes_, f"the classes of a {type(encoder).__name__}")


def _check_encoder(encoder: Any) -> None:
    """Every category leads to a column that exists: seen by encoding each of them once, and one that is not known."""
    if "categories_" not in vars(encoder):
        return
    categories, features = encoder.categories_, _features(encoder)
    known_rows = max(len(known) for known in categories)
    are_numbers = all(known.dtype.kind in "biuf" for known in categories)
    rows = np.empty((known_rows, features), dtype=np.float64 if are_numbers else object)
    for column, known in enumerate(categories):
        rows[:, column] = known[np.arange(known_rows) % len(known)]
    makes_sparse = encoder.sparse_output
    encoder.sparse_output = True
    try:
        encoder.transform(rows).check_format(full_check=True)
        if encoder.handle_unknown != "error" and are_numbers:
            encoder.transform(np.full((1, features), _UNKNOWN)).check_format(full_check=True)
    except Exception as error:
        raise StateInvalid(f"an encoder whose categories have no column: {error}") from error
    finally:
        encoder.sparse_output = makes_sparse


def _check_target_encoder(encoder: Any) -> None:
    """It makes a table without filling it, and writes as many columns as it holds encodings."""
    held = vars(encoder)
    if "encodings_" not in held:
        return
    _require("categories_" in held, "a TargetEncoder without categories")
    kind, classes, encodings = held.get("target_type_"), held.get("classes_"), held["encodings_"]
    means, message = (
        held.get("target_mean_"),
        "the encodings, categories and classes of a TargetEncoder do not fit together",
    )
    _require(kind in {"binary", "multiclass", "continuous"}, message)
    columns_each = 1
    if kind == "continuous":
        _require(classes is None, message)
    else:
        _check_order(classes, "the classes of a TargetEncoder")
        columns_each = len(classes) if kind == "multiclass" else 1
    wanted = [len(known) for known in encoder.categories_ for _ in range(columns_each)]
    _require(isinstance(encodings, list) and len(encodings) == len(wanted), message)
    for encoding, length in zip(encodings, wanted, strict=True):
        _require(
            isinstance(encoding, np.ndarray) and encoding.dtype.kind == "f" and encoding.shape == (length,), message
        )
    _require(np.shape(means) == ((columns_each,) if kind == "multiclass" else ()), message)


def _check_polynomial(transformer: Any) -> None:
    """It makes a table as wide as one attribute says, without filling it, and writes the terms that the others say."""
    held = vars(transformer)
    if "n_features_in_" not in held and "_n_out_full" not in held:
        return
    features, message = (
        _features(transformer),
        "the degrees and the number of terms of a PolynomialFeatures do not fit together",
    )
    degrees = held.get("degree")
    pair = [0, degrees] if isinstance(degrees, int | np.integer) else list(degrees) if _is_pair(degrees) else []
    _require(pair and all(isinstance(one, int | np.integer) for one in pair) and 0 <= pair[0] <= pair[1], message)
    least, most = (int(one) for one in pair)
    with_bias, only_products = held.get("include_bias"), held.get("interaction_only")
    _require(all(isinstance(switch, bool | np.bool_) for switch in (with_bias, only_products)), message)
    _require((held.get("_min_degree"), held.get("_max_degree")) == (least, most), message)
    full = given_on = int(bool(with_bias))
    for degree in range(1, (min(most, features) if only_products else most) + 1):
        terms = comb(features, degree, exact=True) if only_products else comb(features + degree - 1, degree, exact=True)
        full += terms
        given_on += terms if degree >= least else 0
        _require(full <= _MOST_TERMS, f"a PolynomialFeatures of more than {_MOST_TERMS} terms")
    _require((held.get("_n_out_full"), held.get("n_output_features_")) == (full, given_on) and given_on > 0, message)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and len(value) == 2


def _check_discretizer(transformer: Any) -> None:
    held = vars(transformer)
    if "bin_edges_" not in held:
        return
    features, edges, counts = _features(transformer), held["bin_edges_"], held.get("n_bins_")
    message = "the edges of the bins of a KBinsDiscretizer do not fit together"
    _require(len(edges) == features and np.shape(counts) == (features,), message)
    for column, count in zip(edges, np.asarray(counts).tolist(), strict=True):
        _require(
            isinstance(column, np.ndarray)
            and column.dtype.kind == "f"
            and column.shape == (count + 1,)
            and not np.isnan(column).any(),
            message,
        )
        _require(_is_ascending(column), "the edges of the bins of a KBinsDiscretizer are out of order")
    if held.get("encode") != "ordinal":
        encoder = held.get("_encoder")
        _require(type(encoder) is OneHotEncoder and "categories_" in vars(encoder), message)
        _require([len(known) for known in encoder.categories_] == np.asarray(counts).tolist(), message)


def _check_quantiles(transformer: Any) -> None:
    if "quantiles_" not in vars(transformer):
        return
    quantiles, references = _array(transformer, "quantiles_", 2, "f"), _array(transformer, "references_", 1, "f")
    _require(
        quantiles.shape == (len(references), _features(transformer)),
        "the quantiles of a QuantileTransformer do not fit together",
    )
    _require(
        _is_ascending(quantiles) and _is_ascending(references),
        "the quantiles of a QuantileTransformer are out of order",
    )


def _check_isotonic(estimator: Any) -> None:
    if "X_thresholds_" not in vars(estimator):
        return
    places, values = _array(estimator, "X_thresholds_", 1, "f"), _array(estimator, "y_thresholds_", 1, "f")
    _require(places.shape == values.shape, "the thresholds of an IsotonicRegression do not fit together")
    _require(_is_ascending(places), "the thresholds of an IsotonicRegression are out of order")


def _check_mixture(estimator: Any) -> None:
    """It makes a table with a column for each mean, without filling it."""
    if "means_" not in vars(estimator):
        return
    means, factors = _array(estimator, "means_", 2, "f"), vars(estimator).get("precisions_cholesky_")
    (components, width), features = means.shape, _features(estimator)
    shapes = {
        "full": (components, features, features),
        "tied": (features, features),
        "diag": (components, features),
        "spherical": (components,),
    }
    _require(
        width == features and np.shape(factors) == shapes.get(vars(estimator).get("covariance_type", "")),
        f"the components of a {type(estimator).__name__} do not fit together",
    )


def _check_chain(estimator: Any) -> None:
    """It puts its answers in order by a table that it makes without filling it."""
    if "estimators_" in vars(estimator):
        order = list(vars(estimator).get("order_", ()))
        _require(
            all(isinstance(place, int | np.integer) for place in order)
            and sorted(order) == list(range(len(estimator.estimators_))),
            f"the order of a {type(estimator).__name__} is none",
        )


def _check_one_vs_rest(estimator: Any) -> None:
    """Except among exclusive classes, the answers of its members are put into a sparse matrix by their place."""
    held = vars(estimator)
    if "estimators_" not in held or getattr(held.get("label_binarizer_"), "y_type_", "") == "multiclass":
        return
    rows = np.zeros((2, _features(estimator)))
    for member in estimator.estimators_:
        try:
            answer = _predict_binary(member, rows)
        except Exception as error:
            raise StateInvalid(f"a member of a OneVsRestClassifier can't predict: {error}") from error
        _require(np.shape(answer) == (len(rows),), "a member of a OneVsRestClassifier gives several answers a row")


def _check_function(transformer: Any) -> None:
    for name in ("func", "inverse_func"):
        function = vars(transformer).get(name)
        known = function is None or isinstance(function, np.ufunc)
        _require(known or getattr(function, "func", None) is check_array, "a FunctionTransformer holds a function")
    for name in ("kw_args", "inv_kw_args"):
        _require(not vars(transformer).get(name), "a FunctionTransformer holds arguments for its function")


def _check_splines(transformer: Any) -> None:
    from scipy.interpolate import BSpline

    splines = vars(transformer).get("bsplines_", [])
    _require(isinstance(splines, list) and all(type(one) is BSpline for one in splines), "splines that are none")
    _require(all(_is_ascending(one.t) for one in splines), "the knots of a spline are out of order")


def _check_sparse(matrix: Any) -> None:
    """Indices of a sparse matrix lie inside it: reading from a file does not check that, nor does multiplying."""
    _require(matrix.format in {"csr", "csc", "coo"}, f"a sparse matrix of format {matrix.format}")
    try:
        if matrix.format == "coo":
            matrix._check()
        else:
            matrix.check_format(full_check=True)
    except ValueError as error:
        raise StateInvalid(f"a sparse matrix is damaged: {error}") from error


def _check_random(source: Any) -> None:
    """Some sources of random numbers walk a table by a position that they restore as it is."""
    state = source.get_state(legacy=False) if isinstance(source, np.random.RandomState) else source.bit_generator.state
    kind = state["bit_generator"]
    position, last = {"MT19937": (state["state"].get("pos"), 624), "Philox": (state.get("buffer_pos"), 4)}.get(
        kind, (0, 0)
    )
    _require(
        kind in _RANDOM and position is not None and 0 <= position <= last, "a source of random numbers is damaged"
    )


_CHECKS: tuple[tuple[Any, Callable[[Any], None]], ...] = (
    (BaseDecisionTree, _check_tree),
    (BaseForest, _check_forest),
    (IsolationForest, _check_isolation_forest),
    (BaseGradientBoosting, _check_boosting),
    (_BinMapper, _check_bins),
    (BaseHistGradientBoosting, _check_histogram_boosting),
    ((KMeans, MiniBatchKMeans, BisectingKMeans), _check_centres),
    (BisectingKMeans, _check_bisecting),
    (BaseLibSVM, _check_support_vectors),
    (NeighborsBase, _check_neighbours),
    (_BaseEncoder, _check_categories),
    (OneHotEncoder, _check_encoder),
    (TargetEncoder, _check_target_encoder),
    ((LabelEncoder, LabelBinarizer), _check_classes),
    (PolynomialFeatures, _check_polynomial),
    (KBinsDiscretizer, _check_discretizer),
    (QuantileTransformer, _check_quantiles),
    (IsotonicRegression, _check_isotonic),
    (BaseMixture, _check_mixture),
    ((ClassifierChain, RegressorChain), _check_chain),
    (OneVsRestClassifier, _check_one_vs_rest),
    (FunctionTransformer, _check_function),
    (SplineTransformer, _check_splines),
    ((np.random.RandomState, np.random.Generator), _check_random),
    ((scipy.sparse.sparray, scipy.sparse.spmatrix), _check_sparse),
)
