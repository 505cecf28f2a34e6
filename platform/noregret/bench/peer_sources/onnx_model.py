"""The model in ONNX Runtime, one thread, as the service's own runtime has it."""

import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name


def answer(rows: list[list[float]]) -> dict[str, list]:
    labels, probabilities = session.run(None, {name: np.asarray(rows, dtype=np.float32)})
    return {"predict": labels.tolist(), "predict_proba": probabilities.tolist()}
