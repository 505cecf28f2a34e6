"""What becomes of each of scikit-learn's estimators when it is registered: compiled, served as the
original, or refused, and why.

`python -m benchmarks.estimators` fits every public estimator with its defaults on a small table,
saves it with skops, has it inspected as the registry does, and writes docs/tables/estimators.md.
`--only A,B` prints the lines of those, and writes nothing.
"""

import argparse
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn import linear_model
from sklearn.datasets import load_iris
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401 - they make estimators public
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators

TABLE = Path(__file__).resolve().parents[1] / "docs" / "tables" / "estimators.md"
_HEAD = """# scikit-learn's estimators, and what becomes of them

Every public estimator, fitted with its defaults on 150 rows of four measurements and registered: as the model itself where it
predicts, else as a step before a linear model. **compiled**: served by ONNX Runtime, for the compiled model gave the same answers.
**original**: served as it was trained, after its state was checked; the reason is why it was not compiled. **refused**: never served.
What holds for an estimator's defaults may differ for its options: a function of your own as a kernel, a distance or a
transformation is always refused. Whatever serves a model, a row with a number beyond 1e100 that its arithmetic overflows with is
refused (400), and is no failure of the model. Made by `python -m benchmarks.estimators`.

| estimator | registered as | served | why |
| --- | --- | --- | --- |
"""

ROWS, SPECIES = load_iris(return_X_y=True)
# The fourth measurement to be told from the first three and a fourth that is noise.
TARGET = ROWS[:, 3]
INPUTS = np.column_stack((ROWS[:, :3], np.random.default_rng(7).normal(3.0, 1.0, len(ROWS))))
TEXTS = np.array(["red wine", "white wine", "rice wine"])[SPECIES]
_SEARCHED = {"logisticregression__C": [0.1, 1.0]}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    name: str
    role: str
    served: str
    why: str

    def __str__(self) -> str:
        return f"| {self.name} | {self.role} | {self.served} | {self.why} |"


def _searched() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression())


_MADE: dict[str, Callable[[type], Any]] = {
    "CalibratedClassifierCV": lambda kind: kind(LogisticRegression(), cv=3),
    "ClassifierChain": lambda kind: kind(LogisticRegression()),
    "ColumnTransformer": lambda kind: kind([("scaled", StandardScaler(), [0, 1])], remainder="passthrough"),
    "FeatureUnion": lambda kind: kind([("scaled", StandardScaler()), ("ranged", MinMaxScaler())]),
    "FixedThresholdClassifier": lambda kind: kind(LogisticRegression(), threshold=0.4),
    "FrozenEstimator": lambda kind: kind(LogisticRegression().fit(INPUTS, SPECIES)),
    "GridSearchCV": lambda kind: kind(_searched(), _SEARCHED, cv=3),
    "HalvingGridSearchCV": lambda kind: kind(_searched(), _SEARCHED, cv=3),
    "HalvingRandomSearchCV": lambda kind: kind(_searched(), _SEARCHED, cv=3),
    "LocalOutlierFactor": lambda kind: kind(novelty=True),
    "MultiOutputClassifier": lambda kind: kind(LogisticRegression()),
    "MultiOutputRegressor": lambda kind: kind(Ridge()),
    "OneVsOneClassifier": lambda kind: kind(LogisticRegression()),
    "OneVsRestClassifier": lambda kind: kind(LogisticRegression()),
    "OutputCodeClassifier": lambda kind: kind(LogisticRegression(), random_state=0),
    "Pipeline": lambda kind: kind([("scaled", StandardScaler()), ("model", LogisticRegression())]),
    "RFE": lambda kind: kind(LogisticRegression()),
    "RFECV": lambda kind: kind(LogisticRegression(), cv=3),
    "RadiusNeighborsClassifier": lambda kind: kind(radius=50.0),
    "RadiusNeighborsRegressor": lambda kind: kind(radius=50.0),
    "RandomizedSearchCV": lambda kind: kind(_searched(), _SEARCHED, n_iter=2, cv=3),
    "RegressorChain": lambda kind: kind(Ridge()),
    "GaussianRandomProjection": lambda kind: kind(2, random_state=0),
    "SparseRandomProjection": lambda kind: kind(2, random_state=0),
    "SelectFromModel": lambda kind: kind(DecisionTreeClassifier(random_state=0)),
    "SelectKBest": lambda kind: kind(k=2),
    "SelfTrainingClassifier": lambda kind: kind(LogisticRegression()),
    "SequentialFeatureSelector": lambda kind: kind(LogisticRegression(), cv=3),
    "SparseCoder": lambda kind: kind(np.eye(4)),
    "StackingClassifier": lambda kind: kind([("a", LogisticRegression()), ("b", DecisionTreeClassifier())], cv=3),
    "StackingRegressor": lambda kind: kind([("a", Ridge()), ("b", linear_model.Lasso())], cv=3),
    "TunedThresholdClassifierCV": lambda kind: kind(LogisticRegression(), cv=3),
    "VotingClassifier": lambda kind: kind(
        [("a", LogisticRegression()), ("b", DecisionTreeClassifier())], voting="soft"
    ),
    "VotingRegressor": lambda kind: kind([("a", Ridge()), ("b", linear_model.Lasso())]),
}
_QUICK = {"n_estimators": 10, "random_state": 0}

