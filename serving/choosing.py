"""First of a decision's three steps: whose turn it is. The endpoint's router says, and a sticky
unit keeps the arm that it had."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from .live import LiveEndpoint, Seat
from .process import Process
from .routing import Route
from .sticky import Assignment


class Chosen(NamedTuple):
    """Who is to answer, and with which probabilities that came about."""

    seat: Seat
    propensity: float
    propensities: Sequence[float]  # of every seat, by position
    holdout: bool  # the unit is held out of the bandit
    proposed: Seat | None  # what an apprentice's policy would have chosen


def route(process: Process, live: LiveEndpoint, unit: str | None, context: dict[str, Any] | None) -> Chosen:
    """The seat for a unit's request. Raises ContextInvalid for a declared field of the wrong type.

    The context is checked whatever the policy: what is logged is evaluated and learned from later.
    """
    x = None if live.schema is None else live.schema.encode(context)
    routed = live.router.route(unit, x)
    if live.is_sticky and unit is not None and not routed.holdout and routed.proposed is None:
        routed = _kept(process, live, unit, routed)
    position, propensities, holdout, proposed = routed
    return Chosen(
        live.seats[position],
        propensities[position],
        propensities,
        holdout,
        None if proposed is None else live.seats[proposed],
    )


def _kept(process: Process, live: LiveEndpoint, unit: str, routed: Route) -> Route:
    """The arm that the unit has had so far, with the probabilities of that time; `routed` for a new
    unit."""
    ids = live.enabled_ids
    proposed = Assignment(ids[routed.position], list(routed.propensities))
    kept = process.assignments.get(live.document.name, live.experiment_id, unit, proposed, ids)
    if kept is proposed:
        return routed
    return Route(ids.index(kept.arm_id), kept.propensities)
