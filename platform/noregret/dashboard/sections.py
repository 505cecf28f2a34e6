"""What a page shows for one strategy alone: what a bandit earned, how arms of a split differ, a
canary's ladder, and how arms stand to guardrails."""

from datetime import datetime

from msgspec import Struct

from noregret.experiments.document import ERROR_RATE, Reward, latency_quantile
from noregret.experiments.models import Arm, Experiment
from noregret.learning.served import served_since
from noregret.learning.shown.numbers import plain_unit
from noregret.learning.shown.phrases import listed, of_needed
from noregret.learning.shown.results import Results, ResultsArm
from noregret.learning.watched.states import GuardedArm, GuardrailState
from noregret.learning.watched.units import is_rate

from .drawn import Axis, Mark, axis
from .verdicts import Setting, told
from .verdicts.compared import beyond
from .verdicts.of_canary import baked_at, what_it_waits_for
from .verdicts.troubles import fails
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
    """Rows on one axis. `missing`: (label, why) of what is not known yet; `note`: what of it is not
    in these figures."""

    rows: list[Compared]
    axis: Axis | None
    missing: list[tuple[str, str]]
    note: str = ""


def earned(results: Results, setting: Setting) -> list[Comparisons]:
    """What a bandit earned: against an even split, in rewards; against the holdout, a decision."""
    comparison, holdout = results.comparison, results.holdout
    split = "Against an even split, in all"
    value, ends = comparison.saved_against_even_split, comparison.saved_interval
    if value is None or ends is None:
        found = [Comparisons([], None, [(split, _not_saved(results))])]
    else:
        found = [_compared([(split, value, ends)], setting, _left_out(results), total=True)]
    against = "Against the holdout, a decision"
    if holdout is None:
        why = "There is no holdout: a share of units that always gets the control would show what learning is worth."
        found.append(Comparisons([], None, [(against, why)]))
    elif holdout.benefit is None or holdout.interval is None:
        why = f"Not known yet: it takes two units with a reward on each side; {holdout.holdout.units:,} are held out."
        found.append(Comparisons([], None, [(against, why)]))
    else:
        found.append(_compared([(against, holdout.benefit, holdout.interval)], setting, _beside_failures(results)))
    return found


def _not_saved(results: Results) -> str:
    """Why what was earned beyond an even split is not known."""
    silent = [arm.name for arm in results.arms if not arm.rewards and _can_be_served(arm)]
    if silent:
        return f"Not known yet: {listed(silent)} {'has' if len(silent) == 1 else 'have'} no reward."
    return "Not known: it needs probabilities between 0 and 1 that were logged, of two arms or more."


def _can_be_served(arm: ResultsArm) -> bool:
    return arm.enabled and not fails(arm)


def _left_out(results: Results) -> str:
    names = [arm.name for arm in results.arms if not arm.rewards and not _can_be_served(arm)]
    return (
        f"An even split of the arms that can be served: {listed(names)} can't, and never had a reward." if names else ""
    )


def _beside_failures(results: Results) -> str:
    """What the gain against the holdout does not tell of arms that fail."""
    names = [arm.name for arm in results.arms if arm.decisions and fails(arm)]
    if not names:
        return ""
    return (
        f"What {listed(names)} could not serve the champion answered, and it has no reward: such decisions are on "
        "neither side. The gain is of what arms served themselves; what failures cost is not in it."
    )


def differences(results: Results, setting: Setting) -> Comparisons:
    """Of each arm of a fixed split to the control, from the intervals of both."""
    control = next((arm for arm in results.arms if arm.is_control), None)
    rows, missing = [], []
    for arm in results.arms:
        if control is None or arm.is_control:
            continue
        label = f"{arm.name} beside {control.name}"
        found = beyond(arm, control)
        if found is None:
            lacks = arm.name if arm.mean is None else control.name
            missing.append((label, f"Not known yet: {lacks} has too few rewards for an interval."))
            continue
        rows.append((label, *found))
    compared = _compared(rows, setting)
    return Comparisons(compared.rows, compared.axis, missing)


