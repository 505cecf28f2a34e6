"""The child process that opens an uploaded artefact: `python -m noregret.registry.inspect_artifact FOLDER [HIDDEN ...]`.

It reads `artifact` and `request.json` in FOLDER, writes `answer.json` there and, where the model could be compiled, `model.onnx`. Before it
reads anything it gives up the right to more memory, time and file size than an honest model needs, to the network and to every file
that is not Python's (`confinement`); the HIDDEN folders above all. It knows no secret: the parent starts it with an empty environment.
"""

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .confinement import confine

MEMORY_BYTES = 4 << 30
CPU_SECONDS = 60
FILE_BYTES = 512 << 20


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    # The signal at the softer limit says that it was time; at the harder one any process is just killed.
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def inspect(folder: Path) -> dict[str, Any]:
    """{"signature", "note", "compiled", "cost"} or {"refused": why}."""
    import numpy as np

    from serving.runtimes.onnx import OnnxRuntime
    from serving.runtimes.sklearn import SklearnRuntime

    from . import cost, examining, signature, skops_file

    request = json.loads((folder / "request.json").read_text())
    try:
        estimator = skops_file.load((folder / "artifact").read_bytes(), request["trusted"])
        known = signature.read(estimator)
    except (skops_file.Refused, ValueError) as error:
        return {"refused": str(error)}
    sample = None
    if request["sample"] is not None:
        sample = np.asarray(request["sample"], dtype=np.float64)
        if sample.ndim != 2 or (known.features is not None and sample.shape[1] != known.features):
            return {"refused": f"the sample has shape {sample.shape}: (rows, {known.features}) was expected"}
    try:
        known, compiled = examining.examine(estimator, known, sample)
    except examining.NotAnswering as error:
        return {"refused": str(error)}
    if compiled.body is not None:
        (folder / "model.onnx").write_bytes(compiled.body)
    runtime = SklearnRuntime(estimator, known.outputs)
    try:
        measured = asdict(
            cost.measure(
                runtime if compiled.body is None else OnnxRuntime(compiled.body, known.outputs),
                np.array(known.example_rows, dtype=np.float64),
            )
        )
    except Exception:  # it answers many rows and not these few: then nobody knows what a call takes
        measured = {"call_seconds": None, "row_seconds": None}
    return {
        "signature": known.to_dict(),
        "note": compiled.note,
        "compiled": compiled.body is not None,
        "cost": measured,
    }


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
    confine(Path(sys.argv[1]), [Path(hidden) for hidden in sys.argv[2:]])
    main()
