"""A model compiled to ONNX, run by ONNX Runtime: one thread a call, for requests are what runs in
parallel. Where it is linear, it is evaluated here instead."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import linear
from .protocol import Model, ModelError, Outputs, Resources, Runtime

if TYPE_CHECKING:  # imported only where such a model is loaded: it is large
    import onnxruntime

_DTYPES = {"tensor(double)": np.float64, "tensor(float)": np.float32}


def session(body: bytes) -> "onnxruntime.InferenceSession":
    """A session that starts no threads of its own and keeps no arena: small models need neither."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(body, options, providers=["CPUExecutionProvider"])


class OnnxRuntime:
    """Thread-safe: a session may run in several threads at once, and releases the interpreter
    meanwhile."""

    bounded = True

    def __init__(self, body: bytes, outputs: list[str]) -> None:
        self._session = session(body)
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
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


def load(body: bytes, outputs: list[str]) -> Runtime:
    """What a graph that was compiled here is served by."""
    runtime = OnnxRuntime(body, outputs)
    form = linear.read(runtime.metadata)
    return runtime if form is None else linear.LinearRuntime(form, outputs)


class OnnxModel(Model, frozen=True, kw_only=True, tag="onnx"):
    label: ClassVar[str] = "ONNX Runtime"

    sha256: str

    @classmethod
    def prepare(cls) -> None:
        import onnxruntime  # noqa: F401 - not at the expense of the first endpoint's first request

    def load(self, resources: Resources) -> Runtime:
        return load(resources.artifacts.read(self.sha256), self.outputs)
