"""`up` interrupted while it starts: at any instant it ends with 0, says nothing that looks like a
crash, and leaves nothing running."""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from noregret.env import socket_dir
from noregret.package_path import command, python_path


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="noregret-interrupted-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def listens(pid: int) -> bool:
    """Has it reached its first lines? Until then the interpreter itself answers signals."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            caught = int(line.split()[1], 16)
            return bool(caught >> (signal.SIGTERM - 1) & 1)
    return False


def left_running(folder: Path) -> list[str]:
    words = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            environment = process.environ()
        except (psutil.Error, OSError):
            continue
        if process.pid != os.getpid() and (
            str(folder) in line
            or str(socket_dir(folder)) in line
            or environment.get("NOREGRET_DATA_DIR") == str(folder)
        ):
            words.append(line)
    return words


_DRAW = random.Random(20)
DELAYS = [0.0, *(round(_DRAW.uniform(0, 3), 2) for _ in range(3)), 5.0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", DELAYS, ids=str)
def test_up__interrupted_while_it_starts__ends_well_and_leaves_nothing(folder: Path, delay: float, number: int) -> None:
    # The first of all makes the directory, the others find what it left.
    data = folder / "data"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("NOREGRET_")
    } | python_path()
    up = subprocess.Popen(
        command("up", "--port", "0", "--data-dir", str(data)),
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        while not listens(up.pid):
            time.sleep(0.002)
        time.sleep(delay)
        os.killpg(up.pid, number)  # as a terminal does
        out, said = up.communicate(timeout=40)
    finally:
        up.kill()
        up.communicate()
    assert up.returncode == 0, said
    assert "Traceback" not in said
    assert "noregret up:" not in said
    assert out.count("\n") <= 1
    assert left_running(data) == []
    assert not socket_dir(data).exists()
