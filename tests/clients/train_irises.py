"""Fits the model of the tests where it is served, and leaves it for MLServer in this folder: what
joblib writes is read by the versions that wrote it.
"""

import json
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=1000).fit(X, y), "irises.joblib")
settings = {
    "name": "irises",
    "implementation": "mlserver_sklearn.SKLearnModel",
    "parameters": {"uri": "./irises.joblib", "version": "v1"},
    "inputs": [{"name": "rows", "datatype": "FP64", "shape": [-1, 4]}],
    "outputs": [{"name": "predict", "datatype": "INT64", "shape": [-1]}],
}
Path("model-settings.json").write_text(json.dumps(settings))
Path("settings.json").write_text(json.dumps({"parallel_workers": 0, "debug": False}))
print(np.__version__)
