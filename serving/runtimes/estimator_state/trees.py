"""Trees, forests and boosting: the nodes read features by their number, and add to tables."""

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble._hist_gradient_boosting.binning import _BinMapper
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree

from serving.runtimes.compiled_parts import StateInvalid
from serving.runtimes.estimator_columns import facts_of

from .requirements import array_of, features_of, require


def check_tree(estimator: Any) -> None:
    if "tree_" not in vars(estimator):
        return
    features = features_of(estimator)
    require(type(estimator.tree_) is Tree, "a decision tree without nodes")
    if estimator.tree_.n_features != features:
        # The nodes were checked against the tree's own width.
        raise StateInvalid(
            f"a {type(estimator).__name__} takes {features} features, and its nodes read from {estimator.tree_.n_features}"
        )
    outputs = vars(estimator).get("n_outputs_")
    require(outputs == estimator.tree_.n_outputs, "a decision tree says another number of outputs than its nodes have")


def _check_members(estimator: Any, members: Any, features: int, kind: type) -> None:
    for member in members:
        require(isinstance(member, kind) and "tree_" in vars(member), "an ensemble of trees holds something else")
        if features_of(member) != features:
            raise StateInvalid(
                f"a {type(estimator).__name__} hands {features} features to a tree that takes {features_of(member)}"
            )


def check_forest(estimator: Any) -> None:
    if "estimators_" in vars(estimator):
        _check_members(estimator, estimator.estimators_, features_of(estimator), BaseDecisionTree)


def check_isolation_forest(estimator: Any) -> None:
    if "estimators_" not in vars(estimator):
        return
    features, drawn = features_of(estimator), vars(estimator).get("_max_features")
    _check_members(estimator, estimator.estimators_, drawn if isinstance(drawn, int) else -1, BaseDecisionTree)
    columns = vars(estimator).get("estimators_features_")
    require(
        isinstance(columns, list)
        and len(columns) == len(estimator.estimators_)
        and all(isinstance(chosen, np.ndarray) and chosen.shape == (drawn,) for chosen in columns)
        and (drawn == features or drawn < features),
        "an IsolationForest does not say which features each tree takes",
    )


def check_boosting(estimator: Any) -> None:
    if "estimators_" not in vars(estimator):
        return
    features, members = features_of(estimator), estimator.estimators_
    require(
        isinstance(members, np.ndarray) and members.ndim == 2 and members.size > 0, "boosting holds no table of trees"
    )
    _check_members(estimator, members.ravel(), features, BaseDecisionTree)
    # The trees add to a table that the initial estimator begins: it must have a column for each.
    try:
        begun = estimator._raw_predict_init(np.zeros((2, features), dtype=np.float32))
    except Exception as error:
        raise StateInvalid(f"the initial estimator of boosting can't predict: {error}") from error
    require(begun.shape == (2, members.shape[1]), "the initial estimator of boosting has another number of outputs")


def check_bins(mapper: Any) -> None:
    if "is_categorical_" not in vars(mapper):
        return
    flags = array_of(mapper, "is_categorical_", 1, "u")
    require(flags.dtype == np.uint8, "boosting does not say which features are categories")
    thresholds, counts = vars(mapper).get("bin_thresholds_"), vars(mapper).get("n_bins_non_missing_")
    require(
        isinstance(thresholds, list)
        and len(thresholds) == len(flags)
        and getattr(counts, "shape", None) == flags.shape,
        "boosting does not hold the bins of each feature",
    )


def _example(preprocessor: Any, features: int) -> Any:
    """Two rows of a category that is known in each column that has some, and of zeros."""
    row = [facts.categories[0].tolist()[0] if facts.categories else 0.0 for facts in facts_of(preprocessor, features)]
    are_numbers = all(isinstance(value, int | float) for value in row)
    return np.array([row, row], dtype=np.float64 if are_numbers else object)


def check_histogram_boosting(estimator: Any) -> None:
    if "_predictors" not in vars(estimator):
        return
    features, mapper = features_of(estimator), vars(estimator).get("_bin_mapper")
    require(type(mapper) is _BinMapper and "is_categorical_" in vars(mapper), "boosting holds no bins")
    flags = mapper.is_categorical_
    preprocessor, width = vars(estimator).get("_preprocessor"), features
    if preprocessor is not None:
        # Boosting leaves it to this one to compare the width of the rows.
        require(
            type(preprocessor) is ColumnTransformer and features_of(preprocessor) == features,
            "the categories of boosting are encoded by something else than it makes",
        )
        try:
            width = preprocessor.transform(_example(preprocessor, features)).shape[1]
        except Exception as error:
            raise StateInvalid(f"the categories of boosting can't be encoded: {error}") from error
    require(len(flags) == width, f"boosting is handed {width} features and holds bins of {len(flags)}")
    trees_each = vars(estimator).get("n_trees_per_iteration_")
    for predictors in estimator._predictors:
        require(isinstance(predictors, list) and len(predictors) == trees_each, "boosting holds no table of trees")
        for predictor in predictors:
            require(type(predictor) is TreePredictor, "boosting holds something else than trees")
            inner = predictor.nodes[predictor.nodes["is_leaf"] == 0]
            read, by_category = inner["feature_idx"], inner["is_categorical"] != 0
            if (read >= width).any():
                raise StateInvalid(f"a boosted tree reads feature {int(read.max())} of {width}")
            require(flags[read[by_category]].all(), "a boosted tree splits a number by categories")
