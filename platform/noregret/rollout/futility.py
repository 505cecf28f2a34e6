"""Settings by which an experiment shows nothing, or not in a time that people wait.

One small function a caution, listed in FUTILE. Times are told of drafts alone: of what runs there
are forecasts. Bounds are of what must pass at least; how long the evidence itself takes is
simulated in `planning`.
"""

from collections import defaultdict
from collections.abc import Callable
from difflib import get_close_matches

import msgspec

from noregret.experiments.document import DAY, ERROR_RATE, latency_quantile
from noregret.experiments.models import Arm, Experiment
from noregret.learning import clock

from .setups import Caution, Setup, days

LONG_DAYS = 30.0
"""An experiment that can't end before this is told to be long."""
TOO_LONG_DAYS = 365.0
LITTLE, NEXT_TO_NOTHING = 0.01, 0.001
"""Shares of the traffic."""
MOST_HELD_OUT = 0.5
MOST_INDIFFERENCE = 0.2
MOST_ALPHA = 0.2
FEW_COPIES = 10
"""Of fewer copies a day a shadow shows little."""


def alike(setup: Setup) -> Caution | None:
    """Arms of one model and one payload."""
    groups: dict[tuple[int, bytes], list[Arm]] = defaultdict(list)
    for arm in setup.arms:
        groups[arm.model_id, msgspec.json.encode(arm.payload)].append(arm)
    most = max(groups.values(), key=len, default=[])
    if len(most) < 2:
        return None
    shown = ", ".join(arm.name for arm in most[:3])
    rest = f" and {len(most) - 3} more" if len(most) > 3 else ""
    return Caution(
        f"{shown}{rest} have one model, {most[0].model.model}, and the same payload: they can't differ, and nothing is found "
        "out by comparing them, unless callers of decide go by the arm's name",
        grave=2 * len(groups) <= len(setup.arms),
    )


def starved(setup: Setup) -> Caution | None:
    """Weights by which an arm gets almost nothing."""
    if setup.experiment.strategy != Experiment.Strategy.AB or not setup.arms:
        return None
    share, name = min((share, arm.name) for share, arm in zip(setup.shares, setup.arms, strict=True))
    if share >= LITTLE:
        return None
    gets = f"{share:.2g}" if share else "0"
    told = f"{100 * float(gets):g} %" if share else "nothing"
    a_day = f", about {setup.per_day * share:,.0f} decisions a day" if setup.per_day and share else ""
    return Caution(
        f"by its weight {name} gets {told} of the traffic{a_day}: hardly anything is learned of it",
        grave=share < NEXT_TO_NOTHING,
    )


def too_many_rewards(setup: Setup) -> Caution | None:
    """At the traffic that the champion had, how long until each arm has the rewards that are asked
    for?"""
    least = float(setup.experiment.promotion_.min_rewards)
    if not setup.learns or not setup.is_draft:
        return None
    share = min(setup.shares, default=0.0)
    return _waited_for(
        setup, least, share, f"until each of {len(setup.arms)} arms has {least:,.0f} rewards", "promotion.min_rewards"
    )


def too_long_even(setup: Setup) -> Caution | None:
    """A burn-in that hardly ends: nothing is learned from before."""
    policy = setup.experiment.policy_
    if policy is None or not setup.is_draft:
        return None
    share = 1.0 / max(len(setup.arms), 1)
    until = f"until each of {len(setup.arms)} arms has {policy.burn_in:,} rewards, and an even split goes on so long"
    return _waited_for(setup, policy.burn_in, share, until, "policy.burn_in")


def _waited_for(setup: Setup, rewards: float, share: float, until: str, field: str) -> Caution | None:
    takes = setup.days_for(rewards, share)
    if not rewards or not share or takes < LONG_DAYS:
        return None
    if setup.before is not None and setup.per_day:
        at = f"{setup.before.champion} gets about {setup.per_day:,.0f} decisions a day"
        return Caution(
            f"{at}: {until}, which {field} asks for, it takes {takes:,.0f} days or more", takes >= TOO_LONG_DAYS
        )
    return Caution(
        f"even at 100 requests a second it takes {takes:,.0f} days or more {until}, which {field} asks for", True
    )


def not_before(setup: Setup) -> Caution | None:
    """Waits that are asked for by themselves."""
    rule = setup.experiment.promotion_
    field, seconds = max(
        (("min_seconds", rule.min_seconds), ("cooldown_seconds", rule.cooldown_seconds)), key=lambda found: found[1]
    )
    if not setup.is_draft or not setup.learns or not rule.auto or seconds < LONG_DAYS * DAY:
        return None
    since = "its start" if field == "min_seconds" else "a change of champion"
    said = f"promotion.{field}: nothing is promoted by itself before {days(seconds / DAY)} have passed since {since}"
    return Caution(said, grave=seconds >= TOO_LONG_DAYS * DAY / 2)


def late_rewards(setup: Setup) -> Caution | None:
    """A window that evidence waits for."""
    reward = setup.experiment.reward_
    if not setup.is_draft or not setup.learns or reward.window_seconds < LONG_DAYS * DAY:
        return None
    waits = days(reward.window_seconds / DAY)
    return Caution(
        f"reward.window_seconds: evidence waits for it, so of the first {waits} nothing is shown in that time"
    )


def canary_takes_long(setup: Setup) -> Caution | None:
    """Steps that bake for months."""
    takes = canary_days(setup)
    if not setup.is_draft or takes is None or takes < LONG_DAYS:
        return None
    return Caution(
        f"its steps take {days(takes)} or more: each bakes, and waits for its decisions, before the next",
        grave=takes >= TOO_LONG_DAYS / 4,
    )


