"""How often an arm that is exactly at its limit is acted on, and how soon one that is past it: the
table in docs/rollouts.md.

python -m benchmarks.guardrails --runs 300 > docs/tables/guardrails.md

Each run is looked at after every value from the 50th to the 20,000th (two arms: after every stratum
of 50).
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import signal, stats

from bandits.inference.betting import FAR, STAKES, failure_wagers, gains_above
from bandits.inference.limits import proportion_wagers
from bandits.inference.strata import Sides, ValueStrata
from bandits.statistics import Array

ALPHA = 0.05
VALUES = 20_000
FIRST = 50
STRATUM = 50
Draw = Callable[[np.random.Generator, int], Array]


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: how many of how many runs were acted on, and after how many values the middle
    one of them was."""

    subject: str
    setting: str
    acted: int
    runs: int
    median: float | None
    harmless: bool

    @property
    def upper_limit(self) -> float:
        """The upper end of the exact two-sided 95 % interval (Clopper & Pearson 1934)."""
        return float(stats.beta.ppf(0.975, self.acted + 1, self.runs - self.acted)) if self.acted < self.runs else 1.0


def _shown(logs: Array) -> Array:
    """Is the average of the bets (K, n) at 1 / alpha or more, at each count (n,)?"""
    shown: Array = np.logaddexp.reduce(logs, axis=0) - np.log(len(logs)) >= -np.log(ALPHA)
    return shown


def _first(shown: Array, least: int = FIRST) -> int | None:
    hits = np.flatnonzero(shown[least - 1 :])
    return None if len(hits) == 0 else int(hits[0]) + least


def first_of_proportion(bad: Array, limit: float) -> int | None:
    """After how many of `bad` (n,), each 0 or 1, a proportion is shown to be more than `limit`;
    None for never."""
    good, ill = (proportion_wagers(float(each), 1.0, limit).logs for each in (0, 1))
    counts = np.cumsum(bad)
    trials = np.arange(1, len(bad) + 1)
    return _first(_shown(np.outer(ill, counts) + np.outer(good, trials - counts)))


def first_of_mean(values: Array, limit: float, minimum: float | None = None) -> int | None:
    """After how many values their mean is shown to be more than `limit`. What is known of their
    reach grows with them."""
    if minimum is not None:
        far = np.full(len(values), limit - minimum)
    else:
        lowest, highest = np.minimum.accumulate(values), np.maximum.accumulate(values)
        farthest = limit - np.minimum(lowest, 0.0)
        far = FAR * np.where(farthest > 0.0, farthest, highest - limit)
        # As a Ladder has it.
        far = np.exp2(np.ceil(np.log2(np.where(lowest < highest, far, np.inf))))
    edges = [0, *(np.flatnonzero(far[1:] != far[:-1]) + 1), len(values)]
    shown = np.zeros(len(values), dtype=np.bool_)
    for start, end in itertools.pairwise(edges):
        if end < FIRST or not np.isfinite(far[start]):
            continue
        won = np.log1p(STAKES[:, None] * gains_above(values[:end], limit, float(far[start])))
        shown[start:end] = _shown(won[:, :start].sum(axis=1)[:, None] + np.cumsum(won[:, start:], axis=1))
    return _first(shown)


def first_of_difference(own: Array, values: Array, limit: float, bounds: tuple[float, float] | None) -> int | None:
    """After how many values of two arms their difference is shown to be more than `limit`, looked
    at after each stratum."""
    minimum, maximum = (None, None) if bounds is None else bounds
    sides, state = Sides(above=limit, minimum=minimum, maximum=maximum), ValueStrata()
    for start in range(0, len(values), STRATUM):
        stratum = slice(start, start + STRATUM)
        one_group = np.full(STRATUM, start)
        state = state.observe(own[stratum].astype(np.bool_), values[stratum], one_group, sides)
        if state.above.evidence >= 1.0 / ALPHA:
            return start + STRATUM
    return None


def first_of_failures(own: Array, failed: Array, limit: float) -> int | None:
    """After how many decisions of two arms the one is shown to fail more than the other, looked at
    after each stratum."""
    mine, bad = own.reshape(-1, STRATUM), failed.reshape(-1, STRATUM)
    counts = ((mine * bad).sum(1), mine.sum(1), ((1 - mine) * bad).sum(1), (1 - mine).sum(1))
    logs = np.array(
        [
            failure_wagers(*(np.array([each], dtype=np.float64) for each in stratum), limit).logs
            for stratum in zip(*counts, strict=True)
        ]
    )
    found = _first(_shown(np.cumsum(logs, axis=0).T), least=1)
    return None if found is None else found * STRATUM


