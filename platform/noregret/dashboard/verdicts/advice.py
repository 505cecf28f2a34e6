"""What to do where something is recommended: a sentence, and the buttons that do it. What the
learner does by itself in a moment is no button's."""

from noregret.learning.shown.results import Results

from .planned import promotes_at_end
from .setting import Setting

Advice = tuple[str, tuple[str, ...]]

_PAST = {"promote": "promoted", "stop": "stopped", "rollback": "rolled back"}


def due(results: Results, setting: Setting) -> Advice:
    """Of a recommendation to promote, stop or roll back, in a running or a paused experiment."""
    recommended = results.recommendation
    action, paused = recommended.action, results.status == "paused"
    # A canary that is shown to be worse goes back whoever promotes.
    by_itself = setting.auto or action == "rollback"
    if by_itself and not paused:
        return f"It is {_PAST[action]} by itself in a moment.", ()
    do = {
        "promote": f"Promote {recommended.arm}",
        "stop": "Stop it, and keep the champion",
        "rollback": "Roll it back",
    }[action]
    until = " and its planned end is not reached" if promotes_at_end(results, setting) else ""
    waits = f"; nothing is done by itself while it is paused{until}" if by_itself else ""
    return f"{do}{waits}.", (action,)


def of_paused(results: Results, setting: Setting) -> Advice:
    """Of a paused experiment."""
    if results.recommendation.action != "continue":
        return due(results, setting)
    if any(arm.state == "passed" for rail in results.guardrails for arm in rail.arms):
        return "Mend what its guardrail has found before it is resumed; or end it.", ()
    return "Resume it, or end it.", ("resume",)
