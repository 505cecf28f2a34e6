"""A model that is an ONNX graph: registered as one, or compiled to one."""

from typing import ClassVar

from . import onnx_graph
from .protocol import Model, Resources
from .runtime import Runtime


class OnnxModel(Model, frozen=True, kw_only=True, tag="onnx"):
    label: ClassVar[str] = "ONNX Runtime"
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
        return onnx_graph.OnnxRuntime(
            body, self.outputs, settings.ONNX_PROVIDERS, settings.ONNX_THREADS, settings.ONNX_MEMORY_LIMIT
        )
