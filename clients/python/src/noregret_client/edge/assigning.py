"""Which arm a request gets on this device: by the bundle, and for a unit that keeps one by what the
device remembers."""

from typing import Any

from . import choosing
from .bundle import Bundle
from .choosing import Route, Uniform
from .state import KeptArm, State


def assigned(
    bundle: Bundle,
    state: State,
    unit: str | None,
    context: dict[str, Any] | None,
    excluded: set[int],
    uniform: Uniform,
) -> tuple[Route, KeptArm | None] | None:
    """The arm, and of a unit that keeps one how that was drawn."""
    if bundle.context:  # a wrong one is told, also of a unit that is held out or known: it would not be taken
        choosing.features(bundle.context, context)
    if not bundle.sticky or unit is None:
        route = choosing.route(bundle, unit, context, excluded, uniform)
        return None if route is None else (route, None)
    held_out = choosing.holdout(bundle, unit, excluded, uniform)
    if held_out is not None:
        return held_out, None
    if choosing.holdout(bundle, unit, ()) is not None:  # whose control is excluded: it keeps nothing
        route = choosing.route(bundle, None, context, excluded, uniform)
        return None if route is None else (route, None)
    kept, own = _kept(bundle, state, unit, context)
    route = own if not excluded else choosing.kept_among(bundle, unit, own, excluded)
    if route is None:
        route = choosing.route(bundle, None, context, excluded, uniform)
    return None if route is None else (route, kept)


def _kept(bundle: Bundle, state: State, unit: str, context: dict[str, Any] | None) -> tuple[KeptArm, Route]:
    """The unit's arm, which it gets now where it has none, or one that is not enabled."""
    places = {arm.name: i for i, arm in enumerate(bundle.arms) if arm.enabled}
    kept = state.kept_arm(bundle.experiment_id, unit)
    if kept is None or kept.arm not in places:
        route = choosing.first(bundle, unit, context)
        drawn = KeptArm(
            bundle.arms[route.position].name,
            route.propensities,
            bundle.receipt,
            context,
        )
        state.keep_arm(bundle.experiment_id, unit, drawn, instead=kept is not None)
        kept = state.kept_arm(bundle.experiment_id, unit) or drawn
    return kept, Route(places.get(kept.arm, 0), kept.propensities)
