"""All that the page of an experiment shows, made once for its first view and for each refresh."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.template.loader import render_to_string

from noregret.experiments.models import Arm, Experiment
from noregret.learning import standing_history
from noregret.learning.evidence import keeps_units
from noregret.learning.health import not_learned_yet
from noregret.learning.kept import rows_from
from noregret.learning.shown import forecast, lagging
from noregret.learning.shown.asked import SEGMENTS, Known
from noregret.learning.shown.charts import OverTime, over_time
from noregret.learning.shown.feedback import Feedback, feedback
from noregret.learning.shown.numbers import plain
from noregret.learning.shown.phrases import duration
from noregret.learning.shown.results import Results
from noregret.learning.shown.shared import shared_results
from noregret.learning.shown.standing import memory_of
from noregret.rollout.warnings import warnings_of
from noregret.trail.models import AuditEntry

from . import mirrored, sections
from .arm_table import arm_table, serves_nobody
from .asked_figures import asked_of, can_be_asked, evaluation_shown, segments_shown
from .chart_documents import charts
from .decision import offers
from .deeds import by_whom, taken_out
from .figures import Figures, figures_of, shadow_rows, tells_evidence
from .possible_actions import possible_actions, possible_arm_actions
from .soundness import soundness
from .timeline import SHOWN, events, timeline
from .told_reward import BEGUN
from .verdicts import Setting, setting_of, verdict
from .verdicts.setting import planned_end
from .words import warning_told

PARTS = ("actions", "verdict", "decision", "arms", "strategy", "soundness", "timeline", "evaluation")
"""What a refresh replaces: templates in noregret/experiment/."""

# So many points are calm to look at: with more of them each holds few decisions of the arms that
# lose, and means jump about.
POINTS = 30
_SILENT = 20.0
"""Of so many decisions that were to be expected not one comes by chance once in half a billion."""
_DAY = timedelta(days=1)


def shown(experiment: Experiment, *, may_change: bool, sees_audit: bool, policy: str) -> dict[str, Any]:
    """The context of the page's templates. Bounded: whatever came in, the same queries. `policy`:
    whose earnings are asked for; empty for none."""
    arms = list(experiment.arms.select_related("model").order_by("position"))
    results = shared_results(experiment.pk).results
    series, history = lagging.of_experiment(experiment.pk, lambda: _of_time(experiment))
    entries = _entries(experiment) if sees_audit else []
    setting = setting_of(
        experiment,
        per_day=per_day(experiment, series, results.as_of),
        forecast=_forecast(experiment),
        paused=_paused(experiment, entries, results.as_of),
        taken_out=taken_out(experiment, arms, results.as_of),
        not_learned=not_learned_yet(experiment.endpoint.name) if experiment.status in BEGUN else "",
    )
    figures = figures_of(experiment, results)
    standing = verdict(results, setting)
    counted = feedback(experiment)
    asked = asked_of(experiment, policy)
    return {
        "experiment": experiment,
        "results": results,
        "figures": figures,
        "verdict": standing,
        "warnings": [warning_told(warning) for warning in warnings_of(experiment)],
        "strip": strip(experiment, results, figures, counted),
        "evidence_help": evidence_help(experiment, results, setting),
        "next_update": next_update(results),
        "live": experiment.status == Experiment.Status.RUNNING or any(known.is_made for known in asked.values()),
        "offers": offers(
            possible_actions(experiment) if may_change else [], experiment.name, results, setting, standing
        ),
        "arm_actions": possible_arm_actions(experiment, arms) if may_change else [],
        "may_change": may_change,
        "table": arm_table(experiment, results, setting, figures.cells),
        "arms_help": arms_help(experiment) + gone_help(experiment),
        "soundness": soundness(experiment, results, counted, setting.not_learned),
        "charts": charts(experiment, results, setting, series, history, events(experiment, entries)),
        "sees_audit": sees_audit,
        "timeline": timeline(experiment, entries, history),
        "evaluable": can_be_asked(experiment),
        "evaluation": evaluation_shown(experiment, policy, asked),
        **_of_strategy(experiment, arms, results, setting, asked.get(SEGMENTS)),
    }


def parts(context: dict[str, Any], request: HttpRequest) -> dict[str, str]:
    """What a refresh replaces, as HTML by name; a slice of it is a plain string."""
    return {name: render_to_string(f"noregret/experiment/{name}.html", context, request)[:] for name in PARTS}


def _of_time(experiment: Experiment) -> tuple[OverTime, list[standing_history.Standing]]:
    """What is read of many rows, and may be a few seconds old."""
    return over_time(experiment, POINTS), standing_history.history(experiment)


def _of_strategy(
    experiment: Experiment,
    arms: list[Arm],
    results: Results,
    setting: Setting,
    by_segment: Known | None,
) -> dict[str, Any]:
    """What one strategy alone has."""
    begun = experiment.started_at is not None
    guarded = sections.guarded(results, experiment.reward_) if begun else []
    differences = sections.differences(results, setting) if begun else None
    match experiment.strategy:
        case Experiment.Strategy.CANARY:
            ladder = sections.ladder(experiment, arms, results, setting)
            return {"guarded": guarded, "ladder": ladder, "differences": differences}
        case Experiment.Strategy.SHADOW:
            rows = shadow_rows(results)
            return {"shadows": rows, "challengers": mirrored.challengers(experiment, results), "is_shadow": True}
        case Experiment.Strategy.AB:
            return {"guarded": guarded, "differences": differences}
        case _ if experiment.apprentice:
            return {
                "guarded": guarded,
                "apprentice": results.apprentice,
                "choices": mirrored.choices(results),
                "reasons": mirrored.trusted(results),
                "is_apprentice": True,
            }
    return {
        "guarded": guarded,
        "earned": sections.earned(results, setting) if begun else None,
        "contextual": setting.contextual,
        **segments_shown(experiment, by_segment),
        "arm_names": [arm.name for arm in arms],
    }


def _entries(experiment: Experiment) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(experiment=experiment.name)[:SHOWN])


def _forecast(experiment: Experiment) -> forecast.Forecast | None:
    begun = experiment.status in (Experiment.Status.RUNNING, Experiment.Status.PAUSED)
    return forecast.known(experiment) if begun and tells_evidence(experiment) else None


def _paused(experiment: Experiment, entries: Sequence[AuditEntry], now: datetime) -> str:
    """By whom, when and why; empty where it is not paused or the reader may not know."""
    entry = next((entry for entry in entries if entry.action == "experiment.paused"), None)
    if experiment.status != Experiment.Status.PAUSED or entry is None:
        return ""
    return f" {by_whom(entry, now)}"


def per_day(experiment: Experiment, series: OverTime, now: datetime) -> float | None:
    """Rewards a day that decisions of the last day lead to; None where none came."""
    if not series.at or experiment.started_at is None:
        return None
    starts = [datetime.fromisoformat(at) for at in series.at]
    since = max(experiment.started_at, now - _DAY)
    length = timedelta(seconds=series.seconds)
    recent = [i for i, at in enumerate(starts) if at + length > since]
    over = [
        i for i, at in enumerate(starts) if (now - at - length).total_seconds() >= experiment.reward_.window_seconds
    ]
    decisions = sum(arm.decisions[i] for arm in series.arms for i in recent)
    spanned = (now - min((starts[i] for i in recent), default=now)).total_seconds()
    if not decisions or spanned <= 0.0 or _has_ended(series, recent, decisions / spanned, now):
        return None
    answered = 1.0
    if experiment.reward_.default is None:
        asked = sum(arm.decisions[i] for arm in series.arms for i in over or recent)
        heard = sum(arm.rewards[i] for arm in series.arms for i in over or recent)
        answered = heard / asked if asked else 0.0
    return decisions * answered * _DAY.total_seconds() / spanned or None


def _has_ended(series: OverTime, recent: list[int], rate: float, now: datetime) -> bool:
    """Has traffic of `rate` a second been silent for as long as it hardly ever is?"""
    last = max(i for i in recent if any(arm.decisions[i] for arm in series.arms))
    silent = (now - datetime.fromisoformat(series.at[last])).total_seconds() - series.seconds
    return rate * silent > _SILENT


def strip(experiment: Experiment, results: Results, figures: Figures, counted: Feedback) -> list[tuple[str, str, str]]:
    """(name, label, text): where it stands, at a glance; times are in the template."""
    told_facts = [
        ("day", "Day", day(experiment, results.as_of)),
        ("decisions", "Decisions", figures.facts["decisions"]),
        *_answered(experiment, results, counted),
    ]
    shown_once = {"decisions", "rewards", "sample_ratio", "answers"}
    if tells_evidence(experiment):
        shown_once.add("evidence")  # the verdict tells it
    told_facts += [(name, label, text) for name, label, text in figures.labelled if name not in shown_once]
    return told_facts


def _answered(experiment: Experiment, results: Results, counted: Feedback) -> list[tuple[str, str, str]]:
    """What came of the decisions: a default is no answer, and what is open is neither."""
    if experiment.strategy == Experiment.Strategy.SHADOW and not counted.answered:
        known = [arm.shadow.outcomes.count for arm in results.arms if arm.shadow is not None and arm.shadow.outcomes]
        return [("outcomes", "Outcomes told", f"{max(known, default=0):,}")]
    default, window = experiment.reward_.default, duration(experiment.reward_.window_seconds)
    # Rewards are counted as they come in, decisions a moment later, with their rows.
    share = f" ({counted.answered / results.decisions:.0%})" if results.decisions else ""
    if results.rewards > results.decisions:
        share = " (decisions are on their way)"
    facts = [("rewards", "Answered", f"{counted.answered:,}{share}")]
    if default is None:
        facts.append(("open", "Without an answer", f"{counted.open:,} (not learned from)"))
    else:
        facts.append(("defaulted", f"No answer in {window}", f"{counted.defaulted:,} (count as {plain(default)})"))
        facts.append(("open", "Window open", f"{counted.open:,}"))
    if counted.failed:
        facts.append(("failed", "Failed", f"{counted.failed:,} (the champion answered; no reward)"))
    return facts


def day(experiment: Experiment, now: datetime) -> str:
    """'6 of 14', '6', or that it has not begun."""
    if experiment.started_at is None:
        at = experiment.schedule_.start_at
        return "not started" if at is None else f"starts {at:%Y-%m-%d %H:%M} UTC"
    ended = experiment.ended_at or now
    number = (ended - experiment.started_at) // _DAY + 1
    end = planned_end(experiment)
    if experiment.ended_at is not None or end is None or end <= experiment.started_at:
        return f"{number:,}"
    return f"{number:,} of {-(-(end - experiment.started_at) // _DAY):,}"


def next_update(results: Results) -> str:
    """When the learner looks again."""
    learner = results.learner
    if not learner.ok or learner.seconds_since_round is None:
        return "not known: nothing is learned at the moment"
    return f"within {settings.LEARN_SECONDS:g} s"


def evidence_help(experiment: Experiment, results: Results, setting: Setting) -> str:
    """What evidence is, where the page tells it."""
    needed, canary = results.evidence.needed, experiment.strategy == Experiment.Strategy.CANARY
    if needed is None or not (canary or tells_evidence(experiment)):
        return ""
    shown_at = f"at {needed:,.0f} {'the control is shown to be better' if canary else 'an arm is shown to be best'}"
    return (
        f"Evidence begins at 1 and is multiplied by each decision that speaks for an arm; {shown_at}, and that is "
        f"wrong in at most {plain(setting.alpha, percent=True)} of experiments, however often one looks "
        "(docs/promotion.md)."
    )


def gone_help(experiment: Experiment) -> str:
    """From when on there are rows, where days were dropped."""
    begins = rows_from(experiment)
    if begins is None:
        return ""
    return f" Decisions before {begins:%Y-%m-%d} were dropped from the ledger: the figures count them, what is read from rows begins there."


def arms_help(experiment: Experiment) -> str:
    """What to know of the table of arms."""
    if serves_nobody(experiment):
        return "The control alone serves: of the others there are predictions on copies, and no decision."
    compared = memory_of(experiment) is not None
    said = (
        "Mean and intervals are of the requests that the arm served, and under drift over the times when it was served; "
        f"those “at any time” stay right however often one looks at them{', and are drawn thin' if compared else ''}."
    )
    if keeps_units(experiment):
        said += " They count units, not decisions: what one unit does hangs together."
    if not compared:
        return f"{said} Arms serve different requests here, so their means can't be compared: the segments below can."
    if experiment.strategy == Experiment.Strategy.CANARY:
        return f"{said} P(best) is shown and never acted on."
    memory = memory_of(experiment)
    by = (
        "P(best) and expected loss are by what the policy remembers, the means are of all that was seen. They"
        if memory is not None and memory.forgets
        else "P(best) and expected loss"
    )
    return f"{said} {by} are shown and never acted on: only the evidence promotes."