_TARGETS: dict[str, Any] = {
    "ClassifierChain": np.column_stack((SPECIES == 0, SPECIES == 1)).astype(int),
    "FixedThresholdClassifier": (SPECIES == 0).astype(int),
    "IsotonicRegression": TARGET,
    "MultiOutputClassifier": np.column_stack((SPECIES, SPECIES == 1)),
    "TunedThresholdClassifierCV": (SPECIES == 1).astype(int),
}
_SEVERAL = ("CCA", "MultiOutputRegressor", "MultiTask", "PLS", "RegressorChain")
_READ_TEXT = ("CountVectorizer", "HashingVectorizer", "TfidfVectorizer")


def lines(only: Sequence[str] = ()) -> Iterator[Line]:
    """The lines of these estimators, or of all."""
    for name, kind in all_estimators():
        if not only or name in only:
            yield line(name, kind)


def line(name: str, kind: type) -> Line:
    """Fit, save and inspect one estimator."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        estimator = _make(name, kind)
        role = _role(kind, estimator)
        if not role:
            return Line(name, "", "refused", "it neither predicts nor transforms rows that it was not fitted to")
        try:
            model, inputs = _fitted(name, estimator, role)
        except Exception as error:
            place = "a model of its own" if role == "model" else "a step before another model"
            return Line(name, role, "refused", f"can't be {place}: {_short(error)}")
        try:
            body = skops.io.dumps(model)
        except Exception as error:
            return Line(name, role, "refused", f"skops can't save it: {_short(error)}")
        answer = inspected(body)
        if "refused" not in answer:
            _compare(name, model, body, inputs)
    if "refused" in answer:
        return Line(name, role, "refused", _short(answer["refused"]))
    return Line(name, role, "compiled" if answer["compiled"] else "original", _why(answer))


def _compare(name: str, model: Any, body: bytes, inputs: Any) -> None:
    """The model as it is read from its file answers as the one that was fitted. Raises
    AssertionError."""
    from serving.runtimes.skops_reading import read

    expected, answer = model.predict(inputs), read(body, ()).predict(inputs)
    if not np.array_equal(np.shape(answer), np.shape(expected)) or not (
        np.allclose(answer, expected) if np.asarray(expected).dtype.kind == "f" else np.array_equal(answer, expected)
    ):
        raise AssertionError(f"{name} answers otherwise once it was read from its file")


def inspected(body: bytes) -> dict[str, Any]:
    """What the inspecting child process would answer, without a process of its own."""
    sys.path.insert(0, str(TABLE.parents[2] / "platform"))
    from noregret.registry import inspect_artifact
    from noregret.registry.frameworks.sklearn import SklearnFramework

    with tempfile.TemporaryDirectory(prefix="noregret-estimators-") as folder_name:
        folder = Path(folder_name)
        (folder / "artifact").write_bytes(body)
        framework = f"{SklearnFramework.__module__}:{SklearnFramework.__qualname__}"
        request = {"framework": framework, "options": {"trusted": [], "sample": None}}
        (folder / "request.json").write_text(json.dumps(request))
        try:
            return inspect_artifact.inspect(folder)
        except Exception as error:  # as the child process itself does
            return {"refused": f"could not be inspected: {type(error).__name__}: {error}"}


def _make(name: str, kind: type) -> Any:
    if name in _MADE:
        return _MADE[name](kind)
    estimator = kind()
    quick = {key: value for key, value in _QUICK.items() if key in estimator.get_params()}
    return estimator.set_params(**quick)


def _role(kind: type, estimator: Any) -> str:
    # Of some estimators only the class says so before they are fitted, of some only the object.
    if hasattr(kind, "predict") or hasattr(estimator, "predict"):
        return "model"
    return "step" if hasattr(kind, "transform") else ""


def _fitted(name: str, estimator: Any, role: str) -> tuple[Any, Any]:
    """The fitted model, and what it was fitted to."""
    inputs, target = INPUTS, _target(name, estimator)
    if name in _READ_TEXT:
        return make_pipeline(estimator, LogisticRegression()).fit(TEXTS, SPECIES), TEXTS
    if name in {"DictVectorizer", "FeatureHasher"}:
        named = [{"a": row[0]} for row in INPUTS]
        return make_pipeline(estimator, Ridge()).fit(named, TARGET), named
    if name == "IsotonicRegression":
        inputs = INPUTS[:, 0]
    if name in {"CategoricalNB", "OneHotEncoder", "OrdinalEncoder", "TargetEncoder"}:
        inputs = np.round(INPUTS[:, :2])
    if name == "MissingIndicator":
        inputs = np.where(INPUTS < 1.2, np.nan, INPUTS)
    if role == "model":
        return estimator.fit(inputs, target), inputs
    return make_pipeline(estimator, LogisticRegression()).fit(inputs, SPECIES), inputs


def _target(name: str, estimator: Any) -> Any:
    if name in _TARGETS:
        return _TARGETS[name]
    if name.startswith(_SEVERAL):
        return np.column_stack((TARGET, INPUTS[:, 0] + TARGET))
    return TARGET if getattr(estimator, "_estimator_type", None) == "regressor" or _is_regressor(estimator) else SPECIES


def _is_regressor(estimator: Any) -> bool:
    from sklearn.base import is_regressor

    return bool(is_regressor(estimator))


def _why(answer: dict[str, Any]) -> str:
    return "" if answer["compiled"] else _short(answer["note"])


def _short(cause: object) -> str:
    """One line, in a table's cell."""
    text = re.sub(r"\s+", " ", str(cause)).replace("|", "/").strip()
    return text if len(text) <= 160 else text[:157] + "..."


def table() -> dict[str, Line]:
    """The lines of the table in docs, by estimator."""
    found: dict[str, Line] = {}
    for text in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        if text.startswith("| ") and len(cells) == 4 and cells[0] != "estimator" and not cells[0].startswith("-"):
            found[cells[0]] = Line(*cells)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names of estimators, with commas between them")
    only = [name for name in parser.parse_args().only.split(",") if name]
    made = []
    for one in lines(only):
        print(one, flush=True)  # noqa: T201 - a table
        made.append(one)
    if not only:
        TABLE.write_text(_HEAD + "".join(f"{one}\n" for one in made))
        counts = {served: sum(one.served == served for one in made) for served in ("compiled", "original", "refused")}
        print(f"\n{TABLE}: {counts}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
