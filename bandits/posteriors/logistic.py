"""Binary rewards with features: a Gaussian prior, a logistic likelihood, and Laplace's
approximation after each batch.

The mean is the mode, the precision the curvature there, and the posterior becomes the next batch's
prior. Source: Chapelle & Li 2011, Algorithm 3, with the full precision in place of its diagonal.
What it knows depends, a little, on how the rows were cut into batches: who wants the same numbers
again has to cut them the same way.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bandits.special_functions import special
from bandits.statistics import Array

from .linear import solve

_NEWTON_STEPS = 50
_CONVERGED = 1e-10


@dataclass(frozen=True, slots=True)
class BayesianLogistic:
    """P(y = 1 | x) = 1 / (1 + exp(-x'theta)), theta ~ N(mean, precision^-1): `mean` (d,),
    `precision` (d, d), of one arm."""

    mean: Array
    precision: Array

    @classmethod
    def prior(cls, dimension: int, ridge: float = 1.0) -> "BayesianLogistic":
        """N(0, I / ridge)."""
        return cls(np.zeros(dimension), np.eye(dimension) * ridge)

    def update(self, x: Array, y: Array, weights: Array | None = None) -> "BayesianLogistic":
        """After rows `x` (n, d) with rewards `y` (n,) in [0, 1], by Newton's method with halved
        steps where one goes too far.

        Each row's likelihood may have a weight, (n,).
        """
        if len(y) == 0:
            return self
        if weights is None:
            weights = np.ones(len(y))
        theta = self.mean
        value = self._objective(theta, x, y, weights)
        for _ in range(_NEWTON_STEPS):
            gradient = self.precision @ (theta - self.mean) + x.T @ (weights * (special.expit(x @ theta) - y))
            step = np.linalg.solve(self._curvature(theta, x, weights), gradient)
            size = 1.0
            while size > 1e-6:
                moved = theta - size * step
                found = self._objective(moved, x, y, weights)
                if found <= value:
                    break
                size /= 2.0
            else:
                break
            theta, value = moved, found
            if float(np.abs(size * step).max()) < _CONVERGED:
                break
        return BayesianLogistic(theta, self._curvature(theta, x, weights))

    def update_rows(self, x: Array, y: Array, weight: float = 1.0) -> "BayesianLogistic":
        """After one row each, for posteriors stacked on leading axes: `x` (..., d), `y` (...); a
        single row needs only a scalar equation.

        The mode is mean + w P^-1 x (y - p) with p the probability at the mode, so u = x'theta
        solves u = x'mean + w x'P^-1 x (y - p(u)).
        """
        direction = weight * solve(self.precision, x)
        start, variance = np.einsum("...d,...d->...", x, self.mean), np.einsum("...d,...d->...", x, direction)
        low = start + variance * (y - 1.0)  # p is in [0, 1], so the root is in here
        high = start + variance * y
        u = np.clip(start, low, high)
        for _ in range(_NEWTON_STEPS):
            p = special.expit(u)
            excess = u - start - variance * (y - p)
            low, high = np.where(excess < 0, u, low), np.where(excess > 0, u, high)
            newton = u - excess / (1.0 + variance * p * (1.0 - p))
            following = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2.0)
            done = float(np.abs(following - u).max(initial=0.0)) < _CONVERGED
            u = following
            if done:
                break
        p = special.expit(u)
        curvature = weight * (p * (1.0 - p))[..., None, None] * x[..., :, None] * x[..., None, :]
        return BayesianLogistic(self.mean + direction * (y - p)[..., None], self.precision + curvature)

    def _objective(self, theta: Array, x: Array, y: Array, weights: Array) -> float:
        away = theta - self.mean
        logit = x @ theta
        return float(0.5 * away @ self.precision @ away + weights @ (np.logaddexp(0.0, logit) - y * logit))

    def _curvature(self, theta: Array, x: Array, weights: Array) -> Array:
        p: Array = special.expit(x @ theta)
        return self.precision + (x * (weights * p * (1.0 - p))[:, None]).T @ x

    def faded(self, factor: float, prior: Array) -> "BayesianLogistic":
        """What was learned since the `prior` precision (d, d) times `factor`: wider, with the same
        mode.

        So what was learned counts less against what comes. (Natural parameters that fade draw the
        mode to 0 meanwhile: for outcomes of one kind that would be evidence of the other.) For
        posteriors stacked on leading axes too.
        """
        return BayesianLogistic(self.mean, prior + factor * (self.precision - prior))

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "precision": self.precision.tolist()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "BayesianLogistic":
        return cls(*(np.asarray(state[name], dtype=np.float64) for name in ("mean", "precision")))
