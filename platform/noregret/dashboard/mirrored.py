"""What a page shows of what serves nobody, a shadow's challengers and an apprentice: where they
differ, and what speaks for giving them traffic."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from django.db import connection
from msgspec import Struct

from noregret.experiments.models import Experiment
from noregret.learning.shown.results import Results, ResultsArm
from noregret.learning.shown.shadow_comparison import Disagreement, Outcomes, ShadowComparison
from noregret.rest.encoding import encoded

from .verdicts import told
from .verdicts.compared import ENOUGH_OUTCOMES, right_more_often
from .verdicts.troubles import FAILING

Tone = Literal["good", "wait", "bad"]
_RARE = 0.01
"""So few failures speak for a model."""


class Bar(Struct, frozen=True):
    """One bar of a histogram: `height` of the tallest in per cent, and its place."""

    label: str
    count: int
    x: str
    width: str
    y: str
    height: str


class Example(Struct, frozen=True):
    """A request on which a challenger and the champion differ."""

    at: datetime
    decision: str
    asked: str
    champion: str
    predicted: str


class Reason(Struct, frozen=True):
    """A question, its answer, and whether that speaks for the model, is open, or speaks against
    it."""

    question: str
    text: str
    tone: Tone


class Challenger(Struct, frozen=True):
    """A shadow's challenger: what speaks for it, where and how it differs. `counts`: what stands
    beside the bars, from the top; `most`: the largest difference."""

    name: str
    reasons: list[Reason]
    bars: list[Bar]
    counts: list[str]
    most: str
    examples: list[Example]
    missing: str


_ASKED = """
SELECT id::text, context::text, request_id FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at = ANY(%(at)s) AND id = ANY(%(ids)s::uuid[])
"""


def challengers(experiment: Experiment, results: Results) -> list[Challenger]:
    """Each challenger that has answered copies."""
    compared = [(arm.name, arm.shadow) for arm in results.arms if arm.shadow is not None and not arm.is_control]
    asked = _asked(experiment, [example for _, shadow in compared for example in shadow.examples])
    return [_challenger(name, shadow, asked) for name, shadow in compared]


def _asked(experiment: Experiment, examples: list[Disagreement]) -> dict[str, tuple[str | None, str | None]]:
    """Context and request id by decision: what the ledger keeps of a request."""
    if not examples:
        return {}
    at = [example.decided_at for example in examples]
    ids = [example.decision for example in examples]
    with connection.cursor() as cursor:
        cursor.execute(_ASKED, {"experiment": experiment.pk, "at": at, "ids": ids})
        return {row[0]: (row[1], row[2]) for row in cursor.fetchall()}


def _challenger(name: str, shadow: ShadowComparison, asked: dict[str, tuple[str | None, str | None]]) -> Challenger:
    tallest = max((one.count for one in shadow.histogram), default=0)
    width = 100.0 / max(len(shadow.histogram), 1)
    ends = told.values([0.0, *(one.end for one in shadow.histogram)], percent=False)
    bars = [
        Bar(
            f"{ends[i]} to {ends[i + 1]}",
            one.count,
            f"{i * width + 0.1 * width:.2f}%",
            f"{0.8 * width:.2f}%",
            f"{100.0 - 100.0 * one.count / tallest:.2f}%",
            f"{100.0 * one.count / tallest:.2f}%",
        )
        for i, one in enumerate(shadow.histogram)
        if tallest
    ]
    return Challenger(
        name=name,
        reasons=_of_challenger(shadow),
        bars=bars,
        counts=[f"{tallest:,}", "0"],
        most=ends[-1],
        examples=[_example(one, asked.get(one.decision)) for one in shadow.examples],
        missing="" if bars else "No difference has a size: answers are equal, or no numbers.",
    )


def _example(one: Disagreement, asked: tuple[str | None, str | None] | None) -> Example:
    context, request_id = asked or (None, None)
    parts = [context or "", f"request {request_id}" if request_id else ""]
    said = ", ".join(part for part in parts if part)
    return Example(one.decided_at, one.decision, said, _short(one.champion), _short(one.predicted))


def _short(answer: Any) -> str:
    """An answer as its JSON, cut where it is long."""
    text = encoded(answer).decode()
    return text if len(text) <= 120 else f"{text[:117]}..."


def _of_challenger(shadow: ShadowComparison) -> list[Reason]:
    """What to look at before it is promoted."""
    agreed = (
        "Not known: their answers were not compared."
        if shadow.agreement is None
        else f"They agree on {shadow.agreement:.1%}."
    )
    looked = f"{agreed} Look at the newest examples below." if shadow.examples else agreed
    differs = Reason("Where do they differ?", looked, "wait")
    return [_right(shadow), _answers(shadow.error_rate, shadow.predictions), _fast(shadow), differs]


def _right(shadow: ShadowComparison) -> Reason:
    question, outcomes = "Is it right as often as the champion?", shadow.outcomes
    if outcomes is None:
        return Reason(question, "Not known: send what was true as feedback on the metric outcome.", "wait")
    if outcomes.accuracy is not None and outcomes.champion_accuracy is not None:
        return _more_often(question, outcomes.accuracy, outcomes.champion_accuracy, outcomes.count, "the champion")
    if outcomes.mean_absolute_error is None or outcomes.champion_mean_absolute_error is None:
        return Reason(question, f"Not known: {_no_numbers(outcomes)}.", "wait")
    own, champion = outcomes.mean_absolute_error, outcomes.champion_mean_absolute_error
    texts = told.values([own, champion], percent=False)
    tone: Tone = "wait" if outcomes.count < ENOUGH_OUTCOMES else "good" if own <= champion else "bad"
    said = f"Off by {texts[0]} on average, the champion by {texts[1]}, on {outcomes.count:,} outcomes."
    return Reason(question, said, tone)


def _no_numbers(outcomes: Outcomes) -> str:
    """Which of what would be held against an outcome has no number: outcomes are always numbers."""
    if outcomes.champion_mean_absolute_error is not None:
        return "its answers are no numbers, and an outcome is one"
    if outcomes.mean_absolute_error is not None:
        return "the champion's answers are no numbers, and an outcome is one"
    return "the models' answers are no numbers, and an outcome is one"


def _more_often(question: str, own: float, other: float, count: int, whom: str) -> Reason:
    """Rates of being right, on the same requests."""
    if count < ENOUGH_OUTCOMES:
        return Reason(question, f"Not known yet: {count:,} of {ENOUGH_OUTCOMES} outcomes were told.", "wait")
    low, high = right_more_often(own, other, count)
    texts = told.values([own, other], percent=True)
    apart = told.difference(own - other, (low, high), percent=True)
    said = f"Right in {texts[0]}, {whom} in {texts[1]}, of {count:,} outcomes: {apart}"
    if low > 0.0:
        return Reason(question, f"{said}, which is shown to be more.", "good")
    if high < 0.0:
        return Reason(question, f"{said}, which is shown to be less.", "bad")
    return Reason(question, f"{said}, which is not told apart from nothing.", "wait")


def _answers(rate: float, asked: int) -> Reason:
    tone: Tone = "bad" if rate > FAILING else "wait" if rate > _RARE else "good"
    failed = "none" if not rate else told.values([rate], percent=True)[0]
    return Reason("Does it answer?", f"It failed on {failed} of {told.counted(asked, 'copy', 'copies')}.", tone)


def _fast(shadow: ShadowComparison) -> Reason:
    own, champion = shadow.latency_ms.p99, shadow.champion_latency_ms.p99
    if own is None or champion is None:
        return Reason("Is it fast enough?", "Not known: no answer was timed.", "wait")
    said = f"Its model's p99 is {own:,.2f} ms, the champion's {champion:,.2f} ms on the same requests."
    if own <= champion:
        return Reason("Is it fast enough?", said, "good")
    return Reason("Is it fast enough?", f"{said} Hold it against the endpoint's deadline.", "wait")


def choices(results: Results) -> list[tuple[str, str]]:
    """How often an apprentice would have chosen each arm: (arm, share)."""
    shares = {} if results.apprentice is None else results.apprentice.shares
    return [(name, "–" if share is None else f"{share:.1%}") for name, share in shares.items()]


def trusted(results: Results) -> list[Reason]:
    """What speaks for activating an apprentice."""
    question = "Is its choice right more often than the control?"
    scored = None if results.apprentice is None else results.apprentice.outcomes
    if scored is None or scored.accuracy is None or scored.control_accuracy is None:
        right = Reason(question, "Not known: send what was true as feedback on the metric outcome.", "wait")
    else:
        right = _more_often(question, scored.accuracy, scored.control_accuracy, scored.count, "the control")
    return [right, _its_arms([arm for arm in results.arms if not arm.is_control])]


def _its_arms(arms: Sequence[ResultsArm]) -> Reason:
    question = "Do its arms answer?"
    known = [(arm.name, arm.shadow) for arm in arms if arm.shadow is not None]
    if not known:
        return Reason(question, "Not known: none has answered a copy. Guardrails watch them once it serves.", "wait")
    worst = max(shadow.error_rate for _, shadow in known)
    each = ", ".join(f"{name} failed on {told.values([shadow.error_rate], percent=True)[0]}" for name, shadow in known)
    return Reason(question, f"Of copies {each}.", "bad" if worst > FAILING else "wait" if worst > _RARE else "good")
