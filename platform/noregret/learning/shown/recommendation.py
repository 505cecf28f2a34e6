"""What should be done with an experiment, in a word and in a sentence. It decides from evidence
alone and does nothing itself."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from django.utils import timezone

from bandits.inference.evidence import Evidence
from bandits.inference.sample_ratio import ALARM
from bandits.inference.verdict import Verdict, more_needed, needed_of, verdict
from noregret.experiments.models import Arm, ChampionChange, Experiment
from noregret.learning.evidence import evidence_of, not_comparable, split_of
from noregret.learning.models import ExperimentEvidence
from noregret.learning.served import unfit
from noregret.trail.models import AuditEntry

from . import canary
from .phrases import actor_told, duration, evidence_told, listed, probability_told
from .standing import Standing, memory_of, standing

Action = Literal["continue", "promote", "stop", "rollback"]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`leader` is the arm with the greatest P(best); `evidence` of `needed` is how far it is from
    being shown to be best, by its weakest evidence against another enabled arm; None where there is
    no anytime evidence.
    """

    action: Action
    arm: Arm | None
    reason: str
    leader: Arm | None = None
    evidence: float | None = None
    needed: float | None = None


def recommend(experiment: Experiment, arms: list[Arm], stand: Standing | None = None) -> Recommendation:
    """The recommendation for an experiment with these arms, by position, which stand so where
    somebody has looked already."""
    if experiment.status == Experiment.Status.COMPLETED:
        return _ended(experiment)
    if experiment.started_at is None:
        return Recommendation("continue", None, "not started yet")
    if experiment.strategy == Experiment.Strategy.CANARY:
        return _of_canary(experiment, arms)
    if experiment.strategy == Experiment.Strategy.SHADOW:
        return Recommendation(
            "continue",
            None,
            "shadows answer nobody: compare their predictions with the champion's, and promote by hand",
        )
    if experiment.apprentice:
        return Recommendation(
            "continue", None, "the policy is an apprentice: the champion serves until the policy is activated"
        )
    held = ExperimentEvidence.objects.get(experiment=experiment)
    evidence = evidence_of(experiment, held)
    if memory_of(experiment) is None:
        return _of_contextual(experiment, arms, evidence)
    if evidence is None:
        return Recommendation(
            "continue",
            None,
            "the anytime rule needs a reward with bounds: promote by hand, or give minimum and maximum",
            standing(experiment, arms).leader,
        )
    return _weigh(experiment, arms, evidence, stand or standing(experiment, arms))


def may_be_due(experiment: Experiment, arms: list[Arm]) -> bool:
    """Could anything be recommended but to go on? Asked in each round: how a hundred arms stand
    takes as long as a round may."""
    decided_by_evidence = experiment.strategy in (Experiment.Strategy.AB, Experiment.Strategy.BANDIT)
    if not decided_by_evidence or experiment.started_at is None or experiment.apprentice:
        return True
    evidence = evidence_of(experiment, ExperimentEvidence.objects.get(experiment=experiment))
    if evidence is None:
        return False
    found = verdict(evidence, experiment.promotion_.alpha, np.array([arm.enabled for arm in arms]))
    if found.action == "continue" or found.arm is None:
        return False
    winner = arms[found.arm] if found.action == "promote" else None
    return not _hindrance(experiment, arms, evidence, winner)


def _of_canary(experiment: Experiment, arms: list[Arm]) -> Recommendation:
    found = canary.due(experiment, arms)
    actions: dict[canary.Step, Action] = {"promote": "promote", "rollback": "rollback"}
    action = actions.get(found.step, "continue")
    if action == "continue":
        # What is told of evidence is told of the arm that leads, as everywhere; what the step waits
        # for is in the reason.
        evidence = evidence_of(experiment, ExperimentEvidence.objects.get(experiment=experiment))
        leader = standing(experiment, arms).leader
        value = None if evidence is None or leader is None else _weakest(evidence, arms, leader)
        needed = None if value is None else 1.0 / experiment.promotion_.alpha
        return Recommendation(action, None, found.reason, leader, value, needed)
    control = next((arm for arm in arms if arm.is_control), None)
    winner, leader = (found.arm, found.arm) if action == "promote" else (None, control)
    return Recommendation(action, winner, found.reason, leader, found.value, found.needed)


