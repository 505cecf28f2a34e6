"""The charts of an experiment's page as documents: a script draws them, tables and CSV tell the
same, and where there is nothing to draw it says what is missing."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Literal

from msgspec import Struct

from noregret.experiments.models import Experiment
from noregret.learning.evidence import units_count_once
from noregret.learning.shown.charts import OverTime
from noregret.learning.shown.phrases import duration
from noregret.learning.shown.results import Results
from noregret.learning.standing_history import Standing

from .arm_table import serves_nobody
from .verdicts import Setting, told
from .verdicts.compared import means_form

Band = tuple[float, float] | None
_STRETCHES = {60: "minute", 3600: "hour", 86_400: "day", 7 * 86_400: "week"}


class Series(Struct, frozen=True):
    """One arm's values, one a time; None where there is no datum. `colour` is its position."""

    name: str
    colour: int
    values: list[float | None]
    band: list[Band]


class Event(Struct, frozen=True):
    """What happened when: a line through the chart."""

    at: str
    text: str


class Chart(Struct, frozen=True):
    """`kind`: how it is drawn. `missing`: why nothing is drawn and how to mend it, a sentence;
    empty where it is. `threshold`: a line across, with its text. `form`: how its values are
    written, in the unit of the table of arms; rates and evidence have none."""

    id: str
    title: str
    axis: str
    help: str
    kind: Literal["lines", "stacked", "logarithmic"]
    percent: bool
    at: list[str]
    seconds: int
    series: list[Series]
    events: list[Event]
    threshold: float | None = None
    missing: str = ""
    form: told.Form | None = None

    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """Newest first: (time, a text an arm)."""
        for i in reversed(range(len(self.at))):
            yield f"{self.at[i][:19].replace('T', ' ')}", [self._text(series, i) for series in self.series]

    def _text(self, series: Series, i: int) -> str:
        value = series.values[i]
        if value is None:
            return "–"
        if self.kind == "logarithmic":
            return told.evidence(value)
        band = series.band[i] if series.band else None
        values = [value, *(band or ())]
        texts = told.values(values, percent=True) if self.form is None else [self.form.text(each) for each in values]
        return texts[0] if band is None else f"{texts[0]} ({texts[1]} to {texts[2]})"

    def csv(self) -> Iterator[list[str]]:
        """A header, and a row a time and arm: values as they are, times in UTC."""
        yield ["from_utc", "arm", "value", "low", "high"]
        for i, at in enumerate(self.at):
            for series in self.series:
                band = series.band[i] if series.band else None
                value = series.values[i]
                low, high = ("", "") if band is None else (repr(band[0]), repr(band[1]))
                yield [at, series.name, "" if value is None else repr(value), low, high]


def charts(
    experiment: Experiment,
    results: Results,
    setting: Setting,
    over_time: OverTime,
    history: Sequence[Standing],
    events: list[Event],
) -> list[Chart]:
    """Those that say something of this strategy, in the order in which they are read."""
    if setting.on_copies and not results.rewards:
        return []  # it is scored on outcomes, and none of its challengers earns anything
    means = _means(experiment, results, setting, over_time, events)
    if serves_nobody(experiment):
        return means
    shares = _shares(results, setting, over_time, events)
    if setting.contextual or experiment.strategy == Experiment.Strategy.CANARY:
        return [shares, *means]
    return [_evidence(results, history, events), shares, *means]


def _stretch(over_time: OverTime) -> str:
    """What a stretch of time is called: 'day', '6 h'."""
    if not over_time.seconds:
        return "stretch"
    return _STRETCHES.get(over_time.seconds) or duration(over_time.seconds)


def _nothing(results: Results, setting: Setting) -> str:
    if results.status == "draft":
        return "Nothing is drawn before it has started."
    if not results.learner.ok:
        return "No decision was learned yet: the learner is behind."
    if setting.not_learned:
        return f"No decision was learned yet: {setting.not_learned}."
    return f"No decision has come in yet: send requests to {setting.endpoint}."


