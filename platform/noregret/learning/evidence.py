"""Which evidence an experiment's matured decisions make, and how rows of the ledger become a bucket of it. Reads no ledger itself.

Binary rewards are weighed within strata of one allocation, where neither propensities nor rates of answers matter; bounded others by
their logged propensities; those of a policy that looks at the request by weighted outcomes, for there both the probability and the mean
depend on who asks. Beside it stands the evidence that arms are answered at different rates, where silence means nothing.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from bandits.inference import evidence as inference
from bandits.inference.evidence import Bucket, Evidence
from bandits.inference.sample_ratio import ALARM, SampleRatio
from bandits.reward import RewardModel
from noregret.experiments.models import Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.experiments.rewards import reward_model

from .buckets import bucket_width, in_buckets
from .closed_rows import Row, Served
from .models import ArmStatistics, ExperimentEvidence
from .totals import are_probabilities, padded

RULES = 2
"""Grows when the same ledger gives other sums than before: the learner then computes an experiment's anew (upgrade)."""


def bounds_of(experiment: Experiment) -> tuple[RewardModel, tuple[float, float]] | None:
    """The reward and its bounds, or None where it has none, and so no anytime evidence."""
    model = reward_model(experiment)
    return None if model.bounds is None else (model, model.bounds)


def units_count_once(experiment: Experiment) -> bool:
    """Does a unit keep its arm, so that its many decisions are no independent trials?"""
    return experiment.strategy in (Experiment.Strategy.CANARY, Experiment.Strategy.AB) or experiment.sticky


def keeps_units(experiment: Experiment) -> bool:
    """Do units keep their arms, or their side of a holdout, so that the outcomes of each hang together?"""
    return units_count_once(experiment) or experiment.holdout > 0


def rule_of(experiment: Experiment) -> str:
    """How the experiment's outcomes are weighed."""
    if looks_at_requests(experiment):
        return "weighted"
    return "conditional" if experiment.reward_.kind == "binary" else "design"


def silence_means_nothing(experiment: Experiment) -> bool:
    """Has a decision that nobody answers no outcome?"""
    return experiment.reward_.default is None


def no_evidence(experiment: Experiment) -> Evidence:
    """What an experiment begins with."""
    indifference = experiment.promotion_.indifference
    return inference.empty(rule_of(experiment), experiment.arms.count(), indifference)


def evidence_of(experiment: Experiment, held: ExperimentEvidence) -> Evidence | None:
    """The evidence as it stands; None for a reward without bounds."""
    if bounds_of(experiment) is None:
        return None
    if not held.state or held.rules < RULES:
        return no_evidence(experiment)
    # An arm that was added since begins without evidence.
    return inference.from_dict(held.state).with_arms(experiment.arms.count())


def answers_are_compared(experiment: Experiment) -> bool:
    """Could arms that are alike be answered alike? Not where a policy gives them different requests."""
    return silence_means_nothing(experiment) and not looks_at_requests(experiment)


FAILING = 0.01
"""An arm that fails in more of its decisions lacks too many outcomes for the others to be weighed by their probabilities."""


def not_comparable(experiment: Experiment, held: ExperimentEvidence) -> str:
    """Why nothing is done by itself on the evidence there is, in words; empty where nothing stands against it."""
    ratio = split_of(experiment, held).p
    if ratio is not None and ratio < ALARM:
        return "the split did not go as logged, so none of the figures can be trusted: find out what routes otherwise"
    if rule_of(experiment) == "conditional":
        return ""
    if silence_means_nothing(experiment):
        return (
            "arms may be answered unevenly, and without reward.default their means can't be compared by themselves: "
            "promote by hand, or give a default"
        )
    for row in ArmStatistics.objects.filter(arm__experiment=experiment, arm__enabled=True).select_related("arm"):
        if row.failures > FAILING * row.decisions:
            return (
                f"{row.arm.name} failed in {row.failures:,} of {row.decisions:,} decisions, which have no reward: "
                "arms can't be compared by the others alone"
            )
    return ""


def no_answers(experiment: Experiment) -> Evidence:
    """Nothing known of how often arms are answered."""
    return inference.empty("conditional", experiment.arms.count())


def answers_of(experiment: Experiment, held: ExperimentEvidence) -> Evidence | None:
    """Evidence on the rates of answers, an outcome being "answered"; None where silence means a reward, or arms get unlike requests."""
    if not answers_are_compared(experiment):
        return None
    if not held.answers or held.rules < RULES:
        return no_answers(experiment)
    return inference.from_dict(held.answers).with_arms(experiment.arms.count())


