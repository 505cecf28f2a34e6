"""BentoML with the model in ONNX Runtime, one worker."""

import bentoml
from onnx_model import answer


@bentoml.service(workers=1, traffic={"timeout": 10})
class Irises:
    @bentoml.api
    async def predict(self, inputs: list[list[float]]) -> dict[str, list]:
        return answer(inputs)
