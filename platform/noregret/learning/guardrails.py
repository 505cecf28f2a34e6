"""Guardrails: limits on a metric of each arm, and what is done when an arm is shown to pass one.

A limit is held by evidence that may be looked at each second: an arm within its limit is acted on with probability at most `alpha`,
however long the experiment goes on. An error rate and a latency's quantile are proportions (of failures; of decisions slower than the
limit), and their counts are enough; other metrics are judged by bets on their values (bandits.inference.betting). What was never
heard is within no limit: it is told as unheard.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import structlog
from django.db import transaction

from bandits.inference import betting
from bandits.inference.betting import Scale, Wagers, failure_wagers
from bandits.inference.limits import highest_proportion, proportion_evidence, proportion_wagers
from noregret.access import audit
from noregret.access.models import AuditEntry
from noregret.experiments.arms import set_enabled
from noregret.experiments.document import ERROR_RATE, Guardrail, latency_quantile, with_default_guardrails
from noregret.experiments.errors import Conflict
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.experiments.rewards import reward_model
from noregret.experiments.transitions import move
from serving.ledger import latency

from . import contextual, metric_values
from .metric_values import NO_FAILURES
from .models import ArmStatistics

log = structlog.get_logger(__name__)

ACTOR = "guardrail"
# Values are summed anew at each look: what took long is looked at more rarely, so that no experiment takes the learner's time.
LONG_SECONDS = 0.5
REST = 20.0
# A challenger that has all the traffic has no control beside it. Failing more often than not is too often whatever the control did.
MOST_FAILURES = 0.5

State = Literal["unheard", "waiting", "unjudged", "within", "beyond", "passed"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How an arm stands to a guardrail. `beyond`: its figure is past the limit, and it is not shown; `more`: values that it then needs."""

    guardrail: Guardrail
    arm: Arm
    state: State
    count: float
    mean: float | None
    reason: str
    evidence: float | None = None
    more: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def needed(self) -> float:
        return 1.0 / self.guardrail.alpha


def guardrails_of(experiment: Experiment) -> list[Guardrail]:
    """An experiment's guardrails; a canary that was made before it got one on errors by itself has it too."""
    return with_default_guardrails(experiment.strategy, msgspec.convert(experiment.guardrails, list[Guardrail]))


def judge(experiment: Experiment, arms: list[Arm], guardrail: Guardrail) -> Iterator[Judgement]:
    """A guardrail against every arm that it can act on."""
    rows = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__in=arms)}
    control = next((arm for arm in arms if arm.is_control), None)
    # The control is what an arm is rolled back to: only a pause can help against it.
    judged = [arm for arm in arms if arm.enabled and (not arm.is_control or _watches_control(guardrail))]
    if guardrail.metric == ERROR_RATE and guardrail.versus == "control":
        for arm in judged:
            yield _of_excess_failures(experiment, guardrail, arm, control, rows)
    elif guardrail.metric == ERROR_RATE or latency_quantile(guardrail.metric) is not None:
        for arm in judged:
            yield _of_proportion(guardrail, arm, rows[arm.pk])
    else:
        yield from _of_values(experiment, guardrail, judged, control)


def _watches_control(guardrail: Guardrail) -> bool:
    return guardrail.action == "pause" and guardrail.versus == "limit"


def _of_proportion(guardrail: Guardrail, arm: Arm, row: ArmStatistics) -> Judgement:
    """Failures, or decisions slower than the limit, among all of the arm's."""
    quantile = latency_quantile(guardrail.metric)
    limit = guardrail.max if quantile is None else 1.0 - quantile
    assert limit is not None, "checked with the document"
    n = float(row.decisions)
    bad = float(row.failures if quantile is None else latency.over(row.latencies, guardrail.max or 0.0))
    if n < guardrail.min_decisions:
        return _too_few(guardrail, arm, n, bad / n if n else None, "decisions")
    evidence = min(proportion_evidence(bad, n, limit), 1e300)
    more = None
    if 0.0 < limit < 1.0:
        more = proportion_wagers(bad, n, limit).more(n, 1.0 / guardrail.alpha)
    if quantile is None:
        said = f"{arm.name} failed in {bad:,.0f} of {n:,.0f} decisions, where {_percent(limit)} may"
    else:
        slow = f"{bad:,.0f} of {n:,.0f} decisions of {arm.name} took more than {guardrail.max:g} ms"
        said = f"{slow}, where {limit:.0%} may"
    return _judged(guardrail, arm, n, bad / n, said, evidence, more, past=bad / n > limit, limit=guardrail.max)


