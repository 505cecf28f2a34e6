"""Guardrails that the champion itself has passed: whatever is like it would be acted on."""

from collections.abc import Iterator
from typing import NamedTuple

from noregret.experiments.document import ERROR_RATE, Guardrail, latency_quantile
from noregret.learning.baseline_figures import BaselineFigures
from noregret.learning.models import ArmStatistics
from noregret.learning.shown.latencies import Latency
from noregret.learning.shown.numbers import against, plain

from .setups import Caution, Setup

LEAST_SEEN = 10
"""Of fewer decisions, or values, nothing is said against a limit."""
FAR = 2.0
"""Times a limit: what is so far past it is no matter of chance."""


class Measured(NamedTuple):
    """What the champion has shown of a metric: a figure of so many, in words (`of`), and between
    which `ends` it surely is, where that is known."""

    figure: float
    seen: int
    of: str
    ends: tuple[float, float] | None = None


def passed_already(setup: Setup) -> Iterator[Caution]:
    """Of a draft, one for each limit that is passed."""
    if not setup.is_draft:
        return
    for i, rail in enumerate(setup.experiment.guardrails_):
        measured = None if rail.versus == "control" else _measured(setup, rail)
        if measured is None or measured.seen < LEAST_SEEN:
            continue
        for side, limit, sign in (("max", rail.max, 1.0), ("min", rail.min, -1.0)):
            if limit is not None and sign * measured.figure > sign * limit:
                yield _caution(setup, f"guardrails[{i}].{side}", rail, limit, measured)


def _caution(setup: Setup, field: str, rail: Guardrail, limit: float, measured: Measured) -> Caution:
    most = "at most" if field.endswith("max") else "at least"
    allowed, shown = _in_words(rail.metric, limit, limit), _in_words(rail.metric, measured.figure, limit)
    champion = setup.experiment.endpoint.champion.model
    return Caution(
        f"{field}: the guardrail on {rail.metric} allows {most} {allowed}, and {champion}, the champion, has {shown} "
        f"({measured.of}): an arm that is only as good as it is past the limit from the start",
        grave=_is_far(rail, limit, measured),
    )


def _is_far(rail: Guardrail, limit: float, measured: Measured) -> bool:
    if measured.ends is not None:
        return measured.ends[0] > limit if limit == rail.max else measured.ends[1] < limit
    return measured.figure > FAR * limit


def _in_words(metric: str, value: float, limit: float) -> str:
    if metric == ERROR_RATE:
        return f"{against(100.0 * value, 100.0 * limit)}%" if value != limit else plain(limit, percent=True)
    return f"{against(value, limit)}{' ms' if latency_quantile(metric) is not None else ''}"


def _measured(setup: Setup, rail: Guardrail) -> Measured | None:
    """Of the champion's baseline; of what it served in the last experiment where that is
    nothing."""
    before = setup.before
    quantile = latency_quantile(rail.metric)
    if before is not None and before.decisions >= LEAST_SEEN:
        return _of_baseline(before, rail, quantile)
    if quantile is None and rail.metric != ERROR_RATE:
        return None
    endpoint = setup.experiment.endpoint
    served = ArmStatistics.objects.filter(
        arm__experiment__endpoint=endpoint, arm__model=endpoint.champion_id, decisions__gte=LEAST_SEEN
    )
    last = served.order_by("-arm").first()
    if last is None:
        return None
    of = f"of {last.decisions:,} decisions in its last experiment"
    if quantile is not None:
        return _of_latency(Latency.of(last.latencies), quantile, last.calls, of)
    return Measured(last.failures / last.decisions, last.decisions, of)


def _of_baseline(before: BaselineFigures, rail: Guardrail, quantile: float | None) -> Measured | None:
    of = f"of {before.decisions:,} decisions without an experiment"
    if quantile is not None:
        return _of_latency(before.latency_ms, quantile, before.decisions, of)
    if rail.metric == ERROR_RATE:
        return None if before.error_rate is None else Measured(before.error_rate, before.decisions, of)
    if rail.metric != before.metric or before.mean is None:
        return None
    of = f"the mean of {before.rewards:,} values without an experiment"
    return Measured(before.mean, before.rewards, of, before.interval or (before.mean, before.mean))


def _of_latency(known: Latency, quantile: float, count: int, of: str) -> Measured | None:
    """Its nearest known percentile that is no greater: the asked one is not less than that."""
    told = {0.5: known.p50, 0.99: known.p99}
    nearest = max((each for each in told if each <= quantile), default=None)
    ms = None if nearest is None else told[nearest]
    if ms is None:
        return None
    return Measured(
        float(f"{ms:.3g}"), count, of if nearest == quantile else f"its p{100 * (nearest or 0.0):.0f}, {of}"
    )
