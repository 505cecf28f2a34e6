"""A server of models on the loopback: Open Inference Protocol and MLflow's scoring, of a function
of rows, or whatever a test has it answer instead.
"""

import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1: connections are kept."""

    protocol_version = "HTTP/1.1"
    server: "RemoteServer"
    body: bytes = b""

    def do_GET(self) -> None:
        self.server.take(self)

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.take(self)

    def reply(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class RemoteServer(ThreadingHTTPServer):
    """`answer` gives outputs by name for rows (n, features); `inputs` is what metadata say."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        answer: Callable[[Any], dict[str, Any]],
        inputs: Sequence[dict[str, Any]] = ({"name": "rows", "datatype": "FP64", "shape": [-1, 4]},),
        outputs: Sequence[str] = ("predict", "predict_proba"),
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.hostile: Answer | None = None
        """What answers predictions instead."""
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.root = f"http://127.0.0.1:{self.server_address[1]}"
        self.open_inference = f"{self.root}/v2/models/m"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # who asked has left

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def take(self, handler: Handler) -> None:
        self.paths.append(handler.path)
        self.headers.append(dict(handler.headers))
        is_model = handler.path.startswith("/v2/models/")
        if handler.command == "GET" and (is_model or handler.path == "/ping"):
            outputs = [{"name": name, "datatype": "FP64", "shape": [-1]} for name in self.outputs]
            handler.reply(200, {"name": "m", "platform": "test", "inputs": self.inputs, "outputs": outputs})
        elif self.hostile is not None:
            self.hostile(handler)
        elif is_model and handler.path.endswith("/infer"):
            handler.reply(200, self._infer(json.loads(handler.body)))
        elif handler.path == "/invocations":
            handler.reply(200, {"predictions": self._invoke(json.loads(handler.body))})
        else:
            handler.reply(404, {"error": f"nothing at {handler.path}"})

    def _infer(self, body: dict[str, Any]) -> dict[str, Any]:
        arrays = [np.array(tensor["data"], dtype=float).reshape(tensor["shape"]) for tensor in body["inputs"]]
        rows = arrays[0] if len(arrays) == 1 else np.column_stack(arrays)
        outputs = []
        for name, values in self.answer(rows).items():
            array = np.array(values)
            datatype = "BYTES" if array.dtype.kind == "U" else "INT64" if array.dtype.kind == "i" else "FP64"
            outputs.append(
                {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}
            )
        return {"model_name": "m", "outputs": outputs}

    def _invoke(self, body: dict[str, Any]) -> Any:
        data = body["inputs"] if "inputs" in body else body["dataframe_split"]["data"]
        answer = self.answer(np.array(data, dtype=float))
        if list(answer) == ["predict"]:
            return np.array(answer["predict"]).tolist()
        columns = [np.array(values).tolist() for values in answer.values()]
        return [dict(zip(answer, values, strict=True)) for values in zip(*columns, strict=True)]
