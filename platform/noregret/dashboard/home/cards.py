"""A card an endpoint: its champion, traffic and reward over the last days, what runs there, and
what watches it. From sums, in a fixed number of queries for a page of cards."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, Prefetch

from noregret.dashboard.told_reward import BEGUN, tells_rates, told_rewards
from noregret.dashboard.verdicts.told import when
from noregret.dashboard.words import limits_told, sentence
from noregret.experiments.document import Guardrail, Reward
from noregret.experiments.models import Arm, ChampionChange, Endpoint, Experiment
from noregret.learning.baseline_figures import Glance, glances
from noregret.learning.health import gives_sign, not_learned_told
from noregret.learning.models import ExperimentEvidence, LedgerSums
from noregret.learning.shown.numbers import form
from noregret.learning.shown.phrases import actor_told, duration
from noregret.learning.shown.recommendation import ending_told
from noregret.learning.watched.watches import guardrails_of
from noregret.trail.models import AuditEntry

from .needs import Failing, Situation
from .series import Line, Series, line, series_of
from .state import Read, State, state_of

CARDS = 12
"""On a page. Reading a week of an experiment's sums takes some milliseconds each."""
_TOO_FEW = "A line needs a second point in time."
_ACTIONS = {"rollback": "roll back", "disable_arm": "take the arm out", "pause": "pause"}


@dataclass(frozen=True, slots=True)
class ShownExperiment:
    """An experiment on a card: what it is, how it stands, and what watches it."""

    pk: int
    name: str
    status: str
    status_told: str
    strategy: str
    state: State
    guardrails: str


@dataclass(frozen=True, slots=True)
class EndedExperiment:
    """The last one of an endpoint on which none runs: how it ended, by whom and why."""

    pk: int
    name: str
    ended: str
    said: str


@dataclass(frozen=True, slots=True)
class Sees:
    """What the reader may see beside endpoints; `situation` holds who failed lately and which
    endpoints the learner is behind with."""

    experiments: bool
    trail: bool
    situation: Situation


@dataclass(frozen=True, slots=True)
class Card:
    """What is told of an endpoint. `decisions` and `mean` are of all that was learned since
    `begin`, empty where nothing was. Where there is no line, `no_traffic` or `no_reward` says
    why."""

    pk: int
    name: str
    champion: str
    champion_pk: int
    since: datetime
    by: str
    behind: str
    begin: str
    decisions: str
    traffic: Line | None
    no_traffic: str
    mean: str
    reward: Line | None
    no_reward: str
    metric: str
    p99_ms: float | None
    experiments: list[ShownExperiment] = field(default_factory=list)
    ended: EndedExperiment | None = None


@dataclass(frozen=True, slots=True)
class Cards:
    """A page of cards; `page` counts from 1."""

    cards: list[Card]
    page: int
    pages: int
    total: int