def _of_contextual(experiment: Experiment, arms: list[Arm], evidence: Evidence | None) -> Recommendation:
    """Where features choose the arm the policy earns more than any arm would: one is promoted only
    if that was asked for."""
    told = "the policy chooses by the request's features: the policy is what earns, not an arm, and none is promoted by itself"
    promotion = experiment.promotion_
    if evidence is None or not promotion.auto:
        return Recommendation("continue", None, told)
    found = verdict(evidence, promotion.alpha, np.array([arm.enabled for arm in arms]))
    if found.action != "promote" or found.arm is None:
        return Recommendation(
            "continue", None, "the policy chooses by the request's features, and no arm is shown to be best for all"
        )
    return _promoted_or_held_up(experiment, arms, evidence, found, arms[found.arm])


def ending_told(experiment: Experiment, ending: AuditEntry | None) -> str:
    """How a completed experiment ended, by whom and why, as far as the trail's entry tells."""
    by = f" by {actor_told(ending.actor)}" if ending else ""
    why = f": {ending.reason}" if ending and ending.reason else ""
    arm = experiment.promoted_arm
    said = str(experiment.outcome).replace("_", " ")
    if arm is None:
        return f"the experiment was {said}{by}{why}"
    against = ending.details.get("against") if ending else None
    return f"{arm.name} was promoted{by}{why}{f'; {against}' if against else ''}"


def against_the_evidence(experiment: Experiment, chosen: Arm) -> str:
    """Who is shown to be better than the arm that is being promoted, as a phrase; empty where
    nobody is, and where arms are not what is compared."""
    if memory_of(experiment) is None or not chosen.enabled or (compared := _compared(experiment)) is None:
        return ""
    evidence, held = compared
    split = split_of(experiment, held).p
    if split is not None and split < ALARM:
        return ""
    arms = list(experiment.arms.order_by("position"))
    found = verdict(evidence, experiment.promotion_.alpha, np.array([arm.enabled for arm in arms]))
    beats = {arm: float(evidence.e_values()[arm.position, chosen.position]) for arm in arms if arm.enabled}
    rival = max((arm for arm in beats if arm.pk != chosen.pk), key=lambda arm: beats[arm], default=None)
    if found.action == "promote" and found.arm is not None and arms[found.arm].pk != chosen.pk:
        told = evidence_told(found.evidence, found.needed)
        return f"against the evidence: {arms[found.arm].name} was shown to be best ({told})"
    if rival is not None and beats[rival] >= found.needed:
        told = evidence_told(beats[rival], found.needed)
        return f"against the evidence: {rival.name} was shown to be better ({told})"
    return ""


def evidence_for(experiment: Experiment, chosen: Arm) -> dict[str, object] | None:
    """What is kept of the evidence for an arm that a person promotes, as of one that is promoted by
    it; None where evidence compares no arms."""
    compared = _compared(experiment)
    arms = list(experiment.arms.order_by("position"))
    if compared is None or not any(arm.enabled and arm.pk != chosen.pk for arm in arms):
        return None
    evidence, _ = compared
    enabled = np.array([arm.enabled for arm in arms])
    return {
        "rule": experiment.promotion_.rule,
        "value": _weakest(evidence, arms, chosen),
        "needed": needed_of(evidence, experiment.promotion_.alpha, enabled),
    }


def _compared(experiment: Experiment) -> tuple[Evidence, ExperimentEvidence] | None:
    """The evidence between arms, and the row that holds it; None where arms are not what is
    compared, or nothing can be known of them."""
    if experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice:
        return None
    held = ExperimentEvidence.objects.filter(experiment=experiment).first()
    evidence = None if held is None else evidence_of(experiment, held)
    return None if held is None or evidence is None else (evidence, held)


