"""What results and the like say, as the document that a caller gets of them: tests read it by the
names of the API."""

from collections.abc import Mapping
from typing import Any

import msgspec
from noregret.experiments.models import Experiment
from noregret.learning.shown import charts, evaluation, shadow_comparison
from noregret.learning.shown import results as results_of
from noregret.rest.encoding import encoded


def document(told: Any) -> Any:
    return msgspec.json.decode(encoded(told))


def results(experiment: Experiment) -> dict[str, Any]:
    return dict(document(results_of.results(experiment)))


def evaluated(experiment: Experiment, policy: str, params: Mapping[str, Any]) -> dict[str, Any]:
    return dict(document(evaluation.of_experiment(experiment, policy, params)))


def compared(experiment: Experiment) -> dict[int, dict[str, Any]]:
    """A shadow's challengers against the champion, by arm id."""
    return {arm: document(told) for arm, told in shadow_comparison.comparison(experiment).items()}


def over_time(experiment: Experiment, points: int = 60) -> dict[str, Any]:
    return dict(document(charts.over_time(experiment, points)))
