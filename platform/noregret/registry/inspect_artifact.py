"""The child process that opens an uploaded artefact: `python -m noregret.registry.inspect_artifact FOLDER`.

It reads `artifact` and `request.json` in FOLDER, writes `answer.json` there and, where the model could be compiled, `model.onnx`. Before it
reads anything it gives up the right to more memory, time and file size than an honest model needs. It knows no secret:
the parent starts it with an empty environment.
"""

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

MEMORY_BYTES = 4 << 30
CPU_SECONDS = 60
FILE_BYTES = 512 << 20
EXAMPLE_ROWS = 2
"""Rows that the model answers, kept with it: what it is warmed with."""


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def inspect(folder: Path) -> dict[str, Any]:
    """{"signature", "note", "compiled"} or {"refused": why}."""
    import numpy as np

    from serving.runtimes.sklearn import SklearnRuntime

    from . import compiling, signature, skops_file
    from .check_rows import check_rows
    from .original import Original

    request = json.loads((folder / "request.json").read_text())
    try:
        loaded = skops_file.load((folder / "artifact").read_bytes(), request["trusted"])
        known = signature.read(loaded.estimator)
    except (skops_file.Refused, ValueError) as error:
        return {"refused": str(error)}
    sample = None
    if request["sample"] is not None:
        sample = np.asarray(request["sample"], dtype=np.float64)
        if sample.ndim != 2 or sample.shape[1] != known.features:
            return {"refused": f"the sample has shape {sample.shape}: (rows, {known.features}) was expected"}
    checks = check_rows(loaded.estimator, known.features or 0, sample)
    original = Original(SklearnRuntime(loaded.estimator, known.outputs), known.outputs)
    answers = original.answers(checks.rows)
    if sample is not None and answers.problem_row is not None and answers.problem_row < len(sample):
        return {"refused": f"does not answer row {answers.problem_row} of the sample: {answers.problem}"}
    if not len(answers.rows):
        return {"refused": f"answers no row of numbers like those that it was fitted to: {answers.problem}"}
    known = replace(known, example_rows=answers.rows[:EXAMPLE_ROWS].tolist())
    compiled = compiling.compile_to_onnx(loaded.estimator, known, answers.joined(original.at_turns(answers, checks)))
    if compiled.body is None and loaded.confined:
        return {
            "refused": f"needs types that are served only when the model compiles, and it does not: {compiled.note}"
        }
    if compiled.body is not None:
        (folder / "model.onnx").write_bytes(compiled.body)
    return {"signature": known.to_dict(), "note": compiled.note, "compiled": compiled.body is not None}


def main() -> None:
    limit()
    folder = Path(sys.argv[1])
    try:
        answer = inspect(folder)
    except MemoryError:
        answer = {"refused": f"needs more than {MEMORY_BYTES >> 30} GiB of memory to be read"}
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