def _ended(experiment: Experiment) -> Recommendation:
    ending = AuditEntry.objects.filter(experiment=experiment.name, action=f"experiment.{experiment.outcome}").first()
    told = ending_told(experiment, ending)
    evidence = ending.details.get("evidence", {}) if ending else {}
    value, needed = evidence.get("value"), evidence.get("needed")
    arm = experiment.promoted_arm
    if arm is not None:
        return Recommendation("promote", arm, told, arm, value, needed)
    action: Action = "rollback" if experiment.outcome == Experiment.Outcome.ROLLED_BACK else "stop"
    leader = standing(experiment, list(experiment.arms.select_related("model").order_by("position"))).leader
    return Recommendation(action, None, told, leader, value, needed)


def _weigh(experiment: Experiment, arms: list[Arm], evidence: Evidence, stand: Standing) -> Recommendation:
    promotion = experiment.promotion_
    enabled = np.array([arm.enabled for arm in arms])
    found = verdict(evidence, promotion.alpha, enabled)
    if enabled.sum() < 2:
        return Recommendation("continue", None, "fewer than two arms are enabled")
    leader = stand.leader
    value = 1.0 if leader is None else _weakest(evidence, arms, leader)

    def keep_on(reason: str) -> Recommendation:
        return Recommendation("continue", None, reason, leader, value, found.needed)

    if not int(evidence.matured.count.sum()):
        window = experiment.reward_.window_seconds
        return keep_on(f"no decision has matured yet: a decision counts {duration(window)} after it was made")
    if found.action == "stop":
        said = f"no arm is better than another by {promotion.indifference:.1%} of the reward's range or more"
        hindrance = _hindrance(experiment, arms, evidence, None)
        return (
            keep_on(f"{said}, but {hindrance}")
            if hindrance
            else Recommendation("stop", None, said, leader, value, found.needed)
        )
    if leader is None:
        hindrance = _hindrance(experiment, arms, evidence, None)
        return keep_on(f"no arm leads yet: {hindrance}" if hindrance else "no arm leads yet")
    if found.action == "continue" or found.arm is None:
        silent = [arm.name for arm in arms if arm.enabled and not evidence.matured.count[arm.position]]
        if silent:
            return keep_on(f"{_leads(stand, arms, leader)}; {_silent(silent)}")
        told = f"{_leads(stand, arms, leader)}: {evidence_told(value, found.needed)}"
        prospect = _prospect(experiment, arms, evidence, stand, value, found.needed)
        return keep_on(f"{told}; {prospect}" if prospect else told)
    winner = arms[found.arm]
    if winner.pk != leader.pk:
        knows = "remembers" if (memory := memory_of(experiment)) is not None and memory.forgets else "believes"
        return keep_on(
            f"{leader.name} leads by what the policy {knows}, and the evidence of all decisions so far is for {winner.name}: "
            "nothing is promoted while they differ"
        )
    return _promoted_or_held_up(experiment, arms, evidence, found, winner)


def _promoted_or_held_up(
    experiment: Experiment, arms: list[Arm], evidence: Evidence, found: Verdict, winner: Arm
) -> Recommendation:
    """Enough evidence for `winner`: promote, or say what is still asked for."""
    value = _weakest(evidence, arms, winner)
    progress = evidence_told(value, found.needed)
    hindrance = _hindrance(experiment, arms, evidence, winner)
    if hindrance:
        reason = f"{winner.name} leads with {progress}, but {hindrance}"
        return Recommendation("continue", None, reason, winner, value, found.needed)
    others = [arm.name for arm in arms if arm.enabled and arm.pk != winner.pk]
    said = f"{winner.name} beats {listed(others)}: {progress}"
    memory = memory_of(experiment)
    if memory is not None and memory.forgets and not experiment.promotion_.auto:
        said += "; the policy forgets because the world may change: promote by hand if it will not"
        return Recommendation("continue", None, said, winner, value, found.needed)
    return Recommendation("promote", winner, said, winner, value, found.needed)


