"""Files whose state compiled code would walk out of: each is refused with its reason before
anything is predicted."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skops.io
from noregret.registry import skops_file
from scipy.sparse import csr_matrix
from sklearn.cluster import BisectingKMeans, KMeans
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_iris
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectFromModel
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.random_projection import SparseRandomProjection
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier

ROWS, SPECIES = load_iris(return_X_y=True)
WIDE = np.column_stack([ROWS] * 3)[:, :10]
WIDE[:, :9] = 0.0  # so that trees read feature 9
WIDE[:, 9] = ROWS[:, 2]
WHOLE = np.round(ROWS)


def tree(**changes: Any) -> Any:
    """A decision tree whose first node says something else."""
    model = DecisionTreeClassifier(max_depth=3, random_state=0).fit(ROWS, SPECIES)
    state = model.tree_.__getstate__()
    for field, value in changes.items():
        state["nodes"][field][0] = value
    model.tree_.__setstate__(state)
    return model


def cyclic() -> Any:
    model = tree()
    state = model.tree_.__getstate__()
    inner = np.flatnonzero(state["nodes"]["left_child"] > 0)[-1]
    state["nodes"]["left_child"][inner] = 0
    model.tree_.__setstate__(state)
    return model


def narrow(model: Any) -> Any:
    """Say of a model for ten features, and of all inside it, that it takes one."""
    for one in (model, *getattr(model, "estimators_", ())):
        one.n_features_in_ = 1
    return model


def wide_tree() -> Any:
    return DecisionTreeClassifier(random_state=0).fit(WIDE, SPECIES)


def behind(scaled: int, model: Any) -> Any:
    """A pipeline of a scaler of so many columns and a model that was fitted elsewhere."""
    pipeline = make_pipeline(StandardScaler(), model)
    pipeline.steps[0][1].fit(WIDE[:, :scaled])
    return pipeline


def changed(model: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def svc(**attributes: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return changed(SVC(probability=True, random_state=0).fit(ROWS, SPECIES), **attributes)


def boosted(**changes: Any) -> Any:
    """Histogram-based boosting whose first node says something else."""
    model = HistGradientBoostingClassifier(max_iter=2).fit(ROWS, SPECIES)
    for field, value in changes.items():
        model._predictors[0][0].nodes[field][0] = value
    return model


def by_category(**changes: Any) -> Any:
    model = HistGradientBoostingClassifier(max_iter=2, categorical_features=[2]).fit(WHOLE, SPECIES)
    nodes = model._predictors[0][0].nodes
    place = np.flatnonzero(nodes["is_categorical"])[0]
    for field, value in changes.items():
        nodes[field][place] = value
    return model


def boosting(change: Callable[[Any], None]) -> Any:
    model = GradientBoostingClassifier(n_estimators=2, random_state=0).fit(ROWS, SPECIES)
    change(model)
    return model


def fewer_outputs(model: Any) -> None:
    model.init_ = "zero"
    model.n_trees_per_iteration_ = 1


def other_member(model: Any) -> None:
    model.estimators_[1, 1] = LogisticRegression().fit(ROWS, SPECIES)


def isolated() -> Any:
    model = IsolationForest(n_estimators=3, max_features=0.5, random_state=0).fit(ROWS)
    model.estimators_features_ = [np.array([0]) for _ in model.estimators_]
    return model


def bagged() -> Any:
    model = BaggingClassifier(wide_tree(), n_estimators=2, random_state=0).fit(WIDE, SPECIES)
    model.estimators_features_ = [np.array([0]), np.array([0])]
    return model


def encoder(**attributes: Any) -> Any:
    model = make_pipeline(OneHotEncoder(sparse_output=False), LogisticRegression(max_iter=500)).fit(WHOLE, SPECIES)
    changed(model.steps[0][1], **attributes)
    return model


def step(transformer: Any, rows: Any = WHOLE, **attributes: Any) -> Any:
    """A pipeline of a fitted transformer, changed afterwards, and a linear model."""
    model = make_pipeline(transformer, LinearRegression()).fit(rows, SPECIES)
    changed(transformer, **attributes)
    return model


def rare(**attributes: Any) -> Any:
    """An encoder of objects, for which no value can be tried that is sure to be unknown."""
    return step(
        OneHotEncoder(min_frequency=20, handle_unknown="infrequent_if_exist"), WHOLE.astype(object), **attributes
    )


def tangled() -> Any:
    model = step(SplineTransformer(), ROWS)
    model[0].bsplines_[0].t = model[0].bsplines_[0].t[::-1].copy()
    return model


def out_of_order(transformer: Any, *categories: Any) -> Any:
    return step(transformer, WHOLE[:, :1], categories_=[np.array(categories)])


def polynomial(degree: Any = 2, **attributes: Any) -> Any:
    """As many outputs as the table is said to be wide, so that what is not written would be
    answered."""
    model = step(PolynomialFeatures(degree), ROWS, **attributes)
    width = attributes.get("_n_out_full", 15)
    return changed(model, steps=[model.steps[0], ("linear", LinearRegression().fit(np.eye(width), np.eye(width)))])


def target_encoded(**attributes: Any) -> Any:
    return step(TargetEncoder(random_state=0), WHOLE, **attributes)


def binned(change: Callable[[Any], None], **options: Any) -> Any:
    transformer = KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf", **options)
    model = step(transformer, ROWS)
    change(transformer)
    return model


def reversed_edges(transformer: Any) -> None:
    transformer.bin_edges_[0] = transformer.bin_edges_[0][::-1].copy()


def fewer_edges(transformer: Any) -> None:
    transformer.bin_edges_[0] = transformer.bin_edges_[0][1:].copy()


def fewer_bins_encoded(transformer: Any) -> None:
    transformer._encoder.categories_ = [np.arange(2.0)] * 4


def reversed_quantiles() -> Any:
    model = step(QuantileTransformer(n_quantiles=20), ROWS)
    return changed(model, steps=[("q", changed(model[0], quantiles_=model[0].quantiles_[::-1].copy())), model.steps[1]])


def mixture(**attributes: Any) -> Any:
    return changed(GaussianMixture(2, random_state=0).fit(ROWS), **attributes)


def chain(order: list[int]) -> Any:
    labels = np.column_stack((SPECIES > 0, SPECIES > 1))
    return changed(ClassifierChain(LogisticRegression(max_iter=500)).fit(ROWS, labels), order_=order)


def lying_step() -> Any:
    """A step that says it gives on four features, as the tree after it takes, and gives on two."""
    return make_pipeline(changed(PLSRegression(2).fit(ROWS, SPECIES), _n_features_out=4), tree())


def silent_step() -> Any:
    """A step that neither says how many features it gives on nor takes rows."""
    return make_pipeline(changed(PLSRegression(2).fit(ROWS, SPECIES), _n_features_out="2", _x_mean="0"), tree())


def several_answers() -> Any:
    labels = np.column_stack((SPECIES == 0, SPECIES == 1)).astype(int)
    model = OneVsRestClassifier(LogisticRegression(max_iter=500)).fit(ROWS, labels)
    model.estimators_[0] = LogisticRegression(max_iter=500).fit(ROWS, SPECIES)
    return model


def projected() -> Any:
    model = make_pipeline(SparseRandomProjection(2, random_state=0), LogisticRegression()).fit(ROWS, SPECIES)
    matrix = csr_matrix(model.steps[0][1].components_)
    matrix.indices[0] = 1_000_000
    model.steps[0][1].components_ = matrix
    return model


def bisected() -> Any:
    model = BisectingKMeans(3, random_state=0).fit(ROWS)
    model._bisecting_tree.left.center = np.zeros(1)
    return model


def splined() -> Any:
    model = make_pipeline(SplineTransformer(), LogisticRegression(max_iter=500)).fit(ROWS, SPECIES)
    model.steps[0][1].bsplines_[0]._c = model.steps[0][1].bsplines_[0]._c[:1]
    return model


def randomised() -> Any:
    model = make_pipeline(LatentDirichletAllocation(2, max_iter=1), LogisticRegression()).fit(ROWS, SPECIES)
    state = model.steps[0][1].random_state_.get_state(legacy=False)
    state["state"]["pos"] = 100_000
    model.steps[0][1].random_state_.set_state(state)
    return model


CRAFTED: dict[str, tuple[Callable[[], Any], str]] = {
    "tree that leads nowhere": (lambda: tree(left_child=10_000), "lead nowhere"),
    "tree that leads to itself": (lambda: tree(right_child=0), "lead nowhere or back"),
    "tree with a negative child": (lambda: tree(right_child=-7), "lead nowhere or back"),
    "tree with a cycle": (cyclic, "lead nowhere or back"),
    "tree with a node of two parents": (lambda: tree(right_child=1), "two parents"),
    "tree that reads a feature too many": (lambda: tree(feature=4), "features which do not exist"),
    "tree that reads before its row": (lambda: tree(feature=-3), "features which do not exist"),
    "tree that splits at NaN": (lambda: tree(threshold=np.nan), "not a number"),
    "tree that says one feature": (lambda: narrow(wide_tree()), "takes 1 features, and its nodes read from 10"),
    "tree that says nothing": (lambda: changed(tree(), n_features_in_="4"), "does not say how many features"),
    "tree behind a scaler": (
        lambda: behind(1, wide_tree()),
        "decisiontreeclassifier in the model takes 10 features, and 1 reach it",
    ),
    "tree behind a scaler, that says one": (lambda: behind(1, narrow(wide_tree())), "its nodes read from 10"),
    "forest": (
        lambda: narrow(RandomForestClassifier(3, random_state=0).fit(WIDE, SPECIES)),
        "takes 1 features, and its nodes read from 10",
    ),
    "forest that says one": (
        lambda: changed(ExtraTreesRegressor(3, random_state=0).fit(WIDE, SPECIES), n_features_in_=1),
        "hands 1 features to a tree that takes 10",
    ),
    "tree in a column transformer": (
        lambda: ColumnTransformerWithTree().made(),
        "takes 10 features, and 1 reach it",
    ),
    "tree in bagging": (bagged, "takes 10 features, and 1 reach it"),
    "tree in several outputs": (
        lambda: changed(
            MultiOutputClassifier(DecisionTreeClassifier()).fit(WIDE, np.column_stack((SPECIES, SPECIES))),
            n_features_in_=1,
        ),
        "takes 10 features, and 1 reach it",
    ),
    "tree in a chain": (
        lambda: changed(
            ClassifierChain(DecisionTreeClassifier()).fit(WIDE, np.column_stack((SPECIES > 0, SPECIES > 1))),
            n_features_in_=1,
        ),
        "takes 10 features, and 1 reach it",
    ),
    "isolation forest": (isolated, "which features each tree takes"),
    "boosting with fewer outputs": (lambda: boosting(fewer_outputs), "another number of outputs"),
    "boosting with another member": (lambda: boosting(other_member), "something else"),
    "boosting that says one feature": (lambda: boosting(lambda model: setattr(model, "n_features_in_", 1)), "hands 1"),
    "boosted tree that leads nowhere": (lambda: boosted(left=10_000), "lead nowhere"),
    "boosted tree that leads back": (lambda: boosted(right=0), "lead nowhere or back"),
    "boosted tree that reads a feature too many": (lambda: boosted(feature_idx=9), "reads feature 9 of 4"),
    "boosted tree that reads before its row": (lambda: boosted(feature_idx=-1), "features which do not exist"),
    "boosted tree without its categories": (lambda: boosted(is_categorical=1), "categories that it does not hold"),
    "boosted tree with a category too many": (lambda: by_category(bitset_idx=99), "categories that it does not hold"),
    "boosted tree with a number by categories": (lambda: by_category(feature_idx=3), "splits a number by categories"),
    "boosting with fewer bins": (
        lambda: changed(boosted(), _bin_mapper=changed(boosted()._bin_mapper, is_categorical_=np.zeros(1, np.uint8))),
        "bins of each feature",
    ),
    "support vectors of another width": (
        lambda: svc(support_vectors_=svc().support_vectors_[:, :1].copy()),
        "fit together",
    ),
    "fewer support vectors": (lambda: svc(support_vectors_=svc().support_vectors_[:2].copy()), "fit together"),
    "more support vectors of a class": (lambda: svc(_n_support=np.array([50, 5000, 50], np.int32)), "fit together"),
    "negative support vectors": (
        lambda: svc(_n_support=np.array([-9, len(svc().support_) + 9, 0], np.int32)),
        "fit together",
    ),
    "fewer weights": (lambda: svc(_dual_coef_=svc()._dual_coef_[:, :1].copy()), "fit together"),
    "fewer rows of weights": (lambda: svc(_dual_coef_=svc()._dual_coef_[:1].copy()), "fit together"),
    "fewer thresholds": (lambda: svc(_intercept_=np.zeros(1)), "fit together"),
    "fewer probabilities": (lambda: svc(_probA=np.zeros(1)), "fit together"),
    "regression with fewer weights": (
        lambda: changed(SVR().fit(ROWS, SPECIES), _dual_coef_=np.zeros((1, 1))),
        "fit together",
    ),
    "regression with fewer classes": (
        lambda: changed(SVR().fit(ROWS, SPECIES), _n_support=np.array([], np.int32)),
        "fit together",
    ),
    "precomputed kernel read beyond its row": (
        lambda: changed(
            SVC(kernel="precomputed").fit(ROWS @ ROWS.T, SPECIES), support_=np.full(len(svc().support_), 9999, np.int32)
        ),
        "fit together",
    ),
    "kernel that is a function": (lambda: svc(kernel=np.add), "function as its kernel"),
    "another kind of support vectors": (lambda: svc(_impl="one_class"), "in the place of its _impl"),
    "neighbours with another label": (
        lambda: changed(KNeighborsClassifier(algorithm="brute").fit(ROWS, SPECIES), _y=np.full(150, 10**9)),
        "do not fit together",
    ),
    "neighbours with fewer labels": (
        lambda: changed(KNeighborsClassifier(algorithm="brute").fit(ROWS, SPECIES), _y=np.zeros(3, int)),
        "do not fit together",
    ),
    "neighbours with more points than they have": (
        lambda: changed(LocalOutlierFactor(novelty=True).fit(ROWS), n_samples_fit_=10**6),
        "do not fit together",
    ),
    "distance of another width": (
        lambda: changed(
            KNeighborsClassifier(algorithm="brute", metric="mahalanobis", metric_params={"VI": np.eye(4)}).fit(
                ROWS, SPECIES
            ),
            effective_metric_params_={"VI": np.eye(1)},
        ),
        "another width than the rows",
    ),
    "centres of another width": (
        lambda: changed(KMeans(2, n_init=1, random_state=0).fit(ROWS), cluster_centers_=np.zeros((2, 1))),
        "another width than its rows",
    ),
    "centre of another width": (bisected, "another width than the rows"),
    "encoder with fewer columns": (lambda: encoder(_n_features_outs=[1, 1, 1, 1]), "no column"),
    "encoder out of order": (lambda: out_of_order(OneHotEncoder(handle_unknown="ignore"), 0.0, 2, 1), "out of order"),
    "dense encoder out of order": (
        lambda: out_of_order(OneHotEncoder(handle_unknown="ignore", sparse_output=False), 0.0, 2, 1),
        "out of order",
    ),
    "encoder with a category twice": (lambda: out_of_order(OneHotEncoder(handle_unknown="ignore"), 0.0, 1, 1), "twice"),
    "encoder with a missing value first": (
        lambda: out_of_order(OneHotEncoder(handle_unknown="ignore"), np.nan, 0, 1),
        "missing values come last",
    ),
    "encoder with text out of order": (
        lambda: out_of_order(OneHotEncoder(handle_unknown="ignore"), "0.0", "2.0", "1.0"),
        "out of order",
    ),
    "encoder with objects out of order": (
        lambda: step(
            OneHotEncoder(handle_unknown="ignore"), WHOLE[:, :1], categories_=[np.array([0, 2, 1], dtype=object)]
        ),
        "out of order",
    ),
    "rare category that is none": (
        lambda: rare(_infrequent_indices=[np.array([10**6])] * 4),
        "rare categories of a OneHotEncoder do not fit together",
    ),
    "rare categories without a place": (
        lambda: rare(_default_to_infrequent_mappings=[]),
        "rare categories of a OneHotEncoder do not fit together",
    ),
    "rare categories with another place": (
        lambda: rare(_default_to_infrequent_mappings=[np.full(9, 10**6)] * 4),
        "rare categories of a OneHotEncoder do not fit together",
    ),
    "knots out of order": (tangled, "out of order|does not fit together"),
    "ordinal encoder out of order": (lambda: out_of_order(OrdinalEncoder(), 0.0, 2, 1), "out of order"),
    "target encoder out of order": (lambda: out_of_order(TargetEncoder(), 0.0, 2, 1), "out of order"),
    "labels out of order": (
        lambda: changed(
            model := OneVsRestClassifier(LogisticRegression(max_iter=500)).fit(ROWS, SPECIES),
            label_binarizer_=changed(model.label_binarizer_, classes_=np.array([0, 2, 1])),
        ),
        "classes of a LabelBinarizer are out of order",
    ),
    "bins out of order": (lambda: binned(reversed_edges), "out of order"),
    "fewer edges of bins": (lambda: binned(fewer_edges, encode="ordinal"), "do not fit together"),
    "fewer bins encoded": (lambda: binned(fewer_bins_encoded), "do not fit together"),
    "quantiles out of order": (reversed_quantiles, "out of order"),
    "quantiles of another width": (
        lambda: step(QuantileTransformer(n_quantiles=20), ROWS, quantiles_=np.zeros((20, 1))),
        "do not fit together",
    ),
    "thresholds out of order": (
        lambda: changed(
            IsotonicRegression().fit(ROWS[:, 0], SPECIES),
            X_thresholds_=np.array([1.0, 0.0]),
            y_thresholds_=np.array([0.0, 1.0]),
        ),
        "out of order",
    ),
    "polynomial of a wider table": (lambda: polynomial(_n_out_full=400), "degrees and the number of terms"),
    "polynomial of a wider table without a name": (
        lambda: polynomial(_n_out_full=400, feature_names_in_=np.array(["a"], dtype=object)),
        "does not name each of its 4 features",
    ),
    "polynomial of another degree": (lambda: polynomial(_max_degree=1), "degrees and the number of terms"),
    "polynomial of other terms": (lambda: polynomial(interaction_only=True), "degrees and the number of terms"),
    "polynomial that gives on more": (lambda: polynomial((2, 2), n_output_features_=15), "number of terms"),
    "polynomial of too many terms": (
        lambda: step(PolynomialFeatures(2), ROWS, degree=10_000, _max_degree=10_000),
        "more than 1000000 terms",
    ),
    "names that are none": (
        lambda: changed(tree(), feature_names_in_=np.array([1, 2, 3, 4], dtype=object)),
        "does not name each of its 4 features",
    ),
    "target encoder with fewer encodings": (
        lambda: target_encoded(encodings_=[np.zeros(len(np.unique(WHOLE[:, 0])))]),
        "encodings, categories and classes of a TargetEncoder do not fit together",
    ),
    "target encoder with shorter encodings": (
        lambda: target_encoded(encodings_=[np.zeros(1)] * 12),
        "encodings, categories and classes of a TargetEncoder do not fit together",
    ),
    "target encoder with more classes": (lambda: target_encoded(classes_=np.arange(40)), "do not fit together"),
    "target encoder with fewer means": (lambda: target_encoded(target_mean_=np.zeros(1)), "do not fit together"),
    "target encoder of another kind": (lambda: target_encoded(target_type_="binary"), "do not fit together"),
    "mixture with fewer components": (
        lambda: mixture(precisions_cholesky_=mixture().precisions_cholesky_[:1].copy()),
        "components of a GaussianMixture do not fit together",
    ),
    "chain without an order": (lambda: chain([0, 0]), "order of a ClassifierChain is none"),
    "step that says another width": (
        lying_step,
        "decisiontreeclassifier in the model takes 4 features, and 2 reach it",
    ),
    "step that does not say its width": (silent_step, "how many features plsregression gives on can't be known"),
    "members that answer several times": (several_answers, "several answers a row"),
    "sparse matrix read beyond its end": (projected, "sparse matrix is damaged"),
    "spline with fewer coefficients": (splined, "does not fit together"),
    "random numbers read beyond their table": (randomised, "source of random numbers is damaged"),
    "method replaced": (
        lambda: changed(RandomForestClassifier(3).fit(ROWS, SPECIES), _validate_X_predict=np.absolute),
        "in the place of its _validate_X_predict",
    ),
    "function": (
        lambda: make_pipeline(FunctionTransformer(np.abs, kw_args={"where": True}), StandardScaler(), tree()).fit(
            ROWS, SPECIES
        ),
        "holds arguments for its function",
    ),
}


HONEST: dict[str, Callable[[], Any]] = {
    "encoder": lambda: step(OneHotEncoder(handle_unknown="ignore")),
    "encoder that leaves one out": lambda: step(OneHotEncoder(drop="first")),
    "encoder of the rare": lambda: step(OneHotEncoder(min_frequency=20, handle_unknown="infrequent_if_exist")),
    "encoder of rare objects": rare,
    "encoder of rare objects by number": lambda: step(
        OrdinalEncoder(
            min_frequency=20, handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
        ),
        np.where(WHOLE == 5, np.nan, WHOLE),
    ),
    "encoder with missing values": lambda: step(
        OneHotEncoder(handle_unknown="ignore"), np.where(WHOLE == 5, np.nan, WHOLE)
    ),
    "encoder of given numbers": lambda: step(OneHotEncoder(categories=[[0, 1, 2, 3, 4, 5, 6, 7, 8]] * 4)),
    "encoder of text in an order of its own": lambda: step(
        OrdinalEncoder(categories=[["small", "large"]]), np.where(ROWS[:, :1] > 5, "large", "small").astype(object)
    ),
    "encoder of text": lambda: step(OneHotEncoder(), np.where(ROWS[:, :1] > 5, "large", "small")),
    "encoder of text with a missing value": lambda: step(
        OneHotEncoder(), np.array([["b"], ["a"], [None]] * 50, dtype=object)
    ),
    "encoder of objects": lambda: step(OneHotEncoder(), WHOLE.astype(object)),
    "ordinal encoder": lambda: step(OrdinalEncoder()),
    "target encoder of classes": target_encoded,
    "target encoder of two classes": lambda: make_pipeline(TargetEncoder(), LogisticRegression()).fit(
        WHOLE, SPECIES > 0
    ),
    "target encoder of numbers": lambda: make_pipeline(TargetEncoder(), LinearRegression()).fit(WHOLE, ROWS[:, 0]),
    "bins": lambda: binned(lambda transformer: None),
    "dense bins": lambda: binned(lambda transformer: None, encode="onehot-dense"),
    "ordinal bins": lambda: binned(lambda transformer: None, encode="ordinal", strategy="kmeans"),
    "bins of one value": lambda: step(KBinsDiscretizer(3, strategy="uniform"), np.column_stack((ROWS, np.ones(150)))),
    "quantiles": lambda: step(QuantileTransformer(n_quantiles=20, output_distribution="normal"), ROWS),
    "isotonic regression": lambda: IsotonicRegression(out_of_bounds="clip").fit(ROWS[:, 0], SPECIES),
    "polynomial": lambda: polynomial(),
    "polynomial of products": lambda: step(PolynomialFeatures(6, interaction_only=True, include_bias=False), ROWS),
    "polynomial of degrees": lambda: step(PolynomialFeatures((2, 3)), ROWS),
    "polynomial of the bias alone": lambda: step(PolynomialFeatures(0), ROWS),
    "polynomial of an encoder": lambda: make_pipeline(
        OneHotEncoder(handle_unknown="ignore"), PolynomialFeatures(2), LinearRegression()
    ).fit(WHOLE, SPECIES),
    "mixture": mixture,
    "mixture with one spread": lambda: GaussianMixture(2, covariance_type="tied", random_state=0).fit(ROWS),
    "mixture of round clusters": lambda: BayesianGaussianMixture(
        n_components=2, covariance_type="spherical", random_state=0
    ).fit(ROWS),
    "mixture of the diagonal": lambda: GaussianMixture(2, covariance_type="diag", random_state=0).fit(ROWS),
    "chain": lambda: chain([1, 0]),
    "logarithm": lambda: step(FunctionTransformer(np.log), ROWS),
    "splines": lambda: step(SplineTransformer(sparse_output=True), ROWS),
    "votes on a table with names": lambda: changed(
        VotingClassifier([("tree", DecisionTreeClassifier())]).fit(ROWS, SPECIES),
        feature_names_in_=np.array(list("abcd"), dtype=object),
    ),
    "polynomial of chosen columns": lambda: make_pipeline(
        SelectFromModel(DecisionTreeClassifier(random_state=0)), PolynomialFeatures(), LinearRegression()
    ).fit(ROWS, SPECIES),
    "columns that neither say their width nor take zeros": lambda: step(
        ColumnTransformer(
            [
                ("logarithms", FunctionTransformer(np.log1p), [0, 1]),
                ("encoded", make_pipeline(SimpleImputer(), OneHotEncoder()), [2, 3]),
            ]
        ),
        WHOLE + 10,
    ),
    "text among columns that do not say their width": lambda: step(
        ColumnTransformer(
            [("logarithms", FunctionTransformer(np.log1p, validate=True), [0]), ("encoded", OneHotEncoder(), [1])]
        ),
        np.array([[1.0, "a"], [2.0, "b"], [3.0, "c"]] * 50, dtype=object),
    ),
    "categories of boosting": lambda: by_category(),
}


class ColumnTransformerWithTree:
    """A tree for ten features stacked as a transformer of one column."""

    def made(self) -> Any:
        selector = SelectFromModel(wide_tree(), prefit=False).fit(WIDE, SPECIES)
        columns = ColumnTransformer([("chosen", SelectFromModel(wide_tree()), [0])], remainder="drop")
        columns.fit(WIDE[:, :2], SPECIES)
        columns.transformers_[0] = ("chosen", selector, [0])
        model = make_pipeline(columns, LogisticRegression(max_iter=500))
        model.steps[1][1].fit(WIDE[:, 9:], SPECIES)
        return model


@pytest.mark.parametrize("name", CRAFTED)
def test_file__whose_state_compiled_code_would_leave__is_refused_with_the_reason(name: str) -> None:
    make, reason = CRAFTED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        body = skops.io.dumps(make())
    with pytest.raises(skops_file.Refused, match=reason):
        skops_file.load(body, ())


@pytest.mark.parametrize("name", HONEST)
def test_file__of_a_kind_whose_state_is_checked__is_taken_as_it_was_fitted(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = HONEST[name]()
        body = skops.io.dumps(model)
        loaded = skops_file.load(body, ())
    assert type(loaded) is type(model)


def rewritten(model: Any, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file of a model after `change` of every node in its description."""

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            change(node)
        for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(inner)

    source, target = zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                walk(schema)
                content = json.dumps(schema).encode()
            archive.writestr(name, content)
    return target.getvalue()


