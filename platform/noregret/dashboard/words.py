"""What an experiment does, in sentences for a person who was not there when it was made. Reads the
given rows alone."""

import re
from collections.abc import Iterator, Sequence

from bandits import policies
from noregret.experiments.document import ERROR_RATE, Canary, Guardrail, Promotion, Reward, latency_quantile
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.experiments.rewards import reward_model
from noregret.experiments.stored import Policy
from noregret.learning.shown.numbers import plain
from noregret.learning.shown.phrases import duration
from noregret.learning.shown.standing import memory_of
from noregret.learning.watched.states import GuardrailState
from noregret.learning.watched.units import limit_told

from .expectations import long_span

_ENDING = {
    Experiment.Outcome.PROMOTED: "It has ended: {arm} was promoted.",
    Experiment.Outcome.ROLLED_BACK: "It has ended: it was rolled back, and the champion kept its place.",
    Experiment.Outcome.STOPPED: "It has ended: it was stopped, and the champion kept its place.",
}


def in_words(experiment: Experiment, arms: list[Arm]) -> list[str]:
    """Sentences: where its traffic goes now, how it chooses, what counts, and when it ends."""
    guards = [_guardrail(guardrail, experiment.reward_) for guardrail in experiment.guardrails_]
    return [
        _now(experiment),
        *_choice(experiment, arms),
        reward_in_words(experiment.reward_),
        *guards,
        *_promotion(experiment),
        *_planned_end(experiment),
        *_of_devices(experiment),
    ]


def percent(share: float) -> str:
    """0.002 is '0.2%'."""
    return f"{100.0 * share:.6g}%"


_ACTIONS = {
    "rollback": "the experiment is rolled back",
    "disable_arm": "the arm is taken out",
    "pause": "the experiment is paused",
}


def _guardrail(guardrail: Guardrail, reward: Reward) -> str:
    passed = " or ".join(_limits(guardrail, reward, "more than", "less than"))
    usual = Guardrail(guardrail.metric, guardrail.action)
    besides = [
        f"it judges an arm from {guardrail.min_decisions:,} decisions on"
        if guardrail.min_decisions != usual.min_decisions
        else "",
        f"it acts on an arm that is within its limits with a chance of at most {percent(guardrail.alpha)}"
        if guardrail.alpha != usual.alpha
        else "",
        f"a value is at least {plain(guardrail.minimum)}" if guardrail.minimum is not None else "",
        f"a value is at most {plain(guardrail.maximum)}" if guardrail.maximum is not None else "",
    ]
    told = "".join(f"; {each}" for each in besides if each)
    return f"If an arm's {guardrail.metric} is shown to be {passed}, {_ACTIONS[guardrail.action]}{told}."


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


def _choice(experiment: Experiment, arms: list[Arm]) -> list[str]:
    policy, canary = experiment.policy_, experiment.canary_
    fields = _fields(experiment)
    if canary is not None:
        return [*_of_canary(experiment, canary), *fields]
    if experiment.strategy == Experiment.Strategy.SHADOW:
        share = 1.0 if experiment.shadow_ is None else experiment.shadow_.sample
        copies = (
            f"The champion answers; the challengers get a copy of {percent(share)} of the requests, after the answer."
        )
        return [copies, *fields]
    if policy is None:
        return [f"{len(arms)} arms share the traffic in fixed parts.", *fields]
    begins = (
        ["An apprentice: the control serves, and the policy's choice is recorded."] if experiment.apprentice else []
    )
    return [*begins, _of_policy(policy), *fields, *who_is_held_out(experiment)]


def who_is_held_out(experiment: Experiment) -> list[str]:
    """Who gets the control whatever is learned, and what of the others is drawn."""
    held, kept = experiment.holdout, experiment.sticky
    once = "Once it is activated, " if experiment.apprentice else ""
    rest = (
        "every other unit keeps the arm that it got first"
        if kept and held
        else "a unit keeps the arm that it got first"
        if kept
        else "for all others an arm is drawn with each request, so one unit may get several"
    )
    if held:
        said = (
            f"{once}{percent(held)} of the units, always the same ones, get the control with each request; {rest}. "
            "A request without a unit is drawn by itself, for that too."
        )
        return [said[:1].upper() + said[1:]]
    return [f"{once}{rest}."[:1].upper() + f"{once}{rest}."[1:]] if kept else []


