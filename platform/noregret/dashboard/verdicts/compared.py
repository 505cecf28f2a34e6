"""Two arms beside each other, as verdicts tell them."""

from collections.abc import Sequence

import numpy as np

from bandits.inference.intervals import combined, interval
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics
from noregret.learning.shown.outcomes import INTERVAL_ALPHA
from noregret.learning.shown.phrases import probability_told
from noregret.learning.shown.results import Results, ResultsArm

from . import told
from .setting import Setting
from .troubles import fails

ENOUGH_OUTCOMES = 100
"""Of fewer nothing is said of who is right more often."""


def arm_of(results: Results, name: str) -> ResultsArm:
    return next(arm for arm in results.arms if arm.name == name)


def beyond(arm: ResultsArm, control: ResultsArm) -> tuple[float, tuple[float, float]] | None:
    """How far an arm's mean is from the control's, with its interval from those of both."""
    if arm.mean is None or control.mean is None or arm.interval is None or control.interval is None:
        return None
    value = arm.mean - control.mean
    means = np.array([arm.mean, control.mean])
    lows, highs = (np.array([arm.interval[i], control.interval[i]]) for i in (0, 1))
    return value, combined(value, np.array([1.0, -1.0]), means, lows, highs)


def right_more_often(own: float, other: float, count: int) -> tuple[float, float]:
    """The interval of the difference of two rates of being right, on the same `count` requests."""
    rates = np.array([own, other])
    known = ArmStatistics(np.full(2, float(count)), rates, count * rates * (1.0 - rates))
    lows, highs = interval(known, RewardModel("binary"), INTERVAL_ALPHA)
    return combined(own - other, np.array([1.0, -1.0]), rates, lows, highs)


def overlapping(results: Results, name: str) -> list[str]:
    """Enabled arms whose interval at any time overlaps that of this one."""
    own = arm_of(results, name).watched_interval
    others = [arm for arm in results.arms if arm.name != name and arm.enabled]
    return [
        arm.name
        for arm in others
        if own is not None
        and arm.watched_interval is not None
        and own[0] <= arm.watched_interval[1]
        and arm.watched_interval[0] <= own[1]
    ]


def means_form(arms: Sequence[ResultsArm], *, percent: bool) -> told.Form:
    """How the means of arms and the ends of their intervals are written: table, axis, charts and
    sentences of one page have its unit."""
    return told.column([(arm.mean, arm.interval) for arm in arms if arm.mean is not None], percent=percent)


def means_as_text(results: Results, setting: Setting, *means: float) -> list[str]:
    """Means as sentences write them: told apart, in the unit of the table."""
    beside = means_form(results.arms, percent=setting.percent)
    return told.values(means, percent=setting.percent, beside=beside)


def rival_of(results: Results, name: str) -> ResultsArm | None:
    """Whom an arm is told beside: the control, or for the control the best of the others."""
    others = [arm for arm in results.arms if arm.name != name and arm.enabled and arm.mean is not None]
    control = next((arm for arm in others if arm.is_control), None)
    return control or max(others, key=lambda arm: arm.probability_best or 0.0, default=None)


def means_told(results: Results, setting: Setting, name: str) -> list[str]:
    """'v2 6.1%, v1 5.0% (control).'; nothing where either has no mean."""
    arm, rival = arm_of(results, name), rival_of(results, name)
    if rival is None or arm.mean is None or rival.mean is None:
        return []
    own, other = means_as_text(results, setting, arm.mean, rival.mean)
    return [f"Mean {setting.metric}: {arm.name} {own}, {_named(rival)} {other}."]


def leads(results: Results, setting: Setting, name: str) -> str:
    """'v2 leads: 6.1% against 5.0% of v1, the control', and where its own mean is the worse one,
    why it leads all the same."""
    arm, rival = arm_of(results, name), rival_of(results, name)
    if rival is None or arm.mean is None or rival.mean is None:
        return f"{name} leads" + ("" if arm.mean is None else f" with {means_as_text(results, setting, arm.mean)[0]}")
    own, other = means_as_text(results, setting, arm.mean, rival.mean)
    better = arm.mean < rival.mean if setting.minimize else arm.mean > rival.mean
    less = " (less is better)" if setting.minimize else ""
    if own == other:
        return f"{name} leads narrowly: {own}, as {_named(rival)}"
    if better:
        return f"{name} leads: {own} against {other} of {_named(rival)}{less}"
    why = "by what the policy remembers" if setting.forgets else "by what the policy believes"
    return f"{name} leads {why}, though its mean so far is {own} against {other} of {_named(rival)}{less}"


FEW_REWARDS = 30
"""Of an arm with fewer rewards it is said how few they are."""


def leading(results: Results, setting: Setting) -> str | None:
    """Who leads, wherever that is said; None where nobody does, and `why_nobody_leads` says why."""
    leader = results.evidence.leader
    return None if leader is None or why_nobody_leads(results, setting) else leader


def why_nobody_leads(results: Results, setting: Setting) -> str:
    """What keeps the arm with the greatest P(best) from leading, a phrase: it fails too often to be
    promoted, or an arm beside it has fewer rewards than a promotion asks for."""
    leader = results.evidence.leader
    if leader is None or not results.evidence.matured:
        return "no decision has matured yet"
    if fails(arm_of(results, leader)):
        return f"{leader} can't win while it fails"
    compared = [arm for arm in results.arms if arm.enabled and not fails(arm)]
    last = min(compared, key=lambda arm: arm.rewards, default=None)
    if last is None or last.rewards >= max(setting.min_rewards, 1):
        return ""
    if not last.rewards:
        return f"{last.name} has no reward yet"
    asked = f"{setting.min_rewards:,} rewards that are asked for"
    return f"{last.name} has {last.rewards:,} of the {asked}"


def few(results: Results) -> str:
    """How few rewards somebody leads by; empty where they are not so few."""
    known = [arm for arm in results.arms if arm.enabled and 0 < arm.rewards < FEW_REWARDS and not fails(arm)]
    last = min(known, key=lambda arm: arm.rewards, default=None)
    return "" if last is None else f"; {last.name} has {told.counted(last.rewards, 'reward', 'rewards')} so far"


def named_against_the_table(results: Results, name: str, setting: Setting) -> list[str]:
    """Why an arm is named where the table gives another one the greatest P(best); nothing where it
    does not."""
    # Of an arm without a reward that is the prior's.
    known = [arm for arm in results.arms if arm.probability_best is not None and arm.rewards]
    first = max(known, key=lambda arm: arm.probability_best or 0.0, default=None)
    own = next((arm.probability_best for arm in known if arm.name == name), None)
    if first is None or first.name == name or first.probability_best is None or first.probability_best == own:
        return []
    if f"against the evidence: {first.name} " in results.recommendation.reason:
        return []  # told already, and better
    told_so = f"P(best) is greatest for {first.name} ({probability_told(first.probability_best)})"
    return [f"{told_so}{_why_apart(results, setting)}."]


def _why_apart(results: Results, setting: Setting) -> str:
    """Why evidence names another arm than P(best); empty where it does not name one, or nothing is
    known that would say why."""
    value, needed = results.evidence.value, results.evidence.needed
    if results.status == "completed" and (value is None or needed is None or value < needed):
        return ""
    if setting.forgets:
        return ": P(best) is by what the policy remembers, and evidence counts all decisions"
    if results.rewards > results.evidence.matured:
        return ": P(best) is by the newest rewards too, and evidence counts matured decisions alone"
    return ""


def _named(arm: ResultsArm) -> str:
    if not arm.is_control:
        return arm.name
    return "the control" if arm.name == "control" else f"{arm.name}, the control"
