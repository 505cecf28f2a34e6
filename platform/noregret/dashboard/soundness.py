"""Can the figures of an experiment be trusted, and does all come in that should? A line a question,
with its answer."""

from typing import Any, Literal

from django.core.cache import cache
from django.db import connection
from msgspec import Struct

from bandits.delay import BINS
from bandits.inference.sample_ratio import ALARM
from noregret.experiments.models import Experiment
from noregret.learning.clock import earliest_decision
from noregret.learning.evidence import units_count_once
from noregret.learning.shown.feedback import Feedback
from noregret.learning.shown.numbers import plain
from noregret.learning.shown.phrases import duration, listed
from noregret.learning.shown.results import Results

from .arm_table import serves_nobody
from .figures import NOT_COMPARED, answers_differ, answers_said
from .verdicts import told
from .verdicts.troubles import ENOUGH, FAILING, fails
from .words import sentence

Tone = Literal["good", "wait", "bad"]
READ_DECISIONS = 5_000
_KEPT_SECONDS = 30
_NO_DECISION = "Not known yet: no decision is counted."


class Answer(Struct, frozen=True):
    """`name` is for scripts and tests; `tone`: is it well, not known yet, or wrong?"""

    name: str
    question: str
    text: str
    tone: Tone


def soundness(experiment: Experiment, results: Results, counted: Feedback, not_learned: str) -> list[Answer]:
    """Every question that this strategy has. `not_learned`: what came and is in no figure yet."""
    answers: list[Answer | None] = [_learner(results, not_learned)]
    if not serves_nobody(experiment):
        answers += [_sample_ratio(results), _units(experiment, results), _answers(experiment, results)]
    if experiment.strategy != Experiment.Strategy.SHADOW or counted.answered:  # else it is scored on outcomes
        answers.append(_delay(experiment, counted))
    answers.append(_fallbacks(results))
    return [answer for answer in answers if answer is not None]


def _learner(results: Results, not_learned: str) -> Answer:
    learner = results.learner
    question = "Is all learned that came in?"
    if learner.set_aside:
        rows = told.counted(learner.set_aside, "row is", "rows are")
        return Answer("learner", question, f"{rows} in quarantine, and in none of these figures.", "bad")
    if results.status not in ("running", "paused"):
        return Answer("learner", question, "Yes: nothing comes in any more but late rewards.", "good")
    if not learner.ok:
        since = "" if learner.behind_seconds is None else f" for {learner.behind_seconds:,.0f} s"
        return Answer("learner", question, f"No, not{since}: {learner.why}.", "bad")
    if not_learned:
        return Answer("learner", question, f"Yes, but for what is on its way: {not_learned}.", "good")
    return Answer("learner", question, "Yes.", "good")


def _sample_ratio(results: Results) -> Answer:
    p, question = results.comparison.sample_ratio_p, "Did traffic split as logged?"
    if p is None:
        return Answer("sample_ratio", question, "Not known yet: no decision has matured.", "wait")
    if p < ALARM:
        text = f"No (p < {ALARM:g}): don't trust these figures; something routes otherwise than it logs."
        return Answer("sample_ratio", question, text, "bad")
    return Answer("sample_ratio", question, f"Yes (p = {p:.3f}).", "good")


_UNITS = """
SELECT count(*), count(*) FILTER (WHERE arms > 1) FROM (
    SELECT unit, count(DISTINCT arm_id) AS arms FROM (
        SELECT unit, arm_id FROM serving_decision WHERE experiment_id = %(experiment)s AND decided_at >= %(begun)s
        ORDER BY decided_at DESC LIMIT %(limit)s
    ) AS newest WHERE unit IS NOT NULL GROUP BY unit
) AS units
"""


