"""The arms of an experiment, one a row: what is known of each, drawn on one axis, and what is not
known yet and why."""

from typing import Literal

from msgspec import Struct

from noregret.experiments.models import Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.learning.shown.results import Results, ResultsArm

from .drawn import Axis, Mark, axis
from .verdicts import Setting
from .verdicts.compared import leading, means_form
from .verdicts.troubles import fails

Tone = Literal["good", "wait", "bad", "plain"]

_COLUMNS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("mean", "interval", "watched"), "Mean {metric}, 95%, at any time"),
    (("now", "share"), "Share now, so far"),
    (("best", "loss"), "P(best), expected loss"),
    (("decisions", "rewards"), "Decisions, rewards"),
    (("errors", "p50", "p99"), "Errors, p50, p99"),
)
"""The figures of each column, below each other, and its title."""
_OF_ONE_ARM = ("share", "now", "best", "loss")
_COMPARING = ("best", "loss")
_SHARES: dict[str, str] = {
    Experiment.Status.PAUSED: "Share before the pause, so far",
    Experiment.Status.COMPLETED: "Share at the end, so far",
}


def columns_of(experiment: Experiment) -> list[tuple[tuple[str, ...], str]]:
    """The columns that say something of this strategy's arms."""
    left_out: tuple[str, ...] = ()
    if serves_nobody(experiment):
        left_out = _OF_ONE_ARM  # the champion alone serves
    elif looks_at_requests(experiment):
        left_out = ("now", *_COMPARING)  # they depend on the request
    elif experiment.strategy == Experiment.Strategy.CANARY:
        left_out = ("loss",)
    # While it is paused and once it has ended the champion has all traffic.
    labels = {
        ("best",): "P(best)",
        ("share",): "Share so far",
        ("now", "share"): _SHARES.get(experiment.status, "Share now, so far"),
    }
    metric = experiment.reward_.metric
    columns = [
        (tuple(key for key in keys if key not in left_out), label.format(metric=metric)) for keys, label in _COLUMNS
    ]
    return [(keys, labels.get(keys, label)) for keys, label in columns if keys]


def serves_nobody(experiment: Experiment) -> bool:
    """Is all that it makes copies or choices that nobody gets?"""
    return experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice


class Chip(Struct, frozen=True):
    """A word on an arm, and whether it is good or bad."""

    text: str
    tone: Tone = "plain"


class ArmRow(Struct, frozen=True):
    """`said`: what is drawn, in words. `note`: what its figures are of where it is not served.
    `cells`: of each column (figure, text) below each other."""

    name: str
    model: str
    colour: int
    chips: list[Chip]
    mark: Mark
    said: str
    note: str
    cells: list[list[tuple[str, str]]]


class ArmTable(Struct, frozen=True):
    """`axis`: None where the means of arms are not comparable or not known; `why` then says so."""

    columns: list[str]
    rows: list[ArmRow]
    axis: Axis | None
    why: str


def arm_table(experiment: Experiment, results: Results, setting: Setting, cells: dict[str, dict[str, str]]) -> ArmTable:
    """Of the arms that serve."""
    mirrored = serves_nobody(experiment)
    columns = columns_of(experiment)
    arms = [arm for arm in results.arms if arm.is_control or not mirrored]
    drawn, why = None, ""
    if setting.contextual and not mirrored:
        why = "Means are of different requests, so they are not drawn beside each other."
    else:
        drawn = _axis(arms, results, setting)
    if drawn is None and not why:
        why = "Nothing is drawn before an arm has a reward."
    colours = {arm.name: i for i, arm in enumerate(results.arms)}
    promoted = experiment.promoted_arm.name if experiment.promoted_arm else ""
    rows = [
        ArmRow(
            name=arm.name,
            model=arm.model,
            colour=colours[arm.name] % 7,
            chips=chips(arm, results, setting, promoted),
            mark=Mark() if drawn is None else drawn.mark(arm.mean, arm.interval, arm.watched_interval),
            said=_said(arm, texts),
            note="" if mirrored else _note(arm),
            cells=[[(key, texts[key]) for key in keys] for keys, _ in columns],
        )
        for arm in arms
        for texts in [cells[arm.name]]
    ]
    return ArmTable([label for _, label in columns], rows, drawn, why)


def _axis(arms: list[ResultsArm], results: Results, setting: Setting) -> Axis | None:
    """Around means and intervals; the wider intervals are cut off at its ends."""
    known = [arm.mean for arm in arms if arm.mean is not None]
    known += [end for arm in arms if arm.interval is not None for end in arm.interval]
    control = next((arm.mean for arm in arms if arm.is_control and arm.mean is not None), None)
    beside = means_form(results.arms, percent=setting.percent)
    return axis(known, percent=setting.percent, reference=control, beside=beside)


def _said(arm: ResultsArm, cells: dict[str, str]) -> str:
    if arm.mean is None:
        return f"{arm.name}: no reward yet"
    if arm.interval is None:
        return f"{arm.name}: {cells['mean']}"
    return f"{arm.name}: {cells['mean']}, 95% interval {cells['interval']}"


def _note(arm: ResultsArm) -> str:
    """What the figures of an arm are of that is not served, or that the champion answers for."""
    if fails(arm):
        if not arm.rewards:
            return "Can't win: it has no reward, and the champion answers for it."
        return "Can't win while it fails: the champion answers for it, and its figures are of what it served itself."
    if not arm.enabled and arm.decisions:
        return "Can't win: its figures are of when it was served."
    return ""


def chips(arm: ResultsArm, results: Results, setting: Setting, promoted: str) -> list[Chip]:
    """What an arm is, and what of it is not known yet, and why."""
    said = []
    if arm.is_control:
        said.append(Chip("control"))
    if arm.name == promoted:
        said.append(Chip("promoted", "good"))
    if not arm.enabled:
        said.append(Chip("taken out", "wait"))
    if fails(arm):
        said.append(Chip(f"fails {arm.error_rate:.0%}", "bad"))
    if results.status not in ("running", "paused") or setting.apprentice or results.strategy == "shadow":
        return said
    told = results.strategy in ("ab", "bandit") and not setting.contextual
    if told and leading(results, setting) == arm.name:
        said.append(Chip("leads", "good"))
    if not arm.decisions:
        said.append(Chip("no decision learned yet" if setting.not_learned else "no decision yet", "wait"))
    elif not arm.rewards:
        said.append(Chip("no reward yet", "wait"))
    elif arm.rewards < setting.min_rewards:
        said.append(Chip(f"{arm.rewards:,} of {setting.min_rewards:,} rewards", "wait"))
    return said
