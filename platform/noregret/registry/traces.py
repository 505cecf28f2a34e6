"""Values and rows that a fitted model remembers of its data. Runs only in the inspecting child
process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

VALUES = 200  # kept a feature and step
JOINT = 600  # joint rows kept a step
USUAL = np.array([-2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0])  # where nothing is known, and behind a scaler


@dataclass(slots=True)
class Traces:
    """What is known of one space of rows: values by feature, joint rows (NaN: any value), features
    that take no other values."""

    values: list[Rows]
    joint: Rows  # (rows, features)
    exact: frozenset[int] = frozenset()

    @classmethod
    def none(cls, features: int) -> "Traces":
        return cls([np.empty(0) for _ in range(features)], np.empty((0, features)))

    @property
    def features(self) -> int:
        return len(self.values)

    def __add__(self, other: "Traces") -> "Traces":
        """Of two parts that see the same rows."""
        values = [
            np.unique(np.concatenate((ours, theirs))) for ours, theirs in zip(self.values, other.values, strict=True)
        ]
        return Traces(values, np.concatenate((self.joint, other.joint)), self.exact | other.exact)

    def thinned(self, generator: np.random.Generator) -> "Traces":
        values = [generator.choice(held, VALUES, replace=False) if len(held) > VALUES else held for held in self.values]
        joint = self.joint
        if len(joint) > JOINT:
            joint = joint[generator.choice(len(joint), JOINT, replace=False)]
        return Traces(values, joint, self.exact)

    def placed(self, columns: Sequence[int], features: int) -> "Traces":
        """The same of a wider row, of which these features are `columns`."""
        wider = Traces.none(features)
        joint = np.full((len(self.joint), features), np.nan)
        for position, column in enumerate(columns):
            wider.values[column] = np.union1d(wider.values[column], self.values[position])
            joint[:, column] = self.joint[:, position]
        return Traces(wider.values, joint, frozenset(columns[position] for position in self.exact))

    def taken(self, columns: Sequence[int]) -> "Traces":
        """Of a narrower row, which holds these columns."""
        exact = frozenset(position for position, column in enumerate(columns) if column in self.exact)
        return Traces([self.values[column] for column in columns], self.joint[:, list(columns)], exact)

    def grid(self) -> Rows:
        """A matrix whose columns hold each feature's values, repeated to the longest."""
        columns = [held if len(held) else USUAL for held in self.values]
        longest = max((len(held) for held in columns), default=0)
        return np.stack([np.resize(held, longest) for held in columns], axis=1) if columns else np.empty((0, 0))

    def filled(self, generator: np.random.Generator) -> Rows:
        """The joint rows, with a value of the feature's own wherever any will do."""
        joint = self.joint.copy()
        for column, held in enumerate(self.values):
            holes = np.isnan(joint[:, column])
            joint[holes, column] = generator.choice(held if len(held) else USUAL, int(holes.sum()))
        return joint


def finite(values: Any) -> Rows:
    column = np.unique(np.asarray(values, dtype=np.float64).ravel())
    kept: Rows = column[np.isfinite(column)]
    return kept