def canary_days(setup: Setup) -> float | None:
    """How long a canary takes at least; None for other strategies."""
    canary = setup.experiment.canary_
    if canary is None:
        return None
    return sum(max(canary.bake_seconds / DAY, setup.days_for(canary.min_decisions, step)) for step in canary.steps)


def starts_at_once(setup: Setup) -> Caution | None:
    """A schedule that starts a draft as soon as it is there: nobody is asked again."""
    at = setup.experiment.schedule_.start_at
    if not setup.is_draft or at is None or at > clock.now():
        return None
    return Caution("schedule.start_at is past: it starts within seconds, by itself, and nobody is asked", grave=True)


def ends_too_soon(setup: Setup) -> Caution | None:
    """A schedule that ends before anything can be decided."""
    planned = setup.planned_days() if setup.is_draft else None
    if planned is None:
        return None
    if planned <= 0.0:
        return Caution("schedule.end_at is past when it starts: it would end at once, with nothing learned", grave=True)
    asks, least = _least_days(setup)
    if least <= planned:
        return None
    promotes = setup.experiment.schedule_.at_end == "promote_leader"
    then = "its leader is promoted without evidence then" if promotes else "it is stopped then, with nothing decided"
    return Caution(
        f"schedule: it ends after {days(planned)}, and {asks} asks for {days(least)} at least: {then}", grave=True
    )


def _least_days(setup: Setup) -> tuple[str, float]:
    """What asks for the most time before a decision, and how much."""
    rule, reward = setup.experiment.promotion_, setup.experiment.reward_
    found = [("nothing", 0.0)]
    if setup.learns:
        found.append(("promotion.min_seconds", rule.min_seconds / DAY))
        found.append(("reward.window_seconds", reward.window_seconds / DAY))
        if setup.per_day and min(setup.shares, default=0.0):
            found.append(("promotion.min_rewards", setup.days_for(rule.min_rewards, min(setup.shares))))
    baked = canary_days(setup)
    if baked is not None:
        found.append(("the canary", baked))
    return max(found, key=lambda each: each[1])


def unguarded(setup: Setup) -> Caution | None:
    """A guardrail that acts on so many decisions as hardly come."""
    if not setup.is_draft or setup.experiment.strategy == Experiment.Strategy.SHADOW:
        return None
    for i, rail in enumerate(setup.experiment.guardrails_):
        takes = setup.days_for(rail.min_decisions, min((share for share in setup.shares if share), default=1.0))
        if takes >= LONG_DAYS:
            at = "" if setup.per_day else "even at 100 requests a second "
            return Caution(
                f"guardrails[{i}].min_decisions: {at}it takes {days(takes)} until the guardrail on {rail.metric} may act"
            )
    return None


def few_copies(setup: Setup) -> Caution | None:
    """A sample of a shadow that is next to nothing."""
    shadow = setup.experiment.shadow_
    if shadow is None or not setup.per_day or setup.per_day * shadow.sample >= FEW_COPIES:
        return None
    return Caution(
        f"shadow.sample: challengers see about {setup.per_day * shadow.sample:,.1f} copies a day at this traffic", True
    )


def mostly_held_out(setup: Setup) -> Caution | None:
    """A holdout that leaves the policy little."""
    held = setup.experiment.holdout
    if held < MOST_HELD_OUT:
        return None
    return Caution(
        f"holdout: {held:.0%} of the units get the control whatever is learned, and the policy learns from the rest alone"
    )


def too_indifferent(setup: Setup) -> Caution | None:
    """Differences that people would want are taken for none."""
    indifference = setup.experiment.promotion_.indifference
    if not setup.learns or indifference < MOST_INDIFFERENCE:
        return None
    return Caution(
        f"promotion.indifference: arms whose rewards differ by less than {indifference:.0%} of the reward's range count as alike, and "
        "the experiment ends without a winner",
        grave=indifference >= MOST_HELD_OUT,
    )


def compares_nothing(setup: Setup) -> Caution | None:
    """A canary that leaves the control without traffic at once."""
    canary = setup.experiment.canary_
    if not setup.is_draft or canary is None or canary.steps[0] < 1.0:
        return None
    return Caution(
        "canary.steps: the first step gives the challenger all the units, so it is never compared with the control",
        True,
    )


def careless(setup: Setup) -> Caution | None:
    """A chance of a false promotion that nobody wants."""
    rule = setup.experiment.promotion_
    if not setup.learns or rule.alpha <= MOST_ALPHA:
        return None
    return Caution(
        f"promotion.alpha: with a chance of up to {rule.alpha:.0%} an arm is told to be the best that is not",
        grave=True,
    )


def misspelt(setup: Setup) -> Caution | None:
    """A guardrail on what is nearly the name of a measured metric: it would watch what nobody
    sends."""
    known = [
        ERROR_RATE,
        *(f"latency_{quantile}_ms" for quantile in ("p50", "p90", "p95", "p99")),
        setup.experiment.reward_.metric,
    ]
    for i, rail in enumerate(setup.experiment.guardrails_):
        if rail.metric in known or latency_quantile(rail.metric) is not None:
            continue
        meant = get_close_matches(rail.metric, known, n=1, cutoff=0.8)
        if meant:
            return Caution(
                f"guardrails[{i}].metric: {rail.metric} is watched only if somebody sends it as feedback; {meant[0]} may be meant",
                grave=True,
            )
    return None


FUTILE: tuple[Callable[[Setup], Caution | None], ...] = (
    alike,
    starved,
    too_many_rewards,
    too_long_even,
    not_before,
    late_rewards,
    canary_takes_long,
    starts_at_once,
    ends_too_soon,
    unguarded,
    few_copies,
    mostly_held_out,
    too_indifferent,
    compares_nothing,
    careless,
    misspelt,
)
