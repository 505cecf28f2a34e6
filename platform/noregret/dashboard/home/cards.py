"""A card an endpoint: its champion, traffic and reward over the last days, what runs there, and
what watches it. From sums, in a fixed number of queries for a page of cards."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, Prefetch

from noregret.experiments.baselines import UNDECLARED
from noregret.experiments.document import Guardrail
from noregret.experiments.models import Arm, ChampionChange, Endpoint, Experiment
from noregret.learning.baseline_figures import Glance, glances
from noregret.learning.models import ExperimentEvidence

from .needs import ago
from .series import Line, Series, line, series_of
from .state import state_of

CARDS = 12
"""On a page. Reading a week of an experiment's sums takes some milliseconds each."""
BEGUN = (Experiment.Status.RUNNING, Experiment.Status.PAUSED)
_ACTIONS = {"rollback": "roll back", "disable_arm": "take the arm out", "pause": "pause"}


@dataclass(frozen=True, slots=True)
class ShownExperiment:
    """An experiment on a card: what it is, and how it stands in one sentence."""

    pk: int
    name: str
    status: str
    status_told: str
    strategy: str
    said: str
    guardrails: str


@dataclass(frozen=True, slots=True)
class Card:
    """What is told of an endpoint. Where there is no line, `no_traffic` or `no_reward` says why."""

    pk: int
    name: str
    champion: str
    champion_pk: int
    since: datetime
    since_told: str
    by: str
    traffic: Line | None
    no_traffic: str
    reward: Line | None
    no_reward: str
    metric: str
    told: str
    p99_ms: float | None
    experiments: list[ShownExperiment] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cards:
    """A page of cards; `page` counts from 1."""

    cards: list[Card]
    page: int
    pages: int
    total: int


def cards(now: datetime, page: int, *, with_experiments: bool) -> Cards:
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
    experiments = [experiment for row in rows for experiment in row.begun] if with_experiments else []
    evidence = ExperimentEvidence.objects.filter(experiment__in=[row.pk for row in experiments])
    held = {row.experiment_id: row for row in evidence.defer("answers", "split", "learned")}
    lines = series_of(rows, {row.pk: _metric(row) for row in rows}, now)
    seen = glances(rows)
    return Cards(
        [_card(row, changes.get(row.pk), lines[row.pk], seen.get(row.pk), held, now, with_experiments) for row in rows],
        page,
        pages,
        total,
    )


def _metric(row: Any) -> str:
    """Which mean is told: that of what runs, or else the endpoint's own."""
    for experiment in row.begun:
        return str(experiment.reward_.metric)
    return str((row.reward or {}).get("metric") or UNDECLARED.metric)


def _card(
    row: Any,
    change: ChampionChange | None,
    series: Series,
    glance: Glance | None,
    held: dict[int, ExperimentEvidence],
    now: datetime,
    with_experiments: bool,
) -> Card:
    since = row.created_at if change is None else change.at
    traffic = line(series.traffic, _traffic_told(series), _per_hour(series.traffic), from_zero=True)
    reward = line(series.means, _means_told(series), _last_mean(series.means), from_zero=False)
    return Card(
        pk=row.pk,
        name=row.name,
        champion=row.champion.model,
        champion_pk=row.champion_id,
        since=since,
        since_told=ago(now, since),
        by="" if change is None else change.actor,
        traffic=traffic,
        no_traffic="" if traffic else _why_no_traffic(row, series),
        reward=reward,
        no_reward="" if reward else _why_no_reward(series),
        metric=series.metric,
        told=series.told,
        p99_ms=None if glance is None else glance.p99_ms,
        experiments=[_shown(each, held.get(each.pk), now) for each in row.begun] if with_experiments else [],
    )


def _shown(row: Any, held: ExperimentEvidence | None, now: datetime) -> ShownExperiment:
    return ShownExperiment(
        row.pk,
        row.name,
        row.status,
        row.get_status_display(),
        row.get_strategy_display(),
        state_of(row, row.shown_arms, held, now),
        _watched(row.guardrails_),
    )


def _watched(guardrails: tuple[Guardrail, ...] | list[Guardrail]) -> str:
    if not guardrails:
        return "No guardrail watches it."
    told = []
    for guardrail in guardrails:
        limits = [
            f"{word} {limit:g}"
            for limit, word in ((guardrail.max, "at most"), (guardrail.min, "at least"))
            if limit is not None
        ]
        told.append(f"{guardrail.metric} {' and '.join(limits)}, or {_ACTIONS[guardrail.action]}")
    return f"Guardrails: {'; '.join(told)}."


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _per_hour(values: list[float | None]) -> str:
    known = _known(values)
    return f"{_rate(known[-1])} an hour" if known else ""


def _traffic_told(series: Series) -> str:
    known = _known(series.traffic)
    if not known:
        return ""
    return f"Decisions an hour over the last {series.told}: from {_rate(min(known))} to {_rate(max(known))}, now {_rate(known[-1])}"


def _last_mean(values: list[float | None]) -> str:
    known = _known(values)
    return f"{known[-1]:.4g}" if known else ""


def _means_told(series: Series) -> str:
    known = _known(series.means)
    if not known:
        return ""
    return f"Mean {series.metric} over the last {series.told}: from {min(known):.4g} to {max(known):.4g}, last {known[-1]:.4g}"


def _why_no_traffic(row: Any, series: Series) -> str:
    if series.decisions:
        return f"{series.decisions:,} decisions so far: a line needs a second point."
    if row.record <= 0.0 and not row.begun:
        return "Nothing of it is recorded (record is 0), so its traffic is not known."
    return f"No decision was recorded in the last {series.told}."


def _why_no_reward(series: Series) -> str:
    if not series.decisions:
        return "Without decisions there is no reward."
    if not series.rewards:
        return f"No {series.metric} came for its decisions yet: feedback is sent with their decision_id."
    return f"{series.rewards:,} rewards so far: a line needs a second point."
