"""How an experiment stands, in one sentence with numbers: from its arms' sums and its evidence as
they were read, and nothing else.

It names no leader where none is shown: who has the highest mean so far, and how strong the evidence
for it is, are two facts.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import structlog

from bandits.inference import evidence as inference
from bandits.inference.verdict import verdict
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.learning.evidence import RULES, bounds_of
from noregret.learning.models import ArmStatistics, ExperimentEvidence
from noregret.learning.shown.phrases import evidence_told
from noregret.steering.failing import in_words

log = structlog.get_logger(__name__)

ARMS_COMPARED = 12
"""Evidence is by pairs of arms: of more of them it is told on the experiment's page."""


def state_of(row: Experiment, arms: Sequence[Arm], held: ExperimentEvidence | None, now: datetime) -> str:
    """One sentence. `arms` by position, with `statistics` and `shadow_statistics`; never raises for
    a damaged row."""
    try:
        return _state(row, arms, held, now)
    except Exception as error:  # whatever is wrong with one experiment, the others are shown
        log.exception("state not told", experiment=row.name)
        return f"Its figures can't be told: {in_words(error)}."


def _state(row: Experiment, arms: Sequence[Arm], held: ExperimentEvidence | None, now: datetime) -> str:
    day = "" if row.started_at is None else f"Day {(now - row.started_at).days + 1}: "
    if row.strategy == Experiment.Strategy.SHADOW:
        return f"{day}{_shadows(arms)}"
    sums = [(arm, _sums(arm)) for arm in arms]
    decisions = sum(each.decisions for _, each in sums)
    rewards = sum(each.rewards for _, each in sums)
    counted = f"{day}{decisions:,} decisions, {rewards:,} rewards"
    if row.canary_ is not None:
        step = row.canary_step or 0
        counted = (
            f"{day}the challenger gets {row.canary_.steps[step]:.0%} (step {step + 1} of {len(row.canary_.steps)})"
        )
    elif row.apprentice:
        return f"{counted}. The champion serves; what the policy would have chosen is recorded."
    if not rewards:
        return (
            f"{counted}; no reward has come yet." if row.canary_ is not None else f"{counted}: nothing to compare yet."
        )
    if looks_at_requests(row):
        return f"{counted}. Which arm is best depends on the request."
    evidence = "" if row.canary_ is not None else _evidence(row, arms, held)
    return f"{counted}. {_compared(row, sums)}{evidence}."


def _sums(arm: Arm) -> ArmStatistics:
    return getattr(arm, "statistics", None) or ArmStatistics(arm=arm)


def _shadows(arms: Sequence[Arm]) -> str:
    told = []
    for arm in arms:
        row: Any = getattr(arm, "shadow_statistics", None)
        if row is None or arm.is_control:
            continue
        compared, agreed = row.sums.get("compared", 0), row.sums.get("agreed", 0)
        if compared:
            told.append(f"{arm.name} agrees with the champion in {agreed / compared:.1%} of {compared:,} copies")
    return f"{'; '.join(told)}." if told else "no copy was compared yet."


def _compared(row: Experiment, sums: Sequence[tuple[Arm, ArmStatistics]]) -> str:
    """The arm with the best mean beside the control, or beside the next one."""
    known = [(arm, each) for arm, each in sums if each.rewards and arm.enabled]
    if not known:
        return "No enabled arm has a reward yet"
    sign = -1.0 if row.reward_.direction == "minimize" else 1.0
    ordered = sorted(known, key=lambda pair: -sign * pair[1].mean)
    best = ordered[0]
    rival = next((pair for pair in ordered[1:] if pair[0].is_control), ordered[1] if len(ordered) > 1 else None)
    word = "Lowest" if sign < 0 else "Highest"
    first = f"{word} mean {row.reward_.metric} so far: {best[0].name} {_number(row, best[1].mean)}"
    if rival is None:
        return first
    whom = f"the control {rival[0].name}" if rival[0].is_control else rival[0].name
    return f"{first}, {whom} {_number(row, rival[1].mean)}"


def _number(row: Experiment, mean: float) -> str:
    return f"{mean:.2%}" if row.reward_.kind == "binary" else f"{mean:.4g}"


def _evidence(row: Experiment, arms: Sequence[Arm], held: ExperimentEvidence | None) -> str:
    """How far it is from being decided: the strongest case for any arm."""
    enabled = [arm.position for arm in arms if arm.enabled]
    if held is None or not held.state or held.rules < RULES or bounds_of(row) is None:
        return ""
    if len(arms) > ARMS_COMPARED or len(enabled) < 2:
        return ""
    found = inference.from_dict(held.state).with_arms(len(arms))
    if not int(found.matured.count.sum()):
        return "; no decision has matured yet"
    values = found.e_values()
    best, arm = max((float(min(values[i, j] for j in enabled if j != i)), i) for i in enabled)
    name = next(each.name for each in arms if each.position == arm)
    needed = verdict(found, row.promotion_.alpha, np.array([arm.enabled for arm in arms])).needed
    told = evidence_told(best, needed)
    return f"; {told}" if best < 1.05 else f"; {told} that {name} is best"
