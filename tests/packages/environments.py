"""Environments in which packages are installed: numpy, ONNX Runtime and what that brings, and
nothing of ours."""

import os
import subprocess
import sys
import venv
from pathlib import Path

from noregret.packaging.wheel import Wheel, build

from tests.client_environments import python_of


def installed(wheel: Wheel, folder: Path) -> Path:
    """The interpreter of a fresh environment with the wheel, and numpy and ONNX Runtime of one that
    is kept."""
    base = python_of("package")
    home = folder / f"env-{wheel.package}"
    if not home.exists():
        venv.create(home, with_pip=False, symlinks=True)
        (site,) = (home / "lib").glob("python*/site-packages")
        (others,) = (base.parents[1] / "lib").glob("python*/site-packages")
        (site / "base.pth").write_text(f"{others}\n")
    python = home / "bin" / "python"
    install(wheel, python, folder)
    return python


def install(wheel: Wheel, python: Path, folder: Path) -> None:
    """By pip, without an index; a wheel that is there is replaced. Its requirements are looked for
    in the environment, and must be there."""
    path = folder / wheel.filename
    path.write_bytes(build(wheel))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    for command in (
        [*pip, "install", "--quiet", "--no-index", "--no-compile", "--upgrade", str(path)],
        [*pip, "check"],
    ):
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PIP_NO_INPUT": "1"}
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
