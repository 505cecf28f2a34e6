"""Outcomes that hang together: many of one unit, each unit with a mean of its own. How much they
say, and intervals that follow.

A thousand outcomes of twenty users are nearer to twenty outcomes than to a thousand. The mean is a
ratio of sums over units, its variance that of the ratio (delta method), and the statistics count as
so many independent outcomes as have that variance, which keeps every interval for independent
outcomes usable, those of rare rewards included. Few units are few, however much each came: their
variance is as uncertain as Student's t says, with the units' number corrected for how unequally
they came.

Sources: Korn & Graubard 1998 (effective sample size of a proportion in clustered samples, with the
t correction); Kish 1965 (design effect, effective number).
"""

from dataclasses import dataclass

import numpy as np

from bandits.statistics import ArmStatistics, Array


@dataclass(frozen=True, slots=True)
class UnitSums:
    """Sums over units by arm, each (..., K): of `count` n_u, of n_u^2, and of (Y_u - mean n_u)^2,
    Y_u the unit's total, mean the arm's."""

    count: Array
    squared_count: Array
    squared_residual: Array

    @classmethod
    def of(cls, count: Array, total: Array) -> "UnitSums":
        """From units' counts and totals, each (..., U): the sums are (...,). Units without an
        outcome add nothing."""
        all_counted = count.sum(axis=-1)
        mean = total.sum(axis=-1) / np.where(all_counted > 0, all_counted, 1.0)
        residual = total - mean[..., None] * count
        return cls(all_counted, np.square(count).sum(axis=-1), np.square(residual).sum(axis=-1))

    @property
    def effective_units(self) -> Array:
        """As many units as if all had come equally often, (..., K); 0 where none came."""
        return np.divide(
            np.square(self.count), self.squared_count, out=np.zeros_like(self.count), where=self.squared_count > 0
        )

    def variance_of_mean(self) -> Array:
        """Of the ratio of sums, (..., K), corrected for few units; infinite where there is not more
        than one."""
        units = self.effective_units
        several = units > 1.0
        correction = np.where(several, units / np.where(several, units - 1.0, 1.0), np.inf)
        squared = np.square(np.where(self.count > 0, self.count, 1.0))
        return np.where(several, self.squared_residual / squared, 1.0) * correction


@dataclass(frozen=True, slots=True)
class UnitTotals:
    """Sums over units that are kept while units go on coming, each (..., K): of n_u, s_u, n_u^2,
    n_u s_u and s_u^2.

    s_u = Y_u - level n_u is a unit's total above a level that is fixed for the arm. From these
    the squared residuals follow for whatever mean holds later; sums of squared residuals
    themselves can't be kept, for every new outcome moves the mean of all. With one of the arm's
    own outcomes as level nothing is lost far from 0: outcomes all alike then leave exactly 0,
    and otherwise the squared residuals are no smaller than the squared distance from level to
    mean, so that the differences below keep all but the last digits.
    """

    count: Array
    total: Array
    squared_count: Array
    product: Array
    squared_total: Array

    @property
    def mean(self) -> Array:
        """Above the level; 0 where nothing came."""
        return np.divide(self.total, self.count, out=np.zeros_like(self.count), where=self.count > 0)

    def around_mean(self) -> UnitSums:
        """The sums by which the arm's mean is judged. Rounding leaves no square below 0."""
        mean = self.mean
        residual = self.squared_total - 2.0 * mean * self.product + np.square(mean) * self.squared_count
        return UnitSums(self.count, self.squared_count, np.maximum(residual, 0.0))


def of_units(units: UnitSums, mean: Array) -> ArmStatistics:
    """Units as outcomes: so many as came equally often, with the arm's `mean` (..., K) and the
    variance that units' means show.

    Nothing (count 0) of an arm with one unit, for how units differ is not known then.
    """
    count = np.where(units.effective_units > 1.0, units.effective_units, 0.0)
    variance = np.where(count > 0, units.variance_of_mean(), 0.0) * count
    return ArmStatistics(count, np.where(count > 0, mean, 0.0), variance * count)
