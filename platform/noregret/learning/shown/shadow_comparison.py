"""Challengers beside the champion, on copies of the same requests: what the sums of their predictions tell. Reads only."""

from collections.abc import Sequence
from typing import Any

import msgspec
from django.db import connection

from noregret.experiments.models import Experiment
from noregret.learning.clock import FOREVER
from noregret.learning.models import ShadowStatistics
from noregret.learning.shadow_sums import ShadowSums, step_middle
from serving.ledger import latency
from serving.times import told

_EXAMPLES = """
SELECT decision_id::text, decided_at, champion_predicted, predicted FROM serving_shadowprediction
WHERE experiment_id = %(experiment)s AND arm_id = %(arm)s AND agrees = false
ORDER BY decided_at DESC LIMIT %(limit)s
"""
HISTOGRAM_BINS = 20
EXAMPLES = 10


def comparison(experiment: Experiment) -> dict[int, dict[str, Any]]:
    """Each challenger against the champion, by arm id: agreement, differences, latency, errors, examples, and scores on what was true.

    A challenger whose predictions are not all in its sums yet is left out.
    """
    found: dict[int, dict[str, Any]] = {}
    for row in ShadowStatistics.objects.filter(arm__experiment=experiment, summed_until=FOREVER):
        sums = ShadowSums.from_dict(row.sums)
        if not sums.predictions:
            continue
        found[row.arm_id] = {
            "predictions": sums.predictions,
            "errors": sums.errors,
            "error_rate": sums.errors / sums.predictions,
            "agreement": sums.agreed / sums.compared if sums.compared else None,
            "mean_absolute_difference": sums.difference.mean if sums.difference.count else None,
            "latency_ms": _quantiles(sums.latencies),
            "champion_latency_ms": _quantiles(sums.champion_latencies),
            "histogram": _histogram(sums),
            "examples": _examples({"experiment": experiment.pk, "arm": row.arm_id}),
            "outcomes": _outcomes(sums),
        }
    return found


def _quantiles(latencies: Sequence[int]) -> dict[str, float | None]:
    return {"p50": latency.quantile(latencies, 0.5), "p99": latency.quantile(latencies, 0.99)}


def _histogram(sums: ShadowSums) -> list[dict[str, Any]]:
    """Equal stretches up to the largest difference, to the resolution of the steps that differences are counted in."""
    top = sums.highest
    if not top:
        return []
    counts = [0] * HISTOGRAM_BINS
    for step, count in sums.differences.items():
        counts[min(int(min(step_middle(step) / top, 1.0) * HISTOGRAM_BINS), HISTOGRAM_BINS - 1)] += count
    ends = [top * (i / HISTOGRAM_BINS) for i in range(HISTOGRAM_BINS + 1)]
    return [{"from": ends[i], "to": ends[i + 1], "count": count} for i, count in enumerate(counts)]


def _examples(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(_EXAMPLES, parameters | {"limit": EXAMPLES})
        return [
            {
                "decision": decision,
                "decided_at": told(at),
                "champion": msgspec.json.decode(champion),
                "predicted": msgspec.json.decode(predicted),
            }
            for decision, at, champion, predicted in cursor.fetchall()
        ]


def _outcomes(sums: ShadowSums) -> dict[str, Any] | None:
    if not sums.told:
        return None
    own, champion = sums.score, sums.champion_score
    return {
        "count": sums.told,
        "accuracy": own.right / own.off.count if own.off.count else None,
        "champion_accuracy": champion.right / champion.off.count if champion.off.count else None,
        "mean_absolute_error": own.off.mean if own.off.count else None,
        "champion_mean_absolute_error": champion.off.mean if champion.off.count else None,
    }