def _compared(
    rows: list[tuple[str, float, tuple[float, float]]], setting: Setting, note: str = "", *, total: bool = False
) -> Comparisons:
    """`total`: rows are of rewards in all, and not of a decision, where rates differ by points."""
    points = setting.percent and not total
    scale = 100.0 if points else 1.0
    ends = [scale * end for _, _, interval in rows for end in interval]
    beside = None if points else told.unit_of_differences([(value, interval) for _, value, interval in rows])
    drawn = axis(ends, percent=False, reference=0.0, beside=beside) if rows else None
    made = []
    for label, value, interval in rows:
        text = (
            told.amount(value, interval, setting.unit, beside=beside)
            if total
            else told.difference(value, interval, percent=points, beside=beside)
        )
        low, high = (-interval[1], -interval[0]) if setting.minimize else interval
        verdict, tone = (
            ("a gain", _GOOD) if low > 0 else ("a loss", _BAD) if high < 0 else ("not told apart from nothing", _OPEN)
        )
        made.append(
            Compared(
                label,
                text,
                verdict,
                tone,
                Mark() if drawn is None else drawn.mark(scale * value, (scale * interval[0], scale * interval[1])),
            )
        )
    return Comparisons(made, drawn, [], note)


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
    """`until`: when the present step of a canary that runs has lasted as long as it must, and
    whether that is over."""

    steps: list[Step]
    until: datetime | None
    is_over: bool
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
    until = baked_at(results, setting) if experiment.status == Experiment.Status.RUNNING else None
    return Ladder(steps, until, until is not None and until <= results.as_of, rule.auto)


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
    asked = rule.min_decisions
    text = f"{asked:,} decisions needed, {served:,} served"
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


def guarded(results: Results, reward: Reward) -> list[GuardedRow]:
    """Every guardrail and arm: measured now, its limit, and the control's, in the metric's unit."""
    control = next((arm for arm in results.arms if arm.is_control), None)
    rows = []
    for rail in results.guardrails:
        limit = limits_told(rail, reward)
        for arm in rail.arms:
            state, tone = _STATES[arm.state]
            state += _evidence(arm)
            row = next((one for one in results.arms if one.name == arm.name), None)
            measured, of_control = _measured(rail, arm, row, control, reward)
            rows.append(GuardedRow(rail.metric, limit, arm.name, measured, of_control, state, tone, arm.reason))
    return rows


def _evidence(arm: GuardedArm) -> str:
    if arm.evidence is None or arm.evidence < 1.05:
        return ""
    value = min(arm.evidence, 1e6)
    return f" (evidence {of_needed(value, arm.needed) if value >= 10 else f'{value:.1f} of {arm.needed:,.0f}'})"


def _measured(
    rail: GuardrailState, arm: GuardedArm, row: ResultsArm | None, control: ResultsArm | None, reward: Reward
) -> tuple[str, str]:
    """What the arm and the control measure, in the metric's unit; '–' where it is not known."""
    of_control = None if control is None else next((one.mean for one in rail.arms if one.name == control.name), None)
    quantile = latency_quantile(rail.metric)
    if quantile is not None:
        # Judged is the share of decisions that took longer than the limit.
        slower = "–" if arm.mean is None else f"{told.values([arm.mean], percent=True)[0]} of {arm.count:,} slower"
        own, other = _latency(row, quantile), _latency(control, quantile)
        return (f"{own}; {slower}" if own else slower), other or "–"
    if rail.metric == ERROR_RATE and of_control is None and control is not None:
        of_control = control.error_rate
    percent = is_rate(rail.metric, reward)
    # A limit on the mean itself is what both are held against: they are told in its unit.
    limit = next((one for one in (rail.max, rail.min) if one is not None and rail.versus == "limit"), None)
    beside = None if limit is None else plain_unit(limit)
    means = [mean for mean in (arm.mean, of_control) if mean is not None]
    texts = iter(told.values(means, percent=percent, beside=beside))
    measured = "–" if arm.mean is None else f"{next(texts)} of {arm.count:,}"
    return measured, "–" if of_control is None else next(texts)


def _latency(arm: ResultsArm | None, quantile: float) -> str:
    """What results tell of it; empty for another quantile than they have."""
    told_of = {} if arm is None else {0.5: arm.latency_ms.p50, 0.99: arm.latency_ms.p99}
    ms = told_of.get(quantile)
    return "" if ms is None else f"{ms:,.2f} ms"
