"""XGBoost's and LightGBM's models as ONNX, and the proof that the written one answers as the
original does. Needs the extra `boosting`."""

import math
from typing import Any, NamedTuple

from .errors import ModelNotTaken

TOLERANCE = 1e-5
"""Of probabilities, and of numbers relative to their greatest: ONNX adds up trees in single
precision."""
_OPSET = {"": 15, "ai.onnx.ml": 3}
"""What all three converters know."""


class Converted(NamedTuple):
    """A model in ONNX, and what the original answered on the sample, by output."""

    content: bytes
    has_input_a_column: bool
    expected: dict[str, list[Any]]


def converted(model: Any, sample: Any) -> Converted:
    """The model in ONNX: one input of numbers, or for a table that holds anything else an input a
    column. Raises ModelNotTaken where it can't be converted, or answers a row of `sample` otherwise
    than the original."""
    if sample is None:
        raise ModelNotTaken("a boosted model is converted, and compared with the original on `sample`: it is needed")
    try:
        import numpy
        import onnxruntime
        import skl2onnx
    except ImportError as error:
        raise ModelNotTaken("boosted models are written as ONNX: pip install noregret-client[boosting]") from error
    refusal = None
    # The steps before the trees count in double precision where onnxruntime can, as the original's
    # do: a value next to a threshold would otherwise fall to its other side.
    for kind in ("Double", "Float") if hasattr(model, "steps") else ("Float",):
        try:
            inputs = _inputs(sample, kind, numpy)
            types = [(name, *_type_of(array, kind)) for name, array in inputs.items()]
            content: bytes = _convert(model, types, skl2onnx, numpy).SerializeToString()
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            taken = {one.name for one in session.get_inputs()}
            answers = session.run(None, {name: array for name, array in inputs.items() if name in taken})
        except Exception as error:  # whatever a converter meets that it does not know
            refusal = refusal or ModelNotTaken(f"this model can't be converted to ONNX: {error}")
            continue
        try:
            original = _original(model, sample, numpy, has_probabilities=len(answers) > 1)
            _compare_all(original, answers, numpy)
        except ModelNotTaken as error:
            refusal = error
        else:
            expected = {name: values.tolist() for name, values in original.items()}
            return Converted(content, "input" not in inputs, expected)
    assert refusal is not None
    raise refusal


def _inputs(sample: Any, kind: str, numpy: Any) -> dict[str, Any]:
    """The sample as the converted model gets it: arrays (rows, columns) by input."""
    numbers = numpy.float64 if kind == "Double" else numpy.float32
    dtypes = getattr(sample, "dtypes", None)
    if dtypes is None or not hasattr(sample, "iloc") or all(dtype.kind in "iuf" for dtype in dtypes):
        rows = numpy.asarray(sample, dtype=numbers)
        if rows.ndim != 2:
            raise ValueError("rows of numbers were expected as the sample")
        return {"input": rows}
    kinds = {"i": numbers, "u": numbers, "f": numbers, "b": bool}
    return {name: sample[[name]].to_numpy().astype(kinds.get(sample[name].dtype.kind, object)) for name in sample}


def _type_of(array: Any, kind: str) -> tuple[str, int]:
    """An input's type as converters name it, and how many columns it has."""
    return {"O": "String", "b": "Boolean"}.get(array.dtype.kind, kind) + "TensorType", array.shape[1]


def _convert(model: Any, types: list[tuple[str, str, int]], skl2onnx: Any, numpy: Any) -> Any:
    from skl2onnx.common import data_types

    if type(model).__name__ == "Booster":
        return _convert_booster(model, types)
    _know_boosters(skl2onnx)
    if hasattr(model, "steps"):
        from skl2onnx.sklapi import CastTransformer

        *before, trees = model.steps  # which take single precision
        model = type(model)([*before, ("single", CastTransformer(dtype=numpy.float32)), trees])
    given = [(name, getattr(data_types, kind)([None, width])) for name, kind, width in types]
    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    return skl2onnx.convert_sklearn(model, initial_types=given, options=options, target_opset=_OPSET)


def _convert_booster(model: Any, types: list[tuple[str, str, int]]) -> Any:
    import onnxmltools
    from onnxmltools.convert.common import data_types

    library = type(model).__module__.partition(".")[0]
    more = {"zipmap": False} if library == "lightgbm" else {}
    given = [(name, getattr(data_types, kind)([None, width])) for name, kind, width in types]
    return getattr(onnxmltools, f"convert_{library}")(model, initial_types=given, target_opset=_OPSET[""], **more)


def _know_boosters(skl2onnx: Any) -> None:
    """skl2onnx learns to convert the boosters' estimators, also as a pipeline's step."""
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes as of_classifier,
    )
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes as of_regressor

    choices = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    try:
        import lightgbm
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    except ImportError:
        pass
    else:
        register = skl2onnx.update_registered_converter
        register(lightgbm.LGBMClassifier, "LgbmClassifier", of_classifier, convert_lightgbm, options=choices)
        register(lightgbm.LGBMRegressor, "LgbmRegressor", of_regressor, convert_lightgbm, options={"split": [-1, None]})
    try:
        import xgboost
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    except ImportError:
        pass
    else:
        register = skl2onnx.update_registered_converter
        register(xgboost.XGBClassifier, "XgbClassifier", of_classifier, convert_xgboost, options=choices)
        register(xgboost.XGBRegressor, "XgbRegressor", of_regressor, convert_xgboost)


def _original(model: Any, sample: Any, numpy: Any, *, has_probabilities: bool) -> dict[str, Any]:
    """What the original answers, as arrays of the shapes that the platform tells."""
    if type(model).__name__ == "Booster":
        if type(model).__module__.startswith("xgboost"):
            import xgboost

            sample = xgboost.DMatrix(sample)
        answer = numpy.asarray(model.predict(sample))
        if not has_probabilities:
            return {"predict": answer}
        if answer.ndim == 1:  # the second class's alone
            answer = numpy.stack([1.0 - answer, answer], axis=1)
        return {"predict_proba": answer}
    labels = numpy.asarray(model.predict(sample))
    if labels.dtype.kind == "b":  # ONNX has no boolean labels: 0 is False, 1 True
        labels = labels.astype(numpy.int64)
    answers = {"predict": labels}
    if hasattr(model, "predict_proba"):
        answers["predict_proba"] = numpy.asarray(model.predict_proba(sample))
    return answers


def _compare_all(original: dict[str, Any], answers: list[Any], numpy: Any) -> None:
    """Raises ModelNotTaken where an output differs."""
    for name, wanted in original.items():
        answer = numpy.asarray(answers[1] if name == "predict_proba" else answers[0])
        _compare(name, wanted, answer.reshape(wanted.shape), numpy)


def _compare(name: str, wanted: Any, answer: Any, numpy: Any) -> None:
    """Raises ModelNotTaken where they differ."""
    if name == "predict" and wanted.dtype.kind != "f":
        differ = wanted.astype(str) != answer.astype(str)
    else:
        scale = 1.0 if name == "predict_proba" else max(1.0, float(numpy.abs(wanted).max(initial=0.0)))
        differ = ~(numpy.abs(wanted - answer) <= TOLERANCE * scale)
    rows = numpy.flatnonzero(differ.reshape(len(wanted), math.prod(wanted.shape[1:])).any(axis=1))
    if len(rows):
        first = int(rows[0])
        raise ModelNotTaken(
            f"the converted model answers {len(rows)} of {len(wanted)} rows otherwise than the original: {name} of "
            f"sample[{first}] is {answer[first].tolist()} where the original says {wanted[first].tolist()}"
        )
