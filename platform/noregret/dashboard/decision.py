"""What can be done with an experiment: the consequence of each action, and what speaks against it.
Reads no row."""

from collections.abc import Sequence

from msgspec import Struct

from bandits.inference.sample_ratio import ALARM
from noregret.experiments.document import ERROR_RATE
from noregret.learning.shown.phrases import evidence_told
from noregret.learning.shown.results import Results, ResultsArm

from .verdicts import Setting, Verdict, told
from .verdicts.by_evidence import beyond_the_leader
from .verdicts.compared import leading, why_nobody_leads
from .verdicts.of_canary import what_it_waits_for
from .verdicts.troubles import FAILING
from .words import sentence

CONSEQUENCES = {
    "start": "Requests to {endpoint} will be routed among the arms of {name} from now on.",
    "pause": "All traffic of {endpoint} will go to its champion, {champion}, until the experiment is resumed. Rewards still count.",
    "resume": "Requests to {endpoint} will be routed among the arms again.",
    "stop": "{name} ends. All traffic of {endpoint} goes to its champion, {champion}. This can't be undone.",
    "rollback": "{name} ends as rolled back. All traffic of {endpoint} goes to its champion, {champion}. This can't be undone.",
    "promote": "The chosen arm's model becomes the champion of {endpoint} and gets all of its traffic; {name} ends. "
    "The endpoint can be rolled back to {champion}.",
    "advance": "The canary {name} goes to its next step now, whether or not this one has baked.",
    "activate": "From now on {name} serves what its policy chooses: it is no apprentice any more.",
    "add": "{name} gets another arm, with a burn-in of its own; it can't be removed, only taken out.",
    "floor": "From now on every arm of {name} gets at least so much of the traffic it serves, and the policy chooses with the rest. "
    "A higher floor tells arms apart sooner, a lower one earns more. What was decided keeps its probabilities.",
    "disable": "{arm} gets no more traffic of {endpoint}; the others share it. What it earned so far still counts.",
    "enable": "{arm} gets traffic of {endpoint} again.",
}
_OF_SHADOWS = {
    "start": "Copies of requests to {endpoint} go to the challengers of {name} from now on. The champion, {champion}, goes on answering "
    "every request.",
    "pause": "No copies are made until the experiment is resumed. The champion, {champion}, goes on answering every request of {endpoint}.",
    "resume": "Copies of requests to {endpoint} go to the challengers again. The champion goes on answering every request.",
    "enable": "{arm} gets copies of requests to {endpoint} again.",
    "disable": "{arm} gets no more copies of requests to {endpoint}. What it answered so far still counts.",
}
_OF_APPRENTICES = {
    "start": "The control of {name} answers every request to {endpoint} from now on; what the policy would have chosen is recorded.",
    "resume": "The control answers every request to {endpoint} again, and what the policy would have chosen is recorded.",
}
"""In place of what a consequence is elsewhere."""
LABELS = {
    "start": "Start",
    "pause": "Pause",
    "resume": "Resume",
    "stop": "Stop",
    "promote": "Promote an arm",
    "rollback": "Roll back",
    "advance": "Advance",
    "activate": "Activate",
    "add": "Add an arm",
    "floor": "Change the floor",
    "disable": "Take out an arm",
    "enable": "Put back an arm",
}


class Offer(Struct, frozen=True):
    """An action, what it is called, what follows from it, and whether the verdict says to do it."""

    action: str
    label: str
    consequence: str
    arm: str = ""
    advised: bool = False


def offers(actions: Sequence[str], name: str, results: Results, setting: Setting, advice: Verdict) -> list[Offer]:
    """What may be done now, in the order of `actions`; what the verdict says to do is marked, and a
    recommended promotion names its arm."""
    recommended = results.recommendation
    made = []
    for action in actions:
        arm = recommended.arm or "" if action == "promote" and recommended.action == "promote" else ""
        label = f"Promote {arm}" if arm else LABELS[action]
        made.append(Offer(action, label, consequence(action, name, setting), arm, action in advice.actions))
    return made


def consequence(action: str, name: str, setting: Setting, arm: str = "The chosen arm") -> str:
    """What an action does, in a sentence or two."""
    own = _OF_SHADOWS if setting.on_copies else _OF_APPRENTICES if setting.apprentice else {}
    return own.get(action, CONSEQUENCES[action]).format(
        name=name, endpoint=setting.endpoint, champion=setting.champion, arm=arm
    )