def _weakest(evidence: Evidence, arms: list[Arm], leader: Arm) -> float:
    """The least evidence that `leader` is better, over the other enabled arms; 1 where there is
    none."""
    rivals = [arm.position for arm in arms if arm.enabled and arm.pk != leader.pk]
    return float(evidence.e_values()[leader.position, rivals].min()) if rivals else 1.0


def _leads(stand: Standing, arms: list[Arm], leader: Arm) -> str:
    best = stand.best[arms.index(leader)]
    return f"{leader.name} leads" + ("" if best is None else f", P(best) {probability_told(best)}")


def _silent(names: list[str]) -> str:
    return (
        f"{listed(names)} {'has' if len(names) == 1 else 'have'} no matured reward, and nothing can be shown against an arm without: "
        f"take {'it' if len(names) == 1 else 'them'} out or wait"
    )


# So many decisions must have matured before it is said that something takes long or that arms look
# alike.
_ENOUGH_TO_TELL = 2000
_LOOKS_BEST = 0.95
_STARVES_LOSERS = 0.1  # a floor below it leaves the losing arms too little traffic to be told apart soon


def _prospect(
    experiment: Experiment, arms: list[Arm], evidence: Evidence, stand: Standing, value: float, needed: float
) -> str:
    """What may come of it where that is not a promotion soon; nothing where nothing can be said. No
    number: a forecast is a simulation, and is made where somebody asks for it
    (noregret.learning.shown.forecast)."""
    matured = float(evidence.matured.count.sum())
    memory = memory_of(experiment)
    if matured < _ENOUGH_TO_TELL or memory is None or memory.forgets:
        return ""
    best = max((probability for probability in stand.best if probability is not None), default=0.0)
    if best < _LOOKS_BEST and value < 2.0:
        indifference = experiment.promotion_.indifference
        ends = "" if indifference else ", and only an indifference would end it by itself"
        return f"no difference is shown yet: there may be none, or too few rewards so far{ends}"
    more = more_needed(value, needed, matured)
    policy = experiment.policy_
    starves = (
        policy is not None and policy.name not in ("uniform", "top-two-thompson") and policy.floor < _STARVES_LOSERS
    )
    if policy is not None and starves and (more is None or more > 4.0 * matured):
        return (
            f"{policy.name} gives arms that lose little traffic, so it may never be shown: "
            "top-two-thompson or a larger floor decides sooner"
        )
    return ""


def _hindrance(experiment: Experiment, arms: list[Arm], evidence: Evidence, winner: Arm | None) -> str:
    """What the rule still asks for though the evidence is enough; of every enabled arm, for one
    that is not heard of may be the best."""
    promotion = experiment.promotion_
    # Whoever is told of one arm is told of the one that is waited for longest.
    enabled = [arm for arm in arms if arm.enabled]
    if enabled:
        last = min(enabled, key=lambda arm: float(evidence.matured.count[arm.position]))
        matured = int(evidence.matured.count[last.position])
        if matured < promotion.min_rewards:
            return f"{last.name} has {matured} of {promotion.min_rewards} matured rewards: take it out or wait"
    for arm in arms:
        if arm.enabled and not evidence.matured.count[arm.position]:
            return _silent([arm.name])
    started = experiment.started_at or timezone.now()
    left = promotion.min_seconds - (timezone.now() - started).total_seconds()
    if left > 0:
        return f"{left:,.0f} s of the minimum are left"
    if winner is None:
        return ""
    failing = unfit(experiment, winner)
    if failing:
        return failing
    if promotion.auto:
        against = not_comparable(experiment, experiment.evidence)
        if against:
            return against
    cooling = cooling_seconds(experiment)
    return f"the endpoint's champion changed lately: {cooling:,.0f} s of cool-down are left" if cooling > 0 else ""


def cooling_seconds(experiment: Experiment) -> float:
    """How long after the endpoint's last change of champion nothing is promoted by itself yet."""
    last = ChampionChange.objects.filter(endpoint_id=experiment.endpoint_id, previous__isnull=False).first()
    if last is None:
        return 0.0
    return experiment.promotion_.cooldown_seconds - (timezone.now() - last.at).total_seconds()
