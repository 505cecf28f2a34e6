"""Guardrails: limits on a metric of each arm, and how each arm stands to them. What is done about
it is noregret.steering.guardrails.

A limit is held by evidence that may be looked at each second: an arm within its limit is acted on
with probability at most `alpha`, however long the experiment goes on. An error rate and a latency's
quantile are proportions (of failures; of decisions slower than the limit), and their counts are
enough; other metrics are judged by bets on their values (bandits.inference.betting). What was never
heard is within no limit: it is told as unheard.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from bandits.inference.betting import Wagers
from bandits.inference.limits import highest_proportion, proportion_evidence, proportion_wagers
from bandits.inference.strata import FailureStrata, ValueStrata
from noregret.experiments.document import ERROR_RATE, Guardrail, latency_quantile
from noregret.experiments.models import Arm, Experiment
from noregret.learning.models import ArmStatistics
from noregret.learning.shown.numbers import plain
from serving.ledger import latency

from . import metric_values
from .metric_values import Values
from .units import limit_told, measured_told
from .watches import Watch, watch_of

# Buckets that are open yet are read at each look: what took long is looked at more rarely, so that
# no experiment takes the learner's time.
LONG_SECONDS = 0.5
REST = 20.0
# A challenger that has all the traffic has no control beside it. Failing more often than not is too
# often whatever the control did.
MOST_FAILURES = 0.5

State = Literal["unheard", "waiting", "unjudged", "within", "beyond", "passed"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How an arm stands to a guardrail. `beyond`: its figure is past the limit, and it is not
    shown; `more`: values that it then needs."""

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


def judge(experiment: Experiment, arms: list[Arm], guardrail: Guardrail) -> Iterator[Judgement]:
    """A guardrail against every arm that it can act on."""
    rows = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__in=arms)}
    control = next((arm for arm in arms if arm.is_control), None)
    # The control is what an arm is rolled back to: only a pause can help against it.
    judged = [arm for arm in arms if arm.enabled and (not arm.is_control or _watches_control(guardrail))]
    watch = watch_of(experiment, guardrail)
    if guardrail.metric == ERROR_RATE and guardrail.versus == "control":
        yield from _of_excess_failures(experiment, guardrail, watch, judged, control, rows)
    elif guardrail.metric == ERROR_RATE or latency_quantile(guardrail.metric) is not None:
        for arm in judged:
            yield _of_proportion(guardrail, arm, rows[arm.pk])
    else:
        assert watch is not None, "a metric's values are watched"
        yield from _of_values(experiment, guardrail, watch, judged, control)


def lacking(experiment: Experiment, guardrail: Guardrail, arm: Arm, control: Arm | None) -> str:
    """What is still lacking to judge an arm by a guardrail, in words; empty where nothing is. By
    sums alone. `control`: None where it gets no more traffic, and is not waited for."""
    least, row = guardrail.min_decisions, ArmStatistics.objects.get(arm=arm)
    if guardrail.metric == ERROR_RATE:
        count = row.calls if guardrail.versus == "control" else row.decisions
        return _so_few(arm, count, least, "decisions")
    if latency_quantile(guardrail.metric) is not None:
        return _so_few(arm, sum(row.latencies), least, "decisions")
    watch = watch_of(experiment, guardrail)
    assert watch is not None, "a metric's values are watched"
    counts = metric_values.counts_of(experiment, watch)
    if arm.pk not in counts:
        return f"nobody has sent {guardrail.metric} for {arm.name}"
    beside = control if watch.kind == "difference" else None
    return _so_few(arm, counts[arm.pk], least, "values") or (
        "" if beside is None else _so_few(beside, counts.get(beside.pk, 0), least, "values")
    )


def _so_few(arm: Arm, count: float, least: int, of: str) -> str:
    return "" if count >= least else f"{arm.name} has {count:,.0f} of the {least:,} {of} asked for"


def _watches_control(guardrail: Guardrail) -> bool:
    return guardrail.action == "pause" and guardrail.versus == "limit"


def _of_proportion(guardrail: Guardrail, arm: Arm, row: ArmStatistics) -> Judgement:
    """Failures among all of the arm's decisions, or those slower than the limit among all that were
    not answered from the cache."""
    quantile = latency_quantile(guardrail.metric)
    limit = guardrail.max if quantile is None else 1.0 - quantile
    assert limit is not None, "checked with the document"
    n = float(row.decisions if quantile is None else sum(row.latencies))
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
        slow = f"{bad:,.0f} of {n:,.0f} decisions of {arm.name} took more than {plain(guardrail.max or 0.0)} ms"
        said = f"{slow}, where {limit:.0%} may"
    return _judged(guardrail, arm, n, bad / n, said, evidence, more, past=bad / n > limit, limit=guardrail.max)


