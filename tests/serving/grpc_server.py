"""A gRPC server of the Open Inference Protocol on the loopback, of a function of rows, or whatever
a test has it answer instead.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np

from serving import open_inference_messages as messages
from serving.remote.tensors import DTYPES


class GrpcServer(grpc.GenericRpcHandler):
    """`answer` gives outputs by name for rows (n, features); `is_raw`: their values are raw
    bytes.
    """

    def __init__(
        self,
        answer: Callable[[Any], dict[str, Any]],
        inputs: Sequence[tuple[str, str, list[int]]] = (("rows", "FP64", [-1, 4]),),
        *,
        is_raw: bool = True,
    ) -> None:
        self.answer, self.inputs, self.is_raw = answer, inputs, is_raw
        self.hostile: Callable[[Any, grpc.ServicerContext], Any] | None = None
        self.metadata: list[dict[str, Any]] = []
        self._pool = ThreadPoolExecutor(8)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.url = f"grpc://127.0.0.1:{self.port}/m"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait(10)
        self._pool.shutdown(wait=False)

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        self.metadata.append(dict(details.invocation_metadata or ()))
        methods = {"ModelMetadata": self._describe, "ModelInfer": self._infer}
        name = details.method.rpartition("/")[2]
        if name not in methods:
            return None
        return grpc.unary_unary_rpc_method_handler(
            methods[name],
            request_deserializer=messages.CLASSES[messages.METHODS[name][0]].FromString,
            response_serializer=lambda answer: answer if isinstance(answer, bytes) else answer.SerializeToString(),
        )

    def _describe(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.name != "m":
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name}")
        answer = messages.ModelMetadataResponse(name="m")
        for name, datatype, shape in self.inputs:
            answer.inputs.add(name=name, datatype=datatype, shape=shape)
        return answer

    def _infer(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.hostile is not None:
            return self.hostile(request, context)
        arrays = [
            np.frombuffer(raw, DTYPES[tensor.datatype]).reshape(list(tensor.shape))
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        ]
        rows = arrays[0] if len(arrays) == 1 else np.column_stack(arrays)
        answer = messages.ModelInferResponse(model_name="m")
        for name, values in self.answer(rows).items():
            add(answer, name, np.array(values), is_raw=self.is_raw)
        return answer


def add(answer: Any, name: str, values: Any, *, is_raw: bool) -> None:
    is_text = values.dtype.kind == "U"
    datatype = "BYTES" if is_text else "INT64" if values.dtype.kind == "i" else "FP64"
    output = answer.outputs.add(name=name, datatype=datatype, shape=list(values.shape))
    texts = [text.encode() for text in values.ravel().tolist()] if is_text else []
    if is_raw:
        framed = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        answer.raw_output_contents.append(framed if is_text else values.tobytes())
    elif is_text:
        output.contents.bytes_contents.extend(texts)
    else:
        getattr(output.contents, "int64_contents" if datatype == "INT64" else "fp64_contents").extend(values.ravel())
