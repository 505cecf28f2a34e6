"""Challengers beside the champion, on copies of the same requests: what the sums of their
predictions tell. Reads only."""

from typing import Any

import msgspec
from msgspec import Struct

from noregret.experiments.models import Experiment
from noregret.learning.clock import FOREVER
from noregret.learning.models import ShadowStatistics
from noregret.learning.shadow_sums import ShadowSums, step_middle
from noregret.rest.replica import where_read
from serving.times import Time

from .latencies import Latency

_EXAMPLES = """
SELECT decision_id::text, decided_at, champion_predicted, predicted FROM serving_shadowprediction
WHERE experiment_id = %(experiment)s AND arm_id = %(arm)s AND agrees = false
ORDER BY decided_at DESC LIMIT %(limit)s
"""
HISTOGRAM_BINS = 20
EXAMPLES = 10


class Bin(Struct, frozen=True, rename={"start": "from", "end": "to"}):
    start: float
    end: float
    count: int


class Disagreement(Struct, frozen=True):
    decision: str
    decided_at: Time
    champion: Any
    predicted: Any


class Outcomes(Struct, frozen=True):
    """Scores on what feedback on the metric `outcome` said was true."""

    count: int
    accuracy: float | None
    champion_accuracy: float | None
    mean_absolute_error: float | None
    champion_mean_absolute_error: float | None


class ShadowComparison(Struct, frozen=True):
    """A challenger against the champion, on the same requests."""

    predictions: int
    errors: int
    error_rate: float
    agreement: float | None
    mean_absolute_difference: float | None
    latency_ms: Latency
    champion_latency_ms: Latency
    histogram: list[Bin]
    examples: list[Disagreement]
    outcomes: Outcomes | None


def comparison(experiment: Experiment) -> dict[int, ShadowComparison]:
    """Each challenger against the champion, by arm id: agreement, differences, latency, errors,
    examples, and scores on what was true.

    A challenger whose predictions are not all in its sums yet is left out.
    """
    found: dict[int, ShadowComparison] = {}
    for row in ShadowStatistics.objects.filter(arm__experiment=experiment, summed_until=FOREVER):
        sums = ShadowSums.from_dict(row.sums)
        if not sums.predictions:
            continue
        found[row.arm_id] = ShadowComparison(
            predictions=sums.predictions,
            errors=sums.errors,
            error_rate=sums.errors / sums.predictions,
            agreement=sums.agreed / sums.compared if sums.compared else None,
            mean_absolute_difference=sums.difference.mean if sums.difference.count else None,
            latency_ms=Latency.of(sums.latencies),
            champion_latency_ms=Latency.of(sums.champion_latencies),
            histogram=_histogram(sums),
            examples=_examples({"experiment": experiment.pk, "arm": row.arm_id}),
            outcomes=_outcomes(sums),
        )
    return found


def _histogram(sums: ShadowSums) -> list[Bin]:
    """Equal stretches up to the largest difference, to the resolution of the steps that differences
    are counted in."""
    top = sums.highest
    if not top:
        return []
    counts = [0] * HISTOGRAM_BINS
    for step, count in sums.differences.items():
        counts[min(int(min(step_middle(step) / top, 1.0) * HISTOGRAM_BINS), HISTOGRAM_BINS - 1)] += count
    ends = [top * (i / HISTOGRAM_BINS) for i in range(HISTOGRAM_BINS + 1)]
    return [Bin(ends[i], ends[i + 1], count) for i, count in enumerate(counts)]


def _examples(parameters: dict[str, Any]) -> list[Disagreement]:
    with where_read().cursor() as cursor:
        cursor.execute(_EXAMPLES, parameters | {"limit": EXAMPLES})
        return [
            Disagreement(
                decision,
                at,
                msgspec.json.decode(champion),
                msgspec.json.decode(predicted),
            )
            for decision, at, champion, predicted in cursor.fetchall()
        ]


def _outcomes(sums: ShadowSums) -> Outcomes | None:
    if not sums.told:
        return None
    own, champion = sums.score, sums.champion_score
    return Outcomes(
        count=sums.told,
        accuracy=own.right / own.off.count if own.off.count else None,
        champion_accuracy=champion.right / champion.off.count if champion.off.count else None,
        mean_absolute_error=own.off.mean if own.off.count else None,
        champion_mean_absolute_error=champion.off.mean if champion.off.count else None,
    )
