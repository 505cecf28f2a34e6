"""Has an artefact inspected by a child process, and reports what it found. This process never opens
the artefact itself.

Nor does it trust what the child leaves: it reads by descriptor, follows no link, and takes plain
files of its folder alone.
"""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil
from django.conf import settings

from noregret.env import socket_dir

from .confinement import ALL, Confinement
from .errors import ArtifactRefused, InspectionUnfinished
from .frameworks.protocol import Examined
from .inspect_artifact import COMPILED, CPU_SECONDS, FILE_BYTES, MEMORY_BYTES

WALL_SECONDS = 240
"""The child's seconds of computing judge a file; this one says that the machine was too busy."""
ANSWER_BYTES = 64 << 20
INSPECTOR = "noregret.registry.inspect_artifact"


def inspect(artifact: bytes, framework: str, options: Mapping[str, Any]) -> Examined:
    """What `framework`, a class as `package.module:Class`, finds an artefact to be.

    Raises ArtifactRefused, also when the child took too much memory or computed for too long, and
    InspectionUnfinished where it was cut off before the file could be judged.
    """
    with tempfile.TemporaryDirectory(prefix="noregret-inspect-") as name:
        folder = Path(name)
        (folder / "artifact").write_bytes(artifact)
        (folder / "request.json").write_text(json.dumps({"framework": framework, "options": options}))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            answer = _run(folder, descriptor)
            if "refused" in answer:
                raise ArtifactRefused(answer["refused"])
            compiled = _left(descriptor, COMPILED, FILE_BYTES) if answer.get("compiled") else None
        finally:
            os.close(descriptor)
    try:
        return replace(msgspec.convert(answer | {"compiled": None}, Examined), compiled=compiled)
    except msgspec.ValidationError as error:  # a child that was taken over answers what it likes
        raise ArtifactRefused(f"its inspection gave no answer that can be used: {error}") from error


def confinement() -> Confinement:
    """What an inspection started now is confined by."""
    with tempfile.TemporaryDirectory(prefix="noregret-inspect-") as name:
        told = subprocess.run(
            _command("noregret.registry.confinement", Path(name)),
            cwd="/",
            env=_environment(Path(name)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WALL_SECONDS,
            check=False,
        )
    if told.returncode:
        return Confinement((), ALL)
    answer = json.loads(told.stdout)
    return Confinement(tuple(answer["means"]), tuple(answer["missing"]))


def _command(module: str, folder: Path) -> list[str]:
    hidden = (settings.DATA_DIR, socket_dir(settings.DATA_DIR))
    return [sys.executable, "-m", module, str(folder), *map(str, hidden)]


def _environment(folder: Path) -> dict[str, str]:
    """Its own: the path to our packages and single-threaded mathematics in one process, but no
    secret."""
    return {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.defpath,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "JOBLIB_MULTIPROCESSING": "0",
    }


def _run(folder: Path, descriptor: int) -> dict[str, Any]:
    with (folder / "said").open(
        "wb"
    ) as said:  # a file, whose size is limited: what it writes is never held in memory here
        child = subprocess.Popen(
            _command(INSPECTOR, folder),
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            code = child.wait(WALL_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise InspectionUnfinished(
                f"its inspection was cut off after {WALL_SECONDS:g} s, of which it computed {_computed(child.pid):.1f}: "
                "this machine is busy, and nothing is known of the file"
            ) from error
        finally:
            child.kill()  # nothing happens to one that has ended
            child.wait()
    answer = _left(descriptor, "answer.json", ANSWER_BYTES)
    if code or answer is None:
        told = _ending(code, (_left(descriptor, "said", FILE_BYTES) or b"")[-4096:])
        raise InspectionUnfinished(told) if code == -signal.SIGKILL else ArtifactRefused(told)
    found = json.loads(answer)
    if not isinstance(found, dict):
        raise ArtifactRefused("its inspection gave no answer that can be used")
    return found


def _computed(process: int) -> float:
    """Seconds of the processors' time that a child has taken."""
    try:
        times = psutil.Process(process).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _left(folder: int, name: str, limit: int) -> bytes | None:
    """What the child left in the file of this name, if it is a plain file of at most so many
    bytes."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size > limit:
            return None
        return file.read()


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
