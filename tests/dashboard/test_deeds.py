"""What happened is told in words, whatever it was."""

import re
from pathlib import Path

import noregret
import pytest
from noregret.dashboard.deeds import done
from noregret.trail.models import AuditEntry

_ACTION = re.compile(
    r'"((?:experiment|endpoint|guardrail|model|key|login|unit|quarantine|webhook|mlflow)\.[a-z]+(?:_[a-z]+)*)"'
)


def recorded() -> list[str]:
    """The actions that stand in what writes the trail, and those of an experiment's ends."""
    package = Path(str(noregret.__file__)).parent
    found = {
        action
        for path in package.rglob("*.py")
        if "audit.record(" in (text := path.read_text())
        for action in _ACTION.findall(text)
    }
    ends = {f"experiment.{past}" for past in ("started", "paused", "resumed", "stopped", "promoted", "rolled_back")}
    return sorted(found | ends)


def test_every_action_that_is_recorded__has_words() -> None:
    actions = recorded()
    assert {"experiment.floor_changed", "key.revoked", "quarantine.replayed"} <= set(actions)
    assert [action for action in actions if done(AuditEntry(action=action, details={})) == action] == []


@pytest.mark.parametrize(
    ("action", "model", "details", "told"),
    [
        ("experiment.advanced", "", {"step": 2, "weight": 0.25}, "went to step 2, 25% of the units"),
        ("experiment.advanced", "", {"step": 2}, "went to step 2, more of the units"),
        ("experiment.floor_changed", "", {"before": 0.01, "floor": 0.005}, "changed the floor from 1% to 0.5%"),
        ("experiment.recommended", "", {"action": "promote", "arm": "v2"}, "recommended to promote v2"),
        ("experiment.promoted", "", {"arm": "{0.__class__}"}, "promoted {0.__class__}"),
        ("endpoint.champion_changed", "digits@3", {"previous": "digits@1"}, "made digits@3 the champion"),
        ("guardrail.acted", "", {"action": "disable_arm"}, "acted on a guardrail: disable arm"),
        ("something.new", "", {}, "something.new"),
    ],
)
def test_entry__is_told_with_what_it_was_about(action: str, model: str, details: dict[str, object], told: str) -> None:
    assert done(AuditEntry(action=action, model=model, details=details)) == told
