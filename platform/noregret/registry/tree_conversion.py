"""Decision trees and their ensembles as ONNX, adding the same numbers in the same order as
scikit-learn does.

skl2onnx's own converters round thresholds, leaves and sums to floats and let the operator pick the
label: a row on a threshold, or one whose votes are even, is answered otherwise than by the
original. Here every number stays a double, and a tree compares what scikit-learn compares: trees
and forests float(x) with a double threshold, histogram gradient boosting x itself. Where a leaf
holds several numbers (classes, outputs), the trees give the leaf's number and a table its values; a
running sum adds them in the order of the trees. What is not written here (categorical splits,
boosting that starts from a model, several classifying outputs) raises, and is not compiled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from skl2onnx import update_registered_converter
from skl2onnx.common._registration import get_shape_calculator
from skl2onnx.common.data_types import DoubleTensorType
from skl2onnx.common.utils_classifier import get_label_classes
from sklearn import ensemble, tree
from sklearn.dummy import DummyClassifier, DummyRegressor

_ML_OPSET = 5  # the first version of ai.onnx.ml whose trees give doubles

_SUM, _LEQ = 1, 0  # of the operator TreeEnsemble: how trees are added, how nodes compare


def register() -> None:
    """Tell skl2onnx to convert trees as this module does, alone and inside pipelines and
    ensembles."""
    for names, convert in (
        (("DecisionTreeClassifier", "ExtraTreeClassifier"), _tree),
        (("DecisionTreeRegressor", "ExtraTreeRegressor"), _tree),
        (("RandomForestClassifier", "ExtraTreesClassifier"), _forest),
        (("RandomForestRegressor", "ExtraTreesRegressor"), _forest),
        (("GradientBoostingClassifier", "GradientBoostingRegressor"), _gradient_boosting),
        (("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), _histogram_boosting),
    ):
        for name in names:
            kind = getattr(ensemble, name, None) or getattr(tree, name)
            options: dict[str, list[Any]] = {"decision_path": [False], "decision_leaf": [False], "raw_scores": [False]}
            if name.endswith("Classifier"):
                options |= {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False]}
            alias = f"Sklearn{name}"
            calculate = partial(_calculate_types, get_shape_calculator(alias))
            update_registered_converter(kind, alias, calculate, convert, options=options)


def _calculate_types(calculate: Callable[[Any], None], operator: Any) -> None:
    """As skl2onnx says, but numbers from doubles are doubles."""
    calculate(operator)
    if isinstance(operator.inputs[0].type, DoubleTensorType):
        numbers = operator.outputs[-1]
        numbers.set_type(DoubleTensorType(numbers.type.shape))


def allow(model: Any) -> None:
    """Let a converted model hold trees as they are written here."""
    if any(node.op_type == "TreeEnsemble" for node in model.graph.node):
        for opset in model.opset_import:
            if opset.domain == "ai.onnx.ml":
                opset.version = _ML_OPSET


@dataclass(slots=True)
class _Nodes:
    """Trees as the operator TreeEnsemble takes them; leaves are numbered as they are added. Rows
    have `width` features."""

    width: int
    features: list[int] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    children: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))  # if true, if false
    to_leaf: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    missing: list[int] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add_constant(self, weight: float, target: int) -> None:
        """A tree that gives one number for every row: the operator knows no tree without a
        split."""
        self.roots.append(len(self.features))
        self.features.append(0)
        self.thresholds.append(0.0)
        self.missing.append(0)
        for side in (0, 1):
            self.children[side].append(len(self.weights))
            self.to_leaf[side].append(1)
        self.weights.append(weight)
        self.targets.append(target)

    def add(
        self,
        *,
        features: NDArray[Any],
        thresholds: NDArray[Any],
        children: tuple[NDArray[Any], NDArray[Any]],
        is_leaf: NDArray[np.bool_],
        missing_left: NDArray[Any],
        weights: NDArray[np.float64],
        target: int,
    ) -> None:
        """A tree by its nodes, of which node 0 is the root; `weights` has one number a node, read
        at the leaves."""
        if is_leaf[0]:
            self.add_constant(float(weights[0]), target)
            return
        splits = np.flatnonzero(~is_leaf)
        ends = np.stack((children[0][splits], children[1][splits])).astype(np.int64)
        read = features[splits].astype(np.int64)
        # The operator trusts its indices as scikit-learn's own code does.
        if (ends <= splits).any() or (ends >= len(is_leaf)).any() or (read < 0).any() or (read >= self.width).any():
            raise ValueError("a tree whose nodes lead nowhere, or read features that do not exist")
        # Where each node lies among the splits, or among the leaves.
        place = np.where(
            is_leaf, np.cumsum(is_leaf) - 1 + len(self.weights), np.cumsum(~is_leaf) - 1 + len(self.features)
        )
        self.roots.append(len(self.features))
        self.features += read.tolist()
        self.thresholds += thresholds[splits].tolist()
        self.missing += missing_left[splits].astype(int).tolist()
        for side in (0, 1):
            self.children[side].extend(place[ends[side]].tolist())
            self.to_leaf[side].extend(is_leaf[ends[side]].astype(int).tolist())
        self.weights += weights[is_leaf].tolist()
        self.targets += [target] * int(is_leaf.sum())

    def attributes(self, targets: int) -> dict[str, Any]:
        return {
            "n_targets": targets,
            "aggregate_function": _SUM,
            "post_transform": 0,
            "tree_roots": self.roots,
            "nodes_featureids": self.features,
            "nodes_splits": numpy_helper.from_array(np.array(self.thresholds, dtype=np.float64)),
            "nodes_modes": numpy_helper.from_array(np.full(len(self.features), _LEQ, dtype=np.uint8)),
            "nodes_truenodeids": self.children[0],
            "nodes_falsenodeids": self.children[1],
            "nodes_trueleafs": self.to_leaf[0],
            "nodes_falseleafs": self.to_leaf[1],
            "nodes_missing_value_tracks_true": self.missing,
            "leaf_targetids": self.targets,
            "leaf_weights": numpy_helper.from_array(np.array(self.weights, dtype=np.float64)),
        }


class _Graph:
    """Adds operators to the graph that skl2onnx builds, one variable each."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope, self._operator, self._container = scope, operator, container
        self.model = operator.raw_operator
        self.rows = operator.inputs[0].full_name
        self.width = operator.inputs[0].type.shape[1]

    def variable(self) -> str:
        name: str = self._scope.get_unique_variable_name("trees")
        return name

    def constant(self, value: NDArray[Any]) -> str:
        name = self.variable()
        kind = {"f": TensorProto.DOUBLE, "i": TensorProto.INT64, "U": TensorProto.STRING}[value.dtype.kind]
        flat = [text.encode() for text in value.ravel().tolist()] if value.dtype.kind == "U" else value.ravel().tolist()
        self._container.add_initializer(name, kind, list(value.shape), flat)
        return name

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or self.variable()
        # skl2onnx writes no newer version of the trees' domain than 3: `allow` raises it in the
        # finished model.
        domain, version = ("ai.onnx.ml", 3) if kind == "TreeEnsemble" else ("", None)
        node = self._scope.get_unique_operator_name(kind)
        self._container.add_node(
            kind, list(inputs), [name], op_domain=domain, op_version=version, name=node, **attributes
        )
        return name

    def doubles(self, rows: str, *, as_float: bool) -> str:
        """The rows as doubles, rounded to floats before where the trees were asked with floats."""
        if as_float:
            rows = self.add("Cast", rows, to=TensorProto.FLOAT)
        return self.add("Cast", rows, to=TensorProto.DOUBLE)

    def classify(self, positions: str, probabilities: str) -> None:
        """The labels at these positions, and the probabilities, as the outputs."""
        classes = np.asarray(get_label_classes(self._scope, self.model))
        # Anything but integers and texts has no label in ONNX.
        labels = self.constant(classes.astype(np.int64) if classes.dtype.kind in "iu" else classes.astype(np.str_))
        self.add("Gather", labels, positions, output=self._operator.outputs[0].full_name, axis=0)
        self.give(probabilities, output=1)

    def give(self, values: str, output: int = 0) -> None:
        variable = self._operator.outputs[output]
        self.add(
            "Cast", values, output=variable.full_name, to=variable.type.to_onnx_type().tensor_type.elem_type
        )  # as declared


