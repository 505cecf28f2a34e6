"""A graph run by ONNX Runtime: one thread a call, for requests are what runs in parallel. Where it
is linear, it is evaluated here instead."""

import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import linear
from .columns import Rows, Table
from .runtime import LARGEST, LARGEST_SINGLE, ModelError, Outputs, Runtime, check_finite

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


CPU = "CPUExecutionProvider"
_ON_CUDA = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider"})
# Operators by whose inputs' values, and not their shapes, a call is long or large. A name of three
# letters is met by chance among weights: it is looked for behind the tag and the length that a
# node's operator has.
_LOOPS = re.compile(rb"Loop|Scan|While")
_SIZED_BY_VALUES = re.compile(
    rb"ConstantOfShape|Range|Expand|Tile|Resize|Upsample|OneHot|Window|MelWeightMatrix|AffineGrid|Col2Im|MaxUnpool"
    rb"|NonMaxSuppression|SequenceMap|Search|Sampling|CropPad|STFT|(?:\x22|\xa2\x80{0,8}\x00)[\x80-\xff]{0,9}[\x00-\x7f](?:Pad|DFT)",
    re.DOTALL,
)
LONGEST_SECONDS = 30.0
"""A call of a model that may be long is ended after so long, whoever still waits for it."""

_arena_lock = threading.Lock()
_arena_bytes: int | None = None


def _share_memory(limit: int) -> None:
    """Have the sessions that ask for it take their tensors from one arena of at most so many bytes.
    The library has one a process, and the first limit holds.
    """
    global _arena_bytes
    import onnxruntime

    with _arena_lock:
        if _arena_bytes is not None:
            return
        where = onnxruntime.OrtMemoryInfo(
            "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
        )
        as_asked = 1  # kSameAsRequested: doubling would have a call refused at half of the limit
        onnxruntime.create_and_register_allocator(
            where, onnxruntime.OrtArenaCfg({"max_mem": limit, "arena_extend_strategy": as_asked})
        )
        _arena_bytes = limit


def session(
    body: bytes, providers: Sequence[str] = (), threads: int = 1, memory: int | None = None
) -> "onnxruntime.InferenceSession":
    """A session that starts no threads of its own and keeps no arena of its own: small models need
    neither.

    `providers` are tried before the CPU. `memory`: the most bytes of CPU memory that all sessions
    with such a limit have for tensors at once, weights apart; a call that wants more fails. Raises
    ModelError for a provider that is not installed here or does not start, and what the library
    raises.
    """
    import onnxruntime

    missing = set(providers) - set(onnxruntime.get_available_providers())
    if missing:
        raise ModelError(f"execution provider {', '.join(sorted(missing))} is not installed here")
    if hasattr(onnxruntime, "preload_dlls") and _ON_CUDA.intersection(providers):
        onnxruntime.preload_dlls()  # CUDA's libraries where they came as wheels
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    if memory is not None:
        _share_memory(memory)
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(body, options, providers=list(dict.fromkeys([*providers, CPU])))
    # The library goes on without a provider whose own libraries or device it does not find.
    idle = set(providers) - set(session.get_providers())
    if idle:
        raise ModelError(
            f"execution provider {', '.join(sorted(idle))} did not start: see what its device and libraries lack"
        )
    return session


class OnnxRuntime:
    """Thread-safe: a session may run in several threads at once, and releases the interpreter
    meanwhile.

    A graph with one input of several features takes an array of them. Any other takes an input a
    column, in the model's order. A graph that may hold a loop runs where it can be left. `memory`
    is as for `session`; with it, so does a graph in which a value may decide how large a tensor is.
    """

    draws = False
    """Does it draw random numbers, so that the same rows get other answers?"""

    def __init__(
        self,
        body: bytes,
        outputs: list[str],
        providers: Sequence[str] = (),
        threads: int = 1,
        memory: int | None = None,
    ) -> None:
        self._session = session(body, providers, threads, memory)
        # The name of an operator stands in the file as it is; another's name may be like it.
        self.bounded = not (_LOOPS.search(body) or (memory is not None and _SIZED_BY_VALUES.search(body)))
        inputs = self._session.get_inputs()
        self._input = inputs[0].name
        self._dtype = _DTYPES[inputs[0].type]
        self._columns = [(one.name, _DTYPES[one.type], len(one.shape) == 1) for one in inputs]
        self._is_flat = len(inputs[0].shape) == 1
        is_single = any(dtype == np.float32 for _, dtype, _ in self._columns)
        self._largest = LARGEST_SINGLE if is_single else LARGEST
        self._takes_all = len(inputs) == 1 and not self._is_flat and inputs[0].shape[1] != 1
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self._graph_outputs = [output.name for output in self._session.get_outputs()][: len(outputs)]
        self._outputs = outputs

    def predict(self, rows: Rows) -> Outputs:
        try:
            if isinstance(rows, Table) or len(self._columns) > 1 or self._is_flat:
                fed = self._by_column(rows)
            else:
                fed = {self._input: _cast(rows, self._dtype)}
            values = self._session.run(self._graph_outputs, fed) if self.bounded else self._ended(fed)
        except Exception as error:  # the library's own exceptions have no common, public base
            raise ModelError(str(error)) from error
        outputs: Outputs = {}
        for name, value in zip(self._outputs, values, strict=True):
            check_finite(name, value, self._largest)
            if name == "predict" and value.ndim == 2 and value.shape[1] == 1:
                value = value[:, 0]
            outputs[name] = value.tolist()
        return outputs

    def _ended(self, fed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """A run that ends in time, after the operator that is at work."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        timer = threading.Timer(LONGEST_SECONDS, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            values: list[NDArray[Any]] = self._session.run(self._graph_outputs, fed, options)
        finally:
            timer.cancel()
        return values

    def _by_column(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Raises ValueError for another number of columns, or what an input does not hold."""
        arrays = rows.arrays if isinstance(rows, Table) else rows.T
        if self._takes_all:
            return {self._input: np.stack([_cast(array, self._dtype) for array in arrays], axis=1)}
        fed = {}
        for (name, dtype, is_flat), array in zip(self._columns, arrays, strict=True):
            column = _cast(array, dtype)
            fed[name] = column if is_flat else column[:, None]
        return fed


def _cast(array: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
    """What single precision does not hold is infinite in it, and the model says what comes of
    that."""
    if dtype is not np.float32:
        return array.astype(dtype, copy=False)
    with np.errstate(over="ignore"):
        return array.astype(dtype, copy=False)


def load(body: bytes, outputs: list[str]) -> Runtime:
    """What a graph that was compiled here is served by."""
    runtime = OnnxRuntime(body, outputs)
    form = linear.read(runtime.metadata)
    return runtime if form is None else linear.LinearRuntime(form, outputs)
