"""Continuous rewards: Normal-Inverse-Gamma prior, Normal likelihood with unknown mean and variance.

The prior must be proper: Jeffreys and reference priors are suboptimal for Thompson sampling (Honda
& Takemura 2014). NIG(0, 1, 1, 1) is meant for standardised rewards.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bandits.special_functions import special, stats


@dataclass(frozen=True, slots=True)
class NormalInverseGamma:
    """NIG(mu, kappa, alpha, beta): variance ~ InvGamma(alpha, beta), mean | variance ~ N(mu,
    variance / kappa).

    Parameters are scalars or arrays of one shape; kappa, alpha and beta are positive. The marginal
    of the mean is a Student t with 2 alpha degrees of freedom, location mu and scale sqrt(beta /
    (alpha kappa)).
    """

    mu: Any = 0.0
    kappa: Any = 1.0
    alpha: Any = 1.0
    beta: Any = 1.0

    def __post_init__(self) -> None:
        for name in ("kappa", "alpha", "beta"):
            if not np.all(np.asarray(getattr(self, name)) > 0):
                raise ValueError(f"{name} must be positive")

    def update(self, count: Any, mean: Any, m2: Any) -> "NormalInverseGamma":
        """After `count` rewards with this mean and sum of squared deviations from it."""
        kappa = self.kappa + count
        delta = mean - self.mu
        return NormalInverseGamma(
            (self.kappa * self.mu + count * mean) / kappa,
            kappa,
            self.alpha + count / 2.0,
            self.beta + m2 / 2.0 + self.kappa * count * delta**2 / (2.0 * kappa),
        )

    def merge(self, other: "NormalInverseGamma", prior: "NormalInverseGamma | None" = None) -> "NormalInverseGamma":
        """The posterior of both sides' data, when both began from `prior` (by default NIG(0, 1, 1,
        1))."""
        prior = prior or NormalInverseGamma()
        first, second, start = self._natural(), other._natural(), prior._natural()
        return self._from_natural(*(a + b - c for a, b, c in zip(first, second, start, strict=True)))

    def _natural(self) -> tuple[Any, Any, Any, Any]:
        return self.kappa, self.kappa * self.mu, self.alpha, 2.0 * self.beta + self.kappa * np.square(self.mu)

    @classmethod
    def _from_natural(cls, kappa: Any, weighted: Any, alpha: Any, squares: Any) -> "NormalInverseGamma":
        mu = weighted / kappa
        return cls(mu, kappa, alpha, (squares - kappa * np.square(mu)) / 2.0)

    @property
    def mean(self) -> Any:
        return self.mu

    @property
    def _scale(self) -> Any:
        return np.sqrt(np.asarray(self.beta) / (np.asarray(self.alpha) * self.kappa))

    def pdf(self, x: Any) -> Any:
        return stats.t.pdf(x, 2.0 * np.asarray(self.alpha), loc=self.mu, scale=self._scale)

    def cdf(self, x: Any) -> Any:
        return special.stdtr(2.0 * np.asarray(self.alpha), (x - np.asarray(self.mu)) / self._scale)

    def quantile(self, q: Any) -> Any:
        return self.mu + self._scale * special.stdtrit(2.0 * np.asarray(self.alpha), q)

    def sample(self, rng: np.random.Generator, size: Any = None) -> Any:
        return self.mu + self._scale * rng.standard_t(2.0 * np.asarray(self.alpha), size)
