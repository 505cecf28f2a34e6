"""What is wrong with an experiment that runs, whatever its strategy: arms that fail, guardrails in
the way, and figures that can't be trusted."""

from bandits.inference.sample_ratio import ALARM
from noregret.learning.shown.phrases import listed
from noregret.learning.shown.results import Results, ResultsArm
from noregret.learning.watched.states import GuardedArm, GuardrailState

from . import told
from .setting import Setting
from .structure import Verdict

FAILING = 0.1
"""More failures than this are told of an arm, as what stands against its promotion."""
ENOUGH = 20
"""Decisions of an arm from which on its failures, or its silence, are told."""


def fails(arm: ResultsArm) -> bool:
    """Is it asked often, and often in vain? Then it is not promoted, and the champion answers for
    it."""
    return arm.error_rate is not None and arm.error_rate > FAILING and arm.decisions >= ENOUGH


def failing(results: Results) -> list[ResultsArm]:
    """Enabled arms that fail often, worst first."""
    arms = [arm for arm in results.arms if arm.enabled and fails(arm)]
    return sorted(arms, key=lambda arm: -(arm.error_rate or 0.0))


def troubles(results: Results, *, splits: bool) -> list[str]:
    """A sentence each. `splits`: is the traffic shared among arms?"""
    said = _unlearned(results)
    said += [fails_told(arm.name, arm.error_rate or 0.0, arm.decisions) for arm in failing(results)]
    ratio = results.comparison.sample_ratio_p
    if splits and ratio is not None and ratio < ALARM:
        said.append("Traffic was not split as logged: don't trust these figures before that is found.")
    for guardrail in results.guardrails:
        said += [passed(guardrail, arm) for arm in guardrail.arms if arm.state == "passed"]
    return said


def what_first(results: Results, *, splits: bool) -> str:
    """What to do before anything else; empty where the troubles leave open what was to do, or are
    seen to by themselves."""
    ratio = results.comparison.sample_ratio_p
    if splits and ratio is not None and ratio < ALARM:
        return "Find out what routes otherwise than it logs; act on none of its figures before."
    names = [arm.name for arm in failing(results)]
    if not results.learner.ok:
        return "See to the learner first: look at worker and beat."
    if names and results.recommendation.action == "continue":
        whom = "it" if len(names) == 1 else "them"
        return f"Mend the model behind {listed(names)}, or take {whom} out."
    return ""


def fails_told(name: str, rate: float, decisions: int) -> str:
    """That an arm fails often."""
    return f"{name} fails: {rate:.0%} of its {decisions:,} decisions were answered by the champion instead."


def _unlearned(results: Results) -> list[str]:
    """What keeps the figures from being of all that came."""
    learner, said = results.learner, []
    if not learner.ok:
        since = "" if learner.behind_seconds is None else f" for {learner.behind_seconds:,.0f} s"
        said.append(f"What comes in is not learned{since}: {learner.why}.")
    if learner.set_aside:
        rows = told.counted(learner.set_aside, "row is", "rows are")
        said.append(f"{rows} in quarantine, and in none of these figures.")
    return said


_DONE = {"rollback": "the experiment is rolled back", "disable_arm": "the arm is taken out", "pause": "it is paused"}


def passed(guardrail: GuardrailState, arm: GuardedArm) -> str:
    """That an arm is shown past a limit, and what follows."""
    return f"The guardrail on {guardrail.metric} is breached: {arm.reason}; {_DONE[guardrail.action]}."


def taken_out_told(setting: Setting) -> list[str]:
    """Which guardrail took out which arm, when, and what it measured against its limit."""
    return [
        f"The guardrail on {one.metric} took out {one.arm} {one.when}, for {one.reason}." for one in setting.taken_out
    ]


def one_left(setting: Setting) -> Verdict:
    """Of an experiment in which one arm alone gets traffic."""
    names = [one.arm for one in setting.taken_out]
    if not names:
        return Verdict("One arm is left: nothing is compared.", "Put an arm back, or end it.", "wait")
    headline = f"One arm is left, and nothing is compared: a guardrail took out {listed(names)}."
    do = f"See to what went wrong with {listed(names)}, and add what is mended as another arm; or end it."
    return Verdict(headline, do, "bad")
