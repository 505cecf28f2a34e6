"""Acts on a recommendation, where the experiment says `auto`. Exactly once: the transition is a compare-and-set."""

import structlog
from django.db import transaction

from noregret.experiments.errors import Conflict
from noregret.experiments.models import Endpoint, Experiment
from noregret.experiments.transitions import move

from .recommendation import Recommendation, recommend

log = structlog.get_logger(__name__)

ACTOR = "learner"


def act(experiment: Experiment) -> bool:
    """Promote or stop what is due; True if something was done. Called on fresh statistics.

    Decided again under the endpoint's lock, which every transition takes: a person who pauses, stops or promotes meanwhile
    is either before this, and is obeyed, or after it.
    """
    if not (experiment.promotion or {}).get("auto", False) or _due(experiment) is None:
        return False
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
        current = Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment.pk)
        found = _due(current)
        if found is None:
            return False
        try:
            move(
                current,
                "promote" if found.action == "promote" else "stop",
                actor=ACTOR,
                reason=found.reason,
                arm=found.arm,
                evidence=_evidence(current, found, endpoint.policy_version),
            )
        except Conflict as conflict:
            log.info("not acted", experiment=current.name, why=str(conflict))
            return False
    log.info("acted", experiment=experiment.name, action=found.action, reason=found.reason)
    return True


def _due(experiment: Experiment) -> Recommendation | None:
    """What should be done now, if anything should."""
    if experiment.status != Experiment.Status.RUNNING:
        return None
    found = recommend(experiment, list(experiment.arms.select_related("model").order_by("position")))
    return found if found.action in {"promote", "stop"} else None


def _evidence(experiment: Experiment, found: Recommendation, policy_version: int) -> dict[str, object]:
    """What the audit trail keeps of why."""
    return {
        "rule": (experiment.promotion or {})["rule"],
        "value": found.evidence,
        "needed": found.needed,
        "policy_version": policy_version,
    }
