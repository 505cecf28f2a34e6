"""Models that protocols are tried on."""

from typing import Any

import numpy as np
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.conftest import Api, endpoint_of

NAMES = ["sl", "sw", "pl", "pw"]
X, Y = load_iris(return_X_y=True)
SPECIES = np.array(["setosa", "versicolor", "virginica"])


def iris(*, c: float = 1.0, texts: bool = False, names: bool = False) -> Any:
    """A classifier of iris; with `texts` its classes are names, with `names` its features have
    some."""
    model = LogisticRegression(C=c, max_iter=500).fit(X, SPECIES[Y] if texts else Y)
    if names:
        model.feature_names_in_ = np.array(NAMES, dtype=object)
    return model


TYPED = [
    {"name": "city", "type": "string", "nullable": True},
    {"name": "age", "type": "integer"},
    {"name": "vip", "type": "boolean"},
    {"name": "score", "type": "number", "nullable": True},
]


def told(api: Api) -> None:
    """An endpoint `told` whose model says what it got, a text a row."""
    body = {"name": "told", "version": "1", "framework": "python", "callable": "tests.callables.told", "columns": TYPED}
    made = api.post("/api/v1/models", body)
    assert made.status == 201, made.content
    endpoint_of("told", "told@1", deadline_ms=2000)


def upload(api: Api, model: Any, name: str, version: str) -> str:
    fields = {"name": name, "version": version, "framework": "sklearn"}
    made = api.upload("/api/v1/models", fields | {"artifact": _file(skops.io.dumps(model))})
    assert made.status == 201, made.content
    return str(made["model"])


def _file(body: bytes) -> Any:
    from django.core.files.uploadedfile import SimpleUploadedFile

    return SimpleUploadedFile("model.skops", body)
