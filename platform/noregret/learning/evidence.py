"""Which evidence an experiment's matured decisions make, and how rows of the ledger become a bucket
of it. Reads no ledger itself.

Binary rewards are weighed within strata of one allocation, where neither propensities nor rates of
answers matter; bounded others by their logged propensities; those of a policy that looks at the
request by weighted outcomes, for there both the probability and the mean depend on who asks. Beside
it stands the evidence that arms are answered at different rates, where silence means nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from bandits.inference import evidence as inference
from bandits.inference.conditional import ConditionalEvidence
from bandits.inference.counted import Counts, distinct
from bandits.inference.evidence import Bucket, Evidence
from bandits.inference.sample_ratio import ALARM, SampleRatio
from bandits.reward import RewardModel
from noregret.experiments.models import Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.experiments.rewards import reward_model

from .buckets import bucket_number, bucket_width, in_buckets
from .closed_rows import Counted, Row, Served
from .models import ArmStatistics, ExperimentEvidence
from .totals import are_probabilities, probabilities

RULES = 2
"""Grows when the same ledger gives other sums than before: the learner then computes an
experiment's anew (upgrade)."""


def bounds_of(experiment: Experiment) -> tuple[RewardModel, tuple[float, float]] | None:
    """The reward and its bounds, or None where it has none, and so no anytime evidence."""
    model = reward_model(experiment)
    return None if model.bounds is None else (model, model.bounds)


def units_count_once(experiment: Experiment) -> bool:
    """Does a unit keep its arm, so that its many decisions are no independent trials?"""
    return experiment.strategy in (Experiment.Strategy.CANARY, Experiment.Strategy.AB) or experiment.sticky


def keeps_units(experiment: Experiment) -> bool:
    """Do units keep their arms, or their side of a holdout, so that the outcomes of each hang
    together?"""
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
    """Could arms that are alike be answered alike? Not where a policy gives them different
    requests."""
    return silence_means_nothing(experiment) and not looks_at_requests(experiment)


FAILING = 0.01
"""An arm that fails in more of its decisions lacks too many outcomes for the others to be weighed
by their probabilities."""


def not_comparable(experiment: Experiment, held: ExperimentEvidence) -> str:
    """Why nothing is done by itself on the evidence there is, in words; empty where nothing stands
    against it."""
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
    """Evidence on the rates of answers, an outcome being "answered"; None where silence means a
    reward, or arms get unlike requests."""
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


def replay(experiment: Experiment, evidence: Evidence | None, rows: Sequence[Row]) -> Evidence | None:
    """The evidence after these rows, which come in order of decision time, whole buckets at a time.

    Rows that can't be weighed are passed over, here and in a rebuild alike: a damaged row must not
    stop all others.
    """
    bounded = bounds_of(experiment)
    if evidence is None or bounded is None:
        return None
    if not rows:
        return evidence
    return evidence.observe_all(_weighed(experiment, rows, _outcomes(bounded, [row.value for row in rows])))


def _outcomes(bounded: tuple[RewardModel, tuple[float, float]], values: Sequence[float]) -> NDArray[np.float64]:
    """Values of rewards (n,) on [0, 1], larger being better."""
    model, (low, high) = bounded
    outcome = np.clip((np.array(values, dtype=np.float64) - low) / (high - low), 0.0, 1.0)
    return 1.0 - outcome if model.direction == "minimize" else outcome


def replay_answers(experiment: Experiment, answers: Evidence | None, served: Sequence[Served]) -> Evidence | None:
    """What is known of the rates of answers after these decisions, as for `replay`."""
    if answers is None or not served:
        return answers
    return answers.observe_all(
        _weighed(experiment, served, np.array([row.answered for row in served], dtype=np.float64))
    )


def replay_counted(experiment: Experiment, evidence: Evidence | None, rows: Sequence[Counted]) -> Evidence | None:
    """As `replay`, of evidence whose rule needs nothing but counts."""
    bounded = bounds_of(experiment)
    answered = [row for row in rows if row.value is not None]
    if bounded is None or not isinstance(evidence, ConditionalEvidence) or not answered:
        return evidence
    outcome = _outcomes(bounded, [row.value for row in answered if row.value is not None])
    return evidence.observe_counts(_counts(experiment, answered, outcome))


def replay_counted_answers(
    experiment: Experiment, answers: Evidence | None, rows: Sequence[Counted]
) -> Evidence | None:
    """As `replay_answers`."""
    if not isinstance(answers, ConditionalEvidence) or not rows:
        return answers
    answered = np.array([row.value is not None for row in rows], dtype=np.float64)
    return answers.observe_counts(_counts(experiment, rows, answered))


