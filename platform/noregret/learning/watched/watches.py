"""What the guardrails of an experiment ask of the ledger: each a watch, whose sums the learner
keeps (learning.watched.watching)."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from bandits.inference.strata import Sides
from noregret.experiments.document import ERROR_RATE, Guardrail, latency_quantile, with_default_guardrails
from noregret.experiments.models import Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.experiments.rewards import reward_model

Kind = Literal["mean", "difference", "failures"]
"""A metric's mean against a limit, the same against the control's, and failures against the
control's."""


OUTCOME = "outcome"
"""The metric by which feedback tells what was true: predictions on copies are scored on it."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Two guardrails that differ in what is done alone are one. `sides`: what is bet, and within
    which bounds values lie."""

    kind: Kind
    metric: str
    sides: Sides

    @property
    def key(self) -> str:
        """What its sums are kept under: whatever changes them is in it, so that a changed guardrail
        begins anew."""
        sides = self.sides
        limits = [sides.above, sides.below, sides.minimum, sides.maximum]
        return msgspec.json.encode([self.kind, self.metric, *limits]).decode()


def guardrails_of(experiment: Experiment) -> list[Guardrail]:
    """An experiment's guardrails; a canary that was made before it got one on errors by itself has
    it too."""
    return with_default_guardrails(experiment.strategy, experiment.guardrails_)


def watch_of(experiment: Experiment, guardrail: Guardrail) -> Watch | None:
    """None for a guardrail that the arms' own statistics are enough for."""
    compared = guardrail.versus == "control" and not looks_at_requests(experiment)
    if guardrail.metric == ERROR_RATE:
        return Watch("failures", ERROR_RATE, Sides(above=guardrail.max or 0.0)) if compared else None
    if latency_quantile(guardrail.metric) is not None:
        return None
    minimum, maximum = _bounds(experiment, guardrail)
    sides = Sides(guardrail.max, guardrail.min, minimum, maximum)
    return Watch("difference" if compared else "mean", guardrail.metric, sides)


def watches_of(experiment: Experiment) -> dict[str, Watch]:
    """By key."""
    found = (watch_of(experiment, guardrail) for guardrail in guardrails_of(experiment))
    return {watch.key: watch for watch in found if watch is not None}


def is_mirrored(experiment: Experiment) -> bool:
    """Do challengers predict on copies of its requests?"""
    return experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice


def metrics_of(experiment: Experiment) -> set[str]:
    """The metrics whose values are claimed for the sums of what watches them
    (learning.watched.watching)."""
    metrics = {watch.metric for watch in watches_of(experiment).values() if watch.kind != "failures"}
    return metrics | {OUTCOME} if is_mirrored(experiment) else metrics


def _bounds(experiment: Experiment, guardrail: Guardrail) -> tuple[float | None, float | None]:
    """What a value is known to be at least and at most: as the guardrail declares it, or the reward
    where that is the metric."""
    minimum, maximum = guardrail.minimum, guardrail.maximum
    if guardrail.metric == experiment.reward_.metric:
        reward = reward_model(experiment)
        low, high = (0.0, 1.0) if reward.kind == "binary" else (reward.minimum, reward.maximum)
        if low is None and reward.kind == "count":
            low = 0.0
        minimum, maximum = low if minimum is None else minimum, high if maximum is None else maximum
    return minimum, maximum
