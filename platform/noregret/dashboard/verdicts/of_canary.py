"""Verdicts of a canary: which step, what stands in the way of the next, and what follows."""

import math
from datetime import datetime, timedelta

from noregret.learning.shown.results import Results, ResultsArm

from . import advice, told
from .compared import beyond, means_as_text, named_against_the_table
from .planned import promotes_at_end
from .setting import Setting
from .structure import Verdict
from .troubles import one_left


def of_canary(results: Results, setting: Setting) -> Verdict:
    """Of a running or paused canary with decisions."""
    state, rule = results.canary, setting.canary
    challenger = next((arm for arm in results.arms if not arm.is_control), None)
    control = next((arm for arm in results.arms if arm.is_control), None)
    if state is None or rule is None or challenger is None or control is None:
        return Verdict("The canary has not begun.", "Keep it running.", "wait")
    if not challenger.enabled:
        return one_left(setting)
    headline = f"Step {state.step} of {state.steps}: {challenger.name} gets {state.weight:.0%} of the units."
    details = [_beside(results, challenger, control, setting), *_in_the_way(results, challenger)]
    match results.recommendation.action:
        case "rollback":
            headline = f"{control.name} is shown to be better than {challenger.name}."
            apart = named_against_the_table(results, control.name, setting)
            do, actions = advice.due(results, setting)
            return Verdict(headline, do, "bad", (*details, *apart), actions)
        case "promote":
            headline = f"{challenger.name} baked at every step, and nothing spoke against it."
            do, actions = advice.due(results, setting)
            return Verdict(headline, do, "good", tuple(details), actions)
    until = baked_at(results, setting)
    if until is not None and until > results.as_of:
        details.append(f"The step bakes until {told.moment(until, results.as_of).removeprefix('at ')}.")
        return Verdict(headline, f"Wait; then {_goes_on(results, setting)}.", "wait", tuple(details))
    missing = what_it_waits_for(results, setting)
    if missing:
        details.append(f"The step's time is over, and it does not go on yet: {missing}.")
        return Verdict(headline, "See to what it waits for; or roll it back.", "wait", tuple(details), ("rollback",))
    details.append(f"It has baked, and nothing speaks against {challenger.name}.")
    if rule.auto:
        return Verdict(headline, "It goes on by itself in a moment.", "good", tuple(details))
    return Verdict(headline, "Advance it.", "good", tuple(details), ("advance",))


def _goes_on(results: Results, setting: Setting) -> str:
    """What follows when the present step has baked."""
    state, rule = results.canary, setting.canary
    assert state is not None, "asked of a canary that has begun"
    assert rule is not None, "a canary has steps"
    unless = "unless something speaks against it"
    if state.step >= state.steps:
        until = " before its planned end" if promotes_at_end(results, setting) else ""
        return (
            f"it is promoted by itself {unless}" if setting.auto else f"a person promotes it, or rolls it back{until}"
        )
    return f"it goes on by itself {unless}" if rule.auto else "it waits for a person"


def baked_at(results: Results, setting: Setting) -> datetime | None:
    """When the present step has lasted as long as it must; None before it began."""
    if results.canary is None or setting.canary is None:
        return None
    return results.canary.since + timedelta(seconds=setting.canary.bake_seconds)


def what_it_waits_for(results: Results, setting: Setting) -> str:
    """What the canary's step still lacks; empty where it may go on."""
    until = baked_at(results, setting)
    if until is None:
        return "the canary has not begun"
    if until > results.as_of:
        return f"the step bakes for another {math.ceil((until - results.as_of).total_seconds()):,} s"
    return results.recommendation.reason.partition("; ")[2]


def _beside(results: Results, challenger: ResultsArm, control: ResultsArm, setting: Setting) -> str:
    failures = " and ".join(
        f"{arm.name} in {_rate(arm.error_rate)} of {told.counted(arm.decisions, 'decision', 'decisions')}"
        for arm in (challenger, control)
    )
    said = f"Failed: {failures}."
    if challenger.mean is None or control.mean is None:
        return said
    own, other = means_as_text(results, setting, challenger.mean, control.mean)
    said = f"{said} Mean {setting.metric}: {challenger.name} {own}, {control.name} {other}"
    apart = beyond(challenger, control)
    if apart is None:
        return f"{said}."
    return f"{said}; the difference to the control is {told.difference(*apart, percent=setting.percent)}."


def _rate(rate: float | None) -> str:
    return "none" if rate is None else told.values([rate], percent=True)[0]


def _in_the_way(results: Results, challenger: ResultsArm) -> list[str]:
    """Guardrails that the challenger is past or not heard of, without being shown past them."""
    said = []
    for guardrail in results.guardrails:
        for arm in guardrail.arms:
            if arm.name != challenger.name:
                continue
            if arm.state == "unheard":
                said.append(f"Nobody has sent {guardrail.metric} for {arm.name}, which a guardrail watches.")
            elif arm.state == "beyond":
                more = "" if arm.more is None else f"; about {arm.more:,} more values would show it"
                said.append(f"{guardrail.metric} of {arm.name} is past its limit, and that is not shown yet{more}.")
    return said