def cards(now: datetime, page: int, sees: Sees) -> Cards:
    """Endpoints on which something runs come first, then by name."""
    total = Endpoint.objects.count()
    pages = max(1, -(-total // CARDS))
    page = min(max(page, 1), pages)
    begun = Experiment.objects.filter(status__in=BEGUN)
    arms = Arm.objects.select_related("model", "statistics", "shadow_statistics").order_by("position")
    shown = begun.order_by("status", "-started_at").prefetch_related(Prefetch("arms", arms, to_attr="shown_arms"))
    rows = list(
        Endpoint.objects.select_related("champion")
        .annotate(is_busy=Exists(begun.filter(endpoint=OuterRef("pk"))))
        .prefetch_related(Prefetch("experiments", shown, to_attr="begun"))
        .order_by("-is_busy", "name")[(page - 1) * CARDS : page * CARDS]
    )
    changes = {
        change.endpoint_id: change
        for change in ChampionChange.objects.filter(endpoint__in=rows)
        .order_by("endpoint_id", "-pk")
        .distinct("endpoint_id")
        .defer("evidence")
    }
    rewards = told_rewards(rows)
    lines = series_of(rows, {pk: reward.metric for pk, reward in rewards.items()}, now)
    seen = glances(rows)
    behind = {row.pk: _behind(row, sees.situation) for row in rows}
    runs = _runs(rows, sees, behind, now) if sees.experiments else {}
    ended = _ended(rows, sees, now) if sees.experiments else {}
    shown_cards = [
        _card(
            row,
            rewards[row.pk],
            changes.get(row.pk),
            lines[row.pk],
            seen.get(row.pk),
            behind[row.pk],
            now,
            keeps_up=_keeps_up(row, sees.situation),
        )
        for row in rows
    ]
    return Cards(
        [replace(card, experiments=runs.get(card.pk, []), ended=ended.get(card.pk)) for card in shown_cards],
        page,
        pages,
        total,
    )


def _card(
    row: Any,
    rewarded: Reward,
    change: ChampionChange | None,
    series: Series,
    glance: Glance | None,
    behind: str,
    now: datetime,
    *,
    keeps_up: bool,
) -> Card:
    since = row.created_at if change is None else change.at
    percent = tells_rates(rewarded, _known(series.means))
    begin = _moment(series.since, now)
    traffic = line(series.traffic, _traffic_told(series, begin), from_zero=True)
    reward = line(series.means, _means_told(series, begin, percent), from_zero=False)
    return Card(
        pk=row.pk,
        name=row.name,
        champion=row.champion.model,
        champion_pk=row.champion_id,
        since=since,
        by="" if change is None else actor_told(change.actor),
        # What is on its way is no trouble beside figures that are there.
        behind="" if keeps_up and series.decisions else behind,
        begin=begin,
        decisions=_served(series),
        traffic=traffic,
        no_traffic="" if traffic else _why_no_traffic(row, series, behind),
        mean=_mean(series, percent),
        reward=reward,
        no_reward="" if reward else _why_no_reward(series, behind),
        metric=series.metric,
        p99_ms=None if glance is None else glance.p99_ms,
    )


def _keeps_up(row: Any, situation: Situation) -> bool:
    """Is what waits of an endpoint learned in a moment?"""
    return not situation.redis_problem and _lag(row, situation) is None and gives_sign(situation.learner_age)


def _lag(row: Any, situation: Situation) -> tuple[float, str] | None:
    return situation.lagging.get(row.name) or situation.lagging.get("")


def _behind(row: Any, situation: Situation) -> str:
    """That the figures of an endpoint are old, where the learner is behind with it."""
    if situation.redis_problem:
        return "Redis can't be reached: what comes is not in these figures."
    found = _lag(row, situation)
    if found is not None and gives_sign(situation.learner_age):
        return f"The learner is {duration(round(found[0]))} behind here, and so are these figures."
    waits = not_learned_told(situation.waiting.get(row.name, 0), None, is_alive=gives_sign(situation.learner_age))
    return f"Not all that came is in these figures: {waits}." if waits else ""


def _runs(rows: list[Any], sees: Sees, behind: dict[int, str], now: datetime) -> dict[int, list[ShownExperiment]]:
    """What runs or is paused, by endpoint's id, as `behind` is."""
    begun = [experiment for row in rows for experiment in row.begun]
    numbers = [row.pk for row in begun]
    evidence = ExperimentEvidence.objects.filter(experiment__in=numbers).defer("answers", "split", "learned")
    held = {row.experiment_id: row for row in evidence}
    bandits = [row.pk for row in begun if row.strategy == Experiment.Strategy.BANDIT and not row.apprentice]
    sums = {row.experiment_id: row for row in LedgerSums.objects.filter(experiment__in=bandits).defer("base")}
    paused = _entries(
        [row.name for row in begun if row.status == Experiment.Status.PAUSED], ("experiment.paused",), sees
    )
    lately: dict[int, list[Failing]] = {}
    for one in sees.situation.failing:
        if one.arm:
            lately.setdefault(one.link, []).append(one)
    runs: dict[int, list[ShownExperiment]] = {}
    for row in begun:
        read = Read(
            row,
            row.shown_arms,
            held.get(row.pk),
            sums.get(row.pk),
            lately.get(row.pk, ()),
            paused.get(row.name),
            behind=bool(behind[row.endpoint_id]),
        )
        shown = ShownExperiment(
            row.pk,
            row.name,
            row.status,
            row.get_status_display(),
            row.get_strategy_display(),
            state_of(read, now),
            _watched(guardrails_of(row), row.reward_),
        )
        runs.setdefault(row.endpoint_id, []).append(shown)
    return runs


def _ended(rows: list[Any], sees: Sees, now: datetime) -> dict[int, EndedExperiment]:
    """The last experiment of each endpoint on which none runs, by endpoint's id."""
    idle = [row.pk for row in rows if not row.begun]
    last = list(
        Experiment.objects.filter(endpoint__in=idle, status=Experiment.Status.COMPLETED, ended_at__isnull=False)
        .select_related("promoted_arm")
        .order_by("endpoint_id", "-ended_at")
        .distinct("endpoint_id")
    )
    endings = [f"experiment.{outcome}" for outcome in Experiment.Outcome.values]
    entries = _entries([row.name for row in last], endings, sees)
    return {
        row.endpoint_id: EndedExperiment(
            row.pk,
            row.name,
            when(row.ended_at, now) if row.ended_at is not None else "",
            sentence(ending_told(row, entries.get(row.name)), [row.promoted_arm.name] if row.promoted_arm else ()),
        )
        for row in last
    }


def _entries(names: list[str], actions: Sequence[str], sees: Sees) -> dict[str, AuditEntry]:
    """The newest such entry of each experiment, as far as the reader sees the trail."""
    if not names or not sees.trail:
        return {}
    rows = AuditEntry.objects.filter(experiment__in=names, action__in=actions)
    return {row.experiment: row for row in rows.order_by("experiment", "-pk").distinct("experiment")}


def _watched(guardrails: Sequence[Guardrail], reward: Reward) -> str:
    if not guardrails:
        return "No guardrail watches it."
    told = [f"{one.metric} {limits_told(one, reward)}, or {_ACTIONS[one.action]}" for one in guardrails]
    return f"Guardrails: {'; '.join(told)}."


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _moment(at: datetime, now: datetime) -> str:
    """'14:40 UTC' today, else '24 November, 14:40 UTC'."""
    day = "" if at.date() == now.date() else f"{at.day} {at:%B}, "
    return f"{day}{at:%H:%M} UTC"


def _served(series: Series) -> str:
    """How many decisions were made; an estimate where a part is recorded."""
    if not series.decisions:
        return ""
    about = "" if round(series.served) == series.decisions else "about "
    return f"{about}{series.served:,.0f}"


def _traffic_told(series: Series, begin: str) -> str:
    known = _known(series.traffic)
    if not known:
        return ""
    return f"Decisions an hour since {begin}: from {_rate(min(known))} to {_rate(max(known))}"


def _means_as_text(known: list[float], percent: bool) -> list[str]:
    """In one unit; means that are no rates as fine as a hundredth of what they span."""
    if percent:
        return [f"{value:.1%}" if value >= 0.1 else f"{value:.2%}" for value in known]
    shaped = form(known, percent=False, apart=(max(known) - min(known)) / 100.0)
    return [shaped.text(value) for value in known]


def _mean(series: Series, percent: bool) -> str:
    """Of all rewards, by their sum: a mean of means would weigh quiet hours like busy ones."""
    if not series.rewards:
        return ""
    mean = series.reward_total / series.rewards
    return _means_as_text([mean, *_known(series.means)], percent)[0]


def _means_told(series: Series, begin: str, percent: bool) -> str:
    known = _known(series.means)
    if not known:
        return ""
    low, high = _means_as_text([min(known), max(known)], percent)
    return f"Mean {series.metric} since {begin}: from {low} to {high}"


def _why_no_traffic(row: Any, series: Series, behind: str) -> str:
    if series.decisions:
        return _TOO_FEW
    if row.record <= 0.0 and not row.begun:
        return "Nothing of it is recorded (record is 0), so its traffic is not known."
    if behind:
        return f"No decision of the last {series.told} is learned yet."
    return f"No decision was recorded in the last {series.told}."


def _why_no_reward(series: Series, behind: str) -> str:
    if behind and not series.rewards:
        return f"No {series.metric} is learned yet."
    if not series.decisions:
        return "Without decisions there is no reward."
    if not series.rewards:
        return f"No {series.metric} came for its decisions yet: feedback is sent with their decision_id."
    return _TOO_FEW