SKEWED: dict[str, tuple[Draw, float, tuple[float | None, float | None]]] = {
    "normal(5, 1)": (lambda rng, n: rng.normal(5.0, 1.0, n), 5.0, (None, None)),
    "exponential(1)": (lambda rng, n: rng.exponential(1.0, n), 1.0, (0.0, None)),
    "lognormal, sigma 1.5": (lambda rng, n: rng.lognormal(0.0, 1.5, n), float(np.exp(1.125)), (0.0, None)),
    "lognormal, sigma 2": (lambda rng, n: rng.lognormal(0.0, 2.0, n), float(np.exp(2.0)), (0.0, None)),
    "1 % x 100": (lambda rng, n: 100.0 * (rng.random(n) < 0.01), 1.0, (0.0, 100.0)),
    "0.05 % x 1,000": (lambda rng, n: 1000.0 * (rng.random(n) < 0.0005), 0.5, (0.0, 1000.0)),
}
"""Values, their mean and their bounds."""


def _measured(
    subject: str,
    setting: str,
    runs: int,
    seed: int,
    one: Callable[[np.random.Generator], int | None],
    *,
    harmless: bool,
) -> Row:
    found = [one(np.random.default_rng([seed, run])) for run in range(runs)]
    after = [each for each in found if each is not None]
    return Row(subject, setting, len(after), runs, float(np.median(after)) if after else None, harmless)


def proportions(runs: int, seed: int) -> Iterator[Row]:
    """Error rates, and latencies that are slower than their percentile."""
    for rate in (0.001, 0.01, 0.1, 0.5):
        yield _measured(
            f"a rate at its limit, {rate:.1%}", "20,000 decisions", runs, seed,
            lambda rng, rate=rate: first_of_proportion(rng.random(VALUES) < rate, rate), harmless=True,
        )  # fmt: skip
    for times, horizon in ((2, 40_000), (3, 20_000)):
        yield _measured(
            f"limit 0.1 %, in truth {times / 10:.1f} %", f"{horizon:,} decisions", runs, seed + 1,
            lambda rng, times=times, horizon=horizon: first_of_proportion(rng.random(horizon) < 0.001 * times, 0.001),
            harmless=False,
        )  # fmt: skip
    for percent in (50, 95, 99):
        share = 1.0 - percent / 100.0
        yield _measured(
            f"latency p{percent} at its limit", "20 decisions a second, looked at each second", runs, seed + 2,
            lambda rng, share=share: first_of_proportion(rng.lognormal(0, 1, VALUES) > np.exp(-stats.norm.ppf(share)), share),
            harmless=True,
        )  # fmt: skip
    for correlation in (0.3, 0.5, 0.9):
        yield _measured(
            f"latency p99 at its limit, neighbours correlated by {correlation:g}",
            "20 decisions a second",
            runs,
            seed + 3,
            lambda rng, correlation=correlation: first_of_proportion(
                _correlated(rng, correlation) > stats.norm.isf(0.01), 0.01
            ),
            harmless=True,
        )


def _correlated(rng: np.random.Generator, correlation: float) -> Array:
    """Standard normal values, each correlated with the one before it."""
    noise = rng.normal(size=VALUES) * np.sqrt(1.0 - correlation**2)
    values: Array = signal.lfilter([1.0], [1.0, -correlation], noise)
    return values