def _split_by_floats(nodes: _Nodes, fitted: Any, weights: NDArray[np.float64], target: int) -> None:
    """Add scikit-learn's Tree."""
    nodes.add(
        features=fitted.feature,
        thresholds=fitted.threshold,
        children=(fitted.children_left, fitted.children_right),
        is_leaf=fitted.children_left < 0,
        missing_left=fitted.missing_go_to_left,
        weights=weights,
        target=target,
    )


def _tree(scope: Any, operator: Any, container: Any) -> None:
    _mean_of_trees(_Graph(scope, operator, container), [operator.raw_operator])


def _forest(scope: Any, operator: Any, container: Any) -> None:
    _mean_of_trees(_Graph(scope, operator, container), operator.raw_operator.estimators_)


def _mean_of_trees(graph: _Graph, members: Sequence[Any]) -> None:
    """Trees vote with what their leaves hold: shares of classes, or numbers."""
    nodes, table = _Nodes(graph.width), []
    width = int(members[0].n_outputs_)
    is_classifier = hasattr(graph.model, "classes_")
    if is_classifier and width > 1:
        raise NotImplementedError("trees that classify several outputs")
    rows = graph.doubles(graph.rows, as_float=True)
    if not is_classifier and width == 1:
        for member in members:
            _split_by_floats(nodes, member.tree_, member.tree_.value[:, 0, 0], 0)
        total = graph.add("TreeEnsemble", rows, **nodes.attributes(1))
        graph.give(_divided(graph, total, len(members)))
        return
    for position, member in enumerate(members):
        leaves = member.tree_.children_left < 0
        numbers = np.cumsum(leaves) - 1.0 + len(nodes.weights)
        _split_by_floats(nodes, member.tree_, numbers, position)
        values = member.tree_.value[leaves]
        table.append(values[:, 0, :] if is_classifier else values[:, :, 0])
    leaf_of_tree = graph.add("TreeEnsemble", rows, **nodes.attributes(len(members)))
    places = graph.add("Cast", leaf_of_tree, to=TensorProto.INT64)
    held = graph.add("Gather", graph.constant(np.concatenate(table)), places, axis=0)  # (rows, trees, values)
    running = graph.add("CumSum", held, graph.constant(np.array([1])))
    total = graph.add("Gather", running, graph.constant(np.array(len(members) - 1)), axis=1)
    mean = _divided(graph, total, len(members))
    if is_classifier:
        graph.classify(graph.add("ArgMax", mean, axis=1, keepdims=0), mean)
    else:
        graph.give(mean)


