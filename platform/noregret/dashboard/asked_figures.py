"""What the page of an experiment shows of figures that a worker makes: which arm for whom, and what
another policy would have earned."""

from typing import Any

from bandits import policies
from noregret.experiments.models import Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.learning.shown.asked import SEGMENTS, Known, evaluation_by, look

from .arm_table import serves_nobody
from .figures import evaluation_texts, segment_rows
from .for_whom import effects_of, shares_of
from .words import is_rate, sentence

EVALUATION = "evaluation"
_BEING_MADE = "It is being computed, and stands here in some seconds."


def can_be_asked(experiment: Experiment) -> bool:
    """Has it made decisions that somebody got?"""
    return experiment.started_at is not None and not serves_nobody(experiment)


def asked_of(experiment: Experiment, policy: str) -> dict[str, Known]:
    """By name what is known of the figures that this page shows; `policy`: whose earnings are asked
    for, empty for none."""
    if not can_be_asked(experiment):
        return {}
    names = {}
    if looks_at_requests(experiment) and not experiment.apprentice:
        names[SEGMENTS] = SEGMENTS
    if policy in _choices(experiment):
        names[EVALUATION] = evaluation_by(policy)
    return {name: look(experiment, what) for name, what in names.items()}


def _choices(experiment: Experiment) -> list[str]:
    """Policies that can be asked for: those that learn from features where some are declared."""
    schema = bool(experiment.context_.fields)
    return [name for name in policies.names() if schema or name not in policies.contextual_names()]


def segments_shown(experiment: Experiment, known: Known | None) -> dict[str, Any]:
    """`segments` with rows and time, and what the page draws of it and of coefficients; or
    `segments_missing`: why there is none."""
    told = None if known is None else known.told
    if told is None or (told.segments is None and (told.coefficients is None or told.coefficients.missing)):
        return {"segments": None, "segments_missing": _missing(known)}
    names = list(experiment.arms.order_by("position").values_list("name", flat=True))
    percent = is_rate(experiment.reward_)
    effects = None if told.coefficients is None else effects_of(told.coefficients, names, percent=percent)
    shares = None if told.segments is None else shares_of(told.segments, told.coefficients, names)
    return {
        "segments": told.segments,
        "segments_at": told.when,
        "segment_rows": [] if told.segments is None else segment_rows(told.segments, percent=percent),
        "segments_missing": "Not known before decisions with a reward have matured.",
        "effects": effects,
        "shares_of_parts": shares,
        "tables": [table for table in (effects, shares) if table is not None],
    }


def _missing(known: Known | None) -> str:
    if known is not None and known.problem:
        return sentence(known.problem)
    if known is not None and known.told is None and known.is_made:
        return _BEING_MADE
    return "Not known before decisions with a reward have matured."


def evaluation_shown(experiment: Experiment, policy: str, asked: dict[str, Known]) -> dict[str, Any]:
    """The question what another policy would have earned, and what is known of the answer."""
    answer: dict[str, Any] = {"choices": _choices(experiment), "asked": "", "rows": [], "said": "", "at": None}
    known = asked.get(EVALUATION)
    if known is None:
        return answer
    answer["asked"] = policy
    if known.told is None:
        return {**answer, "said": sentence(known.problem) if known.problem else _BEING_MADE}
    answer["at"] = known.told.when
    if known.told.evaluation is None:
        return {**answer, "said": sentence(known.told.refused)}
    return {**answer, **evaluation_texts(known.told.evaluation, percent=is_rate(experiment.reward_))}
