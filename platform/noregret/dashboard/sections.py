"""What a page shows for one strategy alone: what a bandit earned, how arms of a split differ, a
canary's ladder, where challengers disagree."""

from datetime import datetime
from typing import Any

import numpy as np
from django.db import connection
from msgspec import Struct

from bandits.inference.intervals import combined
from noregret.experiments.document import ERROR_RATE, latency_quantile
from noregret.experiments.models import Arm, Experiment
from noregret.learning.served import served_since
from noregret.learning.shown.results import Results, ResultsArm
from noregret.learning.shown.shadow_comparison import Disagreement, ShadowComparison
from noregret.learning.watched.states import GuardrailState
from noregret.rest.encoding import encoded

from .drawn import Axis, Mark, axis
from .verdicts import Setting, told
from .verdicts.of_canary import baked_at, what_it_waits_for
from .words import limits_told

_GOOD, _BAD, _OPEN = "good", "bad", "wait"


class Compared(Struct, frozen=True):
    """A difference with its interval, on an axis with 0: `verdict` says whether it is shown."""

    label: str
    text: str
    verdict: str
    tone: str
    mark: Mark


class Comparisons(Struct, frozen=True):
    """Rows on one axis. `missing`: (label, why) of what is not known yet."""

    rows: list[Compared]
    axis: Axis | None
    missing: list[tuple[str, str]]


def earned(results: Results, setting: Setting) -> list[Comparisons]:
    """What a bandit earned: against an even split, in rewards; against the holdout, a decision."""
    comparison, holdout = results.comparison, results.holdout
    split = "Against an even split, in rewards"
    value, ends = comparison.saved_against_even_split, comparison.saved_interval
    if value is None or ends is None:
        why = "Not known: every arm needs a reward, and probabilities between 0 and 1 that were logged."
        found = [Comparisons([], None, [(split, why)])]
    else:
        found = [
            _compared(
                [(split, value, ends, f"{value:+,.1f} rewards (95%: {ends[0]:+,.1f} to {ends[1]:+,.1f})")], setting
            )
        ]
    against = "Against the holdout, a decision"
    if holdout is None:
        why = "There is no holdout: a share of units that always gets the control would show what learning is worth."
        found.append(Comparisons([], None, [(against, why)]))
    elif holdout.benefit is None or holdout.interval is None:
        why = f"Not known yet: it takes two units with a reward on each side; {holdout.holdout.units:,} are held out."
        found.append(Comparisons([], None, [(against, why)]))
    else:
        text = told.difference(holdout.benefit, holdout.interval, percent=setting.percent)
        found.append(_compared([(against, holdout.benefit, holdout.interval, text)], setting))
    return found


def differences(results: Results, setting: Setting) -> Comparisons:
    """Of each arm of a fixed split to the control, from the intervals of both."""
    control = next((arm for arm in results.arms if arm.is_control), None)
    rows, missing = [], []
    for arm in results.arms:
        if control is None or arm.is_control:
            continue
        label = f"{arm.name} beside {control.name}"
        found = _difference(arm, control)
        if found is None:
            lacks = arm.name if arm.mean is None else control.name
            missing.append((label, f"Not known yet: {lacks} has too few rewards for an interval."))
            continue
        rows.append((label, *found, told.difference(*found, percent=setting.percent)))
    compared = _compared(rows, setting)
    return Comparisons(compared.rows, compared.axis, missing)


def _difference(arm: ResultsArm, control: ResultsArm) -> tuple[float, tuple[float, float]] | None:
    if arm.mean is None or control.mean is None or arm.interval is None or control.interval is None:
        return None
    value = arm.mean - control.mean
    means = np.array([arm.mean, control.mean])
    lows, highs = (np.array([arm.interval[i], control.interval[i]]) for i in (0, 1))
    return value, combined(value, np.array([1.0, -1.0]), means, lows, highs)


