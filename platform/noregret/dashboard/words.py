"""What an experiment does, in sentences for a person who was not there when it was made. Reads the
given rows alone."""

from collections.abc import Iterator, Sequence

from bandits import policies
from noregret.experiments.document import ERROR_RATE, Guardrail, Reward, latency_quantile
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.stored import Policy
from noregret.learning.shown.numbers import plain
from noregret.learning.shown.standing import memory_of
from noregret.learning.watched.states import GuardrailState

_ENDING = {
    Experiment.Outcome.PROMOTED: "It has ended: {arm} was promoted.",
    Experiment.Outcome.ROLLED_BACK: "It has ended: it was rolled back, and the champion kept its place.",
    Experiment.Outcome.STOPPED: "It has ended: it was stopped, and the champion kept its place.",
}


def duration(seconds: float) -> str:
    """A span of time in its largest whole unit: 3600 is '1 h', 90 is '90 s'."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,g} s"


def in_words(experiment: Experiment, arms: list[Arm]) -> list[str]:
    """Sentences: where its traffic goes now, how it chooses, what counts, and when it ends."""
    guards = [_guardrail(guardrail, experiment.reward_) for guardrail in experiment.guardrails_]
    return [
        _now(experiment),
        _choice(experiment, arms),
        reward_in_words(experiment.reward_),
        *guards,
        _promotion(experiment),
    ]


_ACTIONS = {"rollback": "it is rolled back", "disable_arm": "the arm is taken out", "pause": "it is paused"}


def _guardrail(guardrail: Guardrail, reward: Reward) -> str:
    passed = " or ".join(_limits(guardrail, reward, "more than", "less than"))
    return f"If an arm's {guardrail.metric} is shown to be {passed}, {_ACTIONS[guardrail.action]}."


def limits_told(guardrail: Guardrail | GuardrailState, reward: Reward) -> str:
    """What a guardrail allows: 'at most 2%', or where it is on the difference to the control, 'at
    most 2 points above the control's'."""
    return " and ".join(_limits(guardrail, reward, "at most", "at least"))


def _limits(guardrail: Guardrail | GuardrailState, reward: Reward, over: str, under: str) -> Iterator[str]:
    """A phrase each; `over` and `under` are the words for a maximum and a minimum."""
    beside = guardrail.versus == "control"
    for limit, word, opposite in ((guardrail.max, over, under), (guardrail.min, under, over)):
        if limit is None:
            continue
        size = limit_told(guardrail.metric, abs(limit) if beside else limit, reward, beside=beside)
        if not beside:
            yield f"{word} {size}"
        elif limit < 0:  # a difference below zero: the control's is the greater one
            yield f"{opposite} {size} below the control's"
        else:
            yield f"{word} {size} above the control's" if limit else f"{word} the control's"


def limit_told(metric: str, limit: float, reward: Reward, *, beside: bool) -> str:
    """A guardrail's limit in its metric's unit; `beside`: it is on a difference."""
    if latency_quantile(metric) is not None:
        return f"{plain(limit)} ms"
    if metric == ERROR_RATE or (metric == reward.metric and is_rate(reward)):
        return f"{plain(100.0 * limit)} points" if beside else plain(limit, percent=True)
    return plain(limit)


def _now(experiment: Experiment) -> str:
    endpoint, champion = experiment.endpoint.name, experiment.endpoint.champion.model
    match experiment.status:
        case Experiment.Status.DRAFT:
            return f"It has not started: all traffic of {endpoint} goes to the champion, {champion}."
        case Experiment.Status.PAUSED:
            return f"It is paused: all traffic of {endpoint} goes to the champion, {champion}. Rewards of earlier decisions still count."
        case Experiment.Status.COMPLETED:
            arm = experiment.promoted_arm.name if experiment.promoted_arm else ""
            return _ENDING[Experiment.Outcome(str(experiment.outcome))].format(arm=arm)
        case _ if experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice:
            return f"It runs: the champion, {champion}, answers every request to {endpoint}."
        case _:
            return f"It runs: every request to {endpoint} is routed to one of its arms. The champion is {champion}."


def _choice(experiment: Experiment, arms: list[Arm]) -> str:
    policy, canary = experiment.policy_, experiment.canary_
    if canary is not None:
        steps = ", ".join(f"{step:.0%}" for step in canary.steps)
        how = "goes on by itself" if canary.auto else "waits for a person"
        baked = f"each step bakes for {duration(canary.bake_seconds)} and then {how}"
        return f"The challenger gets {steps} of the units, step by step; {baked}."
    if experiment.strategy == Experiment.Strategy.SHADOW:
        share = 1.0 if experiment.shadow_ is None else experiment.shadow_.sample
        return f"The champion answers; the challengers get a copy of {share:.0%} of the requests, after the answer."
    if policy is None:
        return f"{len(arms)} arms share the traffic in fixed parts."
    apprentice = (
        "An apprentice: the control serves, and the policy's choice is recorded. " if experiment.apprentice else ""
    )
    held = f"{experiment.holdout:.0%} of the units always get the control. " if experiment.holdout else ""
    kept = "A unit keeps its arm. " if experiment.sticky else ""
    return f"{apprentice}{held}{kept}{_of_policy(experiment, policy)}"


def _of_policy(experiment: Experiment, policy: Policy) -> str:
    said = policies.summary(policy.name)
    if policy.params:
        said += f" With {', '.join(f'{name} {value}' for name, value in policy.params.items())}."
    fields = [field.name for field in experiment.context_.fields]
    if fields:
        said += f" Declared features: {', '.join(fields)}."
    floor = f" Every arm keeps at least {policy.floor:.1%} of the traffic" if policy.floor else ""
    burn_in = f"the first {policy.burn_in:,} rewards of each arm come from an even split" if policy.burn_in else ""
    rest = (
        f"{floor}, and {burn_in}."
        if floor and burn_in
        else f"{floor}."
        if floor
        else f" T{burn_in[1:]}."
        if burn_in
        else ""
    )
    return f"{said}{rest}"


def is_rate(reward: Reward) -> bool:
    """Is its mean a rate, told in per cent?"""
    return reward.kind == "binary"


def unit_of(reward: Reward) -> str:
    """What sums of it are called."""
    return "rewards" if is_rate(reward) else f"of {reward.metric}"


def reward_in_words(reward: Reward) -> str:
    """What feedback is, and how long it counts."""
    low, high = reward.minimum, reward.maximum
    kinds = {"binary": "0 or 1", "count": "a count", "continuous": "a number"}
    bounds = (
        f" from {plain(low)} to {plain(high)}"
        if reward.kind != "binary" and low is not None and high is not None
        else ""
    )
    better = "more is better" if reward.direction == "maximize" else "less is better"
    without = (
        "a decision without one is not learned from"
        if reward.default is None
        else f"a decision without one counts as {plain(reward.default)}"
    )
    if reward.pending == "exposure":
        without += "; while its window is open it counts by the chance that feedback would have come"
    return (
        f"The reward is the metric {reward.metric}: {kinds[reward.kind]}{bounds}; {better}. "
        f"It counts if it comes within {duration(reward.window_seconds)} of the decision; {without}."
    )


def _promotion(experiment: Experiment) -> str:
    rule = experiment.promotion_
    if experiment.strategy == Experiment.Strategy.SHADOW:
        return "Nobody is promoted automatically: a person compares, and decides."
    if experiment.apprentice:
        return "Nobody is promoted while the policy is an apprentice."
    if experiment.strategy == Experiment.Strategy.CANARY and rule.auto:
        return "The challenger is promoted when its last step has baked, and rolled back as soon as the control is shown to be better."
    if not rule.auto:
        return f"Nobody is promoted automatically: a person decides.{_why_a_person(experiment)}"
    if experiment.reward_.kind != "binary" and experiment.reward_.default is None:
        return "Nobody is promoted automatically while a decision without a reward means nothing: a person decides."
    also = [
        f"every arm has {rule.min_rewards:,} matured rewards" if rule.min_rewards else "",
        f"{duration(rule.min_seconds)} have passed" if rule.min_seconds else "",
    ]
    needs = " and ".join(part for part in also if part)
    return (
        "An arm is promoted as soon as the evidence shows that it is the best"
        + (f", not before {needs}" if needs else "")
        + f"; however often one looks, the chance of promoting a wrong one is at most {rule.alpha:.1%}."
    )


def _why_a_person(experiment: Experiment) -> str:
    """What speaks against a promotion for good, where the policy itself takes it that the best arm
    varies."""
    memory = memory_of(experiment)
    if memory is None:
        return " Which arm is best depends on the request."
    return " Which arm is best may change, so the policy forgets." if memory.forgets else ""


def time_told(seconds: float) -> str:
    """Three figures, in the unit that suits them."""
    size, unit = (1.0, "s") if seconds >= 1.0 else (1e-3, "ms") if seconds >= 1e-3 else (1e-6, "µs")
    return f"{seconds / size:.3g} {unit}"


def sentence(reason: str, names: Sequence[str] = ()) -> str:
    """A reason as a sentence. It begins with a capital letter, unless with one of `names`: arms
    keep theirs as they are written."""
    begins = any(reason == name or reason.startswith((f"{name} ", f"{name}:", f"{name},")) for name in names)
    capital = reason if begins else reason[:1].upper() + reason[1:]
    return capital if capital.endswith(".") else f"{capital}."
