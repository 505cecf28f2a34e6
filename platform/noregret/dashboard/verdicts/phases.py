"""Verdicts of an experiment that has not begun, is paused or is over, and of one that nothing came
to."""

import msgspec

from noregret.dashboard.words import sentence
from noregret.learning.shown.results import Results

from . import advice, told
from .compared import means_told, named_against_the_table
from .setting import Setting
from .structure import Verdict


def of_draft(setting: Setting) -> Verdict:
    at = setting.starts_at
    return Verdict(
        f"Not started: all traffic of {setting.endpoint} goes to its champion, {setting.champion}.",
        "Start it to learn anything."
        if at is None
        else f"It starts by itself at {at:%Y-%m-%d %H:%M:%S} UTC, and nobody is asked then. Change the draft if it must not.",
        "wait",
        actions=("start",),
    )


def of_paused(standing: Verdict, results: Results, setting: Setting) -> Verdict:
    """What it had come to, below that it is paused."""
    do, actions = advice.of_paused(results, setting)
    return msgspec.structs.replace(
        standing,
        headline=f"Paused{setting.paused}: all traffic of {setting.endpoint} goes to its champion, {setting.champion}.",
        details=(standing.headline, *standing.details),
        do=do,
        actions=actions,
        tone="wait",
    )


def of_ended(results: Results, setting: Setting) -> Verdict:
    """How it ended, when, by whom and why, and how the arms stood."""
    headline = sentence(results.recommendation.reason, [arm.name for arm in results.arms])
    details = []
    if setting.ended_at is not None:
        details.append(f"It ended {told.when(setting.ended_at, results.as_of)}.")
    arm = results.recommendation.arm
    if arm is not None and not setting.contextual and results.strategy != "shadow":
        details += [*means_told(results, setting, arm), *named_against_the_table(results, arm, setting)]
    # Who that is may have changed since, by what came after.
    now = f"Nothing is left to do. The champion of {setting.endpoint} is {setting.champion} now."
    return Verdict(headline, now, "over", tuple(details))


def said_of_nothing(results: Results, setting: Setting) -> Verdict | None:
    """Where no decision came in, or none has an outcome yet; None where there is more to say."""
    if not results.decisions:
        if not results.learner.ok or setting.not_learned:
            # Why the learner is behind stands among the troubles.
            waits = (sentence(setting.not_learned, [setting.endpoint]),) if results.learner.ok else ()
            do = "Wait for the learner; see to it where it stays behind."
            return Verdict("No decision was learned yet.", do, "wait", waits)
        activation = results.activation
        waiting = activation is not None and activation.decisions > activation.activated
        return Verdict(
            "No decision has come in yet.",
            f"Send requests to {setting.endpoint}."
            if not waiting
            else "Decisions wait to be activated: nothing counts before.",
            "wait",
        )
    return None
