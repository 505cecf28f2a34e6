"""Makes the files beside it, in an environment with xgboost, lightgbm, onnxmltools and
scikit-learn: `python make.py FOLDER`. The platform needs none of them, and neither do its tests.

Each model is converted as its library's users do, with what it answered on some rows.
"""

import json
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxmltools
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_diabetes, load_iris

IRIS, SPECIES = load_iris(return_X_y=True)
PATIENTS, PROGRESSION = load_diabetes(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]


def write(folder: Path, name: str, model: Any, rows: Any) -> None:
    convert = getattr(onnxmltools, f"convert_{name.partition('_')[0]}")
    types = [("input", FloatTensorType([None, rows.shape[1]]))]
    document = convert(model, initial_types=types, target_opset=15)
    sample = rows[:: len(rows) // 5].astype(np.float32).astype(float)
    expected = {"predict": np.asarray(model.predict(sample)).tolist()}
    if hasattr(model, "predict_proba"):
        expected["predict_proba"] = model.predict_proba(sample).tolist()
    (folder / f"{name}.onnx").write_bytes(document.SerializeToString())
    (folder / f"{name}.json").write_text(json.dumps({"sample": sample.tolist(), "expected": expected}) + "\n")


def main() -> None:
    folder = Path(sys.argv[1])
    small = {"n_estimators": 5, "max_depth": 2}
    write(folder, "xgboost_classifier", xgboost.XGBClassifier(**small).fit(IRIS, SPECIES), IRIS)
    write(folder, "xgboost_binary", xgboost.XGBClassifier(**small).fit(IRIS, SPECIES > 1), IRIS)
    write(folder, "xgboost_regressor", xgboost.XGBRegressor(**small).fit(PATIENTS, PROGRESSION), PATIENTS)
    write(folder, "lightgbm_classifier", lightgbm.LGBMClassifier(**small, verbose=-1).fit(IRIS, NAMES), IRIS)
    write(
        folder, "lightgbm_regressor", lightgbm.LGBMRegressor(**small, verbose=-1).fit(PATIENTS, PROGRESSION), PATIENTS
    )


if __name__ == "__main__":
    main()
