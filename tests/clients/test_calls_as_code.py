"""The playground's code runs as it is copied, whatever stands in the request."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from noregret.dashboard.call_as_code import KEY_VARIABLE, as_code
from noregret.embedded.running import RunningPlatform

BODY = {
    "unit": 'it\'s "$HOME" `id` \\ 서울 \n {x}',
    "context": {"age": 31, "new": True, "city": None},
    "activate": False,
}


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_code__of_each_language__gets_the_decision(
    running: RunningPlatform, key: str, pages: str, language: str, tmp_path: Path
) -> None:
    codes = {code.language: code.text for code in as_code(f"{running.url}/api/v1/endpoints/{pages}/decide", BODY)}
    file = tmp_path / "call.mjs"
    file.write_text(codes[language])
    program = {"curl": ["sh"], "Python": [sys.executable], "JavaScript": ["node"]}[language]
    needed = "curl" if language == "curl" else program[0]
    if shutil.which(needed) is None:
        pytest.skip(f"{needed} is not here: its code was not run")
    environment = {**os.environ, KEY_VARIABLE: key, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    ran = subprocess.run(
        [*program, str(file)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "pages-1" in ran.stdout
    assert "decision_id" in ran.stdout
