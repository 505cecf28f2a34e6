"""Counts: Gamma prior, Poisson likelihood. The prior must fit the data's scale: Gamma(1, 1) with rates of 2-3 locks onto a wrong arm."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats


@dataclass(frozen=True, slots=True)
class GammaPoisson:
    """Gamma(shape, rate) over a rate; parameters are scalars or arrays of one shape, all positive."""

    shape: Any = 1.0
    rate: Any = 1.0

    def __post_init__(self) -> None:
        if not (np.all(np.asarray(self.shape) > 0) and np.all(np.asarray(self.rate) > 0)):
            raise ValueError("shape and rate must be positive")

    def update(self, total: Any, count: Any) -> "GammaPoisson":
        """After `count` observations that sum to `total`."""
        return GammaPoisson(self.shape + total, self.rate + count)

    def merge(self, other: "GammaPoisson", prior: "GammaPoisson | None" = None) -> "GammaPoisson":
        """The posterior of both sides' data, when both began from `prior` (by default Gamma(1, 1))."""
        prior = prior or GammaPoisson()
        return GammaPoisson(self.shape + other.shape - prior.shape, self.rate + other.rate - prior.rate)

    def decay(self, factor: float, prior: "GammaPoisson | None" = None) -> "GammaPoisson":
        """Every observation's weight times `factor`; the prior stays."""
        prior = prior or GammaPoisson()
        return GammaPoisson(
            prior.shape + factor * (self.shape - prior.shape), prior.rate + factor * (self.rate - prior.rate)
        )

    @property
    def mean(self) -> Any:
        return self.shape / self.rate

    def pdf(self, x: Any) -> Any:
        return stats.gamma.pdf(x, self.shape, scale=1.0 / np.asarray(self.rate))

    def cdf(self, x: Any) -> Any:
        return special.gammainc(self.shape, np.maximum(x, 0.0) * np.asarray(self.rate))

    def quantile(self, q: Any) -> Any:
        return special.gammaincinv(self.shape, q) / self.rate

    def sample(self, rng: np.random.Generator, size: Any = None) -> Any:
        return rng.gamma(self.shape, 1.0 / np.asarray(self.rate), size)

    def to_dict(self) -> dict[str, Any]:
        return {"shape": np.asarray(self.shape).tolist(), "rate": np.asarray(self.rate).tolist()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "GammaPoisson":
        return cls(
            *(np.asarray(value) if isinstance(value, list) else value for value in (state["shape"], state["rate"]))
        )
