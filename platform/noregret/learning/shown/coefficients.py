"""What each field of a request changes at each arm, by the contextual policy's own models: which
arm is for whom, as its coefficients have it. Reads kept sums only.

A number's effect is what the arm's reward changes by from the field's least to its greatest value;
a category's value is held against the average of the field's values. Intervals are 95 % of the
model's posterior at one moment; of a linear model with the spread of the arm's own rewards, which
is no less than what the features leave unexplained. Of very many only those are told on which arms
differ most surely.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from bandits.context import Category, ContextSchema
from bandits.policies.index import unit_scale
from bandits.posteriors import LinearStatistics
from bandits.reward import RewardModel
from bandits.statistics import Array
from noregret.experiments.models import Experiment
from noregret.experiments.rewards import reward_model
from noregret.learning.contextual import Models, policy_of
from noregret.learning.models import ExperimentEvidence

MOST_PARTS = 12
MOST_ARMS = 8
"""Those with most rewards."""
MOST_WORK = 2e9
"""Arms times cubed features: the inverses of a larger one take seconds."""
_WIDTH = 1.959964


class ArmEffect(Struct, frozen=True):
    """None where the arm has no reward yet."""

    arm: str
    value: float | None
    interval: tuple[float, float] | None


class PartEffect(Struct, frozen=True):
    """Of a category's value, or of a number from its least to its greatest."""

    field: str
    part: str
    effects: list[ArmEffect]


class Coefficients(Struct, frozen=True):
    """`unit` of the effects: rewards, or log-odds of a good outcome. `parts_in_all` and
    `arms_in_all`: how many there are, told or not. `missing`: why there are no parts."""

    unit: Literal["reward", "log_odds"]
    parts: list[PartEffect]
    parts_in_all: int
    arms_in_all: int
    missing: str


class _Part(NamedTuple):
    field: str
    part: str
    contrast: Array


def of_experiment(experiment: Experiment) -> Coefficients | None:
    """From the closed buckets; None for a policy that does not learn from features."""
    policy = policy_of(experiment)
    if policy is None:
        return None
    unit: Literal["reward", "log_odds"] = "log_odds" if policy.model == "logistic" else "reward"
    arms = list(experiment.arms.order_by("position").values_list("name", "statistics__rewards"))
    learned = ExperimentEvidence.objects.values_list("learned", flat=True).get(experiment=experiment)
    schema = ContextSchema.from_document(msgspec.to_builtins(experiment.context_.fields))

    def none(why: str) -> Coefficients:
        return Coefficients(unit, [], 0, len(arms), why)

    if not schema.fields:
        return none("No field is declared: every request looks the same to the policy.")
    if not learned:
        return none("Not known before decisions with a reward have matured.")
    if len(arms) * schema.features**3 > MOST_WORK:
        return none(f"Not told of so many: {len(arms)} arms of {schema.features} features.")
    model = reward_model(experiment)
    belief = Models(experiment, policy, learned, model).belief()
    mean, covariance = belief.mean, belief.covariance
    known = np.array([bool(rewards) for _, rewards in arms])
    counts: Array | None = None
    if policy.model == "linear":
        statistics = LinearStatistics.from_dict(learned).with_arms(len(arms))
        scale, noise = _scale_and_noise(statistics, model)
        mean, covariance = scale * mean, np.square(scale * noise)[:, None, None] * covariance
        counts = statistics.features.sum(axis=0)
    parts = list(_parts(schema, counts))
    told = np.array([part.contrast for part in parts])
    values = told @ mean.T
    errors = np.sqrt(np.maximum(np.einsum("pd,kde,pe->pk", told, covariance, told, optimize=True), 0.0))
    seats = sorted(sorted(range(len(arms)), key=lambda i: -(arms[i][1] or 0))[:MOST_ARMS])
    order = np.argsort(-_sureness(values, errors, known), kind="stable")[:MOST_PARTS]
    return Coefficients(
        unit,
        [
            PartEffect(
                parts[p].field,
                parts[p].part,
                [_effect(arms[k][0], bool(known[k]), float(values[p, k]), float(errors[p, k])) for k in seats],
            )
            for p in order
        ],
        len(parts),
        len(arms),
        "" if known.any() else "Not known before decisions with a reward have matured.",
    )


def _effect(arm: str, known: bool, value: float, error: float) -> ArmEffect:
    if not known or not np.isfinite(value) or not np.isfinite(error):
        return ArmEffect(arm, None, None)
    return ArmEffect(arm, value, (value - _WIDTH * error, value + _WIDTH * error))


def _scale_and_noise(statistics: LinearStatistics, reward: RewardModel) -> tuple[float, Array]:
    """(scale, noise): rewards of one unit of the model's scale, and each arm's deviation (K,) on
    that scale."""
    pooled = statistics.rewards.pooled()
    scale = float(np.ravel(unit_scale(pooled, reward)[1])[0])
    count, m2 = statistics.rewards.count, statistics.rewards.m2
    whole = float(np.sqrt(np.ravel(pooled[2])[0] / max(float(np.ravel(pooled[0])[0]), 1.0)))
    own = np.sqrt(m2 / np.maximum(count, 1.0))
    # Of a few rewards that happen to be alike nothing is sure.
    return scale, np.where((count >= 30) & (own > 0), own, max(whole, 0.05 * abs(scale))) / abs(scale)


def _parts(schema: ContextSchema, counts: Array | None) -> Iterator[_Part]:
    """What is told of each field. `counts` (d,): how often each column was seen; without them a
    category's values weigh the same."""
    column = 1
    for field in schema.fields:
        width = len(field.columns)
        if not isinstance(field, Category):
            contrast = np.zeros(schema.features)
            contrast[column] = 1.0
            yield _Part(field.name, f"from {field.minimum:.15g} to {field.maximum:.15g}", contrast)
        else:
            seen = np.array([1.0] * (width - 1) + [0.0]) if counts is None else counts[column : column + width]
            total = float(seen.sum())
            for i, level in enumerate((*field.values, "other or unknown")):
                if seen[i] <= 0.0 or total <= 0.0:
                    continue
                contrast = np.zeros(schema.features)
                contrast[column : column + width] -= seen / total
                contrast[column + i] += 1.0
                yield _Part(field.name, level, contrast)
        column += width


def _sureness(values: Array, errors: Array, known: Array) -> Array:
    """How surely some arm differs from another, or with one arm from none, by part (P,)."""
    if known.sum() == 0:
        return np.zeros(len(values))
    values, errors = values[:, known], errors[:, known]
    if values.shape[1] == 1:
        return np.abs(values[:, 0]) / np.maximum(errors[:, 0], 1e-300)
    apart = np.abs(values[:, :, None] - values[:, None, :])
    spread = np.sqrt(np.square(errors)[:, :, None] + np.square(errors)[:, None, :])
    return np.asarray((apart / np.maximum(spread, 1e-300)).max(axis=(1, 2)), dtype=np.float64)