def plain(value: Any) -> dict[str, Any]:
    return {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": json.dumps(value)}


def fewer_classes(node: dict[str, Any]) -> None:
    """A tree that is made for more outputs than it says classes for: making one reads beyond its
    array."""
    if node.get("__class__") == "Tree":
        node["__reduce__"]["args"]["content"][2] = plain(1000)


def called(node: dict[str, Any]) -> None:
    """A type that is to be filled is called instead."""
    if node.get("__class__") == "_SigmoidCalibration":
        node["__loader__"] = "ConstructorFromReduceNode"


def ours(node: dict[str, Any]) -> None:
    if node.get("__class__") == "Tree":
        node.update(__class__="tree", __module__="serving.runtimes.compiled_parts", __loader__="FunctionNode")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (fewer_classes, "does not say how many classes"),
        (called, "no honest file"),
        (ours, "parts of this program"),
    ],
)
def test_file__that_has_types_made_in_another_way__is_refused(
    change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    from sklearn.calibration import CalibratedClassifierCV

    model = CalibratedClassifierCV(DecisionTreeClassifier(), cv=2).fit(ROWS, SPECIES)
    with pytest.raises(skops_file.Refused, match=reason):
        skops_file.load(rewritten(model, change), ())
    assert skops_file.load(rewritten(model, lambda node: None), ()).predict(ROWS[:1]).shape == (1,)


def test_file__with_a_search_tree_of_invented_indices__answers_from_its_points() -> None:
    model = KNeighborsClassifier(3, algorithm="kd_tree", leaf_size=2).fit(ROWS, SPECIES)
    expected = model.kneighbors(ROWS[:20])
    state = list(model._tree.__getstate__())
    state[1] = np.full_like(state[1], 10**9)
    model._tree.__setstate__(tuple(state))
    loaded = skops_file.load(skops.io.dumps(model), ())
    for answer, wanted in zip(loaded.kneighbors(ROWS[:20]), expected, strict=True):
        assert np.array_equal(answer, wanted)
