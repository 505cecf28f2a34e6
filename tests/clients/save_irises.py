"""Fits the model of the tests, and saves it as MLflow does."""

import json
import sys

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True)
mlflow.sklearn.save_model(LogisticRegression(max_iter=1000).fit(X, y), json.loads(sys.argv[1])["path"])