def split_of(experiment: Experiment, held: ExperimentEvidence) -> SampleRatio:
    """How trials fell on the arms, against their logged probabilities."""
    arms = experiment.arms.count()
    if not held.split or held.rules < RULES:
        return SampleRatio.zeros(arms)
    return SampleRatio.from_dict(held.split).with_arms(arms)


def replay(experiment: Experiment, evidence: Evidence | None, rows: Iterable[Row]) -> Evidence | None:
    """The evidence after these rows, which come in order of decision time, whole buckets at a time.

    Rows that can't be weighed are passed over, here and in a rebuild alike: a damaged row must not stop all others.
    """
    bounded = bounds_of(experiment)
    if evidence is None or bounded is None:
        return None
    model, (low, high) = bounded
    seats = seats_of(experiment)
    by_version = _learns(experiment)
    width = bucket_width(experiment.reward_.window_seconds)
    grouped = in_buckets((row for row in rows if can_be_weighed(row, seats)), width)

    def weighed(bucket: list[Row]) -> Bucket:
        outcome = np.clip((np.array([row.value for row in bucket]) - low) / (high - low), 0.0, 1.0)
        return _bucket(bucket, 1.0 - outcome if model.direction == "minimize" else outcome, seats, by_version)

    return evidence.observe_all(map(weighed, grouped))


def replay_answers(experiment: Experiment, answers: Evidence | None, served: Iterable[Served]) -> Evidence | None:
    """What is known of the rates of answers after these decisions, as for `replay`."""
    if answers is None:
        return None
    seats = seats_of(experiment)
    by_version = _learns(experiment)
    width = bucket_width(experiment.reward_.window_seconds)
    grouped = in_buckets((row for row in served if can_be_weighed(row, seats)), width)

    def weighed(bucket: list[Served]) -> Bucket:
        return _bucket(bucket, np.array([float(row.answered) for row in bucket]), seats, by_version)

    return answers.observe_all(map(weighed, grouped))


def seats_of(experiment: Experiment) -> dict[int, int]:
    """Position by arm id."""
    return {arm: i for i, arm in enumerate(experiment.arms.order_by("position").values_list("pk", flat=True))}


def _bucket(
    rows: Sequence[Row] | Sequence[Served], outcome: NDArray[np.float64], seats: dict[int, int], by_version: bool
) -> Bucket:
    propensities = np.array([padded(row.propensities, len(seats)) for row in rows])
    return Bucket(
        np.array([seats[row.arm_id] for row in rows]),
        outcome,
        propensities,
        np.array([row.policy_version for row in rows]) if by_version else _labels(propensities),
    )


def _learns(experiment: Experiment) -> bool:
    """Does what was learned change the allocation? Then a stratum is of one policy version: an allocation that comes back when outcomes
    make it (the same arm leads again) would let them steer where the stratum ends."""
    policy = experiment.policy_
    return policy is not None and policy.name != "uniform"


def _labels(propensities: NDArray[np.float64]) -> NDArray[np.int64]:
    """One number for each allocation of a fixed split, the same whenever it comes: by the probabilities and not by the policy version,
    for a split that is published anew each second stays one allocation, and slow traffic its strata."""
    distinct, which = np.unique(propensities, axis=0, return_inverse=True)
    # Without the zeros of arms that were added later: the allocation did not know them.
    known = [np.trim_zeros(row, "b").tobytes() for row in distinct]
    numbers = [int.from_bytes(blake2b(vector, digest_size=8).digest(), "big") >> 1 for vector in known]
    return np.array(numbers, dtype=np.int64)[which.ravel()]


def can_be_weighed(row: Row | Served, seats: dict[int, int]) -> bool:
    """Does its arm belong to the experiment, and had every arm of that time a probability, the chosen one's more than 0?"""
    seat = seats.get(row.arm_id)
    if seat is None or not seat < len(row.propensities) <= len(seats) or not are_probabilities(row.propensities):
        return False
    if not row.propensities[seat] > 0.0:
        return False
    # Fewer than there are arms now: before some were added, all of them; or else the row is damaged.
    return len(row.propensities) == len(seats) or abs(sum(row.propensities) - 1.0) < 1e-6
