"""How an experiment stands, in a sentence or two with numbers: from its arms' sums and its evidence
as they were read, and nothing else.

It names no winner where none is shown: who has the highest mean so far, and how strong the evidence
for it is, are two facts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import structlog

from bandits.inference import evidence as inference
from bandits.inference.evidence import Evidence
from bandits.inference.verdict import verdict
from noregret.dashboard.arm_table import Chip
from noregret.dashboard.deeds import by_whom
from noregret.dashboard.verdicts.by_evidence import gain_told
from noregret.dashboard.verdicts.compared import FEW_REWARDS
from noregret.dashboard.verdicts.told import counted, values
from noregret.dashboard.verdicts.troubles import ENOUGH, FAILING, fails_told
from noregret.dashboard.words import promotes_leader_at_end, unit_of
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.policies import looks_at_requests
from noregret.learning import sums as ledger_sums
from noregret.learning.evidence import RULES, bounds_of
from noregret.learning.models import ArmStatistics, ExperimentEvidence, LedgerSums
from noregret.learning.shown.phrases import counts_told, evidence_told, listed
from noregret.learning.shown.savings import against_even_split
from noregret.steering.failing import in_words
from noregret.trail.models import AuditEntry

from .needs import Failing

log = structlog.get_logger(__name__)

ARMS_COMPARED = 12
"""Evidence is by pairs of arms: of more of them it is told on the experiment's page."""

Sums = Sequence[tuple[Arm, ArmStatistics]]