def _compared(rows: list[tuple[str, float, tuple[float, float], str]], setting: Setting) -> Comparisons:
    ends = [end for _, _, interval, _ in rows for end in interval]
    drawn = axis(ends, percent=False, reference=0.0) if rows else None
    made = []
    for label, value, interval, text in rows:
        low, high = (-interval[1], -interval[0]) if setting.minimize else interval
        verdict, tone = (
            ("a gain", _GOOD) if low > 0 else ("a loss", _BAD) if high < 0 else ("not told apart from nothing", _OPEN)
        )
        made.append(Compared(label, text, verdict, tone, Mark() if drawn is None else drawn.mark(value, interval)))
    return Comparisons(made, drawn, [])


class Step(Struct, frozen=True):
    """A rung of a canary's ladder: `state` is done, now or next."""

    number: int
    weight: str
    state: str
    text: str
    progress: float | None = None


class GuardedRow(Struct, frozen=True):
    """How an arm stands to a guardrail, beside the control."""

    metric: str
    limit: str
    arm: str
    measured: str
    control: str
    state: str
    tone: str
    reason: str


class Ladder(Struct, frozen=True):
    """`until`: when the present step has baked."""

    steps: list[Step]
    until: datetime | None
    auto: bool


def ladder(experiment: Experiment, arms: list[Arm], results: Results, setting: Setting) -> Ladder | None:
    """A canary's steps: how far each is."""
    rule = setting.canary
    if rule is None:
        return None
    at = experiment.canary_step
    challenger = next((arm for arm in arms if not arm.is_control), None)
    over = experiment.status == Experiment.Status.COMPLETED
    steps = []
    for i, weight in enumerate(rule.steps):
        if at is None or i > at or (over and i == at and experiment.outcome != Experiment.Outcome.PROMOTED):
            ended = at is not None and i == at and over
            steps.append(Step(i + 1, f"{weight:.0%}", "next", "ended here" if ended else "to come"))
        elif i < at or over:
            steps.append(Step(i + 1, f"{weight:.0%}", "done", "baked"))
        else:
            steps.append(_present(experiment, challenger, results, setting, i, weight))
    return Ladder(steps, baked_at(results, setting), rule.auto)


def _present(
    experiment: Experiment, challenger: Arm | None, results: Results, setting: Setting, i: int, weight: float
) -> Step:
    rule, since = setting.canary, experiment.canary_since
    assert rule is not None, "a canary has steps"
    if since is None or challenger is None:
        return Step(i + 1, f"{weight:.0%}", "now", "not begun")
    served = served_since(experiment, challenger, since)
    baked = (results.as_of - since).total_seconds()
    share = min(max(baked / rule.bake_seconds, 0.0), 1.0)
    text = f"{served:,} of {rule.min_decisions:,} decisions served"
    waits = what_it_waits_for(results, setting) if experiment.status == Experiment.Status.RUNNING else "it is paused"
    return Step(i + 1, f"{weight:.0%}", "now", f"{text}; {waits}" if waits else f"{text}; baked", share)


_STATES = {
    "unheard": ("not heard of", _OPEN),
    "waiting": ("too few to tell", _OPEN),
    "unjudged": ("not judged", _OPEN),
    "within": ("within", _GOOD),
    "beyond": ("past it, not shown", _OPEN),
    "passed": ("shown past it", _BAD),
}


def guarded(results: Results) -> list[GuardedRow]:
    """Every guardrail and arm: measured now, its limit, and the control's."""
    control = next((arm for arm in results.arms if arm.is_control), None)
    rows = []
    for rail in results.guardrails:
        limit = limits_told(rail)
        for arm in rail.arms:
            state, tone = _STATES[arm.state]
            if arm.evidence is not None and arm.evidence >= 1.05:
                state += f" (evidence {min(arm.evidence, 1e6):,.1f} of {arm.needed:,.0f})"
            rows.append(
                GuardedRow(
                    rail.metric,
                    limit,
                    arm.name,
                    "–" if arm.mean is None else f"{arm.mean:.4g} of {arm.count:,}",
                    _of_control(rail, control),
                    state,
                    tone,
                    arm.reason,
                )
            )
    return rows


