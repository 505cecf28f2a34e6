"""A normal distribution of a value, as linear models have it of an arm's value for one request."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bandits.special_functions import special

_ROOT = np.sqrt(2.0 * np.pi)


@dataclass(frozen=True, slots=True)
class Gaussian:
    """N(loc, deviation^2); parameters are scalars or arrays of one shape, deviations positive."""

    loc: Any
    deviation: Any

    @property
    def mean(self) -> Any:
        return self.loc

    def pdf(self, x: Any) -> Any:
        return np.exp(-0.5 * np.square((x - self.loc) / self.deviation)) / (self.deviation * _ROOT)

    def cdf(self, x: Any) -> Any:
        return special.ndtr((x - self.loc) / self.deviation)

    def quantile(self, q: Any) -> Any:
        return self.loc + self.deviation * special.ndtri(q)

    def sample(self, rng: np.random.Generator, size: Any = None) -> Any:
        return rng.normal(self.loc, self.deviation, size)
