"""FastAPI with the model in ONNX Runtime."""

from fastapi import FastAPI
from onnx_model import answer
from pydantic import BaseModel

app = FastAPI()


class Rows(BaseModel):
    inputs: list[list[float]]


@app.post("/predict")
async def predict(rows: Rows):
    return answer(rows.inputs)
