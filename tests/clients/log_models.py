"""Logs models in an MLflow server as its users do: `fraud` 1 as skops, with an example and a
metric; 2 the same as a pickle; 3 as 1, of other data. Prints what each is.
"""

import json
import sys

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

given = json.loads(sys.argv[1])
mlflow.set_tracking_uri(given["url"])
X, y = load_iris(return_X_y=True, as_frame=True)
runs = []
for serialization, data in (("skops", X), ("cloudpickle", X), ("skops", X + 0.5)):
    model = LogisticRegression(max_iter=500).fit(data, y)
    with mlflow.start_run() as run:
        mlflow.log_metrics({"auc": 0.91, "loss": float("nan")})
        signature = mlflow.models.infer_signature(data, y)
        mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name="fraud",
            serialization_format=serialization,
            signature=signature,
            input_example=data.iloc[:3] if serialization == "skops" else None,
        )
        runs.append(run.info.run_id)
client = mlflow.MlflowClient()
client.set_registered_model_alias("fraud", "challenger", "1")
client.set_registered_model_alias("fraud", "champion", "2")
sys.stdout.flush()
print("\n" + json.dumps({"runs": runs, "predictions": [int(value) for value in model.predict(X[::30])]}))