def _of_canary(experiment: Experiment, canary: Canary) -> list[str]:
    steps = ", ".join(percent(step) for step in canary.steps)
    how = "it goes on by itself" if canary.auto else "a person sends it on"
    rule, silent = experiment.promotion_, experiment.reward_.default is None
    answers = f", have {min(canary.min_decisions, rule.min_rewards):,} rewards" if silent and rule.min_rewards else ""
    in_all = f"{rule.min_rewards:,} decisions{' and rewards' if silent else ''}"
    ends = f" Before it is promoted it must have {in_all} in all." if rule.min_rewards else ""
    watched = [
        rail.metric
        for rail in experiment.guardrails_
        if rail.metric != ERROR_RATE and not latency_quantile(rail.metric)
    ]
    heard = f", and have been heard of by {', '.join(dict.fromkeys(watched))}" if watched else ""
    return [
        f"The challenger gets {steps} of the units, step by step; each step bakes for {duration(canary.bake_seconds)}, and then {how}.",
        f"In each step the challenger must itself serve {canary.min_decisions:,} decisions{answers}{heard}, pass no guardrail, "
        f"and not be shown to be worse than the control.{ends}",
    ]


def _fields(experiment: Experiment) -> list[str]:
    """The declared features, with what each may be."""
    told = [
        f"{field.name} ({field.min:.15g} to {field.max:.15g})"
        if field.type == "number"
        else f"{field.name} ({', '.join(field.values or [])})"
        for field in experiment.context_.fields
    ]
    return [f"Declared features: {', '.join(told)}."] if told else []


def _of_devices(experiment: Experiment) -> list[str]:
    counts = "" if experiment.edge_evidence else "Decisions that were made on devices are kept, and teach nothing."
    excluded = "Decisions of devices whose request excluded arms count too." if experiment.edge_exclusions else ""
    return [said for said in (counts, excluded) if said]


def _of_policy(policy: Policy) -> str:
    said = policies.summary(policy.name)
    if policy.params:
        said += f" With {', '.join(f'{name} {value}' for name, value in policy.params.items())}."
    floor = f" Every arm keeps at least {_tenths(policy.floor)} of the traffic" if policy.floor else ""
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


def _tenths(share: float) -> str:
    """'5.0%', and of what has more digits all of them."""
    return f"{share:.1%}" if abs(1000 * share - round(1000 * share)) < 1e-9 else percent(share)


def reward_in_words(reward: Reward) -> str:
    """What feedback is, and how long it counts."""
    low, high = reward.minimum, reward.maximum
    kinds = {"binary": "0 or 1", "count": "a count", "continuous": "a number"}
    bounds = ""
    if reward.kind != "binary":
        if low is not None and high is not None:
            bounds = f" from {plain(low)} to {plain(high)}"
        elif low is not None or high is not None:
            bounds = f" from {plain(low)}" if low is not None else f" up to {plain(high or 0.0)}"
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


def _promotion(experiment: Experiment) -> list[str]:
    rule = experiment.promotion_
    nobody = "Before its planned end nobody" if promotes_leader_at_end(experiment) else "Nobody"
    if experiment.strategy == Experiment.Strategy.SHADOW:
        return ["Nobody is promoted automatically: a person compares, and decides."]
    if experiment.apprentice:
        return ["Nobody is promoted while the policy is an apprentice."]
    if experiment.strategy == Experiment.Strategy.CANARY and rule.auto:
        return [
            "The challenger is promoted when its last step has baked, and rolled back as soon as the control is shown to be better."
        ]
    if experiment.strategy == Experiment.Strategy.CANARY:
        return [f"{nobody} is promoted automatically: a person decides."]
    if not looks_at_requests(experiment) and reward_model(experiment).bounds is None:
        return [
            f"{nobody} is promoted automatically, and none is recommended: the reward has no minimum and maximum, and "
            "without them no evidence is counted. A person decides."
        ]
    means_nothing = experiment.reward_.kind != "binary" and experiment.reward_.default is None
    if rule.auto and not means_nothing:
        return [f"An arm is promoted {_when(rule)}", *_besides(rule)]
    why = (
        f"{nobody} is promoted automatically while a decision without a reward means nothing: a person decides."
        if rule.auto
        else f"{nobody} is promoted automatically: a person decides.{_why_a_person(experiment)}"
    )
    return [why, f"An arm is recommended {_when(rule)}", *_besides(rule)]


