"""The Open Inference Protocol over gRPC: a model's address is `grpc://host:port/NAME[/VERSION]`, or
`grpcs://` with TLS. Values travel as raw bytes, which every server reads and some answer alone.

A channel goes to one address that was checked when it was opened; one that can't be reached any
more is given up, and its name resolved anew. The library keeps the connection.
"""

import os
import ssl
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any, NoReturn
from urllib.parse import urlsplit

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from serving import open_inference_messages as messages
from serving.deadline import DeadlineExceeded
from serving.outbound.addresses import AddressRefused
from serving.outbound.reach import Reach
from serving.runtimes.columns import Rows
from serving.runtimes.runtime import ModelError, Outputs, RowsRefused

from .answers import most_bytes
from .described import Described
from .tensors import DTYPES, MOST_OUTPUTS, TEXT, Tensor, laid_out, outputs_of

_Codes = grpc.StatusCode
_ROWS_WRONG = frozenset({_Codes.INVALID_ARGUMENT, _Codes.OUT_OF_RANGE})
# The list of InferTensorContents that holds a datatype's values.
_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    TEXT: "bytes_contents",
}


class GrpcModel:
    """A model at an address; `inputs` as it described them."""

    def __init__(self, reach: Reach, url: str, headers: dict[str, str], inputs: Sequence[Tensor], limit: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._is_secure = parts.scheme == "grpcs"
        self._name, _, self._version = parts.path.strip("/").partition("/")
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        self._reach = reach
        self._inputs = inputs
        self._limit = limit
        self._lock = threading.Lock()
        self._open: tuple[int, grpc.Channel] | None = None

    def describe(self, seconds: float) -> Described:
        """What the server says of the model. Raises ModelError, DeadlineExceeded."""
        request = messages.ModelMetadataRequest(name=self._name, version=self._version)
        answer = self._call("ModelMetadata", request, messages.ModelMetadataResponse, seconds)
        inputs = [Tensor(one.name, one.datatype, list(one.shape)) for one in answer.inputs]
        return Described(inputs, [one.name for one in answer.outputs])

    def predict(self, rows: Rows, seconds: float) -> Outputs:
        request = messages.ModelInferRequest(model_name=self._name, model_version=self._version)
        for tensor, values in laid_out(self._inputs, rows):
            request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=list(values.shape))
            request.raw_input_contents.append(_raw(values))
        answer = self._call(
            "ModelInfer", request, messages.ModelInferResponse, seconds, most_bytes(len(rows), self._limit)
        )
        if len(answer.outputs) > MOST_OUTPUTS:
            raise ModelError(f"its answer has more than {MOST_OUTPUTS} outputs")
        raw = list(answer.raw_output_contents)
        if raw and len(raw) != len(answer.outputs):
            raise ModelError(f"its answer has {len(answer.outputs)} outputs and raw contents of {len(raw)}")
        tensors = [
            (output.name, list(output.shape), _read(output, raw[place] if raw else None))
            for place, output in enumerate(answer.outputs)
        ]
        return outputs_of(tensors, len(rows))

    def _call(self, method: str, request: Any, kind: Any, seconds: float, most: int | None = None) -> Any:
        until = time.monotonic() + seconds
        channel = self._channel()
        left = until - time.monotonic()
        if left <= 0.0:
            raise DeadlineExceeded(f"it took longer than {seconds:.3g} s")
        path = messages.path_of(method)
        call: grpc.UnaryUnaryMultiCallable[Any, bytes]
        call = channel.unary_unary(path, request_serializer=_bytes_of, response_deserializer=None)
        try:
            body = call(request, timeout=left, metadata=self._metadata)
        except grpc.RpcError as error:
            self._failed(channel, error, seconds)
        if most is not None and len(body) > most:
            raise ModelError(f"its answer has more than {most} bytes")
        try:
            return kind.FromString(body)
        except DecodeError as error:
            raise ModelError("its answer can't be read: no message of the protocol") from error

    def _failed(self, channel: grpc.Channel, error: grpc.RpcError, seconds: float) -> NoReturn:
        code = error.code()
        said = " ".join(str(error.details()).split())[:200]
        if code == _Codes.DEADLINE_EXCEEDED:
            raise DeadlineExceeded(f"it took longer than {seconds:.3g} s") from error
        if code in _ROWS_WRONG:
            raise RowsRefused(f"it answered {code.name}: {said}") from error
        if code == _Codes.UNAVAILABLE:  # its address may be another by now
            self._give_up(channel)
        raise ModelError(f"it answered {code.name}: {said}") from error

    def _channel(self) -> grpc.Channel:
        """Of this process: none survives a fork. Raises ModelError."""
        with self._lock:
            if self._open is not None and self._open[0] == os.getpid():
                return self._open[1]
        try:
            address = self._reach.addresses(self._host, self._port)[0]
        except (AddressRefused, OSError, UnicodeError) as error:
            raise ModelError(f"{self._host} can't be called: {error}") from error
        channel = self._opened(address)
        with self._lock:
            if self._open is not None and self._open[0] == os.getpid():
                channel.close()  # another thread was quicker
                return self._open[1]
            self._open = os.getpid(), channel
        weakref.finalize(self, channel.close)
        return channel

    def _opened(self, address: str) -> grpc.Channel:
        options = [
            ("grpc.max_receive_message_length", self._limit),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.default_authority", f"{self._host}:{self._port}"),
            # Another model's channel to the same server fails by itself.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        is_6 = ":" in address
        target = f"ipv6:[{address}]:{self._port}" if is_6 else f"ipv4:{address}:{self._port}"
        if not self._is_secure:
            return grpc.insecure_channel(target, options)
        options.append(("grpc.ssl_target_name_override", self._host))
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(_certificates()), options)

    def _give_up(self, channel: grpc.Channel) -> None:
        with self._lock:
            if self._open is not None and self._open[1] is channel:
                self._open = None
        channel.close()


def _bytes_of(message: Any) -> bytes:
    body: bytes = message.SerializeToString()
    return body


def _certificates() -> bytes | None:
    """Those that the system and SSL_CERT_FILE name, as over HTTP; None: the library's own."""
    path = ssl.get_default_verify_paths().cafile
    if path is None or not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return file.read()


def _raw(values: NDArray[Any]) -> bytes:
    """Little-endian, row after row; texts each after its length."""
    if values.dtype.kind == "O":
        texts = [text.encode() for text in values.ravel()]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _read(output: Any, raw: bytes | None) -> Any:
    """The values of an output in one line. Raises ModelError."""
    datatype = output.datatype
    if datatype != TEXT and datatype not in DTYPES:
        raise ModelError(f"its output {output.name[:80]} is of {datatype[:20]}, which has no JSON form")
    try:
        if raw is None:
            values = getattr(output.contents, _CONTENTS[datatype])
            return [text.decode() for text in values] if datatype == TEXT else np.array(values, DTYPES[datatype])
        if datatype == TEXT:
            return _texts(raw)
        return np.frombuffer(raw, np.dtype(DTYPES[datatype]).newbyteorder("<"))
    except (ValueError, KeyError, OverflowError) as error:
        raise ModelError(f"its output {output.name[:80]} can't be read as {datatype}") from error


def _texts(raw: bytes) -> list[str]:
    texts = []
    place = 0
    while place < len(raw):
        begin = place + 4
        end = begin + int.from_bytes(raw[place:begin], "little")
        if end > len(raw):
            raise ValueError("a text is longer than what is there")
        texts.append(raw[begin:end].decode())
        place = end
    return texts