def _of_excess_failures(
    experiment: Experiment, guardrail: Guardrail, arm: Arm, control: Arm | None, rows: dict[int, ArmStatistics]
) -> Judgement:
    """Failures beside the control's, within strata; and of a canary that has all the traffic, beside what the control's were."""
    row = rows[arm.pk]
    n = float(row.decisions)
    rate = row.failures / n if n else None
    if control is None or contextual.policy_of(experiment) is not None:
        return _not_comparable(guardrail, arm, n, rate, control)
    if rate is None or n < guardrail.min_decisions:
        return _too_few(guardrail, arm, n, rate, "decisions")
    margin, alpha = guardrail.max or 0.0, guardrail.alpha
    # Without a failure nothing can have been won, and nothing has to be counted.
    counts = metric_values.failures_beside(arm, control, _changes(experiment)) if row.failures else NO_FAILURES
    beside = failure_wagers(counts.own_failed, counts.own, counts.control_failed, counts.control, margin)
    evidence, more = beside.evidence, beside.more(n, 1.0 / alpha)
    if experiment.strategy == Experiment.Strategy.CANARY:
        alone = counts.control == 0.0
        most = highest_proportion(float(counts.control_failed.sum()), float(counts.control.sum()), alpha / 4.0)
        limit = max(min(most + margin, MOST_FAILURES), 1e-9)
        after = proportion_wagers(float(counts.own_failed[alone].sum()), float(counts.own[alone].sum()), limit)
        # Half of alpha for what was decided side by side; a quarter each for what the control did, and for what the arm did without it.
        evidence = max(beside.evidence / 2.0, after.evidence / 4.0)
    base = rows[control.pk]
    said = _side(
        f"error_rate of {arm.name} against the control's",
        evidence >= 1.0 / alpha,
        f"more than {margin:g}",
        f"it failed in {row.failures:,} of {n:,.0f} decisions, {control.name} in {base.failures:,} of {base.decisions:,}",
    )
    base_rate = base.failures / base.decisions if base.decisions else 0.0
    past = not rate <= base_rate + margin
    figures = {"control_count": base.decisions, "control_mean": base_rate if base.decisions else None}
    return _judged(guardrail, arm, n, rate, said, evidence, more, past=past, limit=guardrail.max, figures=figures)


def _changes(experiment: Experiment) -> list[Any]:
    """When the split between two arms changed: no stratum reaches over such an instant."""
    actions = ["experiment.started", "experiment.paused", "experiment.resumed", "experiment.advanced"]
    at = AuditEntry.objects.filter(experiment=experiment.name, action__in=actions).values_list("at", flat=True)
    return list(at) or [experiment.created_at]


def _of_values(
    experiment: Experiment, guardrail: Guardrail, arms: list[Arm], control: Arm | None
) -> Iterator[Judgement]:
    minimum, maximum = _bounds(experiment, guardrail)
    values = metric_values.values_of(experiment, guardrail.metric, minimum, maximum)
    sides = [(sign, sign * limit) for sign, limit in ((1.0, guardrail.max), (-1.0, guardrail.min)) if limit is not None]
    for arm in arms:
        own = values.get(arm.pk)
        if own is None:
            said = f"nobody has sent {guardrail.metric} for {arm.name}"
            yield Judgement(guardrail, arm, "unheard", 0.0, None, said)
        elif guardrail.versus == "control" and (control is None or contextual.policy_of(experiment) is not None):
            yield _not_comparable(guardrail, arm, own.count, own.mean, control)
        elif own.count < guardrail.min_decisions:
            yield _too_few(guardrail, arm, own.count, own.mean, "values")
        elif guardrail.versus == "control" and control is not None:
            yield _of_difference(experiment, guardrail, arm, control, values, sides)
        else:
            yield _of_mean(experiment, guardrail, arm, values, sides)


