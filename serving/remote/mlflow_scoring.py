"""MLflow's scoring protocol: `POST .../invocations`, as `mlflow models serve` and the images that
MLflow builds answer it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from serving.outbound.http_client import HttpClient
from serving.runtimes.columns import Rows, Table
from serving.runtimes.runtime import ModelError, Outputs

from .answers import JSON, ask, check_names, most_bytes, unreadable
from .described import Described
from .tensors import MOST_OUTPUTS

_PING_BYTES = 64 * 1024

_Value = bool | int | float | str


class _Answer(msgspec.Struct):
    predictions: msgspec.Raw


_answer = msgspec.json.Decoder(_Answer)
# From the most frequent to the rarest: values, vectors, rows of a DataFrame, arrays by name.
_values = msgspec.json.Decoder(list[_Value])
_vectors = msgspec.json.Decoder(list[list[_Value]])
_records = msgspec.json.Decoder(list[dict[str, _Value | list[_Value]]])
_named = msgspec.json.Decoder(dict[str, list[_Value | list[_Value]]])


class MlflowModel:
    """A model at an address; `names` are its columns', None for rows without names."""

    def __init__(
        self, client: HttpClient, url: str, headers: dict[str, str], names: Sequence[str] | None, limit: int
    ) -> None:
        self._client = client
        self._root = url.rstrip("/").removesuffix("/invocations")
        self._headers = JSON | headers
        self._names = None if names is None else list(names)
        self._limit = limit

    def describe(self, seconds: float) -> Described:
        """That it is there: the protocol says no more of a model. Raises as `ask` does."""
        ask(self._client, "GET", f"{self._root}/ping", seconds=seconds, limit=_PING_BYTES, headers=self._headers)
        return Described()

    def predict(self, rows: Rows, seconds: float) -> Outputs:
        data = _plain(rows)
        body = {"inputs": data} if self._names is None else {"dataframe_split": {"columns": self._names, "data": data}}
        answer = ask(
            self._client,
            "POST",
            f"{self._root}/invocations",
            seconds=seconds,
            limit=most_bytes(len(rows), self._limit),
            headers=self._headers,
            body=msgspec.json.encode(body),
        )
        try:
            outputs = _outputs(_answer.decode(answer).predictions)
            check_names(answer, 1)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            unreadable(error)
        for name, values in outputs.items():
            if len(values) != len(rows):
                raise ModelError(f"{name[:80]} has {len(values)} values for {len(rows)} rows")
        if not outputs or len(outputs) > MOST_OUTPUTS:
            raise ModelError(f"its answer has {len(outputs)} outputs")
        return outputs


def _plain(rows: Rows) -> list[list[Any]]:
    """JSON-ready values, null for what is none."""
    if isinstance(rows, Table) or np.isfinite(rows).all():
        return rows.tolist()
    return [[None if value != value else value for value in row] for row in rows.tolist()]


def _outputs(predictions: msgspec.Raw) -> Outputs:
    """Outputs by name: `predict`, or else the first, is what the model predicts."""
    for decoder in (_values, _vectors):
        try:
            return {"predict": decoder.decode(predictions)}
        except msgspec.ValidationError:
            continue
    columns: dict[str, list[Any]]
    try:
        records = _records.decode(predictions)
        names = list(records[0]) if records else []
        if any(list(record) != names for record in records):
            raise ModelError("the rows of its answer have different names")
        columns = {name: [record[name] for record in records] for name in names}
    except msgspec.ValidationError:
        columns = dict(_named.decode(predictions))
    if "predict" in columns or not columns:
        return columns
    first, *others = columns
    return {"predict": columns[first], **{name: columns[name] for name in others}}
