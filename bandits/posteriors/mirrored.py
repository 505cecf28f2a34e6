"""A posterior the other way round, for rewards that are better when smaller."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .protocol import Posterior


@dataclass(frozen=True, slots=True)
class Mirrored:
    """The distribution of -X for a posterior of X."""

    posterior: Posterior

    @property
    def mean(self) -> Any:
        return -self.posterior.mean

    def pdf(self, x: Any) -> Any:
        return self.posterior.pdf(-np.asarray(x))

    def cdf(self, x: Any) -> Any:
        return 1.0 - self.posterior.cdf(-np.asarray(x))

    def quantile(self, q: Any) -> Any:
        return -self.posterior.quantile(1.0 - np.asarray(q))

    def sample(self, rng: np.random.Generator, size: Any = None) -> Any:
        return -self.posterior.sample(rng, size)