def promotes_leader_at_end(experiment: Experiment) -> bool:
    """Is its leader promoted at its planned end? Where nobody gets what an arm answers, or where
    features choose the arm, none leads, and it is stopped."""
    schedule = experiment.schedule_
    ends = schedule.end_at is not None or schedule.max_seconds is not None
    leads = experiment.strategy != Experiment.Strategy.SHADOW and not experiment.apprentice
    return ends and schedule.at_end == "promote_leader" and leads and not looks_at_requests(experiment)


def _planned_end(experiment: Experiment) -> list[str]:
    """When it ends by itself, and what is done then; nothing of one that has ended."""
    schedule = experiment.schedule_
    if experiment.status == Experiment.Status.COMPLETED:
        return []
    then = "its leader is promoted, whatever the evidence" if promotes_leader_at_end(experiment) else "it is stopped"
    at = "" if schedule.end_at is None else f"At {schedule.end_at:%Y-%m-%d %H:%M:%S} UTC {then}."
    after = "" if schedule.max_seconds is None else f"After {long_span(schedule.max_seconds)} {then}."
    return [said for said in (at, after) if said]


def tells_promotion(experiment: Experiment) -> bool:
    """Do the sentences say all of the rule? Where the evidence for one arm neither promotes nor
    recommends they don't."""
    decided = experiment.strategy in (Experiment.Strategy.AB, Experiment.Strategy.BANDIT)
    return decided and not experiment.apprentice and reward_model(experiment).bounds is not None


def _when(rule: Promotion) -> str:
    also = [
        f"every arm has {rule.min_rewards:,} matured rewards" if rule.min_rewards else "",
        f"{duration(rule.min_seconds)} have passed" if rule.min_seconds else "",
    ]
    needs = " and ".join(part for part in also if part)
    return (
        "as soon as the evidence shows that it is the best"
        + (f", not before {needs}" if needs else "")
        + f"; however often one looks, the chance that it is a wrong one is at most {_tenths(rule.alpha)}."
    )


def _besides(rule: Promotion) -> list[str]:
    """What few ask for."""
    alike = (
        f"Arms that are shown to differ by less than {percent(rule.indifference)} of the reward's range end it without a winner."
        if rule.indifference
        else ""
    )
    cools = (
        f"Within {duration(rule.cooldown_seconds)} of a change of champion nothing is promoted by itself."
        if rule.cooldown_seconds
        else ""
    )
    return [said for said in (alike, cools) if said]


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


_FIELD = re.compile(r"[a-z_]+(?:\[\d+\])?(?:\.[a-z_]+)+: ")


def warning_told(said: str, names: Sequence[str] = ()) -> str:
    """A warning as a sentence. It begins with its field's place in the document, for who wrote
    that."""
    begins = _FIELD.match(said)
    return sentence(said if begins is None else said[begins.end() :], names)


def sentence(reason: str, names: Sequence[str] = ()) -> str:
    """A reason as a sentence. It begins with a capital letter, unless with one of `names`: arms
    keep theirs as they are written."""
    begins = any(reason == name or reason.startswith((f"{name} ", f"{name}:", f"{name},")) for name in names)
    capital = reason if begins else reason[:1].upper() + reason[1:]
    return capital if capital.endswith(".") else f"{capital}."