def _divided(graph: _Graph, total: str, members: int) -> str:
    return total if members == 1 else graph.add("Div", total, graph.constant(np.array(float(members))))


def _gradient_boosting(scope: Any, operator: Any, container: Any) -> None:
    graph = _Graph(scope, operator, container)
    model = graph.model
    if not (isinstance(model.init_, str) or type(model.init_) in (DummyClassifier, DummyRegressor)):
        raise NotImplementedError(f"boosting that starts from a {type(model.init_).__name__}")
    nodes, targets = _Nodes(graph.width), model.estimators_.shape[1]
    for target, start in enumerate(model._raw_predict_init(np.zeros((1, model.n_features_in_)))[0].tolist()):
        nodes.add_constant(start, target)
    for stage in model.estimators_:
        for target, member in enumerate(stage):
            _split_by_floats(nodes, member.tree_, model.learning_rate * member.tree_.value[:, 0, 0], target)
    raw = graph.add("TreeEnsemble", graph.doubles(graph.rows, as_float=True), **nodes.attributes(targets))
    if not hasattr(model, "classes_"):
        graph.give(raw)
        return
    factor = 2.0 if model.loss == "exponential" else 1.0
    _classify_raw(graph, raw, targets, factor=factor, zero_is_second=True)


def _histogram_boosting(scope: Any, operator: Any, container: Any) -> None:
    graph = _Graph(scope, operator, container)
    model = graph.model
    if model.is_categorical_ is not None:
        raise NotImplementedError("histogram gradient boosting with categorical features")
    nodes, targets = _Nodes(graph.width), int(model.n_trees_per_iteration_)
    for target, start in enumerate(np.ravel(model._baseline_prediction).tolist()):
        nodes.add_constant(start, target)
    for stage in model._predictors:
        for target, member in enumerate(stage):
            held = member.nodes
            nodes.add(
                features=held["feature_idx"],
                thresholds=held["num_threshold"],
                children=(held["left"], held["right"]),
                is_leaf=held["is_leaf"].astype(bool),
                missing_left=held["missing_go_to_left"],
                weights=held["value"],
                target=target,
            )
    raw = graph.add("TreeEnsemble", graph.doubles(graph.rows, as_float=False), **nodes.attributes(targets))
    if hasattr(model, "classes_"):
        _classify_raw(graph, raw, targets, factor=1.0, zero_is_second=False)
        return
    link = type(model._loss.link).__name__
    if link not in ("IdentityLink", "LogLink"):
        raise NotImplementedError(f"histogram gradient boosting with {link}")
    graph.give(graph.add("Exp", raw) if link == "LogLink" else raw)


def _classify_raw(graph: _Graph, raw: str, targets: int, *, factor: float, zero_is_second: bool) -> None:
    """Labels by the raw scores, as scikit-learn picks them; probabilities by the logistic function
    or softmax."""
    if targets > 1:
        graph.classify(graph.add("ArgMax", raw, axis=1, keepdims=0), graph.add("Softmax", raw, axis=1))
        return
    zero = graph.constant(np.array(0.0))
    flat = graph.add("Reshape", raw, graph.constant(np.array([-1])))
    second = graph.add("GreaterOrEqual" if zero_is_second else "Greater", flat, zero)
    scaled = raw if factor == 1.0 else graph.add("Mul", raw, graph.constant(np.array(factor)))
    positive = graph.add("Sigmoid", scaled)
    negative = graph.add("Sub", graph.constant(np.array(1.0)), positive)
    probabilities = graph.add("Concat", negative, positive, axis=1)
    graph.classify(graph.add("Cast", second, to=TensorProto.INT64), probabilities)
