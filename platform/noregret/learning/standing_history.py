"""How an experiment stood over time: evidence and shares as they were known at the time, noted as
it goes on.

Neither can be computed again: evidence is a sum over decisions that later ones enter, and shares
are what the policy made of what it knew. Points lie further apart the longer it goes on, so their
number grows with the logarithm of its age: about 50 for the first eight minutes, and 115 for each
ten-fold of that.
"""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.utils import timezone
from msgspec import Struct

from noregret.experiments.models import Experiment
from noregret.experiments.policies import looks_at_requests
from serving.times import Time

from .evidence import evidence_of
from .models import ExperimentEvidence, StandingPoint
from .shares import propensities

LEAST_SECONDS = 10.0
PARTS = 50.0
"""A point follows the one before after a fiftieth of the experiment's age."""
MOST_POINTS = 1000
_MOST_EVIDENCE = 1e300


class Standing(Struct, frozen=True):
    """At one time: matured decisions, and by arm its share of the traffic and the least evidence
    that it is better than any other enabled arm. What is not known is left out."""

    at: Time
    matured: int
    shares: dict[str, float]
    evidence: dict[str, float]


def note(experiment: Experiment, now: datetime | None = None) -> bool:
    """Note how a running experiment stands, where a point is due; was it?

    Called in rounds, by one learner at a time; the same point twice is one.
    """
    at = now or timezone.now()
    if experiment.status != Experiment.Status.RUNNING or experiment.started_at is None or not _has_standing(experiment):
        return False
    last = StandingPoint.objects.filter(experiment=experiment).order_by("-at").first()
    spacing = max(LEAST_SECONDS, (at - experiment.started_at).total_seconds() / PARTS)
    if last is not None and at - last.at < timedelta(seconds=spacing):
        return False
    held = ExperimentEvidence.objects.get(experiment=experiment)
    if last is not None and last.matured == held.matured:
        return False
    point = {"matured": held.matured, **_standing(experiment, held)}
    StandingPoint.objects.get_or_create(experiment=experiment, at=at, defaults=point)
    return True


def _has_standing(experiment: Experiment) -> bool:
    """Are there shares or evidence that change? Not of what serves nobody."""
    return experiment.strategy != Experiment.Strategy.SHADOW and not experiment.apprentice


def _standing(experiment: Experiment, held: ExperimentEvidence) -> dict[str, Any]:
    arms = list(experiment.arms.order_by("position"))
    shares = {} if looks_at_requests(experiment) else dict(zip(arms, propensities(experiment, arms), strict=True))
    evidence = evidence_of(experiment, held)
    seats = [arm.position for arm in arms if arm.enabled]
    values: dict[str, float] = {}
    if evidence is not None and len(seats) > 1:
        pairs = evidence.e_values()[np.ix_(seats, seats)]
        np.fill_diagonal(pairs, np.inf)
        weakest = np.minimum(pairs.min(axis=1), _MOST_EVIDENCE)
        values = {arms[seat].name: float(value) for seat, value in zip(seats, weakest, strict=True)}
    known = {arm.name: float(share) for arm, share in shares.items() if share is not None}
    return {"shares": known, "evidence": values}


def history(experiment: Experiment) -> list[Standing]:
    """Every point, oldest first; of very many the newest."""
    rows = StandingPoint.objects.filter(experiment=experiment).order_by("-at")
    newest = rows.values_list("at", "matured", "shares", "evidence")[:MOST_POINTS]
    return [Standing(at, matured, shares, evidence) for at, matured, shares, evidence in reversed(newest)]
