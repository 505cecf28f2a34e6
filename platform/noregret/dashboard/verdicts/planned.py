"""What an experiment's planned end does, and what it leaves to a person before it."""

from noregret.learning.shown.results import Results

from . import told
from .setting import Setting


def planned(results: Results, setting: Setting) -> list[str]:
    """When it ends by itself, and what happens then."""
    if setting.ends_at is None:
        return []
    at = told.moment(setting.ends_at, results.as_of).removeprefix("at ")
    then = "the leader is promoted, whatever the evidence" if promotes_at_end(results, setting) else "it stops"
    return [f"Its planned end is {at}; then {then}."]


def promotes_at_end(results: Results, setting: Setting) -> bool:
    """Is somebody promoted at its planned end? Of one arm that is left nobody leads."""
    compares = results.strategy == "canary" or sum(arm.enabled for arm in results.arms) > 1
    return setting.ends_at is not None and setting.at_end == "promote_leader" and compares


def by_whom(results: Results, setting: Setting) -> str:
    """What follows once there is evidence enough, where nothing follows by itself."""
    if setting.auto or results.evidence.needed is None:
        return ""
    enough = "once the evidence is enough it says so here, and a person"
    if promotes_at_end(results, setting):
        return f"Nothing is promoted by itself before its planned end: {enough} may promote."
    return f"Nothing is promoted by itself: {enough} promotes."
