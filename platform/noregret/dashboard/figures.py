"""An experiment's figures as the page shows them, as text by name, for the first view and each
refresh.

Every text is made here, once: the page with JavaScript and the page without show the same words.
"""

import math
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from bandits.inference.sample_ratio import ALARM
from noregret.experiments.document import Reward
from noregret.experiments.models import Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.learning.evidence import units_count_once
from noregret.learning.shown.apprentice import Apprentice
from noregret.learning.shown.evaluation import ESTIMATORS, Evaluation, left_out_in_words
from noregret.learning.shown.numbers import Form, amount, column, difference, form, unit_of_differences
from noregret.learning.shown.phrases import evidence_told, probability_told
from noregret.learning.shown.results import CanaryState, Comparison, EvidenceProgress, Results, ResultsArm
from noregret.learning.shown.segments import SegmentLoss, Segments
from noregret.learning.shown.shared import shared_results

from .verdicts.compared import means_form
from .verdicts.troubles import fails
from .words import is_rate, sentence, unit_of

UNKNOWN = "–"
NOT_COMPARED = "not compared yet: it is counted once a window is over, and the decisions before it are closed"


class Alarms(Struct, frozen=True):
    """Is it shown that the split did not go as logged; that arms are answered at different
    rates?"""

    sample_ratio: bool
    answers: bool


class Figures(Struct, frozen=True):
    """`cells`: text by arm and column; `facts`: text by name; `progress` from 0 to 1, None where
    its end is no matter of evidence. `metric`: what a reward is a value of; `by_unit`: is it units
    that mature, each counted once?"""

    metric: str
    by_unit: bool
    status: str
    results: Results
    cells: dict[str, dict[str, str]]
    facts: dict[str, str]
    alarms: Alarms
    progress: float | None

    @property
    def labelled(self) -> list[tuple[str, str, str]]:
        """The facts that have a label, as (name, label, text)."""
        labels = LABELS | {"means": f"Mean {self.metric}"}
        if self.by_unit:
            labels["matured"] = "Units matured"
        return [(name, labels[name], text) for name, text in self.facts.items() if name in labels]


def figures(experiment: Experiment) -> Figures:
    """As the database has it."""
    return figures_of(experiment, shared_results(experiment.pk).results)


def figures_of(experiment: Experiment, found: Results) -> Figures:
    """Of results that somebody has made."""
    ratio = found.comparison.sample_ratio_p
    return Figures(
        metric=experiment.reward_.metric,
        by_unit=units_count_once(experiment),
        status=experiment.status,
        results=found,
        cells=cells(found, percent=is_rate(experiment.reward_)),
        facts=facts(found, looks_at_requests(experiment), experiment.reward_),
        alarms=Alarms(ratio is not None and ratio < ALARM, answers_differ(found)),
        progress=progress(found.evidence) if tells_evidence(experiment) else None,
    )


def tells_evidence(experiment: Experiment) -> bool:
    """Is its end a matter of one arm's evidence? Not of a canary's, a shadow's or an apprentice's,
    nor where features choose the arm."""
    split = experiment.strategy in (Experiment.Strategy.AB, Experiment.Strategy.BANDIT)
    return split and not experiment.apprentice and not looks_at_requests(experiment)


