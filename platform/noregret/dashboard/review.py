"""What an experiment will be, before it is made: all that its document says, in words, and what is
left at its defaults.

Sentences say what they know (`_TOLD`); whatever else is other than its default is told by its name
and value. So a field that is added to the document is told without a word here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from noregret.experiments.models import Arm, Experiment
from noregret.learning import clock
from noregret.planning import before_start
from noregret.rollout.creation import Draft
from noregret.rollout.setups import Caution
from noregret.rollout.warnings import cautions_of

from .document_form import without_numbers
from .document_parts import Leaf, Part, Rows
from .expectations import amount, long_span
from .experiment_form import ExperimentForm
from .words import in_words, percent, tells_promotion, warning_told

USUAL_LIFT = 0.1
"""How much better a challenger is supposed to be, where nobody says."""
_TOLD = {
    *("name", "endpoint", "strategy", "arms.name", "arms.model", "arms.weight", "arms.payload", "arms.cost"),
    *("policy.name", "policy.params", "policy.floor", "policy.burn_in"),
    *("reward.metric", "reward.kind", "reward.direction", "reward.window_seconds", "reward.default", "reward.pending"),
    *("reward.minimum", "reward.maximum"),
    *(
        "context.fields.name",
        "context.fields.type",
        "context.fields.values",
        "context.fields.min",
        "context.fields.max",
    ),
    *("canary.steps", "canary.bake_seconds", "canary.min_decisions", "canary.auto", "shadow.sample"),
    *("guardrails.metric", "guardrails.action", "guardrails.max", "guardrails.min", "guardrails.versus"),
    *("guardrails.min_decisions", "guardrails.alpha", "guardrails.minimum", "guardrails.maximum"),
    *("sticky", "holdout", "apprentice", "edge_evidence", "edge_exclusions"),
    *("schedule.start_at", "schedule.end_at", "schedule.max_seconds"),
}
"""Of these a sentence says what they are, whatever the rest is."""
_OF_PROMOTION = {
    f"promotion.{name}" for name in ("alpha", "indifference", "min_rewards", "min_seconds", "cooldown_seconds", "auto")
}


class ArmShown(Struct, frozen=True):
    """`besides`: what is known of it beside its model."""

    name: str
    model: str
    besides: list[str]


class Defaults(Struct, frozen=True):
    """Of a part of the document, what is as nobody said otherwise."""

    part: str
    values: str


class Review(Struct, frozen=True):
    arms: list[ArmShown]
    words: list[str]
    defaults: list[Defaults]
    cautions: list[Caution]
    expected: str
    starts_itself: bool

    @property
    def grave(self) -> bool:
        return any(caution.grave for caution in self.cautions)


def review(form: ExperimentForm, draft: Draft, lift: float) -> Review:
    """Of a form in which nothing is wrong."""
    experiment, arms = draft
    told = _TOLD | (_OF_PROMOTION if tells_promotion(experiment) else set())
    if experiment.schedule_.end_at or experiment.schedule_.max_seconds:
        told = told | {"schedule.at_end"}
    leaves = list(_leaves(form, form.root.members, "", form.body))
    others = [
        f"{form.label_of(path)}: {value_in_words(leaf, value)}."
        for path, leaf, value in leaves
        if without_numbers(path) not in told and not _is_default(leaf, value)
    ]
    return Review(
        arms=_arms(experiment, arms),
        words=[*in_words(experiment, arms)[1:], _begins(experiment), *others],
        defaults=_defaults(form, leaves),
        cautions=[
            Caution(warning_told(said, [arm.name for arm in arms]), grave)
            for said, grave in cautions_before_start(experiment, arms, lift)
        ],
        expected=_expected(experiment, arms, lift),
        starts_itself=experiment.schedule_.start_at is not None,
    )


def cautions_before_start(experiment: Experiment, arms: list[Arm], lift: float) -> list[Caution]:
    """What its settings and the simulation say against a start."""
    return [*cautions_of(experiment, arms), *before_start.cautions(experiment, arms, lift)]


def _expected(experiment: Experiment, arms: list[Arm], lift: float) -> str:
    """How long it would take, where that can be told."""
    policy = before_start.SPLIT if experiment.policy_ is None else experiment.policy_.name
    found = before_start.expected(experiment, arms, lift, [policy])
    return f"{found.days[policy][:1].upper()}{found.days[policy][1:]}. {found.assumed}" if found.days else found.assumed


def _arms(experiment: Experiment, arms: list[Arm]) -> list[ArmShown]:
    weights = [1.0 if arm.weight is None else arm.weight for arm in arms]
    is_split = experiment.strategy == Experiment.Strategy.AB
    shown = []
    for arm, weight in zip(arms, weights, strict=True):
        besides = [
            "control" if arm.is_control else "",
            f"{_share(weight / sum(weights))} of the traffic" if is_split else "",
            f"a decision costs {arm.cost:.15g}" if arm.cost else "",
            "" if arm.payload is None else f"payload {msgspec.json.encode(arm.payload).decode()}",
        ]
        shown.append(ArmShown(arm.name, arm.model.model, [each for each in besides if each]))
    return shown


def _share(share: float) -> str:
    """'94.7 %'; of very little as much as tells it from nothing."""
    return f"{100 * share:.1f} %" if share >= 0.005 or not share else f"{100 * share:.2g} %"


def _leaves(
    form: ExperimentForm, members: tuple[Any, ...], path: str, body: Mapping[str, Any] | None
) -> Iterator[tuple[str, Leaf, Any]]:
    """(path, leaf, value or UNSET) of all that the strategy has, as the page numbers its rows."""
    part = Part("", "", required=True, members=members)
    for member, at in form.members_of(part, path):
        value = UNSET if body is None else body.get(member.name, UNSET)
        match member:
            case Leaf():
                yield at, member, value
            case Part():
                yield from _leaves(form, member.members, at, value or None)
            case Rows():
                numbers = form.filled_rows(at)
                for number, row in zip(numbers, value or [], strict=False):
                    yield from _leaves(form, member.item.members, f"{at}[{number}]", row)


def _is_default(leaf: Leaf, value: Any) -> bool:
    return value is UNSET or value is None or (not leaf.required and value == leaf.default)


def value_in_words(leaf: Leaf, value: Any) -> str:
    """A value with its unit."""
    if value is UNSET or value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value_in_words(leaf, each) for each in value) or "none"
    if isinstance(value, int | float):
        if leaf.unit == "share":
            return percent(value)
        return long_span(value) if leaf.unit == "seconds" else amount(value, leaf.unit)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _defaults(form: ExperimentForm, leaves: list[tuple[str, Leaf, Any]]) -> list[Defaults]:
    """A line a part."""
    said: dict[str, list[str]] = {}
    absent: dict[str, list[str]] = {}
    for path, leaf, value in leaves:
        part, _, _ = path.rpartition(".")
        if leaf.required or not _is_default(leaf, value) or (part == "reward" and "reward" not in form.body):
            continue  # a reward that is not given may be the endpoint's: a sentence says which counts
        label = form.label_of(path).rpartition(", ")[2].lower().removesuffix(f" {leaf.unit}")
        told = value_in_words(leaf, leaf.default)
        into = absent if told == "not given" or leaf.default == {} else said
        into.setdefault(part, []).append(label if into is absent else f"{label} {told}")
    found = []
    for part in dict.fromkeys([*said, *absent]):
        values = said.get(part, []) + ([f"not given: {', '.join(absent[part])}"] if part in absent else [])
        found.append(Defaults(form.label_of(part) if part else "Experiment", "; ".join(values)))
    return found


def _begins(experiment: Experiment) -> str:
    """Whether it starts by itself."""
    at = experiment.schedule_.start_at
    if at is None:
        return "It starts when somebody starts it."
    told = f"{at:%Y-%m-%d %H:%M:%S} UTC"
    if at <= clock.now():
        return f"It starts by itself within seconds: {told} is past."
    return f"It starts by itself at {told}."
