"""Public clients of the protocols that are spoken here, unmodified: each in an environment of its
own, made once and kept in `.clients/` of the checkout.

They are no dependencies of the project, and two of them can't live in one process. A client that
can't be installed here (no index, no node) is skipped, and pytest says which and why.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "tests" / "clients"
KEPT = ROOT / ".clients"
INSTALL_SECONDS = 280
RUN_SECONDS = 60


def python_of(name: str) -> Path:
    """The interpreter of the environment of `tests/clients/NAME.txt`."""
    requirements = REQUIREMENTS / f"{name}.txt"
    folder = _folder(name, requirements.read_bytes())
    python = folder / "bin" / "python"
    with _alone(folder) as is_there:
        if not is_there:
            _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], name)
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
            # Compiling all of an environment takes longer than the few modules that a test imports.
            chosen = ["--quiet", "--no-compile", "--require-hashes", "-r", str(requirements)]
            _run([*pip, "install", *chosen], name)
    return python


def node_modules_of(name: str) -> Path:
    """The folder of the packages of `tests/clients/NAME/package-lock.json`, with the scripts beside
    it."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip(f"the client {name} needs node and npm, which are not here")
    source = REQUIREMENTS / name
    parts = [source / "package.json", source / "package-lock.json"]
    folder = _folder(name, b"".join(part.read_bytes() for part in parts))
    with _alone(folder) as is_there:
        if not is_there:
            folder.mkdir(parents=True)
            for part in parts:
                shutil.copy(part, folder)
            _run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)], name)
    return folder / "node_modules"


def onnxruntime_web_files() -> Path:
    """The folder of onnxruntime-web's files, as `manage.py digits-page` fetches them."""
    from noregret.demo import onnxruntime_web

    with _alone(KEPT / onnxruntime_web.FOLDER) as is_there:
        if not is_there:
            try:
                onnxruntime_web.fetch(KEPT)
            except onnxruntime_web.NotFetched as error:
                pytest.skip(f"NO ONNXRUNTIME-WEB: ONNX models are not run in JavaScript: {error}")
    return KEPT / onnxruntime_web.FOLDER


def told_by(command: list[str], variables: dict[str, str] | None = None, **given: Any) -> Any:
    """What a client says: it gets JSON as its last argument, and prints JSON. `variables` are added
    to its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO"))}
    # To loopback alone, whatever proxy a machine has.
    environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} | (variables or {})
    ran = subprocess.run(
        [*command, json.dumps(given)], capture_output=True, text=True, timeout=RUN_SECONDS, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def _folder(name: str, content: bytes) -> Path:
    digest = hashlib.sha256(content + sys.version.encode()).hexdigest()[:12]
    return KEPT / f"{name}-{digest}"


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Nobody else makes this environment meanwhile. Yields whether it is whole already; what is
    left of one that is not is removed."""
    KEPT.mkdir(exist_ok=True)
    whole = folder / ".whole"
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if whole.exists():
            yield True
            return
        shutil.rmtree(folder, ignore_errors=True)
        yield False
        whole.touch()


def _run(command: list[str], name: str) -> None:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"the client {name} was not installed within {INSTALL_SECONDS} s")
    if ran.returncode != 0:
        pytest.skip(f"the client {name} can't be installed here: {ran.stderr.strip()[-500:]}")
