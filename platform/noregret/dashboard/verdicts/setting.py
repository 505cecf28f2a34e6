"""What an experiment's document and history say that its results do not, and its verdict needs."""

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from noregret.dashboard.words import is_rate, promotes_leader_at_end, unit_of
from noregret.experiments.document import Canary
from noregret.experiments.models import Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.learning.evidence import units_count_once
from noregret.learning.shown.forecast import Forecast
from noregret.learning.shown.standing import memory_of
from serving.times import Time


class TakenOut(Struct, frozen=True):
    """An arm that a guardrail took out: on which metric, when (an adverb), and what it measured
    against its limit."""

    arm: str
    metric: str
    when: str
    reason: str


class Setting(Struct, frozen=True):
    """`per_day`: answered decisions a day lately, None where none came. `starts_at`: when a draft
    starts by itself. `ends_at` and `at_end`: its planned end, and what is done then. `not_before`:
    until then nothing is promoted, whatever the evidence. `paused`: by whom, when and why, where
    the reader may know. `forecast`: None where it was not simulated yet. `unit`: what sums of
    rewards are called; `metric`: what a reward is a value of. `taken_out`: by guardrails, and not
    put back; `not_learned`: what came and is in no figure yet, a clause; empty where all is
    learned; `by_unit`: is it units that mature, each counted once?"""

    endpoint: str
    champion: str
    percent: bool = True
    unit: str = "rewards"
    metric: str = "reward"
    minimize: bool = False
    contextual: bool = False
    apprentice: bool = False
    on_copies: bool = False
    forgets: bool = False
    by_unit: bool = False
    auto: bool = False
    silent: bool = False
    alpha: float = 0.05
    holdout: float = 0.0
    min_rewards: int = 0
    window_seconds: float = 0.0
    starts_at: Time | None = None
    started_at: Time | None = None
    ended_at: Time | None = None
    ends_at: Time | None = None
    not_before: Time | None = None
    at_end: Literal["stop", "promote_leader"] = "stop"
    canary: Canary | None = None
    per_day: float | None = None
    forecast: Forecast | None = None
    paused: str = ""
    taken_out: tuple[TakenOut, ...] = ()
    not_learned: str = ""


def setting_of(
    experiment: Experiment,
    *,
    per_day: float | None = None,
    forecast: Forecast | None = None,
    paused: str = "",
    taken_out: tuple[TakenOut, ...] = (),
    not_learned: str = "",
) -> Setting:
    """Reads the row alone; its endpoint and champion are loaded."""
    reward, promotion = experiment.reward_, experiment.promotion_
    memory = memory_of(experiment)
    return Setting(
        endpoint=experiment.endpoint.name,
        champion=experiment.endpoint.champion.model,
        percent=is_rate(reward),
        unit=unit_of(reward),
        metric=reward.metric,
        minimize=reward.direction == "minimize",
        contextual=looks_at_requests(experiment),
        apprentice=experiment.apprentice,
        on_copies=experiment.strategy == Experiment.Strategy.SHADOW,
        by_unit=units_count_once(experiment),
        forgets=memory is not None and memory.forgets,
        auto=promotion.auto,
        silent=reward.default is None,
        alpha=promotion.alpha,
        holdout=experiment.holdout,
        min_rewards=promotion.min_rewards,
        window_seconds=reward.window_seconds,
        starts_at=experiment.schedule_.start_at,
        started_at=experiment.started_at,
        ended_at=experiment.ended_at,
        ends_at=planned_end(experiment),
        not_before=None
        if experiment.started_at is None
        else experiment.started_at + timedelta(seconds=max(promotion.min_seconds, reward.window_seconds)),
        at_end="promote_leader" if promotes_leader_at_end(experiment) else "stop",
        canary=experiment.canary_,
        per_day=per_day,
        forecast=forecast,
        paused=paused,
        taken_out=taken_out,
        not_learned=not_learned,
    )


def planned_end(experiment: Experiment) -> datetime | None:
    """The earlier of the ends that its schedule names."""
    schedule = experiment.schedule_
    ends = [schedule.end_at] if schedule.end_at else []
    if schedule.max_seconds is not None and experiment.started_at is not None:
        ends.append(experiment.started_at + timedelta(seconds=schedule.max_seconds))
    return min(ends, default=None)