def means(runs: int, seed: int) -> Iterator[Row]:
    """`max` and `min` on a mean, with and without declared bounds, at the limit and far past it."""
    for name, (draw, mean, (low, high)) in SKEWED.items():
        for side, sign, bound in (("max", 1.0, low), ("min", -1.0, None if high is None else -high)):
            for declared in (False, True) if bound is not None else (False,):
                minimum = bound if declared else None
                known = "bounds declared" if declared else "no bounds"
                for factor, harmless in ((1.0, True), (2.0**sign, True), (0.5**sign, False)):
                    if declared and factor != 1.0 and harmless:
                        continue
                    limit = sign * mean * factor
                    where = (
                        "at its limit"
                        if factor == 1.0
                        else f"{'inside' if harmless else 'past'} its limit by half or twice"
                    )
                    yield _measured(
                        f"{name}: mean {where}", f"{side}, {known}", runs if factor == 1.0 else max(runs // 4, 1), seed,
                        lambda rng, draw=draw, sign=sign, limit=limit, minimum=minimum: first_of_mean(
                            sign * draw(rng, VALUES), limit, minimum
                        ),
                        harmless=harmless,
                    )  # fmt: skip


def _adaptive(rng: np.random.Generator, values: int) -> tuple[Array, Array]:
    """Who served and the world's level at each decision: both drift, and a policy that follows the
    raw means of the past."""
    strata = values // STRATUM
    level = np.repeat(np.where(np.arange(strata) % 100 < 50, 1.0, 3.0), STRATUM)
    share = np.repeat(np.clip(0.5 + 0.4 * np.sin(np.arange(strata) / 100 * 2 * np.pi - np.pi), 0.05, 0.95), STRATUM)
    return (rng.random(values) < share).astype(np.float64), level


def differences(runs: int, seed: int) -> Iterator[Row]:
    """`versus: control`: fixed splits and shares that go with the drift; equal arms, and one that
    is worse."""

    def once(rng: np.random.Generator, share: float | None, worse: float, draw: Draw) -> int | None:
        if share is None:
            own, level = _adaptive(rng, VALUES)
        else:
            own, level = (rng.random(VALUES) < share).astype(np.float64), np.ones(VALUES)
        return first_of_difference(own, level * draw(rng, VALUES) + worse * own, 0.0, None)

    for name in ("normal(5, 1)", "lognormal, sigma 1.5", "1 % x 100"):
        draw = SKEWED[name][0]
        for split, share in (("half each", 0.5), ("5 % against 95 %", 0.05), ("shares that go with the drift", None)):
            yield _measured(
                f"{name}: equal arms", f"versus control, {split}", runs, seed,
                lambda rng, share=share, draw=draw: once(rng, share, 0.0, draw), harmless=True,
            )  # fmt: skip
    for split, share in (("half each", 0.5), ("shares that go with the drift", None)):
        yield _measured(
            "normal(5, 1): 0.5 more than the control", f"versus control, {split}", runs, seed,
            lambda rng, share=share: once(rng, share, 0.5, SKEWED["normal(5, 1)"][0]), harmless=False,
        )  # fmt: skip


def failures(runs: int, seed: int) -> Iterator[Row]:
    """A canary's own guardrail: 0.1 % more failures than the control."""

    def once(rng: np.random.Generator, share: float | None, base: float, more: float) -> int | None:
        own, level = (
            _adaptive(rng, VALUES)
            if share is None
            else ((rng.random(VALUES) < share).astype(np.float64), np.ones(VALUES))
        )
        return first_of_failures(own, (rng.random(VALUES) < base * level + more * own).astype(np.float64), 0.001)

    for base, more, harmless in (
        (0.0, 0.001, True),
        (0.01, 0.001, True),
        (0.1, 0.001, True),
        (0.0, 0.02, False),
        (0.01, 0.04, False),
    ):
        for split, share in (("5 % against 95 %", 0.05), ("half each", 0.5), ("shares that go with the drift", None)):
            yield _measured(
                f"fails in {base + more:.1%}, the control in {base:.1%}", f"error_rate versus control + 0.1 %, {split}", runs, seed,
                lambda rng, share=share, base=base, more=more: once(rng, share, base, more), harmless=harmless,
            )  # fmt: skip


def rows(runs: int, seed: int = 20_261_125) -> Iterator[Row]:
    """The whole table."""
    yield from proportions(runs, seed)
    yield from means(runs, seed + 10)
    yield from differences(max(runs // 2, 1), seed + 20)
    yield from failures(max(runs // 2, 1), seed + 30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    print("| what is guarded | how | acted on | upper 95 % limit where it is harmless | median values until then |")  # noqa: T201 - a table
    print("| --- | --- | --- | --- | --- |")  # noqa: T201
    for row in rows(parser.parse_args().runs):
        limit = f"{row.upper_limit:.1%}" if row.harmless else ""
        median = "" if row.median is None else f"{row.median:,.0f}"
        print(f"| {row.subject} | {row.setting} | {row.acted} of {row.runs} | {limit} | {median} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
