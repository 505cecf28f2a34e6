"""The table of scikit-learn's estimators in docs says what becomes of each; a part of it here, all
of it behind `make soak`."""

import pytest
from sklearn.utils import all_estimators

from benchmarks import estimators

# One of each kind of state that is checked or rebuilt, and of each cause of a refusal.
SOME = (
    "BaggingClassifier",
    "Birch",
    "BisectingKMeans",
    "CalibratedClassifierCV",
    "CountVectorizer",
    "DBSCAN",
    "DecisionTreeClassifier",
    "GaussianProcessRegressor",
    "GradientBoostingRegressor",
    "GridSearchCV",
    "HistGradientBoostingRegressor",
    "IsolationForest",
    "KBinsDiscretizer",
    "KNeighborsClassifier",
    "LogisticRegression",
    "MultiOutputClassifier",
    "SVC",
    "SelectKBest",
    "SimpleImputer",
    "SplineTransformer",
    "StackingClassifier",
    "TunedThresholdClassifierCV",
    "VotingRegressor",
)


def told(line: estimators.Line) -> tuple[str, str, str]:
    return line.name, line.role, line.served


def test_table__has_a_line_for_every_estimator__and_refuses_only_with_a_reason() -> None:
    table = estimators.table()
    assert set(table) == {name for name, _ in all_estimators()}
    assert all(line.why for line in table.values() if line.served != "compiled")


@pytest.mark.parametrize("name", SOME)
def test_table__line__is_what_becomes_of_the_estimator(name: str) -> None:
    (line,) = estimators.lines([name])
    assert told(line) == told(estimators.table()[name])


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_table__every_line__is_what_becomes_of_the_estimator() -> None:
    assert [told(line) for line in estimators.lines()] == [told(line) for line in estimators.table().values()]