def _evidence(results: Results, history: Sequence[Standing], events: list[Event]) -> Chart:
    needed = results.evidence.needed
    arms = {arm.name: i for i, arm in enumerate(results.arms)}
    missing = ""
    if needed is None and results.status in ("running", "paused"):
        missing = "There is no evidence to draw: the rule needs a reward with bounds, a minimum and a maximum."
    elif not history:
        missing = "The first point is noted about ten seconds after the first decisions have matured."
        if results.status == "completed":
            missing = "How its evidence grew was not noted while it ran."
    return Chart(
        id="evidence",
        title="Evidence that an arm is best",
        axis="evidence, logarithmic",
        help="The least evidence against any other arm. It multiplies with each decision, so its axis is logarithmic; "
        "an arm that reaches the line is shown to be best. As it was known at the time.",
        kind="logarithmic",
        percent=False,
        at=[point.at.isoformat() for point in history],
        seconds=0,
        series=[Series(name, i, [point.evidence.get(name) for point in history], []) for name, i in arms.items()],
        events=events,
        threshold=needed,
        missing=missing,
    )


def _shares(results: Results, setting: Setting, over_time: OverTime, events: list[Event]) -> Chart:
    return Chart(
        id="share",
        title="Share of traffic",
        axis="share of decisions",
        help=f"Of the decisions of each {_stretch(over_time)}.",
        kind="stacked",
        percent=True,
        at=over_time.at,
        seconds=over_time.seconds,
        series=[Series(arm.name, i, arm.share, []) for i, arm in enumerate(over_time.arms)],
        events=events,
        missing="" if over_time.at else _nothing(results, setting),
    )


def _bands(experiment: Experiment, over_time: OverTime) -> str:
    """What bands are, or why there is none."""
    if not over_time.by_unit:
        return "Bands are 95% intervals, right at one moment each."
    who = "units keep their arm" if units_count_once(experiment) else "units that are held out stay so"
    return f"No band is drawn: {who}, so the rewards of one unit hang together. The table of arms counts units."


def _form(series: Sequence[Series], results: Results, setting: Setting) -> told.Form | None:
    """How a chart's means are written: in the unit of the table of arms."""
    if setting.percent:
        return None
    pairs = [pair for one in series for pair in zip_longest(one.values, one.band)]
    beside = means_form(results.arms, percent=False)
    return told.column([(mean, band) for mean, band in pairs if mean is not None], percent=False, beside=beside)


def _means(
    experiment: Experiment, results: Results, setting: Setting, over_time: OverTime, events: list[Event]
) -> list[Chart]:
    """The mean reward of each stretch, and of all so far."""
    arms = [(i, arm) for i, arm in enumerate(over_time.arms)]
    if serves_nobody(experiment):
        arms = [(i, arm) for i, arm in arms if results.arms[i].is_control]
    missing = ""
    if not over_time.at:
        missing = _nothing(results, setting)
    elif not any(value is not None for _, arm in arms for value in arm.mean):
        window = duration(setting.window_seconds)
        missing = (
            f"No reward has come in yet: send feedback on decisions of {setting.endpoint}."
            if setting.silent
            else f"No stretch is over yet: a decision counts when its window of {window} has closed."
        )
    stretch = _stretch(over_time)
    bands = _bands(experiment, over_time)
    unlike = " Arms serve different requests: their lines can't be compared." if setting.contextual else ""
    known = {"kind": "lines", "percent": setting.percent, "at": over_time.at, "seconds": over_time.seconds}
    each = [Series(arm.name, i, arm.mean, arm.band) for i, arm in arms]
    so_far = [Series(arm.name, i, arm.so_far, arm.so_far_band) for i, arm in arms]
    return [
        Chart(
            id="rate",
            title=f"Mean {setting.metric} of each {stretch}",
            axis=f"mean {setting.metric}",
            help=f"{bands}{unlike}",
            series=each,
            events=events,
            missing=missing,
            form=_form(each, results, setting),
            **known,  # type: ignore[arg-type]  # the fields that both share
        ),
        Chart(
            id="so-far",
            title=f"Mean {setting.metric} so far",
            axis=f"mean {setting.metric}",
            help=f"Of all decisions up to the end of each {stretch}. {bands}{unlike}",
            series=so_far,
            events=events,
            missing=missing,
            form=_form(so_far, results, setting),
            **known,  # type: ignore[arg-type]  # the fields that both share
        ),
    ]
