"""Verdicts of splits and bandits that serve: who leads, how sure that is, when it is decided."""

from datetime import datetime, timedelta

from noregret.dashboard.words import sentence
from noregret.learning.shown.holdout import Holdout
from noregret.learning.shown.phrases import FAR_BEYOND, duration, listed, probability_told
from noregret.learning.shown.results import Results, ResultsArm
from noregret.rollout.setups import days

from . import advice, told
from .compared import arm_of, few, leads, named_against_the_table, overlapping, why_nobody_leads
from .planned import by_whom
from .setting import Setting
from .structure import Tone, Verdict
from .troubles import FAILING, one_left

_DAY = timedelta(days=1)


def of_split(results: Results, setting: Setting) -> Verdict:
    """Of a running or paused experiment with decisions."""
    if setting.contextual:
        return _of_contextual(results, setting)
    if sum(arm.enabled for arm in results.arms) < 2:
        return one_left(setting)
    unanswered = [arm for arm in results.arms if arm.enabled and arm.decisions and not arm.rewards]
    if unanswered:
        return _unanswered(results, setting, unanswered)
    leader = results.evidence.leader
    if leader is None or not results.evidence.matured:
        return _nothing_matured(results, setting)
    recommended = results.recommendation
    ends = _holdout(results.holdout, setting)
    if recommended.action == "stop":
        headline = f"The arms are alike: {recommended.reason}."
        do, actions = advice.due(results, setting)
        return Verdict(headline, do, "good", tuple(ends), actions)
    apart = named_against_the_table(results, leader, setting)
    if recommended.action == "promote" and recommended.arm is not None:
        do, actions = advice.due(results, setting)
        shown = f"{leads(results, setting, recommended.arm)}, and is shown to be best."
        proof = (*_evidence(results, setting), *_both_true(results, recommended.arm))
        return Verdict(shown, do, "good", (*proof, *apart, *ends), actions)
    nobody = why_nobody_leads(results, setting)
    headline = f"{leads(results, setting, leader)}{_probable(arm_of(results, leader))}{few(results)}."
    if nobody:
        headline = f"Nobody leads yet: {nobody}."
    elif _by_hand_alone(results, setting):
        do = f"Promote {leader} by hand where you trust it; or keep it running."
        return Verdict(
            headline,
            do,
            "good",
            (*_evidence(results, setting), beyond_the_leader(results), *apart, *ends),
            ("promote",),
        )
    beyond = beyond_the_leader(results)
    when = expected(results, setting)
    details = [part for part in (*_evidence(results, setting), beyond, when, by_whom(results, setting)) if part]
    do = "Keep it running."
    if results.evidence.needed is None:
        do = "Give the reward a minimum and a maximum in a new experiment; or choose an arm by hand."
    return Verdict(headline, do, "wait", (*details, *([] if nobody else apart), *ends))


def _by_hand_alone(results: Results, setting: Setting) -> bool:
    """Is there evidence enough, for a rule that by itself may not go by it?"""
    value, needed = results.evidence.value, results.evidence.needed
    enough = value is not None and needed is not None and value >= needed
    return enough and not setting.percent and setting.silent


def beyond_the_leader(results: Results) -> str:
    """What the recommendation says beside who leads with how much evidence: what it waits for."""
    reason = results.recommendation.reason
    hindrance = reason.partition(", but ")[2] or reason.partition("; ")[2]
    if not hindrance and "nothing is promoted while they differ" in reason:
        hindrance = reason
    return sentence(hindrance, _names(results)) if hindrance else ""


def _names(results: Results) -> list[str]:
    return [arm.name for arm in results.arms]


def _probable(arm: ResultsArm) -> str:
    best = arm.probability_best
    return "" if best is None else f" (P(best) {probability_told(best)})"


def _evidence(results: Results, setting: Setting) -> list[str]:
    """How much there is, and who counts in what is needed though nobody gets it."""
    value, needed = results.evidence.value, results.evidence.needed
    if value is None or needed is None:
        return ["No evidence is counted, and nobody will be recommended: the reward has no minimum and maximum."]
    gone = [arm.name for arm in results.arms if not arm.enabled and arm.rewards]
    counts = f"{listed(gone)} {'counts' if len(gone) == 1 else 'count'} in the {needed:,.0f} though taken out"
    still = [f"{counts}: who is left was chosen after outcomes were seen."] if gone else []
    if value >= FAR_BEYOND * needed:
        return [f"Evidence is far beyond the {needed:,.0f} that are needed.", *still]
    if value < 1.05:
        units = told.counted(results.evidence.matured, "unit", "units")
        once = [f"It counts each unit once, and {units} so far."] if setting.by_unit else []
        return [f"No evidence yet of the {needed:,.0f} that are needed.", *once, *still]
    if value >= needed:
        return [f"Evidence {value:,.0f}; {needed:,.0f} are needed.", *still]
    told_so = f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
    return [f"Evidence {told_so} of {needed:,.0f}.", *still]


def _both_true(results: Results, winner: str) -> list[str]:
    """Why intervals may overlap and the winner be shown all the same."""
    names = overlapping(results, winner)
    if not names:
        return []
    return [
        f"Its interval at any time overlaps that of {listed(names)}, and both are true: an interval is of one arm "
        "by itself, and evidence compares two arms at the same times, which shows a difference sooner."
    ]