def _of_excess_failures(
    experiment: Experiment,
    guardrail: Guardrail,
    watch: Watch | None,
    arms: list[Arm],
    control: Arm | None,
    rows: dict[int, ArmStatistics],
) -> Iterator[Judgement]:
    """Failures beside the control's, within strata; and of a canary that has all the traffic,
    beside what the control's were."""
    # Without a failure nothing can have been won, and nothing has to be read.
    failed = any(rows[arm.pk].failures for arm in arms)
    strata = metric_values.failures_of(experiment, watch) if watch is not None and failed else {}
    for arm in arms:
        row = rows[arm.pk]
        n = float(row.calls)
        rate = row.failures / n if n else None
        if control is None or watch is None:
            yield _not_comparable(guardrail, arm, n, rate, control)
        elif rate is None or n < guardrail.min_decisions:
            yield _too_few(guardrail, arm, n, rate, "decisions")
        elif strata is None:
            yield _being_summed(guardrail, arm, n, rate)
        else:
            beside = strata.get(arm.pk, FailureStrata()) if row.failures else FailureStrata()
            yield _of_failures_beside(experiment, guardrail, (arm, row), (control, rows[control.pk]), beside)


def _of_failures_beside(
    experiment: Experiment,
    guardrail: Guardrail,
    own: tuple[Arm, ArmStatistics],
    control: tuple[Arm, ArmStatistics],
    beside: FailureStrata,
) -> Judgement:
    (arm, row), (other, base) = own, control
    n = float(row.calls)
    rate = row.failures / n
    margin, alpha = guardrail.max or 0.0, guardrail.alpha
    evidence, more = beside.wagers.evidence, beside.wagers.more(n, 1.0 / alpha)
    if experiment.strategy == Experiment.Strategy.CANARY:
        most = highest_proportion(beside.control_failed, beside.control, alpha / 4.0)
        limit = max(min(most + margin, MOST_FAILURES), 1e-9)
        after = proportion_wagers(*beside.alone, limit)
        # Half of alpha for what was decided side by side; a quarter each for what the control did,
        # and for what the arm did without it.
        evidence = max(beside.wagers.evidence / 2.0, after.evidence / 4.0)
    said = _side(
        f"error_rate of {arm.name} against the control's",
        evidence >= 1.0 / alpha,
        f"more than {limit_told(guardrail.metric, margin, experiment.reward_, beside=True)}",
        f"it failed in {row.failures:,} of {n:,.0f} decisions, {other.name} in {base.failures:,} of {base.calls:,}",
    )
    base_rate = base.failures / base.calls if base.calls else 0.0
    past = not rate <= base_rate + margin
    figures = {"control_count": base.calls, "control_mean": base_rate if base.calls else None}
    return _judged(guardrail, arm, n, rate, said, evidence, more, past=past, limit=guardrail.max, figures=figures)


def _of_values(
    experiment: Experiment, guardrail: Guardrail, watch: Watch, arms: list[Arm], control: Arm | None
) -> Iterator[Judgement]:
    values = metric_values.values_of(experiment, watch)
    for arm in arms:
        if values is None:
            yield _being_summed(guardrail, arm, 0.0, None)
            continue
        own = values.sums.get(arm.pk)
        if own is None:
            said = f"nobody has sent {guardrail.metric} for {arm.name}"
            yield Judgement(guardrail, arm, "unheard", 0.0, None, said)
        elif guardrail.versus == "control" and (control is None or watch.kind != "difference"):
            yield _not_comparable(guardrail, arm, own.count, own.mean, control)
        elif own.count < guardrail.min_decisions:
            yield _too_few(guardrail, arm, own.count, own.mean, "values")
        elif guardrail.versus == "control" and control is not None:
            yield _of_difference(experiment, guardrail, watch, arm, control, values)
        else:
            yield _of_mean(experiment, guardrail, watch, arm, values)


def _of_mean(experiment: Experiment, guardrail: Guardrail, watch: Watch, arm: Arm, values: Values) -> Judgement:
    reward = experiment.reward_
    own = values.sums[arm.pk]
    sides = _sides(guardrail)
    bets: list[_Bet] = []
    for sign, limit in sides:
        wagers = values.wagers(watch, arm.pk, sign)
        if wagers is not None:
            bets.append(_Bet(sign, limit, sign * own.mean, wagers))
    subject = f"the mean of {guardrail.metric} for {arm.name}"

    def figures(limit: float) -> tuple[str, str]:
        measured = measured_told(guardrail.metric, own.mean, limit, reward, beside=False)
        allowed = limit_told(guardrail.metric, limit, reward, beside=False)
        return allowed, f"{measured} of {own.count:,.0f} values"

    return _best(guardrail, arm, own.count, own.mean, (subject, figures), bets, len(sides))


