"""First of a decision's three steps: whose turn it is. The endpoint's router says, and a sticky
unit keeps the arm that it had."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bandits.statistics import Array

from .live import LiveEndpoint, Seat
from .process import Process
from .routing import Route, kept_among
from .sticky import Assignment

EXCLUDED = "excluded"
"""The fallback reason of a request that excludes every arm which could serve it."""

_CERTAINLY: Sequence[float] = (1.0,)


class Chosen(NamedTuple):
    """Who is to answer, and with which probabilities that came about."""

    seat: Seat
    propensity: float
    propensities: Sequence[float]  # of every seat, by position
    holdout: bool  # the unit is held out of the bandit
    proposed: Seat | None  # what an apprentice's policy would have chosen
    excluded: Sequence[int] | None = None  # the arms, by id, that the request is not for
    by_arm: bool = True  # False: no arm was left, and the champion answers, as none of them


def route(
    process: Process,
    live: LiveEndpoint,
    unit: str | None,
    context: dict[str, Any] | None,
    exclude: Sequence[str] = (),
) -> Chosen:
    """The seat for a unit's request. Raises ContextInvalid for a declared field of the wrong type.

    The context is checked whatever the policy: what is logged is evaluated and learned from later.
    """
    x = None if live.schema is None else live.schema.encode(context)
    if exclude:
        names = frozenset(exclude)
        excluded = [seat.arm_id for seat in live.seats if seat.arm in names]
        if excluded:  # and not only names of arms that are no more, or of another experiment
            return _among(process, live, unit, x, excluded)
    routed = live.router.route(unit, x)
    if live.is_sticky and unit is not None and not routed.holdout and routed.proposed is None:
        routed = _kept(process, live, unit, routed)
    return _chosen(live, routed)


def _chosen(live: LiveEndpoint, routed: Route, excluded: Sequence[int] | None = None) -> Chosen:
    position, propensities, holdout, proposed = routed
    return Chosen(
        live.seats[position],
        propensities[position],
        propensities,
        holdout,
        None if proposed is None else live.seats[proposed],
        excluded,
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


def _among(process: Process, live: LiveEndpoint, unit: str | None, x: Array | None, excluded: Sequence[int]) -> Chosen:
    """The seat for a request that some arms are not for."""
    allowed = np.array([seat.arm_id not in excluded for seat in live.seats])
    if not live.is_sticky or unit is None:
        routed = live.router.route_among(allowed, unit, x)
    else:
        routed = live.router.route(unit, x)
        if routed.holdout or routed.proposed is not None:
            routed = live.router.route_among(allowed, unit, x)
        else:
            kept = _kept(process, live, unit, routed)
            enabled = np.array(live.enabled_ids) >= 0
            routed = kept_among(kept, allowed & enabled, live.experiment_id, unit)
            if routed is None:
                routed = live.router.route_among(allowed, unit, x)
    if routed is None:
        return Chosen(live.champion_seat, 1.0, _CERTAINLY, False, None, excluded, by_arm=False)
    return _chosen(live, routed, excluded)
