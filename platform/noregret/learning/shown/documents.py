"""What an experiment has shown, as types: the OpenAPI document is made from them, and tests hold the answers against it."""

from typing import Any, Literal

from msgspec import Struct


class Latency(Struct):
    """Milliseconds."""

    p50: float | None
    p99: float | None


class Bin(Struct, rename={"start": "from", "end": "to"}):
    start: float
    end: float
    count: int


class Disagreement(Struct):
    decision: str
    decided_at: str
    champion: Any
    predicted: Any


class Outcomes(Struct):
    """Scores on what feedback on the metric `outcome` said was true."""

    count: int
    accuracy: float | None
    champion_accuracy: float | None
    mean_absolute_error: float | None
    champion_mean_absolute_error: float | None


class ShadowComparison(Struct):
    """A challenger against the champion, on the same requests."""

    predictions: int
    errors: int
    error_rate: float
    agreement: float | None
    mean_absolute_difference: float | None
    latency_ms: Latency
    champion_latency_ms: Latency
    histogram: list[Bin]
    examples: list[Disagreement]
    outcomes: Outcomes | None


class ResultsArm(Struct):
    name: str
    model: str
    enabled: bool
    is_control: bool
    decisions: int
    rewards: int
    mean: float | None
    mean_basis: Literal["served", "assigned"]
    interval: tuple[float, float] | None
    interval_method: Literal["jeffreys", "posterior", "by_unit"] | None
    watched_interval: tuple[float, float] | None
    answered: float | None
    share: float | None
    propensity: float | None
    probability_best: float | None
    expected_loss: float | None
    error_rate: float | None
    latency_ms: Latency
    agreement: float | None
    mean_absolute_difference: float | None
    shadow: ShadowComparison | None


class Comparison(Struct):
    """`sample_ratio_p`: did trials fall on the arms as logged? `answers_p`: are arms answered alike, where silence means nothing?"""

    sample_ratio_p: float | None
    answers_p: float | None
    saved_against_even_split: float | None
    saved_interval: tuple[float, float] | None


class EvidenceProgress(Struct):
    leader: str | None
    value: float | None
    needed: float | None
    matured: int


class LearnerState(Struct):
    """Is the experiment learned for: seconds since the learner looked, for how long it has been behind with the endpoint, and why.

    `set_aside` counts rows of the ledger that can't be learned; they are in quarantine.
    """

    ok: bool
    seconds_since_round: float | None
    behind_seconds: float | None
    why: str | None
    set_aside: int


class Recommendation(Struct):
    action: Literal["continue", "promote", "stop", "rollback"]
    arm: str | None
    reason: str


class OffPolicyEstimate(Struct):
    """A mean reward with its standard error and 95 % interval, null where nothing bounds them; `successes` are of equal weight."""

    value: float
    standard_error: float | None
    interval: tuple[float, float] | None
    effective_sample_size: float
    successes: float


class Evaluation(Struct):
    """What another policy would have earned on the logged traffic that has matured; `refused` says why the log can't tell.

    `left_out` counts decisions that were not read, by reason.
    """

    policy: str
    params: dict[str, Any]
    decisions: int
    left_out: dict[str, int]
    matured_until: str | None
    refused: str | None
    logged: OffPolicyEstimate | None
    estimates: dict[str, OffPolicyEstimate]
    shares: dict[str, float]
    warnings: list[str]


class SegmentLoss(Struct):
    """What a segment would lose a decision if this arm served all of it, against the policy."""

    arm: str
    loss: float | None
    interval: tuple[float, float] | None


class Segment(Struct):
    """A part of the traffic: a category's value, or half of a number's range."""

    field: str
    segment: str
    decisions: int
    share: float
    losses: list[SegmentLoss]


class SingleArm(Struct):
    """What an arm would have earned a decision alone, and what the policy earned beyond that; intervals hold together at 95 %."""

    name: str
    value: float | None
    gain: float | None
    interval: tuple[float, float] | None


class Segments(Struct):
    """Of a policy that learns from features: what it earned a decision, what each arm alone would have, what each segment would lose."""

    decisions: int
    policy: float
    arms: list[SingleArm]
    best_arm: str | None
    segments: list[Segment]
    said: str


class Forecast(Struct):
    """After how many matured rewards in all 8 of 10 experiments promote that are simulated on from here: `low` to `high`, null where
    that is beyond `horizon`, and both where nothing can be told. `ended`: the share that promotes within it. `said`: the sentence."""

    matured: int
    low: int | None
    high: int | None
    horizon: int | None
    ended: float | None
    said: str


class CanaryState(Struct):
    """The present step, from 1, the challenger's share at it, and since when."""

    step: int
    steps: int
    weight: float
    since: str


class GuardedArm(Struct):
    """How an arm stands to a guardrail. `evidence` of `needed` shows it past the limit; where it is past, about `more` values show it."""

    name: str
    state: Literal["unheard", "waiting", "unjudged", "within", "beyond", "passed"]
    count: int
    mean: float | None
    evidence: float | None
    needed: float
    more: int | None
    reason: str


class GuardrailState(Struct):
    """A guardrail, and how each arm that it can act on stands to it."""

    metric: str
    action: Literal["rollback", "disable_arm", "pause"]
    versus: Literal["limit", "control"]
    max: float | None
    min: float | None
    arms: list[GuardedArm]


class HoldoutSide(Struct):
    """Rewards, units and mean of what can be shown, with the mean's 95 % interval by unit."""

    decisions: int
    rewards: int
    units: int
    mean: float | None
    interval: tuple[float, float] | None


class Holdout(Struct):
    """What the bandit earned beyond its control: the difference of means, and its 95 % interval by unit."""

    share: float
    bandit: HoldoutSide
    holdout: HoldoutSide
    benefit: float | None
    interval: tuple[float, float] | None


class ChoicesScored(Struct):
    """How often the policy's choices and the control would have been right."""

    count: int
    accuracy: float | None
    control_accuracy: float | None


class Apprentice(Struct):
    """What the policy would have served, and how right it would have been where the truth was told."""

    decisions: int
    shares: dict[str, float | None]
    outcomes: ChoicesScored | None


class Results(Struct):
    """What an experiment has shown so far. What can't be known yet is null."""

    experiment: str
    strategy: Literal["shadow", "canary", "ab", "bandit"]
    status: Literal["draft", "running", "paused", "completed"]
    as_of: str
    policy_version: int
    decisions: int
    rewards: int
    arms: list[ResultsArm]
    comparison: Comparison
    evidence: EvidenceProgress
    canary: CanaryState | None
    guardrails: list[GuardrailState]
    holdout: Holdout | None
    apprentice: Apprentice | None
    learner: LearnerState
    recommendation: Recommendation
    segments: Segments | None
    evaluation: Evaluation | None
    forecast: Forecast | None
