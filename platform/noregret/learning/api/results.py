"""What an experiment has shown so far, over HTTP; with what another policy would have earned and
when it might end, where that is asked."""

from typing import Any

import msgspec
from rest_framework.request import Request

from noregret.experiments.addressed import AddressedView
from noregret.experiments.errors import Invalid
from noregret.experiments.models import Experiment
from noregret.learning.shown import coefficients, forecast, lagging, segments
from noregret.learning.shown.evaluation import EVALUATED_SECONDS, Evaluation, NotEvaluated, of_experiment
from noregret.learning.shown.results import Results
from noregret.learning.shown.shared import shared_results
from noregret.rest.calls import call
from serving.api.calls import Parameter


class ResultsView(AddressedView):
    """GET /api/v1/experiments/{name}/results"""

    @call(
        "What an experiment has shown",
        problems=(404,),
        parameters=(
            Parameter("evaluate", str, "A policy: what would it have earned on the logged traffic?"),
            Parameter("params", str, "That policy's parameters, a JSON object."),
            Parameter("forecast", bool, "When might it promote? Simulated on from what is known."),
        ),
    )
    def get(self, request: Request, name: str) -> Results:
        told = shared_results(self.experiment_id(name))
        policy = request.query_params.get("evaluate")
        wanted = request.query_params.get("forecast", "false")
        if wanted not in ("true", "false"):
            raise Invalid("forecast", "true or false was expected")
        return msgspec.structs.replace(
            told.results,
            segments=lagging.of_experiment(told.experiment.pk, lambda: segments.of_experiment(told.experiment)),
            coefficients=lagging.of_experiment(told.experiment.pk, lambda: coefficients.of_experiment(told.experiment)),
            evaluation=None if policy is None else self._evaluated(request, told.experiment, policy),
            forecast=forecast.of_experiment(told.experiment) if wanted == "true" else None,
        )

    def _evaluated(self, request: Request, experiment: Experiment, policy: str) -> Evaluation:
        """What `policy` would have earned on the newest of the experiment's decisions."""
        try:
            params = msgspec.json.decode(request.query_params.get("params", "{}"), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise Invalid("params", f"a JSON object was expected: {error}") from error
        try:
            return lagging.of_experiment(
                experiment.pk, lambda: of_experiment(experiment, policy, params, seconds=EVALUATED_SECONDS)
            )
        except NotEvaluated as error:
            raise Invalid("params" if error.field == "params" else "evaluate", str(error)) from error