def _counts(experiment: Experiment, rows: Sequence[Counted], outcome: NDArray[np.float64]) -> Counts:
    """The rows that can be weighed; `outcome` (n,) is of all."""
    seats = seats_of(experiment)
    seat = np.array([seats.get(row.arm_id, -1) for row in rows], dtype=np.int64)
    propensities, weighable = _weighable([row.propensities for row in rows], seat, len(seats))
    kept = np.flatnonzero(weighable)
    vectors, vector = distinct(propensities[kept])
    width = bucket_width(experiment.reward_.window_seconds)
    bucket, versions, decisions = np.array(
        [(bucket_number(row.decided_at, width), row.policy_version, row.decisions) for row in rows], dtype=np.int64
    )[kept].T
    allocation = versions if _learns(experiment) else _labels(vectors)[vector]
    return Counts(bucket, seat[kept], outcome[kept], allocation, vectors, vector, decisions)


def seats_of(experiment: Experiment) -> dict[int, int]:
    """Position by arm id."""
    return {arm: i for i, arm in enumerate(experiment.arms.order_by("position").values_list("pk", flat=True))}


def _weighed(experiment: Experiment, rows: Sequence[Row | Served], outcome: NDArray[np.float64]) -> Iterator[Bucket]:
    """The rows that can be weighed, bucket by bucket; `outcome` (n,) is of all."""
    seats = seats_of(experiment)
    seat = np.array([seats.get(row.arm_id, -1) for row in rows], dtype=np.int64)
    propensities, weighable = _weighable([row.propensities for row in rows], seat, len(seats))
    kept = np.flatnonzero(weighable)
    seat, outcome, propensities = seat[kept], outcome[kept], propensities[kept]
    eligible = eligible_arms([rows[i].excluded for i in kept.tolist()], seats)
    versions = np.array([row.policy_version for row in rows], dtype=np.int64)
    allocation = versions[kept] if _learns(experiment) else _labels(propensities)
    place = 0
    for bucket in in_buckets(rows, bucket_width(experiment.reward_.window_seconds)):
        start, end = np.searchsorted(kept, (place, place := place + len(bucket)))
        if start < end:
            yield Bucket(
                seat[start:end],
                outcome[start:end],
                propensities[start:end],
                allocation[start:end],
                None if eligible is None else eligible[start:end],
            )


def eligible_arms(excluded: Sequence[Sequence[int] | None], seats: Mapping[int, int]) -> NDArray[np.bool_] | None:
    """Which arms each of n requests was for, (n, K), of the arms by id that it excluded; None where
    all were for all."""
    if not any(excluded):
        return None
    eligible = np.ones((len(excluded), len(seats)), dtype=np.bool_)
    for i, arms in enumerate(excluded):
        if arms:
            eligible[i, [seats[arm] for arm in arms if arm in seats]] = False
    return eligible


def _weighable(
    propensities: Sequence[Sequence[float]], seat: NDArray[np.int64], arms: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Propensities as (n, arms), and `can_be_weighed` of each row.

    `seat` (n,) is -1 where the arm is none of the experiment's.
    """
    shares, known = probabilities(propensities, arms)
    sizes = np.array([len(each) for each in propensities], dtype=np.int64)
    chosen = shares[np.arange(len(seat)), seat] > 0.0
    # Fewer than there are arms now: before some were added, all of them; or else the row is
    # damaged.
    whole = (sizes == arms) | ((sizes < arms) & (np.abs(shares.sum(axis=1) - 1.0) < 1e-6))
    return shares, known & (seat >= 0) & (seat < sizes) & chosen & whole


def _learns(experiment: Experiment) -> bool:
    """Does what was learned change the allocation? Then a stratum is of one policy version: an
    allocation that comes back when outcomes make it (the same arm leads again) would let them steer
    where the stratum ends."""
    policy = experiment.policy_
    return policy is not None and policy.name != "uniform"


def _labels(propensities: NDArray[np.float64]) -> NDArray[np.int64]:
    """One number for each allocation of a fixed split, the same whenever it comes: by the
    probabilities and not by the policy version, for a split that is published anew each second
    stays one allocation, and slow traffic its strata."""
    if not len(propensities):
        return np.zeros(0, dtype=np.int64)
    vectors, which = distinct(propensities)
    # Without the zeros of arms that were added later: the allocation did not know them.
    known = [np.trim_zeros(vector, "b").tobytes() for vector in vectors]
    numbers = [int.from_bytes(blake2b(one, digest_size=8).digest(), "big") >> 1 for one in known]
    labels: NDArray[np.int64] = np.array(numbers, dtype=np.int64)[which]
    return labels


def can_be_weighed(row: Row | Served, seats: dict[int, int]) -> bool:
    """Does its arm belong to the experiment, and had every arm of that time a probability, the
    chosen one's more than 0?"""
    seat = seats.get(row.arm_id)
    if seat is None or not seat < len(row.propensities) <= len(seats) or not are_probabilities(row.propensities):
        return False
    if not row.propensities[seat] > 0.0:
        return False
    # Fewer than there are arms now: before some were added, all of them; or else the row is
    # damaged.
    return len(row.propensities) == len(seats) or abs(sum(row.propensities) - 1.0) < 1e-6
