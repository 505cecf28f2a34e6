"""XGBoost's and LightGBM's models as ONNX, and the proof that the written one answers as the
original does. Needs the extra `boosting`."""

import math
from typing import Any

from .errors import ModelNotTaken

TOLERANCE = 1e-5
"""Of probabilities, and of numbers relative to their greatest: ONNX adds up trees in single
precision."""
_OPSET = {"": 15, "ai.onnx.ml": 3}
"""What all three converters know."""


def converted(model: Any, sample: Any) -> bytes:
    """The model in ONNX. Raises ModelNotTaken where it can't be converted, or answers a row of
    `sample` otherwise than the original."""
    if sample is None:
        raise ModelNotTaken("a boosted model is converted, and compared with the original on `sample`: it is needed")
    try:
        import numpy
        import onnxruntime
        import skl2onnx
    except ImportError as error:
        raise ModelNotTaken("boosted models are written as ONNX: pip install noregret-client[boosting]") from error
    rows = numpy.asarray(sample, dtype=numpy.float64)
    if rows.ndim != 2:
        raise ModelNotTaken("sample: rows of numbers were expected")
    try:
        document, kind = _convert(model, rows.shape[1], skl2onnx, numpy)
        content: bytes = document.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        answers = session.run(None, {session.get_inputs()[0].name: rows.astype(kind)})
    except Exception as error:  # whatever a converter meets that it does not know
        raise ModelNotTaken(f"this model can't be converted to ONNX: {error}") from error
    original = _original(model, sample, has_probabilities=len(answers) > 1)
    for name, wanted in original.items():
        answer = numpy.asarray(answers[1] if name == "predict_proba" else answers[0])
        if name == "predict_proba" and numpy.ndim(wanted) == 1:  # a booster tells the second class's alone
            answer = answer[:, 1]
        _compare(name, numpy.asarray(wanted), answer.reshape(numpy.shape(wanted)), numpy)
    return content


def _convert(model: Any, features: int, skl2onnx: Any, numpy: Any) -> tuple[Any, Any]:
    """The converted model, and the type of its input's numbers."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    if type(model).__name__ == "Booster":
        return _convert_booster(model, features), numpy.float32
    _know_boosters(skl2onnx)
    kind, types = numpy.float32, [("input", FloatTensorType([None, features]))]
    if hasattr(model, "steps"):
        # The steps before the trees count in double precision, as the original's do: a value next
        # to a threshold would otherwise fall to its other side. Trees take single precision.
        from skl2onnx.sklapi import CastTransformer

        *before, trees = model.steps
        model = type(model)([*before, ("single", CastTransformer(dtype=numpy.float32)), trees])
        kind, types = numpy.float64, [("input", DoubleTensorType([None, features]))]
    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    return skl2onnx.convert_sklearn(model, initial_types=types, options=options, target_opset=_OPSET), kind


def _convert_booster(model: Any, features: int) -> Any:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    library = type(model).__module__.partition(".")[0]
    more = {"zipmap": False} if library == "lightgbm" else {}
    types = [("input", FloatTensorType([None, features]))]
    return getattr(onnxmltools, f"convert_{library}")(model, initial_types=types, target_opset=_OPSET[""], **more)


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


def _original(model: Any, sample: Any, *, has_probabilities: bool) -> dict[str, Any]:
    if type(model).__name__ == "Booster":
        if type(model).__module__.startswith("xgboost"):
            import xgboost

            sample = xgboost.DMatrix(sample)
        return {"predict_proba" if has_probabilities else "predict": model.predict(sample)}
    answers = {"predict": model.predict(sample)}
    if hasattr(model, "predict_proba"):
        answers["predict_proba"] = model.predict_proba(sample)
    return answers


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
