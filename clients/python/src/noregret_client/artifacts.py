"""Models as files that run no code when they are read: skops for scikit-learn's, ONNX for all
others."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from .errors import ModelNotTaken

_BY_SUFFIX = {".skops": "sklearn", ".onnx": "onnx"}


class Artifact(NamedTuple):
    """A model's bytes, and the framework that the platform reads them with.

    `tells_columns`: it names the columns by itself, and knows more of them than a sample does: gaps
    that are taken, and categories. `expected`: what the original answered on the sample, where the
    bytes are a converted model's.
    """

    framework: str
    content: bytes
    tells_columns: bool = True
    expected: dict[str, list[Any]] | None = None


def written(model: Any, sample: Any) -> Artifact:
    """A fitted model as the platform takes it. `sample`: rows that a converted model is compared
    with the original on, None where there are none. Raises ModelNotTaken."""
    if isinstance(model, str | Path):
        return _file(Path(model))
    if hasattr(model, "SerializeToString") and hasattr(model, "graph"):
        return Artifact("onnx", model.SerializeToString())
    if _libraries(model) & {"xgboost", "lightgbm"}:
        from . import boosting

        converted = boosting.converted(model, sample)
        return Artifact("onnx", converted.content, converted.has_input_a_column, converted.expected)
    if "sklearn" in _libraries(model) or hasattr(model, "get_params"):
        return Artifact("sklearn", _skops(model), hasattr(model, "feature_names_in_"))
    raise ModelNotTaken(
        f"a fitted model of scikit-learn, XGBoost or LightGBM, an ONNX model, or a path to a .skops or .onnx file "
        f"was expected, not {type(model).__module__}.{type(model).__name__}"
    )


def _file(path: Path) -> Artifact:
    framework = _BY_SUFFIX.get(path.suffix.lower())
    if framework is None:
        raise ModelNotTaken(f"{path}: a .skops or .onnx file was expected")
    return Artifact(framework, path.read_bytes())


def _skops(model: Any) -> bytes:
    try:
        import skops.io
    except ImportError as error:
        raise ModelNotTaken(
            "scikit-learn's models are written by skops: pip install noregret-client[sklearn]"
        ) from error
    try:
        content: bytes = skops.io.dumps(model)
    except Exception as error:  # whatever it meets in the model that it can't write
        raise ModelNotTaken(f"skops can't write this model: {error}") from error
    return _settled(content)


def _settled(content: bytes) -> bytes:
    """The same skops file without what is of the moment: the same model is the same file, so that a
    notebook that is run again registers nothing anew.

    skops names objects and members by addresses in memory, and writes the time at each member. Here
    both are counted in the order in which the schema names them.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as given:
        schema = json.loads(given.read("schema.json"))
        files: dict[str, str] = {}
        _settle(schema, {}, files, frozenset(given.namelist()))
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as settled:
            for old, new in [*files.items(), ("schema.json", "schema.json")]:
                body = json.dumps(schema).encode() if old == "schema.json" else given.read(old)
                settled.writestr(zipfile.ZipInfo(new), body)  # with zip's first day as its time
    return written.getvalue()


def _settle(node: Any, ids: dict[int, int], files: dict[str, str], members: frozenset[str]) -> None:
    waiting = [node]
    while waiting:  # a deep model is deeper than Python's stack
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(node.get("__id__"), int):
                node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
            if isinstance(file := node.get("file"), str) and file in members:
                node["file"] = files.setdefault(file, f"{len(files) + 1}{Path(file).suffix}")
            waiting += reversed(node.values())
        elif isinstance(node, list):
            waiting += reversed(node)


def _libraries(model: Any) -> set[str]:
    """The packages that a model and its steps come from."""
    parts = [model]
    if hasattr(model, "get_params"):
        parts += model.get_params(deep=True).values()
    return {base.__module__.partition(".")[0] for part in parts for base in type(part).__mro__}
