"""How long an experiment that has not begun would take, at what its endpoint's champion has shown:
its traffic and its mean reward. Simulated by the rule that promotes, as `manage.py plan` does.

Nothing is told where nothing is known: then it is told what is missing, and what to do.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from django.core.cache import cache
from msgspec import Struct

from bandits.policies import make
from bandits.simulation import outlook
from noregret.experiments.document import DAY
from noregret.experiments.models import Arm, Experiment
from noregret.learning.baseline_figures import BaselineFigures, present_figures
from noregret.learning.health import not_learned_yet
from noregret.rollout.setups import Caution, Setup

RUNS = 60
MOST_ARMS = 10
DAYS = 90
MOST_DECISIONS = 5_000_000
SPLIT = ""
"""Where a policy is named, a fixed split."""
_INDIFFERENT = (
    " The indifference is not simulated: where the arms are closer than that, it ends sooner, without a winner."
)
_BY_HAND = " Nothing is promoted by itself here: the days are until the evidence is enough, and a person decides then."
_KEPT_SECONDS = 600
_LEAST = 10
"""Of fewer decisions a day, or rewards, nothing is told."""


class Expected(Struct, frozen=True):
    """`assumed`: of what the days are, or why nothing can be told, in a sentence. `days`: by policy
    (SPLIT for a fixed split), what to expect in words. `medians`: the same as a number; infinite
    where half of the simulated runs have not decided within DAYS."""

    assumed: str
    days: dict[str, str] = {}
    medians: dict[str, float] = {}


def expected(experiment: Experiment, arms: Sequence[Arm], lift: float, policies: Sequence[str]) -> Expected:
    """Of rows that need not be saved. `lift`: how much better one challenger is supposed to be, as
    0.1 for 10 %; the others are supposed to be like the champion."""
    name = experiment.endpoint.name
    shown = present_figures(experiment.endpoint)
    waits = not_learned_yet(name)
    if shown is None or not shown.decisions_per_day or shown.decisions_per_day < _LEAST:
        return Expected(_not_learned(name, "traffic", waits) if waits else _without_traffic(name, shown))
    requests = _to_figures(shown.decisions_per_day, 2)
    match experiment.strategy:
        case Experiment.Strategy.SHADOW:
            return Expected(_of_shadow(experiment, requests))
        case Experiment.Strategy.CANARY:
            return Expected(_of_canary(experiment, requests))
    missing = _missing(experiment, arms, shown, waits)
    if missing:
        return Expected(missing)
    assert shown.mean is not None
    per_day = _answered_per_day(experiment, shown)
    better, mean = _means(experiment, _to_figures(shown.mean, 3), lift)
    if not 0.0 < better < 1.0:
        return Expected(f"A rate of {_rate(better)} can't be: suppose a smaller difference than {lift:+.0%}.")
    told = {policy: _days(experiment, arms, policy, per_day, mean, better) for policy in policies}
    days = {policy: said for policy, (said, _) in told.items()}
    medians = {policy: median for policy, (_, median) in told.items() if median is not None}
    others = "" if len(arms) == 2 else ", the others like the champion"
    return Expected(
        f"At about {requests:,.0f} requests a day with {_rate(mean)} now, if one challenger comes to "
        f"{_rate(better)}{others}. {RUNS} runs are simulated with the rule that promotes: half of them take longer than "
        "the days that are told, and 8 of 10 lie within the brackets. If the arms are alike there is nothing to find. "
        "A cost is what is lost until then against serving the better arm from the start."
        + (_INDIFFERENT if experiment.promotion_.indifference else "")
        + ("" if experiment.promotion_.auto else _BY_HAND)
        + (f" There may be more traffic than that: {waits}." if waits else ""),
        days,
        medians,
    )


def _without_traffic(name: str, shown: BaselineFigures | None) -> str:
    if shown is None or not shown.decisions or shown.decisions_per_day is not None:
        return (
            f"No days can be told yet: {name} has shown no traffic without an experiment, or too little. "
            "Send it requests for a few minutes, and look again."
        )
    return (
        f"No days can be told yet: {name} has had traffic, but not for a minute of an hour in which no experiment was under "
        "way, and of other hours it is not all. Look again when the next hour has begun."
    )


def _not_learned(name: str, what: str, waits: str) -> str:
    return (
        f"No days can be told yet: not all that came to {name} is learned, and in what is there is hardly any {what}. "
        f"{waits[:1].upper()}{waits[1:]}. Look again once it has caught up."
    )


def cautions(experiment: Experiment, arms: Sequence[Arm], lift: float) -> list[Caution]:
    """What the simulation says against a start: that nothing is decided in time."""
    policy = SPLIT if experiment.policy_ is None else experiment.policy_.name
    if experiment.strategy not in (Experiment.Strategy.AB, Experiment.Strategy.BANDIT):
        return []
    median = expected(experiment, arms, lift, [policy]).medians.get(policy)
    planned = Setup(experiment, arms).planned_days()
    supposed = f"if one challenger is {lift:.0%} better"
    if median is not None and planned is not None and 0.0 < planned < median:
        takes = f"more than {DAYS} days" if median == float("inf") else f"about {_span(median)}"
        return [
            Caution(
                f"the schedule ends it after {_span(planned)}, and at this traffic a decision takes {takes} {supposed}",
                True,
            )
        ]
    if median == float("inf"):
        said = f"at this traffic half of the simulated experiments have not decided after {DAYS} days, {supposed}"
        return [Caution(said, True)]
    return []


def _missing(experiment: Experiment, arms: Sequence[Arm], shown: BaselineFigures, waits: str) -> str:
    """Why no days can be told; nothing where they can."""
    reward, name = experiment.reward_, experiment.endpoint.name
    if experiment.apprentice:
        return "Nobody is promoted while the policy is an apprentice, so no days are told."
    if reward.kind != "binary":
        return "Days are simulated for rewards of 0 and 1 alone: this one is another number."
    if len(arms) > MOST_ARMS:
        return f"Days are simulated for up to {MOST_ARMS} arms."
    if shown.mean is None or shown.rewards < _LEAST:
        if waits:
            return _not_learned(name, "feedback", waits)
        return (
            f"No days can be told yet: {name} has hardly any feedback on its champion's decisions. "
            "Send feedback on them, and look again."
        )
    if shown.kind != "binary" or shown.metric != reward.metric:
        alike = shown.metric == reward.metric
        other, this = ("any number", "0 or 1") if alike else (f"its {shown.metric}", reward.metric)
        return (
            f"No days can be told yet: what the champion of {name} has shown is {other}, and this experiment goes by {this}. "
            "Give the endpoint this reward and send feedback on the champion's decisions."
        )
    if not 0.0 < shown.mean < 1.0:
        return f"No days can be told yet: every reward of the champion of {name} was the same so far."
    return ""


def _answered_per_day(experiment: Experiment, shown: BaselineFigures) -> float:
    """Decisions a day that the experiment can learn from."""
    assert shown.decisions_per_day is not None
    answered = 1.0 if experiment.reward_.default is not None else min(shown.rewards / max(shown.decisions, 1), 1.0)
    # To two figures, so that two looks a moment apart simulate the same.
    return _to_figures(shown.decisions_per_day * answered * (1.0 - experiment.holdout), 2)


def _means(experiment: Experiment, mean: float, lift: float) -> tuple[float, float]:
    """The supposed mean of the better arm, less where less is better, and the champion's."""
    sign = 1.0 if experiment.reward_.direction == "maximize" else -1.0
    return mean * (1.0 + sign * lift), mean


