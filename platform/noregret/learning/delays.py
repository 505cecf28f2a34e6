"""How long feedback took, as counts by delay."""

from collections.abc import Sequence

import numpy as np

from bandits.delay import DelayHistograms
from noregret.experiments.models import Experiment

from .closed_rows import Row


def delays_of(experiment: Experiment, rows: Sequence[Row]) -> dict[int, list[int]]:
    """Counts of feedback by delay, for each arm id that had some."""
    timed = [(row.arm_id, row.delay_seconds) for row in rows if row.delay_seconds is not None]
    arms = sorted({arm for arm, _ in timed})
    position = {arm: i for i, arm in enumerate(arms)}
    counts = DelayHistograms.of(
        np.array([position[arm] for arm, _ in timed], dtype=np.int64),
        np.array([max(delay, 0.0) for _, delay in timed]),
        experiment.reward_.window_seconds,
        len(arms),
    ).counts
    return {arm: [int(count) for count in counts[i]] for arm, i in position.items()}
