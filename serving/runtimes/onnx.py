"""A model that is an ONNX graph: registered as one, or compiled to one."""

from typing import ClassVar

from . import onnx_graph
from .protocol import Kept, Model, Resources
from .runtime import Runtime

# The name of an operator stands in the file as it is.
_DRAWS = (b"RandomNormal", b"RandomUniform", b"Multinomial", b"Bernoulli", b"Dropout")


class OnnxModel(Model, frozen=True, kw_only=True, tag="onnx"):
    label: ClassVar[str] = "ONNX Runtime"
    kept: ClassVar[Kept] = "always"
    stays: ClassVar[str | None] = None

    sha256: str

    @classmethod
    def prepare(cls) -> None:
        import onnxruntime  # noqa: F401 - not at the expense of the first endpoint's first request

    def load(self, resources: Resources) -> Runtime:
        body = resources.artifacts.read(self.sha256)
        if self.framework != "onnx":  # what was compiled here was held against its original on the CPU
            return onnx_graph.load(body, self.outputs)
        settings = resources.settings
        runtime = onnx_graph.OnnxRuntime(
            body, self.outputs, settings.ONNX_PROVIDERS, settings.ONNX_THREADS, settings.ONNX_MEMORY_LIMIT
        )
        runtime.draws = any(operator in body for operator in _DRAWS)
        return runtime
