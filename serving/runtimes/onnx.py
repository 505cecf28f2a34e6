"""A model compiled to ONNX, run by ONNX Runtime: one thread a call, for requests are what runs in
parallel."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .columns import Rows, Table
from .protocol import Model, ModelError, Outputs, Resources

if TYPE_CHECKING:  # imported only where such a model is loaded: it is large
    import onnxruntime

_DTYPES: dict[str, type[Any]] = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": object,
}


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
    meanwhile.

    A graph with one input of several features takes an array of them. Any other takes an input a
    column, in the model's order.
    """

    bounded = True

    def __init__(self, body: bytes, outputs: list[str]) -> None:
        self._session = session(body)
        inputs = self._session.get_inputs()
        self._input = inputs[0].name
        self._dtype = _DTYPES[inputs[0].type]
        self._columns = [(one.name, _DTYPES[one.type], len(one.shape) == 1) for one in inputs]
        self._graph_outputs = [output.name for output in self._session.get_outputs()][: len(outputs)]
        self._outputs = outputs

    def predict(self, rows: Rows) -> Outputs:
        try:
            if isinstance(rows, Table) or len(self._columns) > 1:
                fed = self._by_column(rows)
            else:
                fed = {self._input: rows.astype(self._dtype, copy=False)}
            values = self._session.run(self._graph_outputs, fed)
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

    def _by_column(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Raises ValueError for another number of columns, or what an input does not hold."""
        fed = {}
        arrays = rows.arrays if isinstance(rows, Table) else rows.T
        for (name, dtype, is_flat), array in zip(self._columns, arrays, strict=True):
            column = array.astype(dtype, copy=False)
            fed[name] = column if is_flat else column[:, None]
        return fed


class OnnxModel(Model, frozen=True, kw_only=True, tag="onnx"):
    label: ClassVar[str] = "ONNX Runtime"

    sha256: str

    @classmethod
    def prepare(cls) -> None:
        import onnxruntime  # noqa: F401 - not at the expense of the first endpoint's first request

    def load(self, resources: Resources) -> OnnxRuntime:
        return OnnxRuntime(resources.artifacts.read(self.sha256), self.outputs)