@dataclass(frozen=True, slots=True)
class State:
    """`said` in a sentence or two; `chip`: what it has come to, in a word; `troubles`: a sentence
    for each thing that is wrong with it."""

    said: str
    chip: Chip | None = None
    troubles: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of an experiment. `arms` by position, with `statistics` and
    `shadow_statistics`; `lately`: who failed in the last minutes; `paused`: its entry in the trail,
    as far as the reader sees it; `behind`: is something of its endpoint not learned yet?"""

    row: Experiment
    arms: Sequence[Arm]
    held: ExperimentEvidence | None = None
    sums: LedgerSums | None = None
    lately: Sequence[Failing] = ()
    paused: AuditEntry | None = None
    behind: bool = False


def state_of(read: Read, now: datetime) -> State:
    """How it stands; never raises for a damaged row."""
    try:
        return _state(read, now)
    except Exception as error:  # whatever is wrong with one experiment, the others are shown
        log.exception("state not told", experiment=read.row.name)
        return State(f"Its figures can't be told: {in_words(error)}.")


def _state(read: Read, now: datetime) -> State:
    row = read.row
    said, chip = _standing(read, now)
    if row.status == Experiment.Status.PAUSED:
        by = "" if read.paused is None else f" {by_whom(read.paused, now)}"
        said = f"Paused{by}: the champion answers every request. {said}"
    return State(said, chip, [*_taken_out(read.arms), *_failing(read)])


def _standing(read: Read, now: datetime) -> tuple[str, Chip | None]:
    row, arms = read.row, read.arms
    day = "" if row.started_at is None else f"Day {(now - row.started_at).days + 1}: "
    if row.strategy == Experiment.Strategy.SHADOW:
        return f"{day}{_shadows(arms)}", None
    sums = [(arm, _sums(arm)) for arm in arms]
    decisions, rewards = (sum(getattr(each, name) for _, each in sums) for name in ("decisions", "rewards"))
    counted = f"{day}{counts_told(decisions, rewards)}"
    if row.canary_ is not None:
        return _canary(read, sums, day)
    if not decisions and not rewards:
        return f"{day}no decision {'is learned' if read.behind else 'has come in'} yet.", None
    if row.apprentice:
        return f"{counted}. The champion serves; what the policy would have chosen is recorded.", None
    if not rewards:
        return f"{counted}: nothing to compare yet.", None
    if looks_at_requests(row):
        return _contextual(read, counted)
    return _weighed(read, sums, counted)


def _canary(read: Read, sums: Sums, day: str) -> tuple[str, Chip | None]:
    row = read.row
    assert row.canary_ is not None, "a canary has steps"
    step, steps = row.canary_step or 0, row.canary_.steps
    at = f"{day}the challenger gets {steps[step]:.0%} (step {step + 1} of {len(steps)})"
    waits = _waits(row)
    chip = Chip("ready to promote", "good") if waits else None
    if not any(each.rewards for _, each in sums):
        return f"{at}; no reward {'is learned' if read.behind else 'has come'} yet.{waits}", chip
    return f"{at}. {_compared(row, sums)}.{waits}", chip


def _contextual(read: Read, counted: str) -> tuple[str, Chip | None]:
    """The policy is judged, no arm: their means are of different requests."""
    row = read.row
    sums = None if read.sums is None else ledger_sums.Sums.from_dict(read.sums.state)
    gain = against_even_split(row, read.arms, sums)
    minimize = row.reward_.direction == "minimize"
    value, ends = (None, None) if gain is None else (gain.value, (gain.low, gain.high))
    said, tone = gain_told(value, ends, unit=unit_of(row.reward_), minimize=minimize)
    return f"{counted}. {said}{_waits(row)}", Chip("earns more", "good") if tone == "good" else None


def _weighed(read: Read, sums: Sums, counted: str) -> tuple[str, Chip | None]:
    """Of a split or a bandit that serves: its winner, or how far it is from one."""
    row, arms = read.row, read.arms
    evidence = _evidence(row, arms, read.held)
    if evidence is None:
        return f"{counted}. {_compared(row, sums)}.", None
    if not int(evidence.matured.count.sum()):
        return f"{counted}. {_compared(row, sums)}; no decision has matured yet.", None
    found = verdict(evidence, row.promotion_.alpha, np.array([arm.enabled for arm in arms]))
    told = evidence_told(found.evidence, found.needed)
    if found.action == "stop":
        said = f"{counted}. The arms are alike: none is better than another by what matters."
        return f"{said}{_waits(row)}", Chip("arms are alike", "good")
    if found.action == "promote" and found.arm is not None:
        winner = arms[found.arm]
        said = f"{counted}. {winner.name} is shown to be best{_beside(row, sums, winner)}; {told}."
        return f"{said}{_what_follows(row)}", Chip(f"winner: {winner.name}", "good")
    told = told if found.arm is None or found.evidence < 1.05 else f"{told} that {arms[found.arm].name} is best"
    return f"{counted}. {_compared(row, sums)}; {told}.", None


def _what_follows(row: Experiment) -> str:
    until = " before its planned end" if promotes_leader_at_end(row) else ""
    if row.status == Experiment.Status.PAUSED:
        return f" Nothing is promoted{until} while it is paused."
    if row.reward_.kind != "binary" and row.reward_.default is None:
        return (
            f" Nothing is promoted by itself{until} while a decision without a reward means nothing: a person promotes."
        )
    if row.promotion_.auto:
        return " It is promoted by itself once its rule asks for no more."
    return _waits(row)


def _waits(row: Experiment) -> str:
    """That a person is waited for, where one is."""
    action, _, arm = row.asked.partition(" ")
    if row.status != Experiment.Status.RUNNING or action not in ("promote", "stop"):
        return ""
    return f" It waits for somebody to {f'promote {arm}' if action == 'promote' else 'stop it'}."


def _taken_out(arms: Sequence[Arm]) -> Iterator[str]:
    names = [arm.name for arm in arms if not arm.enabled]
    if names:
        yield f"{listed(names)} {'is' if len(names) == 1 else 'are'} taken out and {'gets' if len(names) == 1 else 'get'} no traffic."


def _failing(read: Read) -> Iterator[str]:
    """A sentence an enabled arm that fails often: of all its decisions, or else of the last
    ones."""
    lately = {one.arm: one for one in read.lately}
    for arm in read.arms:
        if not arm.enabled:
            continue
        copies: Any = getattr(arm, "shadow_statistics", None)
        predictions, errors = (
            (0, 0) if copies is None else (copies.sums.get(key, 0) for key in ("predictions", "errors"))
        )
        each = _sums(arm)
        if _fails(each):
            yield fails_told(arm.name, each.failures / each.decisions, each.decisions)
        elif (one := lately.get(arm.name)) is not None:
            yield f"{arm.name} failed in {one.failures:,} of its last {one.decisions:,} decisions."
        if not arm.is_control and predictions >= ENOUGH and errors > FAILING * predictions:
            yield f"{arm.name} fails: it has no answer to {errors / predictions:.0%} of {predictions:,} copies."


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


def _compared(row: Experiment, sums: Sums) -> str:
    """The arm with the best mean beside the control, or beside the next one."""
    known = [(arm, each) for arm, each in sums if each.rewards and arm.enabled]
    if not known:
        return "No enabled arm has a reward yet"
    served = [(arm, each) for arm, each in known if not _fails(each)]  # who fails can't win
    if not served:
        return f"Every arm with a reward fails: {listed([arm.name for arm, _ in known])}"
    sign = -1.0 if row.reward_.direction == "minimize" else 1.0
    best, own = max(served, key=lambda pair: sign * pair[1].mean)
    word = "Lowest" if sign < 0 else "Highest"
    few = f" (of {counted(own.rewards, 'reward', 'rewards')})" if own.rewards < _few(row) else ""
    return f"{word} mean {row.reward_.metric} so far: {best.name} {_means(row, known, best)}{few}"


def _few(row: Experiment) -> int:
    """Of fewer rewards it is said how few they are."""
    return max(row.promotion_.min_rewards, FEW_REWARDS)


def _fails(sums: ArmStatistics) -> bool:
    return sums.decisions >= ENOUGH and sums.failures > FAILING * sums.decisions


def _beside(row: Experiment, sums: Sums, winner: Arm) -> str:
    """The winner's mean beside the control's."""
    known = [(arm, each) for arm, each in sums if each.rewards and (arm.enabled or arm is winner)]
    if not any(arm is winner for arm, _ in known):
        return ""
    return f": mean {row.reward_.metric} {_means(row, known, winner)}"


def _means(row: Experiment, known: Sums, first: Arm) -> str:
    """'6.1%, the control v1 5.0%'; beside the control itself stands the best of the others."""
    sign = -1.0 if row.reward_.direction == "minimize" else 1.0
    others = sorted((pair for pair in known if pair[0] is not first), key=lambda pair: -sign * pair[1].mean)
    rival = next((pair for pair in others if pair[0].is_control), others[0] if others else None)
    own = next(each.mean for arm, each in known if arm is first)
    numbers = [own] if rival is None else [own, rival[1].mean]
    texts = values(numbers, percent=row.reward_.kind == "binary")
    if rival is None:
        return texts[0]
    whom = rival[0].name
    if rival[0].is_control:
        whom = "the control" if whom == "control" else f"the control {whom}"
    return f"{texts[0]}, {whom} {texts[1]}"


def _evidence(row: Experiment, arms: Sequence[Arm], held: ExperimentEvidence | None) -> Evidence | None:
    """None where none is told: for a reward without bounds, or of too many arms."""
    enabled = [arm for arm in arms if arm.enabled]
    if held is None or not held.state or held.rules < RULES or bounds_of(row) is None:
        return None
    if len(arms) > ARMS_COMPARED or len(enabled) < 2:
        return None
    return inference.from_dict(held.state).with_arms(len(arms))
