"""An experiment's figures as the page shows them: results and chart series in one document, for the first view and each refresh."""

from typing import Any

from noregret.experiments.models import Experiment
from noregret.learning.results import over_time, posterior_densities, results


def figures(experiment: Experiment) -> dict[str, Any]:
    """{"results", "cells" (text by arm and column), "over_time", "densities"}."""
    found = results(experiment)
    return {
        "results": found,
        "cells": {arm["name"]: cells(arm) for arm in found["arms"]},
        "facts": facts(found),
        "over_time": over_time(experiment),
        "densities": posterior_densities(experiment),
    }


def _or_dash(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)


def cells(arm: dict[str, Any]) -> dict[str, str]:
    """The row of an arm, as text."""
    interval = arm["interval"]
    return {
        "decisions": f"{arm['decisions']:,}",
        "share": _or_dash(arm["share"], ".1%"),
        "now": _or_dash(arm["propensity"], ".1%"),
        "rewards": f"{arm['rewards']:,}",
        "mean": _or_dash(arm["mean"], ".4f"),
        "interval": "–" if interval is None else f"{interval[0]:.4f} – {interval[1]:.4f}",
        "best": _or_dash(arm["probability_best"], ".3f"),
        "loss": _or_dash(arm["expected_loss"], ".4f"),
        "errors": _or_dash(arm["error_rate"], ".2%"),
        "p50": _or_dash(arm["latency_ms"]["p50"], ".2f"),
        "p99": _or_dash(arm["latency_ms"]["p99"], ".2f"),
    }


def facts(found: dict[str, Any]) -> dict[str, str]:
    """Single figures and sentences of the page, as text."""
    evidence = found["evidence"]
    ratio = found["comparison"]["sample_ratio_p"]
    saved = found["comparison"]["saved_against_even_split"]
    ratio_said = "not known yet"
    if ratio is not None:
        ratio_said = f"p = {ratio:.3f}" + (": the split is not as logged" if ratio < 0.001 else ", as logged")
    return {
        "decisions": f"{found['decisions']:,}",
        "rewards": f"{found['rewards']:,}",
        "matured": f"{evidence['matured']:,}",
        "evidence": "–" if evidence["value"] is None else f"{evidence['value']:,.3g} of {evidence['needed']:,.0f}",
        "sample_ratio": ratio_said,
        "saved": "not known yet" if saved is None else f"{saved:+,.1f} rewards",
        "reason": found["recommendation"]["reason"],
        "policy_version": f"{found['policy_version']:,}",
    }