def _bounds(experiment: Experiment, guardrail: Guardrail) -> tuple[float | None, float | None]:
    """What a value is known to be at least and at most: as the guardrail declares it, or the reward where that is the metric."""
    minimum, maximum = guardrail.minimum, guardrail.maximum
    if guardrail.metric == experiment.reward["metric"]:
        reward = reward_model(experiment)
        low, high = (0.0, 1.0) if reward.kind == "binary" else (reward.minimum, reward.maximum)
        if low is None and reward.kind == "count":
            low = 0.0
        minimum, maximum = low if minimum is None else minimum, high if maximum is None else maximum
    return minimum, maximum


def _of_mean(
    experiment: Experiment,
    guardrail: Guardrail,
    arm: Arm,
    values: dict[int, metric_values.Values],
    sides: list[tuple[float, float]],
) -> Judgement:
    own = values[arm.pk]
    minimum, maximum = _bounds(experiment, guardrail)
    lowest, highest = min(v.lowest for v in values.values()), max(v.highest for v in values.values())
    bets: list[_Bet] = []
    for sign, limit in sides:
        # Downwards everything is mirrored: the mean of the negatives is more than the limit's.
        ends = (lowest, highest, minimum) if sign > 0 else (-highest, -lowest, None if maximum is None else -maximum)
        far = betting.reach(limit, *ends)
        if far is None:
            continue
        won = metric_values.wagers_above(
            experiment, guardrail.metric, limit, far, sign=sign, minimum=minimum, maximum=maximum
        )
        bets.append(_Bet(sign, limit, sign * own.mean, won[arm.pk]))
    subject, figures = f"the mean of {guardrail.metric} for {arm.name}", f"{own.mean:.4g} of {own.count:,.0f} values"
    return _best(guardrail, arm, own.count, own.mean, (subject, figures), bets, len(sides))


def _of_difference(
    experiment: Experiment,
    guardrail: Guardrail,
    arm: Arm,
    control: Arm,
    values: dict[int, metric_values.Values],
    sides: list[tuple[float, float]],
) -> Judgement:
    own, base = values[arm.pk], values.get(control.pk)
    if base is None or base.count < guardrail.min_decisions:
        heard = 0.0 if base is None else base.count
        said = (
            f"{control.name} has {heard:,.0f} of the {guardrail.min_decisions:,} values of {guardrail.metric} asked for"
        )
        return Judgement(guardrail, arm, "waiting" if heard else "unheard", own.count, own.mean, said)
    minimum, maximum = _bounds(experiment, guardrail)
    middle = (own.mean * own.count + base.mean * base.count) / (own.count + base.count)
    scale = Scale.seen(middle, min(own.lowest, base.lowest), max(own.highest, base.highest), minimum, maximum)
    bets: list[_Bet] = []
    count, found = 0.0, own.mean - base.mean
    for sign, limit in sides if scale is not None else ():
        assert scale is not None
        seen = scale if sign > 0 else scale.mirrored()
        compared = metric_values.difference(experiment, guardrail.metric, arm, control, limit, seen, sign=sign)
        if compared is None or min(compared.own, compared.control) < guardrail.min_decisions:
            # Of units that keep their arm only the first decision counts.
            heard = 0.0 if compared is None else min(compared.own, compared.control)
            said = (
                f"{heard:,.0f} of the {guardrail.min_decisions:,} values of {guardrail.metric} that can be compared, "
                f"one a unit, for {arm.name} and {control.name}"
            )
            return Judgement(guardrail, arm, "waiting", heard, own.mean, said)
        count, found = compared.own + compared.control, compared.difference
        bets.append(_Bet(sign, limit, sign * found, compared.wagers))
    subject = f"{guardrail.metric} of {arm.name} against the control's"
    difference = f"{found:+.4g} at the same times, of {count:,.0f} values"
    judged = _best(guardrail, arm, count, own.mean, (subject, difference), bets, len(sides))
    judged.figures.update({"control_count": base.count, "control_mean": base.mean, "difference": found})
    return judged