def _or_dash(value: Any, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def cells(found: Results, *, percent: bool) -> dict[str, dict[str, str]]:
    """The row of each arm, as text: a column has one form."""
    means = means_form(found.arms, percent=percent)
    losses = form([arm.expected_loss for arm in found.arms if arm.expected_loss is not None], percent=percent)
    return {arm.name: _row(arm, means, losses, " points" if percent else losses.unit) for arm in found.arms}


def _row(arm: ResultsArm, means: Form, losses: Form, unit: str) -> dict[str, str]:
    # What only the champion's answers keep from failing can't win, whatever its own answers were.
    best, loss = (None, None) if fails(arm) else (arm.probability_best, arm.expected_loss)
    return {
        # Rewards count as they come in, decisions once their rows are written.
        "decisions": f"{arm.decisions:,}{' so far' if arm.rewards > arm.decisions else ''}",
        "share": _or_dash(arm.share, ".1%"),
        "now": _or_dash(arm.propensity, ".1%"),
        "rewards": f"{arm.rewards:,}",
        "mean": UNKNOWN if arm.mean is None else means.text(arm.mean),
        "interval": _interval(arm.interval, means),
        "watched": _interval(arm.watched_interval, means),
        "best": UNKNOWN if best is None else probability_told(best),
        "loss": UNKNOWN if loss is None else f"{losses.at_least(loss).removesuffix(losses.unit)}{unit}",
        "errors": _or_dash(arm.error_rate, ".2%"),
        "p50": _latency(arm.latency_ms.p50),
        "p99": _latency(arm.latency_ms.p99),
    }


def _interval(ends: tuple[float, float] | None, means: Form) -> str:
    return UNKNOWN if ends is None else f"{means.text(ends[0])} to {means.text(ends[1])}"


def _latency(ms: float | None) -> str:
    if ms is None:
        return UNKNOWN
    return "under 0.01 ms" if 0.0 < ms < 0.005 else f"{ms:,.2f} ms"


def saved(comparison: Comparison, unit: str) -> str:
    """What was earned beyond an even split, with its interval: a gain is one where the interval
    says so."""
    value, ends = comparison.saved_against_even_split, comparison.saved_interval
    return "not known" if value is None or ends is None else amount(value, ends, unit)


def evaluation_texts(found: Evaluation, *, percent: bool) -> dict[str, Any]:
    """What another policy would have earned, as {"rows": [(estimator, mean, interval, sample
    size)], "said": sentences}."""
    if found.refused or found.logged is None:
        return {"rows": [], "said": sentence(found.refused or "")}
    estimates = [("As logged", found.logged)]
    estimates += [(ESTIMATORS[name].capitalize(), estimate) for name, estimate in found.estimates.items()]
    means = column([(estimate.value, estimate.interval) for _, estimate in estimates], percent=percent)
    rows = [
        (
            title,
            means.text(estimate.value),
            _interval(estimate.interval, means),
            f"{estimate.effective_sample_size:,.0f}",
        )
        for title, estimate in estimates
    ]
    shares = ", ".join(f"{arm} {share:.1%}" for arm, share in found.shares.items())
    said = f"From {found.decisions:,} matured decisions with a reward. It would have chosen {shares}."
    left_out = left_out_in_words(found)
    if left_out:
        said += f" Left out: {left_out}."
    return {"rows": rows, "said": " ".join([said, *(sentence(warning) for warning in found.warnings)])}


def shadow_rows(found: Results) -> list[tuple[str, ...]]:
    """Challengers of a shadow against the champion: (arm, predictions, agreement, difference, p50,
    p99, errors, right, champion right)."""
    rows: list[tuple[str, ...]] = []
    gaps = [arm.shadow.mean_absolute_difference or 0.0 for arm in found.arms if arm.shadow is not None]
    differences = form(gaps, percent=False)
    for arm in found.arms:
        shadow = arm.shadow
        if shadow is None:
            continue
        outcomes = shadow.outcomes
        rows.append(
            (
                arm.name,
                f"{shadow.predictions:,}",
                _or_dash(shadow.agreement, ".1%"),
                UNKNOWN
                if shadow.mean_absolute_difference is None
                else differences.at_least(shadow.mean_absolute_difference),
                _latency(shadow.latency_ms.p50),
                _latency(shadow.latency_ms.p99),
                _or_dash(shadow.error_rate, ".2%"),
                _or_dash(None if outcomes is None else outcomes.accuracy, ".1%"),
                _or_dash(None if outcomes is None else outcomes.champion_accuracy, ".1%"),
            )
        )
    return rows


def progress(evidence: EvidenceProgress) -> float | None:
    """How far the evidence is, from 0 to 1, on a logarithmic scale: it multiplies with each
    decision, so its logarithm is what adds."""
    value, needed = evidence.value, evidence.needed
    if value is None or needed is None or needed <= 1:
        return None
    return min(1.0, max(0.0, math.log(max(value, 1.0)) / math.log(needed)))


def answers_differ(found: Results) -> bool:
    """Is it shown that arms are answered at different rates?"""
    p = found.comparison.answers_p
    return p is not None and p < ALARM


def answers_said(found: Results) -> str:
    """How often arms are answered, in a sentence."""
    shares = [arm.answered for arm in found.arms if arm.answered is not None]
    if not shares:
        return NOT_COMPARED
    ends = dict.fromkeys((f"{min(shares):.0%}", f"{max(shares):.0%}"))
    said = f"{' to '.join(ends)} of decisions"
    if not answers_differ(found):
        return said
    return f"{said}: arms differ, so the table compares those who answered, not all who were served"


LABELS = {
    "decisions": "Decisions",
    "rewards": "Rewards",
    "evidence": "Evidence",
    "matured": "Decisions matured",
    "saved": "Against an even split",
    "step": "Step",
    "failures": "Failures",
    "means": "Mean reward",
    "copies": "Copies predicted, up to a minute ago",
    "agreement": "Agreement with the champion",
    "chosen": "Would have served",
    "sample_ratio": "Split against logged probabilities",
    "answers": "Rates of answers",
}
"""What a fact is called on the page."""

_ALL = ("decisions", "rewards")
_COMPARED = ("sample_ratio", "answers")
FACTS: dict[str, tuple[str, ...]] = {
    "ab": (*_ALL, "evidence", "matured", *_COMPARED),
    "bandit": (*_ALL, "evidence", "matured", "saved", *_COMPARED),
    "contextual": (*_ALL, "matured", "saved", "sample_ratio"),
    "apprentice": (*_ALL, "chosen"),
    "canary": ("step", *_ALL, "failures", "means", "evidence", *_COMPARED),
    "shadow": (*_ALL, "copies", "agreement"),
}
"""Which facts are of a strategy: another's would say nothing of it."""


def facts(found: Results, contextual: bool = False, reward: Reward | None = None) -> dict[str, str]:
    """Single figures and sentences of the page, as text: those of its strategy, in the order in
    which they are shown, and its frame's."""
    kind = str(found.strategy)
    if kind == "bandit":
        kind = "apprentice" if found.apprentice else "contextual" if contextual else kind
    evidence = found.evidence
    reward = reward or Reward()
    rows = cells(found, percent=is_rate(reward))
    texts = {
        "decisions": _decisions(found),
        "rewards": f"{found.rewards:,}",
        "matured": f"{evidence.matured:,}",
        "evidence": _evidence(found),
        "sample_ratio": _sample_ratio(found.comparison.sample_ratio_p),
        "answers": answers_said(found),
        "saved": saved(found.comparison, unit_of(reward)),
        "step": _step(found.canary),
        "failures": _by_arm(found, lambda arm: _or_dash(arm.error_rate, ".2%")),
        "means": _by_arm(found, lambda arm: rows[arm.name]["mean"]),
        "copies": _by_challenger(found, lambda arm: f"{arm.shadow.predictions:,}" if arm.shadow else UNKNOWN),
        "agreement": _by_challenger(found, lambda arm: _or_dash(arm.agreement, ".1%")),
        "chosen": _chosen(found.apprentice),
    }
    return {name: texts[name] for name in FACTS[kind]} | {
        "reason": sentence(found.recommendation.reason, [arm.name for arm in found.arms]),
        "policy_version": f"{found.policy_version:,}",
        "as_of": f"{found.as_of:%Y-%m-%d %H:%M:%S} UTC",
    }


def _decisions(found: Results) -> str:
    """Those that count, and beside them those that nobody was shown."""
    activation = found.activation
    if activation is None:
        return f"{found.decisions:,}"
    left = activation.decisions - activation.activated
    return f"{found.decisions:,}, and {left:,} not activated ({activation.share:.0%} of {activation.decisions:,} were)"


def _evidence(found: Results) -> str:
    """Whom the evidence is for, and how far it is; a canary's is told of the control, which it is
    held against."""
    evidence = found.evidence
    if evidence.value is None or evidence.needed is None or evidence.leader is None:
        return UNKNOWN
    if found.canary and not any(arm.is_control and arm.name == evidence.leader for arm in found.arms):
        return "none that the control is better"
    return f"for {evidence.leader}: {evidence_told(evidence.value, evidence.needed)}"


def _sample_ratio(p: float | None) -> str:
    if p is None:
        return "not known yet"
    if p < ALARM:
        return f"p < {ALARM:g}, not as logged: don't trust these figures"
    return f"p = {p:.3f}, as logged"


def _step(canary: CanaryState | None) -> str:
    if canary is None:
        return "not begun"
    return f"{canary.step} of {canary.steps}: {canary.weight:.0%} of the units since {canary.since:%H:%M:%S} UTC"


def _by_arm(found: Results, figure: Callable[[ResultsArm], str]) -> str:
    """A figure of the challenger beside the control's."""
    ordered = sorted(found.arms, key=lambda arm: bool(arm.is_control))
    return ", ".join(f"{arm.name} {figure(arm)}" for arm in ordered)


def _by_challenger(found: Results, text: Callable[[ResultsArm], str]) -> str:
    return ", ".join(f"{arm.name} {text(arm)}" for arm in found.arms if not arm.is_control)


def _chosen(apprentice: Apprentice | None) -> str:
    """Whom an apprentice would have served how often."""
    if apprentice is None or not apprentice.decisions:
        return UNKNOWN
    return ", ".join(f"{name} {_or_dash(share, '.1%')}" for name, share in apprentice.shares.items())


def segment_rows(found: Segments, *, percent: bool) -> list[tuple[str, str, str, list[str]]]:
    """What each segment would lose by one arm for all: (segment, decisions, share, a text an
    arm)."""
    losses = [one for part in found.segments for one in part.losses]
    beside = unit_of_differences([(one.loss, one.interval) for one in losses if one.loss is not None])
    return [
        (
            f"{part.field}: {part.segment}",
            f"{part.decisions:,}",
            f"{part.share:.1%}",
            [f"{loss.chosen:.0%}; {_loss(loss, beside, percent=percent)}" for loss in part.losses],
        )
        for part in found.segments
    ]


def _loss(one: SegmentLoss, beside: Form, *, percent: bool) -> str:
    if one.loss is None:
        return UNKNOWN
    if one.interval is None:
        return "too few to tell"
    return difference(one.loss, one.interval, percent=percent, beside=beside)
