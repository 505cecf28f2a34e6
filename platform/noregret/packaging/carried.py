"""The files of ours that a package carries: what chooses and what evaluates, as the service has it.

They lie under the package's own name, so that two endpoints' packages of two ages do not meet; the
lines that import one of them from another say so, and nothing else of a file is changed. None of
them needs more than numpy and the standard library, and ONNX Runtime where a graph is loaded: a
contract of imports holds it, and a test in an environment without anything else.
"""

import re
from pathlib import Path

import bandits
import serving

ROOMS = {"bandits": Path(bandits.__file__).parent, "serving": Path(serving.__file__).parent}
CARRIED = (
    "bandits/__init__.py",
    "bandits/belief.py",
    "bandits/checks.py",
    "bandits/context.py",
    "bandits/inference/__init__.py",
    "bandits/inference/best_arm.py",
    "bandits/inference/quadrature.py",
    "bandits/memory.py",
    "bandits/policies/*.py",
    "bandits/posteriors/*.py",
    "bandits/reward.py",
    "bandits/special_functions.py",
    "bandits/statistics.py",
    "serving/__init__.py",
    "serving/assignment.py",
    "serving/choosing.py",
    "serving/field_errors.py",
    "serving/packaged/*.py",
    "serving/reward_values.py",
    "serving/routing.py",
    "serving/runtimes/columns.py",
    "serving/runtimes/large_numbers.py",
    "serving/runtimes/linear.py",
    "serving/runtimes/onnx_graph.py",
    "serving/runtimes/rows.py",
    "serving/runtimes/runtime.py",
    "serving/runtimes/static_runtime.py",
)
_OURS = re.compile(rf"^(\s*from )({'|'.join(ROOMS)})(?=[. ])", re.MULTILINE)
# Of the service's own, which names every kind of model, a package has nothing.
_RUNTIMES = b'"""The runtimes that a package has."""\n'


def sources(package: str) -> dict[str, bytes]:
    """The carried files by their path within the package of this name."""
    files = {}
    for pattern in CARRIED:
        room, _, rest = pattern.partition("/")
        for path in sorted(ROOMS[room].glob(rest)):
            text = path.read_text("utf-8")
            files[f"{room}/{path.relative_to(ROOMS[room]).as_posix()}"] = renamed(text, package).encode()
    return files | {"serving/runtimes/__init__.py": _RUNTIMES}


def renamed(text: str, package: str) -> str:
    """A file whose imports of ours are those of the package."""
    return _OURS.sub(rf"\g<1>{package}.\g<2>", text)