@dataclass(frozen=True, slots=True)
class _Bet:
    """One side of a guardrail: that the mean, or the difference, is more than the limit, both times `sign`."""

    sign: float
    limit: float
    figure: float
    wagers: Wagers


def _best(
    guardrail: Guardrail, arm: Arm, count: float, mean: float, said_of: tuple[str, str], bets: list[_Bet], sides: int
) -> Judgement:
    """The side that is nearer to being shown; with two limits each has its part of alpha."""
    subject, figures = said_of
    if not bets:
        said = (
            f"{subject}: the values never varied, so nothing is known of what they can be; declare minimum and maximum"
        )
        return Judgement(guardrail, arm, "unjudged", count, mean, said)
    past = [each for each in bets if not each.figure <= each.limit]
    bet = max(past or bets, key=lambda each: each.wagers.evidence)
    evidence = bet.wagers.evidence / sides
    side, limit = ("more" if bet.sign > 0 else "less"), bet.sign * bet.limit
    more = bet.wagers.more(count, sides / guardrail.alpha)
    said = _side(subject, evidence >= 1.0 / guardrail.alpha, f"{side} than {limit:g}", figures)
    return _judged(guardrail, arm, count, mean, said, evidence, more, past=bool(past), limit=limit)


def _side(subject: str, shown: bool, side: str, figures: str) -> str:
    return f"{subject} is {'shown' if shown else 'not shown'} to be {side}: {figures}"


def _judged(
    guardrail: Guardrail,
    arm: Arm,
    count: float,
    mean: float,
    said: str,
    evidence: float,
    more: float | None,
    *,
    past: bool,
    limit: float | None,
    figures: dict[str, Any] | None = None,
) -> Judgement:
    needed = 1.0 / guardrail.alpha
    shown = {"metric": guardrail.metric, "arm": arm.name, "count": count, "mean": mean, "alpha": guardrail.alpha}
    shown |= {"limit": limit, "evidence": evidence, **(figures or {})}
    if evidence >= needed:
        return Judgement(guardrail, arm, "passed", count, mean, said, evidence, None, shown)
    if past:
        wants = "too early to say how many more it needs" if more is None else f"needs about {_rounded(more):,} more"
        said = f"{said}; evidence {evidence:.2g} of the {needed:g} needed, {wants}"
    return Judgement(
        guardrail, arm, "beyond" if past else "within", count, mean, said, evidence, more if past else None, shown
    )


def _too_few(guardrail: Guardrail, arm: Arm, count: float, mean: float | None, of: str) -> Judgement:
    said = f"{arm.name} has {count:,.0f} of the {guardrail.min_decisions:,} {of} asked for"
    return Judgement(guardrail, arm, "waiting" if count else "unheard", count, mean, said)


def _not_comparable(guardrail: Guardrail, arm: Arm, count: float, mean: float | None, control: Arm | None) -> Judgement:
    said = (
        "there is no control" if control is None else "the policy chooses by the request: arms get different requests"
    )
    return Judgement(guardrail, arm, "unjudged", count, mean, said)


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or share == 0 else f"{share:.2g}"


