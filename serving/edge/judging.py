"""Is this what the bundle gives? The propensities of a decision that a device says it made, worked
out here from the bundle's receipt and the request's own facts.

What is drawn can't be checked, and what is not drawn is: the arm of a unit's hash in a fixed split,
who is held out, and every probability. Those that are recorded are the ones that were worked out
here.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandits.context import ContextInvalid, ContextSchema
from bandits.policies import make_contextual
from bandits.policies.allocation import allocate_in_context, among
from bandits.policies.protocol import ContextualBelief
from serving.routing import HashedRouter, Route, by_hash

from .receipt import Receipt, Seat

TOLERANCE = 1e-6
"""A device computes in its own order; nothing that matters is so small."""
_HOLDOUT, _SECOND = 2**62, 2**61
_NEARLY = 1.0 + 1e-5
"""A score that is so near to the highest may be it, where probabilities are worked out in another
order."""


class NotGiven(Exception):
    """The bundle does not give this decision; `field` says which part of it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class Kept(NamedTuple):
    """Under which bundle, and with which context, a sticky unit's arm was drawn."""

    receipt: Receipt
    context: dict[str, Any] | None


class Claim(NamedTuple):
    """What a device says of a decision."""

    arm: str | None
    propensity: float
    unit: str | None
    context: dict[str, Any] | None
    holdout: bool
    excluded: Sequence[str]
    kept: Kept | None


class Judged(NamedTuple):
    """A decision that its bundle gives. `propensities` are of every seat, by position."""

    seat: Seat
    propensity: float
    propensities: Sequence[float]
    excluded: Sequence[int] | None


def judge(receipt: Receipt, claim: Claim) -> Judged:
    """Raises NotGiven, and ContextInvalid for a declared field of the wrong type."""
    position = _position(receipt, claim.arm)
    names = frozenset(claim.excluded)
    excluded = [i for i, seat in enumerate(receipt.seats) if seat.name is not None and seat.name in names]
    allowed = np.array([i not in excluded for i in range(len(receipt.seats))])
    if position in excluded:
        raise NotGiven("arm", f"{claim.arm} is one of the arms that are excluded")
    if claim.context is not None or receipt.context:  # what is logged is evaluated and learned from later
        _schema(receipt).encode(claim.context)
    route = _route(receipt, claim, allowed, position)
    if not route.propensities[position] > 0.0:
        raise NotGiven("arm", f"{claim.arm} has no share under this bundle")
    propensity = route.propensities[position]
    if not abs(propensity - claim.propensity) <= TOLERANCE:
        raise NotGiven("propensity", f"{propensity:.9g} was expected of {claim.arm}: it is not this bundle's")
    ids = [receipt.seats[i].arm_id for i in excluded] or None
    return Judged(receipt.seats[position], propensity, route.propensities, ids)


def _position(receipt: Receipt, arm: str | None) -> int:
    for i, seat in enumerate(receipt.seats):
        if seat.name == arm:
            return i
    raise NotGiven("arm", "it is none of this bundle's")


def _route(receipt: Receipt, claim: Claim, allowed: NDArray[np.bool_], position: int) -> Route:
    """With the position that the claim must have where that is not drawn, else with its own."""
    control = next((i for i, seat in enumerate(receipt.seats) if seat.is_control), 0)
    is_held_out = _is_held_out(receipt, claim, bool(allowed[control]))
    if is_held_out != claim.holdout:
        raise NotGiven("holdout", f"{str(is_held_out).lower()} was expected of this unit")
    if is_held_out:
        if position != control:
            raise NotGiven("arm", "a unit that is held out gets the control")
        return Route(control, [float(i == control) for i in range(len(receipt.seats))], holdout=True)
    if receipt.is_sticky and claim.unit is not None and not _is_of_holdout(receipt, claim.unit):
        return _kept(receipt, claim, allowed, position)
    if claim.kept is not None:
        raise NotGiven("kept", "null was expected: no unit keeps an arm here")
    return _plain(receipt, claim, allowed, position)


def _plain(receipt: Receipt, claim: Claim, allowed: NDArray[np.bool_], position: int) -> Route:
    """Of a request whose unit keeps nothing."""
    eligible = allowed & np.array([seat.enabled for seat in receipt.seats])
    if not eligible.any():
        raise NotGiven("excluded", "no arm is left, and what the champion answers then is no decision")
    if receipt.choice == "hash":
        shares = [seat.propensity if can else 0.0 for seat, can in zip(receipt.seats, eligible, strict=True)]
        total = sum(shares)
        if not total > 0.0:
            raise NotGiven("excluded", "no arm with a share is left")
        shares = [share / total for share in shares]
        if claim.unit is None:
            return Route(position, shares)
        return _of_hash(HashedRouter(receipt.experiment_id, shares).route(claim.unit), position)
    return Route(position, _shares(receipt, claim.context, eligible))


