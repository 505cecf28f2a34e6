"""Steps that skl2onnx would not convert to doubles, or not at all, though ONNX has what they
need."""

from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common._registration import get_converter, get_shape_calculator
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer


def register() -> None:
    update_registered_converter(SimpleImputer, "NoregretSimpleImputer", _calculate_imputer, _convert_imputer)
    alias = "SklearnVotingClassifier"
    convert = get_converter(alias)

    def convert_voting(scope: Any, operator: Any, container: Any) -> None:
        operator.raw_operator.flatten_transform = False  # of `transform`, which nobody calls here
        convert(scope, operator, container)

    update_registered_converter(
        VotingClassifier,
        alias,
        get_shape_calculator(alias),
        convert_voting,
        options=convert.get_allowed_options(),
    )


def _calculate_imputer(operator: Any) -> None:
    imputer, rows = operator.raw_operator, operator.inputs[0].type
    if not isinstance(rows, DoubleTensorType | FloatTensorType) or len(operator.inputs) != 1:
        raise NotImplementedError("an imputer of anything but one table of numbers")
    if imputer.add_indicator or not np.isfinite(imputer.statistics_.astype(np.float64)).all():
        raise NotImplementedError("an imputer that adds or drops columns")
    operator.outputs[0].type = type(rows)([rows.shape[0], len(imputer.statistics_)])


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Where a value is missing (NaN, or a number that stands for it), the feature's own
    replacement."""
    imputer, rows = operator.raw_operator, operator.inputs[0]
    kind = TensorProto.DOUBLE if isinstance(rows.type, DoubleTensorType) else TensorProto.FLOAT
    replacement, missing = scope.get_unique_variable_name("replacement"), scope.get_unique_variable_name("missing")
    statistics = imputer.statistics_.astype(np.float64)
    container.add_initializer(replacement, kind, [1, len(statistics)], statistics.tolist())
    if isinstance(imputer.missing_values, int | float) and not np.isnan(imputer.missing_values):
        stands = scope.get_unique_variable_name("stands_for_missing")
        container.add_initializer(stands, kind, [], [float(imputer.missing_values)])
        container.add_node("Equal", [rows.full_name, stands], missing, name=scope.get_unique_operator_name("Equal"))
    else:
        container.add_node("IsNaN", rows.full_name, missing, name=scope.get_unique_operator_name("IsNaN"))
    container.add_node(
        "Where",
        [missing, replacement, rows.full_name],
        operator.outputs[0].full_name,
        name=scope.get_unique_operator_name("Where"),
    )
