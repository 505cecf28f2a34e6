"""The benchmark runs from beginning to end, and leaves nothing behind."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from noregret.bench.figures import FIGURES

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_PEERS = {"predict_to_fastapi", "predict_alone_to_fastapi"}


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_bench__in_its_quick_form__measures_every_figure_that_needs_no_peer(tmp_path: Path) -> None:
    command = [sys.executable, "manage.py", "bench", "--quick", "--json", "--profile", "--data-dir", str(tmp_path)]
    options = ["--plot", str(tmp_path / "latency.png"), "--write", str(tmp_path / "performance.md")]
    ran = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert {figure.name for figure in FIGURES if not found[figure.name]} <= WITHOUT_PEERS
    parts = found["predict_parts_ms"]
    assert min(parts[name] for name in ("decode", "key", "route", "model", "append", "sign", "encode")) > 0
    assert (tmp_path / "latency.png").stat().st_size > 0
    assert "## Latency against load" in (tmp_path / "performance.md").read_text()
    left = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]
    assert not [line for line in left if any("noregret-bench-" in part for part in line)]
