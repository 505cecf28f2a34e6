"""The child process that opens an uploaded artefact: `python -m noregret.registry.inspect_artifact
FOLDER [HIDDEN ...]`.

It reads `artifact` and `request.json` in FOLDER, has the framework that the request names inspect
the file, writes `answer.json` there and, where the model could be compiled, `model.onnx`. Before it
reads anything it gives up the right to more memory, time and file size than an honest model needs,
to the network and to every file that is not Python's (`confinement`); the HIDDEN folders above all.
It knows no secret: the parent starts it with an empty environment.
"""

import json
import resource
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from . import address_space
from .confinement import confine
from .errors import ArtifactRefused

MEMORY_BYTES = 4 << 30
CPU_SECONDS = 60
FILE_BYTES = 512 << 20
COMPILED = "model.onnx"


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    # The signal at the softer limit says that it was time; at the harder one any process is just
    # killed.
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def inspect(folder: Path) -> dict[str, Any]:
    """What the framework of the request says: the fields of Examined, or {"refused": why}."""
    request = json.loads((folder / "request.json").read_text())
    module, _, name = request["framework"].partition(":")
    framework = getattr(import_module(module), name)()
    try:
        examined = framework.inspect((folder / "artifact").read_bytes(), request["options"])
    except ArtifactRefused as error:
        return {"refused": str(error)}
    if examined.compiled is not None:
        (folder / COMPILED).write_bytes(examined.compiled)
    answer: dict[str, Any] = msgspec.to_builtins(replace(examined, compiled=None))
    return answer | {"compiled": examined.compiled is not None}


def main() -> None:
    limit()
    folder = Path(sys.argv[1])
    try:
        answer = inspect(folder)
    except MemoryError:
        answer = {"refused": f"needs more than {MEMORY_BYTES >> 30} GiB of memory to be read"}
    except Exception as error:  # a model may raise whatever it likes; what it was is what the caller has to hear
        answer = {"refused": f"could not be inspected: {type(error).__name__}: {error}"[:500]}
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    address_space.remember()
    confine(Path(sys.argv[1]), [Path(hidden) for hidden in sys.argv[2:]])
    main()
