"""First of a decision's three steps: whose turn it is. The endpoint's router says, and a sticky
unit keeps the arm that it had.

As serving.routing, an exported package carries this file as it is.
"""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from bandits.context import ContextSchema
from bandits.statistics import Array

from .assignment import Assignment
from .routing import Route, Router, kept_among, kept_from_now

EXCLUDED = "excluded"
"""The fallback reason of a request that excludes every arm which could serve it."""

_CERTAINLY: Sequence[float] = (1.0,)


class Seat(Protocol):
    """Who may answer an endpoint's requests, as far as choosing looks."""

    @property
    def arm_id(self) -> int: ...

    @property
    def arm(self) -> str | None: ...


S = TypeVar("S", bound=Seat)
S_co = TypeVar("S_co", bound=Seat, covariant=True)


class Choice(Protocol[S_co]):
    """What there is to choose from: an endpoint with its router."""

    @property
    def name(self) -> str: ...

    @property
    def seats(self) -> Sequence[S_co]:
        """By position, as the router counts."""

    @property
    def champion_seat(self) -> S_co: ...

    @property
    def router(self) -> Router: ...

    @property
    def schema(self) -> ContextSchema | None: ...

    @property
    def experiment_id(self) -> int: ...

    @property
    def is_sticky(self) -> bool: ...

    @property
    def enabled_ids(self) -> Sequence[int]:
        """Each seat's arm by id, -1 for one that is disabled."""


class Keeps(Protocol):
    """Where units keep their arms."""

    def known(self, experiment_id: int, unit: str, arms: Sequence[int]) -> Assignment | None:
        """The unit's assignment to one of `arms` (by id), where it is known without a look
        elsewhere."""

    def get(
        self, endpoint: str, experiment_id: int, unit: str, proposed: Assignment, arms: Sequence[int]
    ) -> Assignment:
        """The unit's assignment, which becomes `proposed` where it has none, or one to an arm that
        is not in `arms` (by id) any more."""


class Chosen(NamedTuple, Generic[S]):
    """Who is to answer, and with which probabilities that came about."""

    seat: S
    propensity: float
    propensities: Sequence[float]  # of every seat, by position
    holdout: bool  # the unit is held out of the bandit
    proposed: S | None  # what an apprentice's policy would have chosen
    excluded: Sequence[int] | None = None  # the arms, by id, that the request is not for
    by_arm: bool = True  # False: no arm was left, and the champion answers, as none of them


def route(
    assignments: Keeps,
    live: Choice[S],
    unit: str | None,
    context: dict[str, Any] | None,
    exclude: Sequence[str] = (),
) -> Chosen[S]:
    """The seat for a unit's request. Raises ContextInvalid for a declared field of the wrong type.

    The context is checked whatever the policy: what is logged is evaluated and learned from later.
    """
    x = None if live.schema is None else live.schema.encode(context)
    if exclude:
        names = frozenset(exclude)
        excluded = [seat.arm_id for seat in live.seats if seat.arm in names]
        if excluded:  # and not only names of arms that are no more, or of another experiment
            return _among(assignments, live, unit, x, excluded)
    routed = live.router.route(unit, x)
    if live.is_sticky and unit is not None and not routed.holdout and routed.proposed is None:
        routed = _kept(assignments, live, unit, routed)
    return _chosen(live, routed)


def _chosen(live: Choice[S], routed: Route, excluded: Sequence[int] | None = None) -> Chosen[S]:
    position, propensities, holdout, proposed = routed
    return Chosen(
        live.seats[position],
        propensities[position],
        propensities,
        holdout,
        None if proposed is None else live.seats[proposed],
        excluded,
    )


def _kept(assignments: Keeps, live: Choice[Seat], unit: str, routed: Route) -> Route:
    """The arm that the unit has had so far, with the probabilities of that time; for a new unit the
    one that it keeps from now on."""
    ids = live.enabled_ids
    kept = assignments.known(live.experiment_id, unit, ids)
    if kept is None:
        routed = kept_from_now(routed, live.experiment_id, unit)
        proposed = Assignment(ids[routed.position], list(routed.propensities))
        kept = assignments.get(live.name, live.experiment_id, unit, proposed, ids)
        if kept is proposed:
            return routed
    return Route(ids.index(kept.arm_id), kept.propensities)


def _among(
    assignments: Keeps, live: Choice[S], unit: str | None, x: Array | None, excluded: Sequence[int]
) -> Chosen[S]:
    """The seat for a request that some arms are not for."""
    allowed = np.array([seat.arm_id not in excluded for seat in live.seats])
    if not live.is_sticky or unit is None:
        routed = live.router.route_among(allowed, unit, x)
    else:
        routed = live.router.route(unit, x)
        if routed.holdout or routed.proposed is not None:
            routed = live.router.route_among(allowed, unit, x)
        else:
            kept = _kept(assignments, live, unit, routed)
            enabled = np.array(live.enabled_ids) >= 0
            routed = kept_among(kept, allowed & enabled, live.experiment_id, unit)
            if routed is None:
                routed = live.router.route_among(allowed, unit, x)
    if routed is None:
        return Chosen(live.champion_seat, 1.0, _CERTAINLY, False, None, excluded, by_arm=False)
    return _chosen(live, routed, excluded)
