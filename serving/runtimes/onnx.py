"""A model compiled to ONNX, run by ONNX Runtime: one thread a call, for requests are what runs in parallel."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.artifacts import ArtifactStore
from serving.snapshot import Model

from .protocol import ModelError, Outputs

_DTYPES = {"tensor(double)": np.float64, "tensor(float)": np.float32}


def session(body: bytes) -> onnxruntime.InferenceSession:
    """A session that starts no threads of its own and keeps no arena: small models need neither."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(body, options, providers=["CPUExecutionProvider"])


class OnnxRuntime:
    """Thread-safe: a session may run in several threads at once, and releases the interpreter meanwhile."""

    bounded = True

    def __init__(self, body: bytes, outputs: list[str]) -> None:
        self._session = session(body)
        graph_input = self._session.get_inputs()[0]
        self._input = graph_input.name
        self._dtype = _DTYPES[graph_input.type]
        self._graph_outputs = [output.name for output in self._session.get_outputs()][: len(outputs)]
        self._outputs = outputs

    def predict(self, rows: NDArray[np.float64]) -> Outputs:
        try:
            values = self._session.run(self._graph_outputs, {self._input: rows.astype(self._dtype, copy=False)})
        except Exception as error:  # the library's own exceptions have no common, public base
            raise ModelError(str(error)) from error
        outputs: Outputs = {}
        for name, value in zip(self._outputs, values, strict=True):
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ModelError(f"{name} is not finite")
            if name == "predict" and value.ndim == 2 and value.shape[1] == 1:
                value = value[:, 0]
            outputs[name] = value.tolist()
        return outputs


def load(model: Model, artifacts: ArtifactStore) -> OnnxRuntime:
    """Raises ArtifactMissing, ModelError."""
    if model.sha256 is None:
        raise ModelError(f"{model.model} has no compiled file")
    return OnnxRuntime(artifacts.read(model.sha256), model.outputs)
