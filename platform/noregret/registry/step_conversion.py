"""Steps that skl2onnx would not convert to doubles, or not at all, though ONNX has what they
need."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common._apply_operation import apply_cast
from skl2onnx.common._registration import get_converter, get_shape_calculator
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType, guess_tensor_type
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder


def register() -> None:
    update_registered_converter(SimpleImputer, "NoregretSimpleImputer", _calculate_imputer, _convert_imputer)
    _register_encoder()
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


def _register_encoder() -> None:
    """An encoder of texts gives doubles on, as all else here does: skl2onnx has it give floats, and
    a classifier behind it is then made half of floats and half of doubles."""
    alias = "SklearnOneHotEncoder"
    convert, calculate = get_converter(alias), get_shape_calculator(alias)

    def calculate_doubles(operator: Any) -> None:
        calculate(operator)
        if _reads_texts(operator) and isinstance(operator.outputs[0].type, FloatTensorType):
            operator.outputs[0].type = DoubleTensorType(operator.outputs[0].type.shape)

    def convert_doubles(scope: Any, operator: Any, container: Any) -> None:
        if not (_reads_texts(operator) and isinstance(operator.outputs[0].type, DoubleTensorType)):
            convert(scope, operator, container)
            return
        floats = scope.get_unique_variable_name("encoded")
        convert(scope, SimpleNamespace(**_parts_of(operator) | {"output_full_names": [floats]}), container)
        apply_cast(scope, floats, operator.outputs[0].full_name, container, to=TensorProto.DOUBLE)

    def parse_doubles(scope: Any, model: Any, inputs: list[Any], custom_parsers: Any = None) -> list[Any]:
        operator = scope.declare_local_operator(alias, model)
        operator.inputs = inputs
        kind = DoubleTensorType() if _reads_texts(operator) else guess_tensor_type(inputs[0].type)
        operator.outputs.append(scope.declare_local_variable("variable", kind))
        outputs: list[Any] = operator.outputs
        return outputs

    update_registered_converter(OneHotEncoder, alias, calculate_doubles, convert_doubles, parser=parse_doubles)


def _parts_of(operator: Any) -> dict[str, Any]:
    return {name: getattr(operator, name) for name in ("raw_operator", "inputs", "outputs")}


def _reads_texts(operator: Any) -> bool:
    return any(isinstance(one.type, StringTensorType) for one in operator.inputs)


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