def _shares(receipt: Receipt, context: dict[str, Any] | None, eligible: NDArray[np.bool_]) -> list[float]:
    """Every seat's probability where the arm is drawn among those that are `eligible` (K,)."""
    if receipt.choice != "context":
        return list(map(float, among(np.array([seat.propensity for seat in receipt.seats]), eligible)))
    policy, belief, counts = _policy(receipt)
    rules = receipt.rules
    assert rules is not None
    x = _schema(receipt).encode(context)
    allocation = allocate_in_context(
        policy, belief, x[None, :], counts, floor=rules.floor, burn_in=rules.burn_in, enabled=eligible
    )
    return list(map(float, allocation[0]))


def _kept(receipt: Receipt, claim: Claim, allowed: NDArray[np.bool_], position: int) -> Route:
    """Of a sticky unit, whose arm was drawn under this bundle or an earlier one, by its hash. A
    request that excludes its arm gets another, by another hash, in the same ratios. Where the unit
    had an arm before which that bundle does not give, its device dropped what it kept and keeps the
    new one: so `kept` names it, or it is this bundle's."""
    drawn_by, context = claim.kept or (receipt, claim.context)
    if (drawn_by.endpoint_id, drawn_by.experiment_id) != (receipt.endpoint_id, receipt.experiment_id):
        raise NotGiven("kept.receipt", "it is of another experiment")
    if not drawn_by.is_sticky:
        raise NotGiven("kept.receipt", "no unit keeps an arm there")
    try:
        drawn = np.array(_shares(drawn_by, context, np.array([seat.enabled for seat in drawn_by.seats])))
    except ContextInvalid as error:
        raise NotGiven("kept.context", f"{error.field}: {error.message}") from error
    if not receipt.seats[position].enabled:
        raise NotGiven("arm", f"{claim.arm} is not enabled: the unit is drawn anew")
    unit, number = claim.unit, receipt.experiment_id
    assert unit is not None
    first = by_hash(number, unit, list(map(float, drawn)))
    added = len(receipt.seats) - len(drawn)  # arms that were added since had no chance
    drawn = np.concatenate((drawn, np.zeros(max(added, 0))))[: len(receipt.seats)]
    if allowed.all():
        return _nearly_of_hash(number, unit, list(map(float, drawn)), position)
    left = allowed & np.array([seat.enabled for seat in receipt.seats]) & (drawn > 0.0)
    if not left.any():
        return _plain(receipt, claim, allowed, position)
    shares = list(map(float, among(drawn, left)))
    if first < len(left) and left[first]:
        return _nearly_of_hash(number, unit, list(map(float, drawn)), position, shares)
    return _nearly_of_hash(_SECOND + number, unit, shares, position)


def _nearly_of_hash(
    salt: int, unit: str, weights: Sequence[float], position: int, propensities: Sequence[float] | None = None
) -> Route:
    """The arm of a unit's hash by these weights, with those propensities or the same."""
    favoured = [weight * _NEARLY if i == position else weight for i, weight in enumerate(weights)]
    if by_hash(salt, unit, favoured) != position:
        raise NotGiven("arm", "it is not the arm of this unit: another bundle's is named by `kept`")
    return Route(position, list(weights if propensities is None else propensities))


def _of_hash(route: Route, position: int) -> Route:
    if route.position != position:
        raise NotGiven("arm", "it is not the arm of this unit under this bundle")
    return route


def _is_held_out(receipt: Receipt, claim: Claim, control_is_allowed: bool) -> bool:
    if not (receipt.holdout > 0.0 and control_is_allowed):
        return False
    if claim.unit is None:  # it was drawn
        return claim.holdout
    return _is_of_holdout(receipt, claim.unit)


def _is_of_holdout(receipt: Receipt, unit: str) -> bool:
    if not receipt.holdout > 0.0:
        return False
    return by_hash(_HOLDOUT + receipt.experiment_id, unit, [receipt.holdout, 1.0 - receipt.holdout]) == 0


class _ById:
    """A receipt as a key: they are read once each, and hold lists."""

    __slots__ = ("receipt",)

    def __init__(self, receipt: Receipt) -> None:
        self.receipt = receipt

    def __hash__(self) -> int:
        return id(self.receipt)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.receipt is self.receipt


def _schema(receipt: Receipt) -> ContextSchema:
    return _schema_of(_ById(receipt))


@lru_cache(maxsize=256)
def _schema_of(key: _ById) -> ContextSchema:
    return ContextSchema.from_document(key.receipt.context)


def _policy(receipt: Receipt) -> tuple[Any, ContextualBelief, NDArray[np.float64]]:
    return _policy_of(_ById(receipt))


@lru_cache(maxsize=256)
def _policy_of(key: _ById) -> tuple[Any, ContextualBelief, NDArray[np.float64]]:
    rules = key.receipt.rules
    assert rules is not None
    belief = ContextualBelief(np.array(rules.mean), np.array(rules.covariance))
    return make_contextual(rules.policy, **rules.params), belief, np.array(rules.counts)
