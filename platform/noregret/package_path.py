"""Where Noregret's packages are, for processes that are started with a path of their own: a
checkout has two roots, a wheel one."""

import os
import site
import sys
from pathlib import Path

import serving
from noregret import env

PACKAGE = Path(__file__).resolve().parent
ROOTS = tuple(dict.fromkeys((Path(serving.__file__).resolve().parents[1], PACKAGE.parent)))
"""The folders that hold `serving`, `bandits` and `noregret`."""


def command(*arguments: str) -> list[str]:
    """The command line of Noregret, run by this Python."""
    return [sys.executable, "-m", "noregret", *arguments]


def python_path() -> dict[str, str]:
    """PYTHONPATH by which a child finds our packages, whatever its working directory, which itself
    is not on the path.

    What is on the path already stays there, read from where this process stands: the callables of
    `python` models may come from it.
    """
    installed = {Path(folder).resolve() for folder in (*site.getsitepackages(), site.getusersitepackages())}
    ours = [root for root in ROOTS if root not in installed]
    return {
        "PYTHONPATH": os.pathsep.join(map(str, dict.fromkeys([*ours, *env.python_path()]))),
        "PYTHONSAFEPATH": "1",
    }
