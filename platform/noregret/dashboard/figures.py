"""An experiment's figures as the page shows them: results and chart series in one document, for the first view and each refresh.

Every text is made here, once: the page with JavaScript and the page without show the same words.
"""

import math
from typing import Any

from noregret.experiments.models import Experiment
from noregret.learning.results import over_time, posterior_densities, results

# So many points are calm to look at: with more of them each holds few decisions of the arms that lose, and means jump about.
POINTS = 24
SAMPLE_RATIO_ALARM = 0.001
UNKNOWN = "–"


def figures(experiment: Experiment) -> dict[str, Any]:
    """{"status", "results", "cells" (text by arm and column), "facts", "alarms", "progress", "over_time", "densities"}."""
    found = results(experiment)
    ratio = found["comparison"]["sample_ratio_p"]
    return {
        "status": experiment.status,
        "results": found,
        "cells": {arm["name"]: cells(arm) for arm in found["arms"]},
        "facts": facts(found),
        "alarms": {
            "sample_ratio": ratio is not None and ratio < SAMPLE_RATIO_ALARM,
            "answers": answers_differ(found),
        },
        "progress": progress(found["evidence"]),
        "over_time": over_time(experiment, POINTS),
        "densities": posterior_densities(experiment),
    }


def _or_dash(value: Any, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def cells(arm: dict[str, Any]) -> dict[str, str]:
    """The row of an arm, as text."""
    interval, watched = arm["interval"], arm["watched_interval"]
    return {
        "decisions": f"{arm['decisions']:,}",
        "share": _or_dash(arm["share"], ".1%"),
        "now": _or_dash(arm["propensity"], ".1%"),
        "rewards": f"{arm['rewards']:,}",
        "mean": _or_dash(arm["mean"], ".4f"),
        "interval": UNKNOWN if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}",
        "watched": UNKNOWN if watched is None else f"{watched[0]:.4f} to {watched[1]:.4f}",
        "best": _or_dash(arm["probability_best"], ".1%"),
        "loss": _or_dash(arm["expected_loss"], ".4f"),
        "errors": _or_dash(arm["error_rate"], ".2%"),
        "p50": _or_dash(arm["latency_ms"]["p50"], ".2f"),
        "p99": _or_dash(arm["latency_ms"]["p99"], ".2f"),
    }


ESTIMATORS = {
    "ips": "Importance weighting",
    "snips": "Importance weighting, self-normalised",
    "dr": "Doubly robust",
    "switch_dr": "Doubly robust, extreme weights left to the model",
}


def evaluation_texts(found: dict[str, Any]) -> dict[str, Any]:
    """What another policy would have earned, as {"rows": [(estimator, mean, interval, sample size)], "said": sentences}."""
    if found["refused"]:
        return {"rows": [], "said": sentence(found["refused"])}
    estimates = [("As logged", found["logged"])]
    estimates += [(ESTIMATORS[name], estimate) for name, estimate in found["estimates"].items()]
    rows = [
        (
            title,
            f"{estimate['value']:.4f}",
            "–" if estimate["interval"] is None else f"{estimate['interval'][0]:.4f} to {estimate['interval'][1]:.4f}",
            f"{estimate['effective_sample_size']:,.0f}",
        )
        for title, estimate in estimates
    ]
    shares = ", ".join(f"{arm} {share:.1%}" for arm, share in found["shares"].items())
    said = f"From {found['decisions']:,} matured decisions with a reward. It would have chosen {shares}."
    return {"rows": rows, "said": " ".join([said, *(sentence(warning) for warning in found["warnings"])])}


def shadow_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Challengers of a shadow against the champion: (arm, predictions, agreement, difference, p50, p99, errors, right, champion right)."""
    rows: list[tuple[str, ...]] = []
    for arm in found["arms"]:
        shadow = arm["shadow"]
        if shadow is None:
            continue
        outcomes = shadow["outcomes"] or {}
        rows.append(
            (
                arm["name"],
                f"{shadow['predictions']:,}",
                _or_dash(shadow["agreement"], ".1%"),
                _or_dash(shadow["mean_absolute_difference"], ".4g"),
                _or_dash(shadow["latency_ms"]["p50"], ".2f"),
                _or_dash(shadow["latency_ms"]["p99"], ".2f"),
                _or_dash(shadow["error_rate"], ".2%"),
                _or_dash(outcomes.get("accuracy"), ".1%"),
                _or_dash(outcomes.get("champion_accuracy"), ".1%"),
            )
        )
    return rows


def evidence_figure(value: float) -> str:
    """Evidence grows exponentially: past a million its order of magnitude says all."""
    return f"{value:.1e}" if value >= 1e6 else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def progress(evidence: dict[str, Any]) -> float | None:
    """How far the evidence is, from 0 to 1, on a logarithmic scale: it multiplies with each decision, so its logarithm is what adds."""
    value, needed = evidence["value"], evidence["needed"]
    if value is None or needed is None or needed <= 1:
        return None
    return min(1.0, max(0.0, math.log(max(value, 1.0)) / math.log(needed)))


def sentence(reason: str) -> str:
    """A reason as a sentence. Arms keep their names as they are written: they are the only words that a reason may begin with in small."""
    return reason if reason.endswith(".") else f"{reason}."


def answers_differ(found: dict[str, Any]) -> bool:
    """Is it shown that arms are answered at different rates?"""
    p = found["comparison"]["answers_p"]
    return p is not None and p < SAMPLE_RATIO_ALARM


def answers_said(found: dict[str, Any]) -> str:
    """How often arms are answered, in a sentence."""
    shares = [arm["answered"] for arm in found["arms"] if arm["answered"] is not None]
    if not shares:
        return "not compared: every decision gets a reward, or no window is over yet"
    said = f"{min(shares):.0%}" if len(shares) == 1 else f"{min(shares):.0%} to {max(shares):.0%} of decisions"
    if not answers_differ(found):
        return said
    return f"{said}: arms differ, so the table compares those who answered, not all who were served"


def facts(found: dict[str, Any]) -> dict[str, str]:
    """Single figures and sentences of the page, as text."""
    evidence = found["evidence"]
    ratio = found["comparison"]["sample_ratio_p"]
    saved = found["comparison"]["saved_against_even_split"]
    ratio_said = "not known yet"
    if ratio is not None:
        alarm = ratio < SAMPLE_RATIO_ALARM
        ratio_said = f"p = {ratio:.3f}, " + ("not as logged: don't trust these figures" if alarm else "as logged")
    needed = evidence["needed"]
    return {
        "decisions": f"{found['decisions']:,}",
        "rewards": f"{found['rewards']:,}",
        "matured": f"{evidence['matured']:,}",
        "evidence": UNKNOWN
        if evidence["value"] is None or needed is None
        else f"{evidence_figure(evidence['value'])} of {needed:,.0f} needed",
        "sample_ratio": ratio_said,
        "answers": answers_said(found),
        "saved": "not known yet" if saved is None else f"{saved:+,.1f} rewards",
        "reason": sentence(found["recommendation"]["reason"]),
        "policy_version": f"{found['policy_version']:,}",
        "as_of": f"{found['as_of'][:19].replace('T', ' ')} UTC",
    }


def chart_rows(found: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The series over time as the rows of a table, newest first: (time, (share, mean reward) by arm)."""
    series = found["over_time"]
    rows = [
        (
            f"{at[:19].replace('T', ' ')}",
            [(_or_dash(arm["share"][i], ".1%"), _or_dash(arm["mean"][i], ".4f")) for arm in series["arms"]],
        )
        for i, at in enumerate(series["at"])
    ]
    return rows[::-1]