def _units(experiment: Experiment, results: Results) -> Answer | None:
    """Units that the newest decisions gave several arms; the same for half a minute."""
    question = "Does a unit keep its arm?"
    if experiment.started_at is None:
        return None
    key = f"units:{experiment.pk}:{experiment.created_at.timestamp()}"
    counted: tuple[int, int] | None = cache.get(key)
    if counted is None:
        asked: dict[str, Any] = {"experiment": experiment.pk, "limit": READ_DECISIONS}
        asked["begun"] = earliest_decision(experiment)
        with connection.cursor() as cursor:
            cursor.execute(_UNITS, asked)
            counted = cursor.fetchone()
        cache.set(key, counted, _KEPT_SECONDS)
    units, several = counted
    newest = f"in the newest {READ_DECISIONS:,} decisions"
    if not units:
        why = "Not known: requests name no unit." if results.decisions else _NO_DECISION
        return Answer("units", question, why, "wait")
    seen = f"{several:,} of {told.counted(units, 'unit', 'units')} were seen in several arms {newest}"
    if not units_count_once(experiment):
        held = " Who is held out stays so, and gets the control." if experiment.holdout else ""
        return Answer("units", question, f"It need not: {seen}.{held}", "good")
    if experiment.strategy == Experiment.Strategy.CANARY:
        return Answer("units", question, f"{seen[:1].upper()}{seen[1:]}: a step takes units over.", "good")
    if several > 0.01 * units:
        return Answer("units", question, f"No: {seen}. What one unit does is then counted for several.", "bad")
    return Answer("units", question, f"Yes: {seen}.", "good")


def _answers(experiment: Experiment, results: Results) -> Answer:
    question = "Are arms answered alike?"
    if answers_differ(results):
        each = ", ".join(f"{arm.name} {arm.answered:.0%}" for arm in results.arms if arm.answered is not None)
        text = f"No: {each}. The table compares those who answered, not all who were served."
        return Answer("answers", question, text, "bad")
    silent = [
        arm.name
        for arm in results.arms
        if arm.enabled and arm.decisions >= ENOUGH and not arm.rewards and not fails(arm)
    ]
    if silent and results.rewards:
        text = f"No: {listed(silent)} {'has' if len(silent) == 1 else 'have'} no reward, the others have {results.rewards:,}."
        return Answer("answers", question, text, "bad")
    default = experiment.reward_.default
    if default is not None:
        text = f"Not compared: a decision without an answer counts as {plain(default)}, whichever arm made it."
        return Answer("answers", question, text, "good")
    said = answers_said(results)
    return Answer("answers", question, sentence(said), "wait" if said == NOT_COMPARED else "good")


def _delay(experiment: Experiment, counted: Feedback) -> Answer:
    """How long feedback took, of all arms together."""
    question, window = "How long does feedback take?", experiment.reward_.window_seconds
    counts = counted.delays
    total = sum(counts)
    if not total:
        return Answer("delay", question, "Not known yet: no feedback has matured.", "wait")
    half, most = (_until(counts, share * total) * window / BINS for share in (0.5, 0.95))
    text = f"Half within {_about(half)}, 95% within {_about(most)}; the window is {duration(window)}."
    if counts[-1] > 0.05 * total:
        return Answer("delay", question, f"{text} Much comes as it closes: a longer one would learn more.", "wait")
    return Answer("delay", question, text, "good")


def _until(counts: list[int], needed: float) -> int:
    """In how many sixtieths of the window so many came."""
    come = 0
    for i, count in enumerate(counts):
        come += count
        if come >= needed:
            return i + 1
    return len(counts)


def _about(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _fallbacks(results: Results) -> Answer:
    question = "Do arms answer themselves?"
    known = [arm for arm in results.arms if arm.decisions and arm.error_rate is not None]
    if not known:
        return Answer("fallbacks", question, _NO_DECISION, "wait")
    each = ", ".join(
        f"{arm.name} {told.values([arm.error_rate or 0.0], percent=True)[0]}" for arm in known if arm.error_rate
    )
    if not each:
        return Answer("fallbacks", question, "Yes: the champion had to step in for none.", "good")
    bad = any((arm.error_rate or 0.0) > FAILING for arm in known)
    return Answer("fallbacks", question, f"The champion stepped in: {each}.", "bad" if bad else "good")
