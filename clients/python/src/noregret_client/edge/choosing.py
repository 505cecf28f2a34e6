"""Which arm, by a bundle: the rules of docs/edge.md, with the standard library alone. The platform
works the same probabilities out when it is told, and refuses others.
"""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from .best_arm import probability_best
from .bundle import Bundle

Uniform = Callable[[], float]
"""Gives a number in [0, 1) a call."""

_BLOCK = 8
_HOLDOUT, _SECOND = 2**62, 2**61
_SMALLEST_VARIANCE = 1e-18


class ContextInvalid(ValueError):
    """A declared field of the context has a value of the wrong type."""


class Route(NamedTuple):
    """The position of the arm to serve, and every arm's probability, by position."""

    position: int
    propensities: list[float]
    holdout: bool = False


def route(
    bundle: Bundle,
    unit: str | None,
    context: Mapping[str, Any] | None,
    excluded: Collection[int],
    uniform: Uniform = random.random,
) -> Route | None:
    """The arm of a request that the arms at the positions `excluded` are not for; None where none
    is left. Of a sticky unit only its first: who keeps arms asks `first` and `kept_among`. Raises
    ContextInvalid."""
    held_out = holdout(bundle, unit, excluded, uniform)
    if held_out is not None:
        return held_out
    shares = shares_of(bundle, context, excluded)
    if shares is None:
        return None
    if bundle.choice == "hash" and unit is not None:
        return Route(hashed(bundle.experiment_id, unit, shares), shares)
    return Route(drawn(shares, uniform), shares)


def holdout(
    bundle: Bundle, unit: str | None, excluded: Collection[int], uniform: Uniform = random.random
) -> Route | None:
    """The control's, where the unit is held out."""
    control = next((i for i, arm in enumerate(bundle.arms) if arm.control and arm.enabled), None)
    if bundle.holdout <= 0.0 or control is None or control in excluded:
        return None
    split = [bundle.holdout, 1.0 - bundle.holdout]
    if (drawn(split, uniform) if unit is None else hashed(_HOLDOUT + bundle.experiment_id, unit, split)) == 0:
        return Route(control, [float(i == control) for i in range(len(bundle.arms))], holdout=True)
    return None


def first(bundle: Bundle, unit: str, context: Mapping[str, Any] | None) -> Route:
    """The arm that a sticky unit gets which the device does not know, and keeps. Raises
    ContextInvalid, and ValueError where no arm is enabled."""
    shares = shares_of(bundle, context, ())
    if shares is None:
        raise ValueError("no arm is enabled")
    return Route(hashed(bundle.experiment_id, unit, shares), shares)


def kept_among(bundle: Bundle, unit: str, kept: Route, excluded: Collection[int]) -> Route | None:
    """What a unit gets that keeps an arm, of a request which excludes some; None where it could
    have had none of the others."""
    propensities = [*kept.propensities, *([0.0] * (len(bundle.arms) - len(kept.propensities)))]
    left = [
        share if arm.enabled and i not in excluded else 0.0
        for i, (arm, share) in enumerate(zip(bundle.arms, propensities, strict=True))
    ]
    total = sum(left)
    if total <= 0.0:
        return None
    shares = [share / total for share in left]
    if shares[kept.position] > 0.0:
        return Route(kept.position, shares)
    return Route(hashed(_SECOND + bundle.experiment_id, unit, shares), shares)


def hashed(salt: int, unit: str, weights: Sequence[float]) -> int:
    """Weighted rendezvous hashing: the position of the highest of the scores -w / ln(u), u being a
    uniform hash of salt, unit and position."""
    body, key = unit.encode(), salt.to_bytes(8, "big")
    best, best_score = 0, -1.0
    for block in range(0, len(weights), _BLOCK):
        digest = blake2b(body, key=key, salt=block.to_bytes(8, "big")).digest()
        for position, weight in enumerate(weights[block : block + _BLOCK], start=block):
            if weight <= 0.0:
                continue
            offset = 8 * (position - block)
            number = int.from_bytes(digest[offset : offset + 8], "big")
            score = -weight / math.log((number + 0.5) * 2.0**-64)
            if score > best_score:
                best, best_score = position, score
    return best