def against(action: str, arm: str, results: Results, setting: Setting) -> str:
    """Why an action goes against what is known, a sentence; empty where it does not."""
    recommended = results.recommendation
    names = [one.name for one in results.arms]
    if recommended.action == "promote" and action in ("stop", "rollback"):
        return f"{recommended.arm} is shown to be best, and its gain would be given up."
    if recommended.action == "rollback" and action in ("advance", "promote", "resume"):
        return sentence(f"a rollback is recommended: {recommended.reason}")
    match action:
        case "promote":
            return _against_promotion(arm, results, setting)
        case "advance":
            return sentence(what_it_waits_for(results, setting), names) if what_it_waits_for(results, setting) else ""
        case "enable":
            back = next((one for one in results.arms if one.name == arm), None)
            failing = "" if back is None or back.enabled else _failing(back)
            guarded = any(rail.metric == ERROR_RATE for rail in results.guardrails)
            again = (
                " Its guardrail counts these decisions still, and takes it out again: a mended version is another arm."
            )
            return f"{failing}{again}" if failing and guarded else failing
        case "disable" if arm and arm == leading(results, setting):
            return f"{arm} leads."
        case "resume":
            stopped = [
                (rail.metric, one.name) for rail in results.guardrails for one in rail.arms if one.state == "passed"
            ]
            return "".join(f"The guardrail on {metric} is still breached by {one}. " for metric, one in stopped).strip()
        case "activate":
            return _against_activation(results)
    return ""


def _against_promotion(arm: str, results: Results, setting: Setting) -> str:
    recommended, ratio = results.recommendation, results.comparison.sample_ratio_p
    chosen = next((one for one in results.arms if one.name == arm), None)
    if chosen is None:
        return ""
    if results.strategy != "shadow" and ratio is not None and ratio < ALARM:
        return "Traffic was not split as logged: none of the figures can be trusted before that is found."
    if recommended.action == "promote" and recommended.arm == arm:
        return ""
    failing = _failing(chosen)
    if failing:
        return failing
    if recommended.action == "promote":
        return f"{recommended.arm} is shown to be best, not {arm}."
    if results.strategy == "shadow":
        return _against_challenger(chosen)
    if results.strategy == "canary":
        return sentence(recommended.reason, [one.name for one in results.arms])
    if setting.contextual:
        return "The policy chooses by the request: one arm for all would lose what it earns beyond that arm."
    leader, evidence = leading(results, setting), results.evidence
    if leader is not None and leader != arm:
        return f"{leader} leads, not {arm}."
    if leader is None:
        return sentence(f"nobody leads yet: {why_nobody_leads(results, setting)}")
    if evidence.value is None or evidence.needed is None:
        return ""  # no rule tells when: a person decides
    if evidence.value < evidence.needed:
        return f"It is not shown yet that {arm} is best: {evidence_told(evidence.value, evidence.needed)}."
    said = beyond_the_leader(results)
    return "" if "promote by hand" in said else said  # the results' own advice speaks against nobody who follows it


def _failing(arm: ResultsArm) -> str:
    rate = arm.shadow.error_rate if arm.shadow is not None else arm.error_rate
    return "" if rate is None or rate <= FAILING else f"{arm.name} fails in {rate:.0%} of what it is asked."


def _against_challenger(arm: ResultsArm) -> str:
    shadow = arm.shadow
    if shadow is None:
        return "" if arm.is_control else f"{arm.name} has answered no copy yet."
    outcomes = shadow.outcomes
    if outcomes is None:
        return f"Nobody knows whether {arm.name} is right: no outcome was told."
    if outcomes.accuracy is not None and outcomes.champion_accuracy is not None:
        worse = outcomes.accuracy < outcomes.champion_accuracy
        said = f"{arm.name} is right in {outcomes.accuracy:.1%}, the champion in {outcomes.champion_accuracy:.1%}."
        return said if worse else ""
    errors = outcomes.mean_absolute_error, outcomes.champion_mean_absolute_error
    if errors[0] is not None and errors[1] is not None and errors[0] > errors[1]:
        own, champion = told.values([errors[0], errors[1]], percent=False)
        return f"{arm.name} is off by {own} on average, the champion by {champion}."
    return ""


def _against_activation(results: Results) -> str:
    scored = None if results.apprentice is None else results.apprentice.outcomes
    if scored is None or scored.accuracy is None or scored.control_accuracy is None:
        return "Its choices were never scored: nobody knows whether they are better than the control's."
    if scored.accuracy <= scored.control_accuracy:
        return f"Its choices would have been right in {scored.accuracy:.1%}, the control's in {scored.control_accuracy:.1%}."
    return ""
