"""Binary rewards: Beta prior, Bernoulli likelihood. Source: Chapelle & Li 2011, Algorithm 2."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bandits.special_functions import special, stats


@dataclass(frozen=True, slots=True)
class BetaBernoulli:
    """Beta(alpha, beta) over a success probability; parameters are scalars or arrays of one shape,
    all positive."""

    alpha: Any = 1.0
    beta: Any = 1.0

    def __post_init__(self) -> None:
        if not (np.all(np.asarray(self.alpha) > 0) and np.all(np.asarray(self.beta) > 0)):
            raise ValueError("alpha and beta must be positive")

    def update(self, successes: Any, failures: Any) -> "BetaBernoulli":
        """After so many successes and failures, which may be weighted."""
        return BetaBernoulli(self.alpha + successes, self.beta + failures)

    def merge(self, other: "BetaBernoulli", prior: "BetaBernoulli | None" = None) -> "BetaBernoulli":
        """The posterior of both sides' data, when both began from `prior` (by default Beta(1,
        1))."""
        prior = prior or BetaBernoulli()
        return BetaBernoulli(self.alpha + other.alpha - prior.alpha, self.beta + other.beta - prior.beta)

    @property
    def mean(self) -> Any:
        return self.alpha / (self.alpha + self.beta)

    def pdf(self, x: Any) -> Any:
        return stats.beta.pdf(x, self.alpha, self.beta)

    def cdf(self, x: Any) -> Any:
        return special.betainc(self.alpha, self.beta, np.clip(x, 0.0, 1.0))

    def quantile(self, q: Any) -> Any:
        return special.betaincinv(self.alpha, self.beta, q)

    def sample(self, rng: np.random.Generator, size: Any = None) -> Any:
        return rng.beta(self.alpha, self.beta, size)