def _of_control(rail: GuardrailState, control: ResultsArm | None) -> str:
    """What the control measures, where an arm's row tells it."""
    if control is None:
        return "–"
    own = next((arm.mean for arm in rail.arms if arm.name == control.name), None)
    if own is None and rail.metric == ERROR_RATE:
        own = control.error_rate
    if own is None and latency_quantile(rail.metric) is not None:
        p99 = control.latency_ms.p99
        return "–" if p99 is None or rail.metric != "latency_p99_ms" else f"{p99:.3g} ms"
    return "–" if own is None else f"{own:.4g}"


class Bar(Struct, frozen=True):
    """One bar of a histogram: `height` of the tallest in per cent, and its place."""

    label: str
    count: int
    x: str
    width: str
    y: str
    height: str


class Example(Struct, frozen=True):
    """A request on which a challenger and the champion differ."""

    at: datetime
    decision: str
    asked: str
    champion: str
    predicted: str


class Challenger(Struct, frozen=True):
    """A shadow's challenger: where and how it differs."""

    name: str
    bars: list[Bar]
    examples: list[Example]
    missing: str


_ASKED = """
SELECT id::text, context::text, request_id FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at = ANY(%(at)s) AND id = ANY(%(ids)s::uuid[])
"""


def challengers(experiment: Experiment, results: Results) -> list[Challenger]:
    """Differences and examples of each challenger that has answered copies."""
    compared = [(arm.name, arm.shadow) for arm in results.arms if arm.shadow is not None and not arm.is_control]
    asked = _asked(experiment, [example for _, shadow in compared for example in shadow.examples])
    return [_challenger(name, shadow, asked) for name, shadow in compared]


def _asked(experiment: Experiment, examples: list[Disagreement]) -> dict[str, tuple[str | None, str | None]]:
    """Context and request id by decision: what the ledger keeps of a request."""
    if not examples:
        return {}
    at = [example.decided_at for example in examples]
    ids = [example.decision for example in examples]
    with connection.cursor() as cursor:
        cursor.execute(_ASKED, {"experiment": experiment.pk, "at": at, "ids": ids})
        return {row[0]: (row[1], row[2]) for row in cursor.fetchall()}


def _challenger(name: str, shadow: ShadowComparison, asked: dict[str, tuple[str | None, str | None]]) -> Challenger:
    tallest = max((one.count for one in shadow.histogram), default=0)
    width = 100.0 / max(len(shadow.histogram), 1)
    bars = [
        Bar(
            f"{one.start:.3g} to {one.end:.3g}",
            one.count,
            f"{i * width + 0.1 * width:.2f}%",
            f"{0.8 * width:.2f}%",
            f"{100.0 - 100.0 * one.count / tallest:.2f}%",
            f"{100.0 * one.count / tallest:.2f}%",
        )
        for i, one in enumerate(shadow.histogram)
        if tallest
    ]
    missing = "" if bars else "No difference has a size: answers are equal, or no numbers."
    return Challenger(name, bars, [_example(one, asked.get(one.decision)) for one in shadow.examples], missing)


def _example(one: Disagreement, asked: tuple[str | None, str | None] | None) -> Example:
    context, request_id = asked or (None, None)
    parts = [context or "", f"request {request_id}" if request_id else ""]
    said = ", ".join(part for part in parts if part)
    return Example(one.decided_at, one.decision, said, _short(one.champion), _short(one.predicted))


def choices(results: Results) -> list[tuple[str, str]]:
    """How often an apprentice would have chosen each arm: (arm, share)."""
    shares = {} if results.apprentice is None else results.apprentice.shares
    return [(name, "–" if share is None else f"{share:.1%}") for name, share in shares.items()]


def _short(answer: Any) -> str:
    """An answer as its JSON, cut where it is long."""
    text = encoded(answer).decode()
    return text if len(text) <= 120 else f"{text[:117]}..."
