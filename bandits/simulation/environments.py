"""Seeded worlds to try policies in. Runs are simulated side by side, so every value has an axis of
runs first.

`drift=(period, amplitude)` adds a square wave to every arm's mean alike: +amplitude in the first
half of each period of so many pulls, -amplitude in the second. It changes no gap between arms,
except where means would leave their range and are cut off.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bandits import checks
from bandits.reward import RewardModel
from bandits.statistics import Array

Drift = tuple[int, float]


@dataclass(slots=True)
class Step:
    """What one pull meets: every arm's expected reward, (runs, K) or (1, K); features (runs, d) or
    None; arms that are new."""

    means: Array
    x: Array | None = None
    renewed: NDArray[np.bool_] | None = None


class World(Protocol):
    """An environment under way."""

    def step(self, t: int) -> Step: ...


class Environment(Protocol):
    """What is simulated. Immutable; `begin` makes a world of so many runs."""

    @property
    def arms(self) -> int: ...
    @property
    def features(self) -> int | None:
        """How many features a request has; None without."""

    @property
    def reward(self) -> RewardModel: ...
    def begin(self, rng: np.random.Generator, runs: int) -> World: ...
    def draw(self, rng: np.random.Generator, mean: Array, arm: NDArray[np.int64]) -> Array:
        """Rewards of arms `arm` whose expected rewards are `mean`; any shape."""


def _wave(drift: Drift | None, t: int) -> float:
    if drift is None:
        return 0.0
    period, amplitude = drift
    return amplitude if (t % period) < period / 2.0 else -amplitude


def _checked_drift(drift: Drift | None) -> None:
    if drift is not None:
        checks.whole("drift's period", drift[0], 2)
        checks.number("drift's amplitude", drift[1], 0.0, float("inf"))


@dataclass(frozen=True, slots=True)
class _Fixed:
    """A world whose means depend on the step alone."""

    schedule: tuple[tuple[int, Array], ...]
    drift: Drift | None
    low: float
    high: float

    def step(self, t: int) -> Step:
        means = self.schedule[0][1]
        for start, later in self.schedule:
            if t >= start:
                means = later
        shifted = means + _wave(self.drift, t)
        return Step(np.clip(shifted, self.low, self.high)[None, :])


@dataclass(frozen=True, slots=True)
class _Scheduled:
    """Arms with one mean each, which may change at given steps."""

    means: tuple[float, ...]
    drift: Drift | None = None
    changes: tuple[tuple[int, tuple[float, ...]], ...] = ()

    @property
    def arms(self) -> int:
        return len(self.means)

    @property
    def features(self) -> int | None:
        return None

    def _fixed(self, low: float, high: float) -> _Fixed:
        schedule = ((0, self.means), *self.changes)
        return _Fixed(tuple((start, np.array(means)) for start, means in schedule), self.drift, low, high)


@dataclass(frozen=True, slots=True)
class Bernoulli(_Scheduled):
    """Rewards 0 and 1."""

    @property
    def reward(self) -> RewardModel:
        return RewardModel("binary")

    def begin(self, rng: np.random.Generator, runs: int) -> World:
        return self._fixed(0.0, 1.0)

    def draw(self, rng: np.random.Generator, mean: Array, arm: NDArray[np.int64]) -> Array:
        return (rng.random(mean.shape) < mean).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Normal(_Scheduled):
    """Rewards without bounds, each arm with its own deviation."""

    stds: Array = field(default_factory=lambda: np.ones(1))

    @property
    def reward(self) -> RewardModel:
        return RewardModel("continuous")

    def begin(self, rng: np.random.Generator, runs: int) -> World:
        return self._fixed(-np.inf, np.inf)

    def draw(self, rng: np.random.Generator, mean: Array, arm: NDArray[np.int64]) -> Array:
        return rng.normal(mean, self.stds[arm])


@dataclass(frozen=True, slots=True)
class Poisson(_Scheduled):
    """Counts, 0 and more, with a variance of `dispersion` times their mean: above 1 they are
    negative binomial."""

    dispersion: float = 1.0

    @property
    def reward(self) -> RewardModel:
        return RewardModel("count")

    def begin(self, rng: np.random.Generator, runs: int) -> World:
        return self._fixed(0.0, np.inf)

    def draw(self, rng: np.random.Generator, mean: Array, arm: NDArray[np.int64]) -> Array:
        if self.dispersion > 1.0:
            # A Poisson count whose rate is itself drawn from a Gamma distribution.
            mean = rng.gamma(mean / (self.dispersion - 1.0), self.dispersion - 1.0)
        return rng.poisson(mean).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Contextual:
    """Expected rewards that depend on features: a constant 1 and d - 1 numbers drawn from [0, 1]
    for each request."""

    coefficients: Array  # (K, d)
    noise: float
    binary: bool
    drift: Drift | None = None

    @property
    def arms(self) -> int:
        return int(self.coefficients.shape[0])

    @property
    def features(self) -> int | None:
        return int(self.coefficients.shape[1])

    @property
    def reward(self) -> RewardModel:
        return RewardModel("binary") if self.binary else RewardModel("continuous")

    def begin(self, rng: np.random.Generator, runs: int) -> World:
        return _ContextualWorld(self, rng, runs)

    def draw(self, rng: np.random.Generator, mean: Array, arm: NDArray[np.int64]) -> Array:
        if self.binary:
            return (rng.random(mean.shape) < mean).astype(np.float64)
        return rng.normal(mean, self.noise)


@dataclass(slots=True)
class _ContextualWorld:
    environment: Contextual
    rng: np.random.Generator
    runs: int

    def step(self, t: int) -> Step:
        coefficients = self.environment.coefficients
        x = np.concatenate((np.ones((self.runs, 1)), self.rng.random((self.runs, coefficients.shape[1] - 1))), axis=1)
        values = x @ coefficients.T + _wave(self.environment.drift, t)
        return Step(special.expit(values) if self.environment.binary else values, x)


@dataclass(frozen=True, slots=True)
class Retiring:
    """Bernoulli arms with rates from a Beta distribution; at each step, with some probability, one
    of them is replaced by a new one.

    The environment of Chapelle & Li 2011, Table 1: articles that come and go.
    """

    arms: int
    retire: float
    alpha: float
    beta: float

    @property
    def features(self) -> int | None:
        return None

    @property
    def reward(self) -> RewardModel:
        return RewardModel("binary")

    def begin(self, rng: np.random.Generator, runs: int) -> World:
        return _RetiringWorld(self, rng, rng.beta(self.alpha, self.beta, (runs, self.arms)))

    def draw(self, rng: np.random.Generator, mean: Array, arm: NDArray[np.int64]) -> Array:
        return (rng.random(mean.shape) < mean).astype(np.float64)


@dataclass(slots=True)
class _RetiringWorld:
    environment: Retiring
    rng: np.random.Generator
    means: Array

    def step(self, t: int) -> Step:
        environment = self.environment
        runs, arms = self.means.shape
        retired: NDArray[np.bool_] = np.asarray(self.rng.random(runs) < environment.retire)
        renewed = retired[:, None] & (np.arange(arms) == self.rng.integers(arms, size=(runs, 1)))
        if renewed.any():
            fresh = self.rng.beta(environment.alpha, environment.beta, int(renewed.sum()))
            self.means = self.means.copy()
            self.means[renewed] = fresh
        return Step(self.means, renewed=renewed)


Changes = Sequence[tuple[int, Sequence[float]]]


def _scheduled(
    means: Sequence[float], drift: Drift | None, changes: Changes, low: float, high: float
) -> tuple[tuple[float, ...], tuple[tuple[int, tuple[float, ...]], ...]]:
    """Checked means and changes. Raises ValueError."""
    _checked_drift(drift)
    first = tuple(checks.number(f"means[{i}]", mean, low, high) for i, mean in enumerate(means))
    if not first:
        raise ValueError("means are empty: at least one arm was expected")
    later = tuple((checks.whole("a change's step", at, 1), tuple(float(mean) for mean in new)) for at, new in changes)
    for at, new in later:
        if len(new) != len(first):
            raise ValueError(f"the change at step {at} has {len(new)} means: {len(first)} were expected")
        for i, mean in enumerate(new):
            checks.number(f"means[{i}] from step {at}", mean, low, high)
    return first, later


def bernoulli(means: Sequence[float], drift: Drift | None = None, changes: Changes = ()) -> Bernoulli:
    """Rewards 0 and 1 with these probabilities. `changes=[(step, means), ...]` replaces the means
    from a step on. Raises ValueError."""
    first, later = _scheduled(means, drift, changes, 0.0, 1.0)
    return Bernoulli(first, drift, later)


def normal(
    means: Sequence[float], stds: float | Sequence[float] = 1.0, drift: Drift | None = None, changes: Changes = ()
) -> Normal:
    """Normal rewards; `stds` is one deviation, or one an arm. Raises ValueError."""
    first, later = _scheduled(means, drift, changes, -np.inf, np.inf)
    deviations = np.broadcast_to(np.asarray(stds, dtype=np.float64), (len(first),))
    if not (deviations > 0).all():
        raise ValueError("stds must be positive")
    return Normal(first, drift, later, deviations)


def poisson(
    rates: Sequence[float], drift: Drift | None = None, changes: Changes = (), dispersion: float = 1.0
) -> Poisson:
    """Counts with these rates, and a variance of `dispersion` times the rate, 1 or more. Raises
    ValueError."""
    first, later = _scheduled(rates, drift, changes, 0.0, np.inf)
    return Poisson(first, drift, later, checks.number("dispersion", dispersion, 1.0, np.inf))


def contextual_linear(
    coefficients: Sequence[Sequence[float]] | Array, noise: float = 0.1, drift: Drift | None = None
) -> Contextual:
    """Rewards x'theta + N(0, noise^2): `coefficients` (K, d), the first of each row for the
    constant. Raises ValueError."""
    _checked_drift(drift)
    return Contextual(_matrix(coefficients), checks.number("noise", noise, 0.0, np.inf), binary=False, drift=drift)


def contextual_logistic(coefficients: Sequence[Sequence[float]] | Array, drift: Drift | None = None) -> Contextual:
    """Rewards 0 and 1 with log-odds x'theta: `coefficients` (K, d), the first of each row for the
    constant. Raises ValueError."""
    _checked_drift(drift)
    return Contextual(_matrix(coefficients), 0.0, binary=True, drift=drift)


def _matrix(coefficients: Sequence[Sequence[float]] | Array) -> Array:
    matrix = np.asarray(coefficients, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape or not np.isfinite(matrix).all():
        raise ValueError("coefficients must be finite numbers of shape (arms, features)")
    return matrix


def retiring(arms: int, retire: float = 1e-3, alpha: float = 4.0, beta: float = 4.0) -> Retiring:
    """`arms` Bernoulli arms with rates from Beta(alpha, beta), one of which is replaced with
    probability `retire` at each step."""
    return Retiring(
        checks.whole("arms", arms, 1),
        checks.number("retire", retire, 0.0, 1.0),
        checks.number("alpha", alpha, 0.0, np.inf, open_low=True),
        checks.number("beta", beta, 0.0, np.inf, open_low=True),
    )
