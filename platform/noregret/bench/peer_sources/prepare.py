"""Trains the model in a peer's own environment, and writes it in the forms that the peer serves.

python prepare.py [joblib] [onnx] [mlflow]: in a folder with rows.npz.
"""

import sys

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

known = np.load("rows.npz")
model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
model.fit(known["rows"], known["labels"])

if "joblib" in sys.argv:
    import joblib

    joblib.dump(model, "model.joblib")
if "onnx" in sys.argv:
    from skl2onnx import to_onnx

    first = known["rows"][:1].astype(np.float32)
    converted = to_onnx(model, first, options={"zipmap": False})
    with open("model.onnx", "wb") as file:
        file.write(converted.SerializeToString())
if "mlflow" in sys.argv:
    import mlflow.sklearn

    mlflow.sklearn.save_model(model, "mlflow_model", serialization_format="cloudpickle")