def _days(
    experiment: Experiment, arms: Sequence[Arm], policy: str, per_day: float, mean: float, better: float
) -> tuple[str, float | None]:
    """What to expect of one policy, in words and as days; of the split for SPLIT. None where no
    days are told, infinite where they are more than was simulated."""
    horizon = int(min(per_day * DAYS, MOST_DECISIONS))
    if horizon < _LEAST:
        return "Too little of the traffic can be learned from to tell days.", None
    chosen = experiment.policy_
    params = chosen.params if chosen is not None and policy == chosen.name else {}
    made = make(policy, **params) if policy else None
    if made is not None and (made.contextual or made.memory.forgets):
        return "No days: which arm is best depends on the request or on the time.", None
    if made is not None and made.counts_own_pulls:
        return "Its simulation takes minutes: manage.py plan makes it.", None
    weights = np.array([1.0 if arm.weight is None else arm.weight for arm in arms])
    means = np.full(len(arms), mean)
    means[next(i for i, arm in enumerate(arms) if not arm.is_control)] = better
    if experiment.reward_.direction == "minimize":
        means = 1.0 - means
    what = (
        policy,
        params,
        means.tolist(),
        horizon,
        None if made is not None else weights.tolist(),
        None if chosen is None else (chosen.floor, chosen.burn_in),
        experiment.promotion_.alpha,
    )
    more, cost = _simulated(what, made, means, weights / weights.sum(), horizon, experiment)
    promotion = experiment.promotion_
    # Of a split each arm gets its share; of a policy no arm gets more than all.
    scarcest = 1.0 / len(arms) if made is not None else float((weights / weights.sum()).min())
    least = promotion.min_rewards / scarcest / per_day
    waits = experiment.reward_.window_seconds / DAY  # a decision counts once its window is closed
    most = horizon / per_day

    def day(share: float) -> float | None:
        pulls = more[min(int(share * len(more)), len(more) - 1)]
        return None if not np.isfinite(pulls) else max(max(pulls / per_day, least) + waits, promotion.min_seconds / DAY)

    median = day(0.5)
    told = _told(median, day(0.1), day(0.9), most)
    if np.isfinite(cost):
        told += f", and costs about {_rounded(cost):,} rewards" + (
            f" in the first {_span(most)}" if median is None else ""
        )
    return told, float("inf") if median is None and horizon < MOST_DECISIONS else median