def _rounded(value: float) -> int:
    """To one figure, upwards: a forecast promises no more."""
    size = 10 ** max(len(str(int(value))) - 1, 0)
    return int(-(-value // size) * size)


_shown: dict[tuple[int, int], tuple[float, list[dict[str, Any]]]] = {}
"""What took long to judge, by experiment and place, and until when it is shown again as it was."""


def states(experiment: Experiment, arms: list[Arm]) -> list[dict[str, Any]]:
    """Every guardrail with how each arm stands to it, for the results."""
    found: list[dict[str, Any]] = []
    for place, guardrail in enumerate(guardrails_of(experiment)):
        began = time.monotonic()
        until, judged = _shown.get((experiment.pk, place), (0.0, []))
        if began >= until:
            judged = [_told(judgement) for judgement in judge(experiment, arms, guardrail)]
            took = time.monotonic() - began
            if took > LONG_SECONDS:
                _shown[experiment.pk, place] = (time.monotonic() + REST * took, judged)
        found.append(
            {
                "metric": guardrail.metric,
                "action": guardrail.action,
                "versus": guardrail.versus,
                "max": guardrail.max,
                "min": guardrail.min,
                "arms": judged,
            }
        )
    return found


def _told(judgement: Judgement) -> dict[str, Any]:
    return {
        "name": judgement.arm.name,
        "state": judgement.state,
        "count": int(judgement.count),
        "mean": judgement.mean,
        "evidence": judgement.evidence,
        "needed": judgement.needed,
        "more": None if judgement.more is None else _rounded(judgement.more),
        "reason": judgement.reason,
    }


_resting: dict[tuple[int, int], float] = {}
"""Until when, by the process's clock, the guardrails of experiments (id, place) are not looked at."""


def act(experiment: Experiment) -> bool:
    """Do what a guardrail says of the first arm that passed it; True if something was done.

    One that can't be judged keeps no other from acting; then what it raised is raised, for nothing else is to be done beside it.
    """
    arms = list(experiment.arms.select_related("model", "experiment").order_by("position"))
    problems: list[Exception] = []
    for place, guardrail in enumerate(guardrails_of(experiment)):
        began = time.monotonic()
        if began < _resting.get((experiment.pk, place), 0.0):
            continue
        try:
            passed = [judgement for judgement in judge(experiment, arms, guardrail) if judgement.state == "passed"]
        except Exception as error:
            problems.append(error)
            continue
        took = time.monotonic() - began
        if took > LONG_SECONDS:
            _resting[experiment.pk, place] = time.monotonic() + REST * took
        if any(_act_on(experiment, breach) for breach in passed):
            return True
    if problems:
        raise ExceptionGroup("guardrails that can't be judged", problems)
    return False


def _act_on(experiment: Experiment, breach: Judgement) -> bool:
    try:
        with transaction.atomic():
            endpoint = Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
            current = Experiment.objects.select_related("endpoint").get(pk=experiment.pk)
            if current.status != Experiment.Status.RUNNING:
                return False
            _do(current, breach)
            audit.record(
                actor=ACTOR,
                action="guardrail.acted",
                endpoint=endpoint.name,
                experiment=experiment.name,
                model=breach.arm.model.model,
                reason=breach.reason,
                details={"action": breach.guardrail.action, **breach.figures},
            )
    except Conflict as conflict:
        log.info("guardrail not acted on", experiment=experiment.name, why=str(conflict))
        return False
    log.warning("guardrail acted", experiment=experiment.name, arm=breach.arm.name, reason=breach.reason)
    return True


def _do(experiment: Experiment, breach: Judgement) -> None:
    action, figures = breach.guardrail.action, breach.figures
    if action == "disable_arm":
        others = experiment.arms.filter(enabled=True).exclude(pk=breach.arm.pk)
        if others.exists():
            set_enabled(breach.arm, False, actor=ACTOR, reason=breach.reason, details={"figures": figures})
            return
        action = "pause"  # nobody would be left to serve: the champion does
    if action == "pause":
        move(experiment, "pause", actor=ACTOR, reason=breach.reason, evidence=figures)
    else:
        move(experiment, "rollback", actor=ACTOR, reason=breach.reason, evidence=figures)