def drawn(shares: Sequence[float], uniform: Uniform) -> int:
    """A position with these probabilities; one of probability 0 is never drawn."""
    point, passed, last = uniform() * sum(shares), 0.0, 0
    for position, share in enumerate(shares):
        if share > 0.0:
            passed += share
            last = position
            if point < passed:
                break
    return last


def shares_of(bundle: Bundle, context: Mapping[str, Any] | None, excluded: Collection[int]) -> list[float] | None:
    """Every arm's probability among those that are enabled and not excluded; None where none is.
    Raises ContextInvalid."""
    x = features(bundle.context, context) if bundle.context else []
    eligible = [arm.enabled and i not in excluded for i, arm in enumerate(bundle.arms)]
    if not any(eligible):
        return None
    if bundle.choice == "context":
        return _in_context(bundle, x, eligible)
    shares = [(arm.propensity or 0.0) if can else 0.0 for arm, can in zip(bundle.arms, eligible, strict=True)]
    total = sum(shares)
    if total > 0.0:
        return shares if not excluded else [share / total for share in shares]
    if bundle.choice == "hash":
        return None
    return [can / sum(eligible) for can in eligible]


def features(fields: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None) -> list[float]:
    """The vector of a request, as declared: 1, then numbers scaled to [0, 1], and categories
    one-hot with one more for what was not declared. Raises ContextInvalid."""
    given = context or {}
    out = [1.0]
    for field in fields:
        value = given.get(field["name"])
        if field["type"] == "number":
            out.append(_scaled(field, value))
            continue
        if value is not None and not isinstance(value, str):
            raise ContextInvalid(f"{field['name']}: must be a text")
        out += [float(value == level) for level in field["values"]]
        out.append(float(value not in field["values"]))
    return out


def _scaled(field: Mapping[str, Any], value: Any) -> float:
    if value is None:
        return 0.5
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ContextInvalid(f"{field['name']}: must be a number")
    low, high = float(field["min"]), float(field["max"])
    try:
        scaled = (0.5 * value - 0.5 * low) / (0.5 * high - 0.5 * low)
    except OverflowError as error:
        raise ContextInvalid(f"{field['name']}: must be a number of double precision") from error
    return min(max(scaled, 0.0), 1.0)


def _in_context(bundle: Bundle, x: Sequence[float], eligible: Sequence[bool]) -> list[float]:
    policy, belief = bundle.policy, bundle.belief
    if policy is None or belief is None:
        raise ValueError("the bundle has no policy or no belief")
    places = [i for i, can in enumerate(eligible) if can]
    means = [_dot(belief.mean[i], x) for i in places]
    deviations = [
        math.sqrt(max(_dot(x, [_dot(row, x) for row in belief.covariance[i]]), _SMALLEST_VARIANCE)) for i in places
    ]
    if policy.name == "lin-ucb":
        alpha = float(policy.params.get("alpha", 1.0))
        index = [mean + alpha * deviation for mean, deviation in zip(means, deviations, strict=True)]
        leaders = [one >= max(index) for one in index]
        weights = [leads / sum(leaders) for leads in leaders]
    elif policy.name in _ALPHAS:
        alpha = float(policy.params.get("alpha", _ALPHAS[policy.name]))
        weights = probability_best(means, [alpha * deviation for deviation in deviations])
    else:
        raise ValueError(f"the policy {policy.name} is not known to this version of the client")
    weights = _with_burn_in(weights, [belief.counts[i] < policy.burn_in for i in places])
    floored = [policy.floor + (1.0 - len(places) * policy.floor) * weight for weight in weights]
    total = sum(floored)
    shares = [0.0] * len(eligible)
    for i, share in zip(places, floored, strict=True):
        shares[i] = share / total
    return shares


_ALPHAS = {"lin-thompson": 0.5, "logistic-thompson": 1.0}


def _with_burn_in(weights: Sequence[float], young: Sequence[bool]) -> list[float]:
    """Young arms get an even share each, and the others the rest in proportion to their weights."""
    if not any(young):
        return list(weights)
    arms = len(weights)
    old = [0.0 if is_young else weight for weight, is_young in zip(weights, young, strict=True)]
    left, mature = sum(old), arms - sum(young)
    rest = 1.0 - sum(young) / arms
    return [
        1.0 / arms if is_young else rest * (weight / left if left > 0.0 else 1.0 / mature)
        for weight, is_young in zip(old, young, strict=True)
    ]


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(left, right, strict=True))
