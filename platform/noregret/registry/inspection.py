"""Has an artefact inspected by a child process, and reports what it found. This process never opens the artefact itself."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ArtifactRefused
from .inspect_artifact import CPU_SECONDS, FILE_BYTES, MEMORY_BYTES

WALL_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an artefact turned out to be; `compiled` is the ONNX file, or None with the reason in `note`."""

    signature: dict[str, Any]
    compiled: bytes | None
    note: str
    call_seconds: float | None
    row_seconds: float | None


def inspect(artifact: bytes, *, trusted: Sequence[str], sample: list[list[float]] | None) -> Inspection:
    """Raises ArtifactRefused, also when the child took too much memory or time."""
    with tempfile.TemporaryDirectory(prefix="noregret-inspect-") as name:
        folder = Path(name)
        (folder / "artifact").write_bytes(artifact)
        (folder / "request.json").write_text(json.dumps({"trusted": list(trusted), "sample": sample}))
        answer = _run(folder)
        if "refused" in answer:
            raise ArtifactRefused(answer["refused"])
        compiled = (folder / "model.onnx").read_bytes() if answer["compiled"] else None
        return Inspection(answer["signature"], compiled, answer["note"], **answer["cost"])


def _run(folder: Path) -> dict[str, Any]:
    # Its own environment: the path to our packages and single-threaded mathematics, but no secret.
    environment = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PATH": os.defpath,
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "noregret.registry.inspect_artifact", str(folder)]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactRefused(f"took longer than {WALL_SECONDS} s to be read") from error
    answer = folder / "answer.json"
    if done.returncode or not answer.exists():
        raise ArtifactRefused(_ending(done.returncode, done.stderr))
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def _ending(code: int, stderr: bytes) -> str:
    """Why the child ended without an answer, as far as its exit tells."""
    if code == -signal.SIGXCPU:
        return f"took longer than {CPU_SECONDS} s of computing to be read"
    if code == -signal.SIGXFSZ:
        return f"compiles to more than {FILE_BYTES >> 20} MiB"
    if code == -signal.SIGKILL:
        return "its inspection was killed, as happens where memory runs out: nothing is known of the file"
    if code < 0:
        return f"crashed the process that read it ({signal.Signals(-code).name})"
    lines = stderr.decode(errors="replace").strip().splitlines()
    if any("MemoryError" in line or "bad_alloc" in line for line in lines[-3:]):
        return f"needs more than {MEMORY_BYTES >> 30} GiB of memory to be read"
    return f"its inspection failed with exit code {code}: {lines[-1][:200] if lines else 'it said nothing'}"
