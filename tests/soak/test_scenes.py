"""Every scene of the demo, as its command plays it. Behind `make soak`: each starts a platform of
its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from noregret.demo.scenes import SCENES

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("scene", SCENES)
def test_scene__ends_as_it_should(scene: str) -> None:
    played = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "demo", "--scene", scene, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
    assert played.returncode == 0, played.stderr
    ending = json.loads(played.stdout.splitlines()[-1])
    assert (ending["outcome"], ending["promoted"] is not None) == {
        "bandit": ("promoted", True),
        "canary": ("rolled_back", False),
        "shadow": ("promoted", True),
        "drift": (None, False),
    }[scene]
    assert ending["decisions"] >= ending["acknowledged_decisions"] > 0
    assert max(len(line) for line in played.stderr.splitlines() if "│" in line) <= 80
    if scene == "drift":
        after = ending["after_the_change"]
        assert after["scans"] >= after["right"] > after["right_without_forgetting"] > 0
    if scene != "bandit":
        assert ending["saved_against_even_split"] is None or scene == "drift"
