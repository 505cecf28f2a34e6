"""Acts on a recommendation, where the experiment says `auto`. Exactly once: the transition is a compare-and-set."""

import structlog

from noregret.experiments.errors import Conflict
from noregret.experiments.models import Experiment
from noregret.experiments.transitions import move

from .recommendation import recommend

log = structlog.get_logger(__name__)

ACTOR = "learner"


def act(experiment: Experiment) -> bool:
    """Promote or stop what is due; True if something was done. Called under the endpoint's lock, on fresh statistics."""
    if experiment.status != Experiment.Status.RUNNING or not (experiment.promotion or {}).get("auto", False):
        return False
    arms = list(experiment.arms.select_related("model").order_by("position"))
    found = recommend(experiment, arms)
    if found.action not in {"promote", "stop"}:
        return False
    evidence = {
        "rule": experiment.promotion["rule"] if experiment.promotion else "",
        "value": found.evidence,
        "needed": found.needed,
        "policy_version": experiment.endpoint.policy_version,
    }
    try:
        move(
            experiment,
            "promote" if found.action == "promote" else "stop",
            actor=ACTOR,
            reason=found.reason,
            arm=found.arm,
            evidence=evidence,
        )
    except Conflict as conflict:  # a person was faster
        log.info("not promoted", experiment=experiment.name, why=str(conflict))
        return False
    log.info("acted", experiment=experiment.name, action=found.action, reason=found.reason)
    return True