def expected(results: Results, setting: Setting) -> str:
    """When it may be decided at this traffic; or why no date can be told."""
    evidence, forecast = results.evidence, setting.forecast
    if evidence.value is None or evidence.needed is None or evidence.value >= evidence.needed:
        return ""
    if results.status == "paused":
        return "No date can be told while it is paused."
    if forecast is None:
        return "When it may be decided is not simulated yet."
    if forecast.horizon is None:
        drawn = "" if setting.percent else " How its evidence grows is drawn below."
        return f"No date can be told. {forecast.said}{drawn}"
    if forecast.low is None:
        share = 0.0 if forecast.ended is None else forecast.ended
        ahead = forecast.horizon - forecast.matured
        takes = f", about {days(ahead / setting.per_day)} at this traffic" if setting.per_day else ""
        return (
            f"It may take very long, or never be decided: of experiments simulated on from here {share:.0%} are, within "
            f"{forecast.horizon:,} rewards in all{takes}."
        )
    if not results.learner.ok:
        return "No date can be told while the learner is behind."
    if not setting.per_day and setting.not_learned:
        return f"No date can be told yet: {setting.not_learned}."
    if not setting.per_day:
        return "No date can be told: no answered decision came lately."

    def at(rewards: int) -> datetime:
        after = results.as_of + _days(rewards - forecast.matured, setting.per_day or 1.0)
        return after if setting.not_before is None else max(after, setting.not_before)

    first = at(forecast.low)
    last = first + 400 * _DAY if forecast.high is None else at(forecast.high)
    when = told.range_of_days(first, last, results.as_of)
    return f"Decided {when} at this traffic." if when else "At this traffic it is not decided within a year."


def _days(rewards: int, per_day: float) -> timedelta:
    return min(max(rewards, 0) / per_day, 3650.0) * _DAY


def _unanswered(results: Results, setting: Setting, arms: list[ResultsArm]) -> Verdict:
    """Arms that were never answered, beside others or alone."""
    names = listed([arm.name for arm in arms])
    count = sum(arm.decisions for arm in arms)
    has = "has" if len(arms) == 1 else "have"
    if not results.rewards:
        wait = f"A decision counts {duration(setting.window_seconds)} after it was made at the latest."
        headline = f"No reward has come in yet for {told.counted(count, 'decision', 'decisions')}."
        return Verdict(headline, f"Send feedback on what came of decisions of {setting.endpoint}.", "wait", (wait,))
    if all((arm.error_rate or 0.0) > FAILING for arm in arms):
        # No feedback is missing: what the champion answered in its place is not taken for it.
        headline = (
            f"{names} {has} no reward: {'it fails' if len(arms) == 1 else 'they fail'}, and the champion answers."
        )
        against = f"The others have {told.counted(results.rewards, 'reward', 'rewards')}."
        do = f"Mend the model behind {names}, or take {'it' if len(arms) == 1 else 'them'} out."
        return Verdict(headline, do, "bad", (against,))
    headline = f"{names} {has} no reward yet: none of {told.counted(count, 'decision', 'decisions')} is answered."
    against = f"Nothing can be shown against an arm without one; the others have {told.counted(results.rewards, 'reward', 'rewards')}."
    do = f"Find out whether feedback on {names} gets lost; or take {'it' if len(arms) == 1 else 'them'} out."
    tone: Tone = "bad" if min(arm.decisions for arm in arms) >= 20 else "wait"
    return Verdict(headline, do, tone, (against,))


def _nothing_matured(results: Results, setting: Setting) -> Verdict:
    reason = results.recommendation.reason
    headline = f"{told.counted(results.decisions, 'decision has', 'decisions have')} come in, and nobody leads yet."
    return Verdict(headline, "Keep it running.", "wait", (sentence(reason, _names(results)),))


def _of_contextual(results: Results, setting: Setting) -> Verdict:
    """The policy is judged, no arm: their means are of different requests."""
    details = [
        "Means of arms are of different requests and can't be compared: which arm is for whom stands in the segments.",
        *_holdout(results.holdout, setting),
    ]
    comparison = results.comparison
    headline, tone = gain_told(
        comparison.saved_against_even_split, comparison.saved_interval, unit=setting.unit, minimize=setting.minimize
    )
    do = "Look at its features, or stop it." if tone == "bad" else "Keep it running."
    return Verdict(headline, do, tone, tuple(details), ("stop",) if tone == "bad" else ())


def gain_told(value: float | None, ends: tuple[float, float] | None, *, unit: str, minimize: bool) -> tuple[str, Tone]:
    """What a policy that chooses by the request earned beyond an even split, in a sentence."""
    if value is None or ends is None:
        return "The policy chooses by the request; what it earned beyond an even split is not known yet.", "wait"
    gain = told.amount(value, ends, unit)
    low, high = (-ends[1], -ends[0]) if minimize else ends
    if low > 0:
        return f"The policy earns more than an even split: {gain}.", "good"
    if high < 0:
        return f"The policy earns less than an even split: {gain}.", "bad"
    return f"It is not shown that the policy earns more than an even split: {gain}.", "wait"


def _holdout(holdout: Holdout | None, setting: Setting) -> list[str]:
    if holdout is None:
        return []
    part = f"the {holdout.share:.0%} of units that are held out"
    if holdout.benefit is None:
        return [f"What it earned against {part} is not known yet."]
    return [
        f"Against {part}: {told.difference(holdout.benefit, holdout.interval, percent=setting.percent)} a decision."
    ]