def _of_difference(
    experiment: Experiment, guardrail: Guardrail, watch: Watch, arm: Arm, control: Arm, values: Values
) -> Judgement:
    reward = experiment.reward_
    own, base = values.sums[arm.pk], values.sums.get(control.pk)
    if base is None or base.count < guardrail.min_decisions:
        heard = 0.0 if base is None else base.count
        said = (
            f"{control.name} has {heard:,.0f} of the {guardrail.min_decisions:,} values of {guardrail.metric} asked for"
        )
        return Judgement(guardrail, arm, "waiting" if heard else "unheard", own.count, own.mean, said)
    compared = values.compared.get(arm.pk, ValueStrata())
    found, heard = compared.difference, min(compared.own, compared.control)
    if found is None or heard < guardrail.min_decisions:
        # Of units that keep their arm only the first decision counts.
        said = (
            f"{heard:,.0f} of the {guardrail.min_decisions:,} values of {guardrail.metric} that can be compared, "
            f"one a unit, for {arm.name} and {control.name}"
        )
        return Judgement(guardrail, arm, "waiting", heard, own.mean, said)
    sides = _sides(guardrail)
    bounded = watch.sides.minimum is not None and watch.sides.maximum is not None
    vary = bounded or min(own.lowest, base.lowest) < max(own.highest, base.highest)
    bets = [
        _Bet(sign, limit, sign * found, compared.above if sign > 0 else compared.below) for sign, limit in sides if vary
    ]
    count = compared.own + compared.control
    subject = f"{guardrail.metric} of {arm.name} against the control's"

    def figures(limit: float) -> tuple[str, str]:
        measured = measured_told(guardrail.metric, found, limit, reward, beside=True)
        allowed = limit_told(guardrail.metric, limit, reward, beside=True)
        return allowed, f"{'+' if found > 0 else ''}{measured} at the same times, of {count:,.0f} values"

    judged = _best(guardrail, arm, count, own.mean, (subject, figures), bets, len(sides))
    judged.figures.update({"control_count": base.count, "control_mean": base.mean, "difference": found})
    return judged


def _sides(guardrail: Guardrail) -> list[tuple[float, float]]:
    """(sign, sign times the limit) of each limit: downwards everything is mirrored."""
    limits = ((1.0, guardrail.max), (-1.0, guardrail.min))
    return [(sign, sign * limit) for sign, limit in limits if limit is not None]


@dataclass(frozen=True, slots=True)
class _Bet:
    """One side of a guardrail: that the mean, or the difference, is more than the limit, both times
    `sign`."""

    sign: float
    limit: float
    figure: float
    wagers: Wagers


def _best(
    guardrail: Guardrail,
    arm: Arm,
    count: float,
    mean: float,
    said_of: tuple[str, Callable[[float], tuple[str, str]]],
    bets: list[_Bet],
    sides: int,
) -> Judgement:
    """The side that is nearer to being shown; with two limits each has its part of alpha.
    `said_of`: what is judged, and a limit with the figures beside it, in one unit."""
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
    allowed, measured = figures(limit)
    said = _side(subject, evidence >= 1.0 / guardrail.alpha, f"{side} than {allowed}", measured)
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
        wants = "too early to say how many more it needs" if more is None else f"needs about {rounded(more):,} more"
        said = f"{said}; evidence {evidence:.2g} of the {needed:g} needed, {wants}"
    return Judgement(
        guardrail, arm, "beyond" if past else "within", count, mean, said, evidence, more if past else None, shown
    )


def _too_few(guardrail: Guardrail, arm: Arm, count: float, mean: float | None, of: str) -> Judgement:
    said = _so_few(arm, count, guardrail.min_decisions, of)
    return Judgement(guardrail, arm, "waiting" if count else "unheard", count, mean, said)


def _not_comparable(guardrail: Guardrail, arm: Arm, count: float, mean: float | None, control: Arm | None) -> Judgement:
    said = (
        "there is no control" if control is None else "the policy chooses by the request: arms get different requests"
    )
    return Judgement(guardrail, arm, "unjudged", count, mean, said)


def _being_summed(guardrail: Guardrail, arm: Arm, count: float, mean: float | None) -> Judgement:
    said = f"what was there of {guardrail.metric} before it was watched is being summed"
    return Judgement(guardrail, arm, "waiting", count, mean, said)


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or share == 0 else f"{share:.2g}"


def rounded(value: float) -> int:
    """To one figure, upwards: a forecast promises no more."""
    size = 10 ** max(len(str(int(value))) - 1, 0)
    return int(-(-value // size) * size)