def _simulated(
    what: Any, policy: Any, means: Any, shares: Any, horizon: int, experiment: Experiment
) -> tuple[Sequence[float], float]:
    """After how many rewards each run promotes, sorted, and what a run costs in rewards on average;
    kept for some minutes."""
    key = f"expected:{hashlib.sha256(repr(what).encode()).hexdigest()[:40]}"
    kept: tuple[list[float], float] | None = cache.get(key)
    if kept is None:
        arms, chosen = len(means), experiment.policy_
        nothing = np.zeros(arms)
        more, cost = outlook(
            policy,
            np.tile(means, (RUNS, 1)),
            nothing,
            nothing,
            np.ones((arms, arms)),
            horizon=horizon,
            needed=arms / experiment.promotion_.alpha,
            seed=1,
            shares=shares,
            floor=0.0 if chosen is None else min(chosen.floor, 1.0 / arms),
            burn_in=0.0 if chosen is None else float(chosen.burn_in),
        )
        kept = sorted(more.tolist()), float(cost.mean())
        cache.set(key, kept, _KEPT_SECONDS)
    return kept


def _told(median: float | None, low: float | None, high: float | None, most: float) -> str:
    end = f"more than {_span(most)}" if high is None else _span(high)
    if median is None:
        return end if low is None else f"{end} ({_span(low)} at the earliest of 8 in 10 runs)"
    return f"about {_span(median)}" + ("" if low is None or _span(low) == end else f" ({_span(low)} to {end})")


def _span(days: float) -> str:
    """To the precision that a simulation of a few dozen runs has."""
    if days < 1.0 / 24.0:
        return f"{max(round(days * 1440), 1)} min"
    if days < 2.0:
        return f"{max(round(days * 24), 1)} h"
    return f"{round(days):,} days"


def _rounded(value: float) -> int:
    return round(_to_figures(value, 2))


def _to_figures(value: float, figures: int) -> float:
    return float(f"{value:.{figures}g}")


def _rate(value: float) -> str:
    return f"{value * 100:.3g} %"


def _of_shadow(experiment: Experiment, per_day: float) -> str:
    share = 1.0 if experiment.shadow_ is None else experiment.shadow_.sample
    return (
        f"At about {per_day:,.0f} requests a day each challenger sees about {per_day * share:,.0f} copies a day. "
        "It has no end by itself: a person compares."
    )


def _of_canary(experiment: Experiment, per_day: float) -> str:
    canary = experiment.canary_
    assert canary is not None
    bakes = [max(canary.bake_seconds, canary.min_decisions / (per_day * step) * DAY) for step in canary.steps]
    steps = f"{len(canary.steps)} steps take" if len(canary.steps) > 1 else "one step takes"
    by_itself = "" if canary.auto else ", if somebody advances it at once"
    return (
        f"At about {per_day:,.0f} requests a day its {steps} about {_span(sum(bakes) / DAY)}{by_itself}: each bakes, and the "
        f"challenger serves {canary.min_decisions:,} decisions in it. The first gives it about {per_day * canary.steps[0]:,.0f} a day."
    )


def policies_told(experiment: Experiment, usual: Sequence[str]) -> list[str]:
    """Of which policies days are told: the usual ones and the chosen one; of a split the split."""
    if experiment.policy_ is None:
        return [SPLIT]
    return list(dict.fromkeys([*usual, experiment.policy_.name]))
