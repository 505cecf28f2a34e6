"""The Open Inference Protocol over HTTP, as Triton, MLServer and KServe speak it: JSON tensors, a
model's address `http://host:port/v2/models/NAME[/versions/VERSION]`.

The binary extension was left out: not every server has it, and JSON gives doubles back exactly.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from serving.outbound.http_client import HttpClient
from serving.runtimes.columns import Rows
from serving.runtimes.runtime import ModelError, Outputs

from .answers import JSON, ask, check_names, most_bytes, unreadable
from .described import Described
from .tensors import MOST_OUTPUTS, Tensor, laid_out, outputs_of

_DESCRIPTION_BYTES = 1 << 20


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw


class _Answer(msgspec.Struct):
    outputs: list[_Output]


class _Metadata(msgspec.Struct):
    name: str
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []


_answer = msgspec.json.Decoder(_Answer)
_metadata = msgspec.json.Decoder(_Metadata)
_flat: dict[type, Any] = {
    bool: msgspec.json.Decoder(list[bool]),
    int: msgspec.json.Decoder(list[int]),
    float: msgspec.json.Decoder(list[float]),
    str: msgspec.json.Decoder(list[str]),
}
_DEPTH = 8
_FIELDS = len(_Output.__struct_fields__)


class OpenInferenceModel:
    """A model at an address; `inputs` as it described them."""

    def __init__(
        self, client: HttpClient, url: str, headers: dict[str, str], inputs: Sequence[Tensor], limit: int
    ) -> None:
        self._client = client
        self._url = url.rstrip("/").removesuffix("/infer")
        self._headers = JSON | headers
        self._inputs = inputs
        self._limit = limit

    def describe(self, seconds: float) -> Described:
        """What the server says of the model. Raises ModelError, DeadlineExceeded."""
        body = ask(self._client, "GET", self._url, seconds=seconds, limit=_DESCRIPTION_BYTES, headers=self._headers)
        try:
            metadata = _metadata.decode(body)
            check_names(body, 0)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            unreadable(error)
        return Described(metadata.inputs, [output.name for output in metadata.outputs])

    def predict(self, rows: Rows, seconds: float) -> Outputs:
        body = msgspec.json.encode(
            {
                "inputs": [
                    {
                        "name": tensor.name,
                        "datatype": tensor.datatype,
                        "shape": list(values.shape),
                        "data": values.ravel().tolist(),
                    }
                    for tensor, values in laid_out(self._inputs, rows)
                ]
            }
        )
        answer = ask(
            self._client,
            "POST",
            f"{self._url}/infer",
            seconds=seconds,
            limit=most_bytes(len(rows), self._limit),
            headers=self._headers,
            body=body,
        )
        try:
            outputs = _answer.decode(answer).outputs
            check_names(answer, 1 + _FIELDS * len(outputs))
            if len(outputs) > MOST_OUTPUTS:
                raise ModelError(f"its answer has more than {MOST_OUTPUTS} outputs")
            tensors = [(output.name, output.shape, _values(output)) for output in outputs]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            unreadable(error)
        return outputs_of(tensors, len(rows))


def _values(output: _Output) -> list[Any]:
    """In one line, as they mostly come; the protocol allows lists of lists too."""
    kind = _kind(output.datatype)
    try:
        flat: list[Any] = _flat[kind].decode(output.data)
        return flat
    except msgspec.ValidationError:
        depth = len(output.shape)
        if not 1 < depth <= _DEPTH:
            raise
    nested: Any = kind
    for _ in range(depth):
        nested = list[nested]
    values = msgspec.json.decode(output.data, type=nested)
    for _ in range(depth - 1):
        values = [value for part in values for value in part]
    return list(values)


def _kind(datatype: str) -> type:
    if datatype in {"BOOL", "BYTES"}:
        return bool if datatype == "BOOL" else str
    return float if datatype in {"FP16", "FP32", "FP64", "BF16"} else int
