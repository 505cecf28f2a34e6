"""How long feedback took, as counts by delay."""

from collections.abc import Sequence

import numpy as np

from bandits.delay import BINS, DelayHistograms
from noregret.experiments.models import Experiment

from .closed_rows import Row

# What `delays_of` gives, as (arm id, place, count).
COUNTED = f"""
SELECT arm_id, least(trunc(greatest(extract(epoch FROM recorded_at - decided_at)::float8, 0) / %(window)s::float8 * {BINS}),
    {BINS - 1})::integer, count(*)
FROM serving_reward
WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND matured AND NOT defaulted
AND decided_at >= %(start)s AND decided_at < %(end)s GROUP BY 1, 2
"""  # noqa: S608 - constants


def delays_of(experiment: Experiment, rows: Sequence[Row]) -> dict[int, list[int]]:
    """Counts of feedback by delay, for each arm id that had some."""
    timed = [(row.rewarded_arm_id, row.delay_seconds) for row in rows if row.delay_seconds is not None]
    arms = sorted({arm for arm, _ in timed})
    position = {arm: i for i, arm in enumerate(arms)}
    counts = DelayHistograms.of(
        np.array([position[arm] for arm, _ in timed], dtype=np.int64),
        np.array([max(delay, 0.0) for _, delay in timed]),
        experiment.reward_.window_seconds,
        len(arms),
    ).counts
    return {arm: [int(count) for count in counts[i]] for arm, i in position.items()}
