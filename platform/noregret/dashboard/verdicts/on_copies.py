"""Verdicts of what serves nobody: challengers on copies, and a policy that is an apprentice."""

from noregret.learning.shown.phrases import listed
from noregret.learning.shown.results import Results, ResultsArm
from noregret.learning.shown.shadow_comparison import ShadowComparison

from . import told
from .compared import ENOUGH_OUTCOMES, right_more_often
from .setting import Setting
from .structure import Tone, Verdict


def of_shadow(results: Results, setting: Setting) -> Verdict:
    """Of a running or paused shadow whose champion has served."""
    challengers = [arm for arm in results.arms if not arm.is_control]
    seen = [(arm, arm.shadow) for arm in challengers if arm.shadow is not None]
    if not seen:
        headline = "No challenger has answered a copy yet."
        return Verdict(headline, "Wait a moment; then look at its models' errors.", "wait")
    unseen = [arm.name for arm in challengers if arm.shadow is None]
    sentences = [_compared(arm, shadow) for arm, shadow in seen]
    details = [*sentences[1:], *(f"{name} has answered no copy yet." for name in unseen)]
    scored = [(arm, shadow) for arm, shadow in seen if shadow.outcomes is not None]
    tone: Tone = "bad" if any(shadow.error_rate > 0.1 for _, shadow in seen) else "wait"
    if not scored:
        details.append("Who is right is not known: no feedback on the metric outcome said what was true.")
        return Verdict(sentences[0], "Look at where they disagree, and send outcomes.", tone, tuple(details))
    less, more = ([arm.name for arm, shadow in scored if _right(shadow) == sign] for sign in (-1, 1))
    if less:
        details.append(f"{listed(less)} {_is(less)} shown to be right less often than the champion.")
    if more:
        details.append(f"{listed(more)} {_is(more)} shown to be right more often than the champion.")
        return Verdict(
            sentences[0], "Look at where they disagree, and promote by hand what you trust.", tone, tuple(details)
        )
    if len(less) == len(seen):
        return Verdict(
            sentences[0], "Promote none of them: mend what is wrong, or stop it.", "bad", tuple(details), ("stop",)
        )
    return Verdict(sentences[0], "Look at where they disagree; promote by hand what you trust.", tone, tuple(details))


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _right(shadow: ShadowComparison) -> int:
    """1 where it is shown to be right more often than the champion, -1 where less often, else 0."""
    outcomes = shadow.outcomes
    if outcomes is None or outcomes.accuracy is None or outcomes.champion_accuracy is None:
        return 0
    if outcomes.count < ENOUGH_OUTCOMES:
        return 0
    low, high = right_more_often(outcomes.accuracy, outcomes.champion_accuracy, outcomes.count)
    return 1 if low > 0.0 else -1 if high < 0.0 else 0


def _compared(arm: ResultsArm, shadow: ShadowComparison) -> str:
    """One challenger beside the champion, in a sentence."""
    count = told.counted(shadow.predictions, "request", "requests")
    if shadow.errors == shadow.predictions:
        return f"{arm.name} failed on each of {count}."
    agrees = "was not compared" if shadow.agreement is None else f"agrees with the champion on {shadow.agreement:.1%}"
    parts = [f"{arm.name} {agrees} of {count}" if shadow.agreement is not None else f"{arm.name} {agrees} on {count}"]
    if shadow.mean_absolute_difference:
        parts.append(f"they differ by {told.values([shadow.mean_absolute_difference], percent=False)[0]} on average")
    outcomes = shadow.outcomes
    if outcomes is not None and outcomes.accuracy is not None and outcomes.champion_accuracy is not None:
        own, champion = told.values([outcomes.accuracy, outcomes.champion_accuracy], percent=True)
        parts.append(f"right in {own}, the champion in {champion}, of {outcomes.count:,} that were told")
    elif outcomes is not None and outcomes.mean_absolute_error is not None:
        errors = [outcomes.mean_absolute_error, outcomes.champion_mean_absolute_error or 0.0]
        own, champion = told.values(errors, percent=False)
        parts.append(f"off by {own}, the champion by {champion}, on {outcomes.count:,} that were told")
    if shadow.errors:
        parts.append(f"it failed on {told.values([shadow.error_rate], percent=True)[0]}")
    return f"{'; '.join(parts)}."


def of_apprentice(results: Results, setting: Setting) -> Verdict:
    """Of a policy whose choices are recorded while the control serves."""
    apprentice = results.apprentice
    if apprentice is None or not apprentice.decisions:
        return Verdict(
            "The policy serves nobody, and none of its choices is summed yet.", "Wait for its first minute.", "wait"
        )
    choices = ", ".join(f"{name} {share:.1%}" for name, share in apprentice.shares.items() if share is not None)
    headline = f"The policy serves nobody; of {apprentice.decisions:,} decisions it would have given {choices}."
    unheard = [arm.name for arm in results.arms if not arm.is_control and not arm.rewards]
    learns = f"While the control alone serves, {listed(unheard)} gets no reward, and the policy learns nothing of it."
    scored = apprentice.outcomes
    if scored is None or scored.accuracy is None or scored.control_accuracy is None:
        detail = (
            "Its choices are not scored: no feedback on the metric outcome said what was true where its arm predicted."
        )
        said = (detail, learns) if unheard else (detail,)
        return Verdict(headline, "Send outcomes; activate it when you trust it.", "wait", said)
    own, control = told.values([scored.accuracy, scored.control_accuracy], percent=True)
    detail = (
        f"Its choices would have been right in {own}, the control's in {control}, of {scored.count:,} that were told."
    )
    ahead = scored.accuracy > scored.control_accuracy
    do = "Activate it when you trust it: what speaks for it stands below." if ahead else "Keep it an apprentice."
    return Verdict(headline, do, "wait", (detail, learns) if unheard else (detail,))
