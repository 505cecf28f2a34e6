"""What an MLflow model's folder holds that can be served here, and the rows that travel with it.

A skops file or an ONNX graph is taken. A pickle is not: whoever reads one runs what it says.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import yaml
from django.conf import settings

from noregret.registry.frameworks import frameworks
from serving import strict_json

from .client import Mlflow
from .errors import ImportRefused, MlflowUnavailable

_DESCRIPTION_BYTES = 1 << 20
_EXAMPLE_BYTES = 4 << 20
_MOST_ROWS = 100
REMOTE = "or serve it with `mlflow models serve` and import it with that address (--url)"


@dataclass(frozen=True, slots=True)
class Artefact:
    """`example` are rows that the model was logged with, lists in its columns' order."""

    framework: str = ""
    body: bytes = b""
    example: list[list[Any]] = field(default_factory=list)
    columns: list[dict[str, Any]] = field(default_factory=list)
    """As the model's signature names them; empty where it has no names."""


def described(mlflow: Mlflow, folder: str) -> dict[str, Any]:
    """The folder's MLmodel. Raises ImportRefused."""
    body = mlflow.file(folder, "MLmodel", _DESCRIPTION_BYTES)
    if body is None:
        raise ImportRefused("the version has no file MLmodel: it is no model that MLflow logged")
    try:
        document = yaml.safe_load(body)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ImportRefused(f"its MLmodel can't be read: {str(error)[:200]}") from error
    if not isinstance(document, dict):
        raise ImportRefused("its MLmodel holds no description")
    return document


def fetched(mlflow: Mlflow, folder: str, document: dict[str, Any]) -> Artefact:
    """The file that can be served here, and the example. Raises ImportRefused."""
    framework, path = _served_here(document)
    body = mlflow.file(folder, path, settings.ARTIFACT_LIMIT)
    if body is None:
        raise ImportRefused(f"its file {path[:100]} is not there")
    return Artefact(framework, body, example_of(mlflow, folder, document), columns_of(document))


def _served_here(document: dict[str, Any]) -> tuple[str, str]:
    """The framework, and the file's path in the folder."""
    flavors = document.get("flavors")
    flavors = flavors if isinstance(flavors, dict) else {}
    of_sklearn, of_onnx = flavors.get("sklearn"), flavors.get("onnx")
    if isinstance(of_sklearn, dict):
        file = of_sklearn.get("pickled_model")
        if of_sklearn.get("serialization_format") == "skops" and isinstance(file, str):
            return "sklearn", file
        raise ImportRefused(
            "the model is a pickle, which runs whatever it holds when it is read, and is never taken: log it with "
            f"mlflow.sklearn.log_model(..., serialization_format='skops'), {REMOTE}"
        )
    if isinstance(of_onnx, dict) and "onnx" in frameworks():
        file = of_onnx.get("data")
        if of_onnx.get("external_data") not in (None, "", "None"):
            raise ImportRefused(f"the ONNX model has its weights in other files: log it as one file, {REMOTE}")
        if isinstance(file, str):
            return "onnx", file
    others = ", ".join(sorted(map(str, flavors)))[:200] or "none"
    raise ImportRefused(f"of the version's flavours ({others}) none can be served here: log skops or ONNX, {REMOTE}")


def example_of(mlflow: Mlflow, folder: str, document: dict[str, Any]) -> list[list[Any]]:
    """The rows of the input example; none where there is none, or it holds no rows."""
    told = document.get("saved_input_example_info")
    path = told.get("artifact_path") if isinstance(told, dict) else None
    if not isinstance(path, str):
        return []
    try:
        body = mlflow.file(folder, path, _EXAMPLE_BYTES)
    except MlflowUnavailable:  # too large, most likely: it is a help and no need
        return []
    try:
        example = strict_json.loads(body or b"null")
    except strict_json.InvalidJSON:  # it may hold NaN
        return []
    rows = example.get("data", example.get("inputs")) if isinstance(example, dict) else example
    if not isinstance(rows, list) or not all(isinstance(row, list) and row for row in rows):
        return []
    return rows[:_MOST_ROWS]


_TYPES = {"double": "number", "float": "number", "integer": "integer", "long": "integer", "boolean": "boolean",
          "string": "string"}  # fmt: skip


def columns_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The columns that the model's signature names; none where one is of a type that rows have
    not, or has no name.
    """
    signature = document.get("signature")
    text = signature.get("inputs") if isinstance(signature, dict) else None
    if not isinstance(text, str):
        return []
    try:
        inputs = msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.DecodeError, RecursionError):
        return []
    columns = [
        {"name": one["name"], "type": _TYPES[one["type"]], "nullable": one.get("required") is False}
        for one in inputs
        if isinstance(one.get("name"), str) and one.get("type") in _TYPES
    ]
    return columns if len(columns) == len(inputs) else []
