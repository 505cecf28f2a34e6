"""Checks a loaded estimator for state that scikit-learn's compiled code would trust, and that an
honest fit never leaves behind.

Most of scikit-learn is numpy, which checks every index; a wrong shape there is an exception. Trees,
boosting, libsvm, k-means, neighbours and sparse matrices are not: they take sizes from one
attribute and read another. Two more things leave the memory that is meant: a search in values that
are out of order, whose place depends on what was sought before, and a table that is made without
being filled, where one attribute says how wide it is and another how much is written. For each of
them this module says what must agree. It also holds that no attribute stands in a method's place,
for a method skipped is a check skipped.

scikit-learn itself compares the width of the rows with `n_features_in_` wherever an estimator is
called from outside; so what is needed here is that this number is there, and that what lies inside
agrees with it.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.cluster import BisectingKMeans, KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest
from sklearn.ensemble._forest import BaseForest
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.isotonic import IsotonicRegression
from sklearn.mixture._base import BaseMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, RegressorChain
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
from sklearn.svm._base import BaseLibSVM
from sklearn.tree import BaseDecisionTree

from serving.runtimes.compiled_parts import StateInvalid

from . import arrays, distances, encoders, ensembles, text, transformers, trees
from .requirements import require


def check(estimator: Any) -> None:
    """Raises StateInvalid."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for part in parts(estimator):
            _check_names(part)
            _check_feature_names(part)
            distances.check_distance_parameters(part)
            for kind, look in _CHECKS:
                if isinstance(part, kind):
                    look(part)


def choose_columns_by_position(estimator: Any) -> None:
    """Have column transformers that were fitted on a table with names take rows without:
    scikit-learn only takes such a table again."""
    for part in parts(estimator):
        if not isinstance(part, ColumnTransformer) or "transformers_" not in vars(part):
            continue
        places = part._transformer_to_input_indices
        part.transformers_ = [
            (name, transformer, _by_position(columns, places[name]))
            for name, transformer, columns in part.transformers_
        ]


def run_in_one_thread(estimator: Any) -> None:
    """Requests are what runs in parallel: as many threads or processes as the file says would stand
    in their way, or be too many."""
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
    require(
        isinstance(names, np.ndarray)
        and names.shape == (features,)
        and all(isinstance(name, str) for name in names.tolist()),
        f"feature_names_in_ of a {type(thing).__name__} does not name each of its {features} features",
    )


_CHECKS: tuple[tuple[Any, Callable[[Any], None]], ...] = (
    (BaseDecisionTree, trees.check_tree),
    (BaseForest, trees.check_forest),
    (IsolationForest, trees.check_isolation_forest),
    (BaseGradientBoosting, trees.check_boosting),
    (_BinMapper, trees.check_bins),
    (BaseHistGradientBoosting, trees.check_histogram_boosting),
    ((KMeans, MiniBatchKMeans, BisectingKMeans), distances.check_centres),
    (BisectingKMeans, distances.check_bisecting),
    (BaseLibSVM, distances.check_support_vectors),
    (NeighborsBase, distances.check_neighbours),
    (_BaseEncoder, encoders.check_categories),
    (OneHotEncoder, encoders.check_encoder),
    (TargetEncoder, encoders.check_target_encoder),
    ((LabelEncoder, LabelBinarizer), encoders.check_classes),
    (PolynomialFeatures, transformers.check_polynomial),
    (KBinsDiscretizer, transformers.check_discretizer),
    (QuantileTransformer, transformers.check_quantiles),
    (IsotonicRegression, transformers.check_isotonic),
    (BaseMixture, ensembles.check_mixture),
    ((ClassifierChain, RegressorChain), ensembles.check_chain),
    (OneVsRestClassifier, ensembles.check_one_vs_rest),
    (FunctionTransformer, transformers.check_function),
    (SplineTransformer, transformers.check_splines),
    ((CountVectorizer, HashingVectorizer), text.check_reader),
    ((np.random.RandomState, np.random.Generator), arrays.check_random),
    ((scipy.sparse.sparray, scipy.sparse.spmatrix), arrays.check_sparse),
)
