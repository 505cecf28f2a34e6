"""Other servers of models, installed in folders of their own and loaded beside ours.

Each serves the same scaler and regression, as its own documentation has it served for speed, in one
process on the service's core. None of them records what it answered.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .cores import Cores
from .irises import Irises
from .load import LoadFailed, Target, http, load

SOURCES = Path(__file__).parent / "peer_sources"
INSTALL_SECONDS = 900.0
START_SECONDS = 90.0
ROWS_FILE = "rows.npz"
_DONE = "installed.json"


@dataclass(frozen=True, slots=True)
class Peer:
    """`command` is run in the peer's folder, `{port}` filled in; `python -m` and scripts are those
    of its environment."""

    name: str
    title: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    path: str
    body: str = "inputs"
    """How a row is asked for: `inputs` as `{"inputs": [row]}`, or `v2` as Open Inference
    Protocol."""
    needs: tuple[str, ...] = ()
    """What `prepare.py` makes for it: `joblib`, `onnx`, `mlflow`."""
    environment: dict[str, str] = field(default_factory=dict)


_UVICORN = ("-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
_SKLEARN = "scikit-learn"

PEERS = (
    Peer(
        "fastapi",
        "FastAPI, scikit-learn",
        ("fastapi", "uvicorn[standard]", _SKLEARN),
        (*_UVICORN, "--port", "{port}", "fastapi_sklearn:app"),
        "/predict",
        needs=("joblib",),
    ),
    Peer(
        "fastapi-onnx",
        "FastAPI, ONNX Runtime",
        ("fastapi", "uvicorn[standard]", _SKLEARN, "skl2onnx", "onnxruntime"),
        (*_UVICORN, "--port", "{port}", "fastapi_onnx:app"),
        "/predict",
        needs=("onnx",),
    ),
    Peer(
        "mlserver",
        "MLServer, scikit-learn",
        ("mlserver", "mlserver-sklearn", _SKLEARN),
        ("-m", "mlserver.cli.main", "start", "mlserver"),
        "/v2/models/irises/infer",
        body="v2",
        needs=("joblib",),
        environment={
            "MLSERVER_HTTP_PORT": "{port}",
            "MLSERVER_GRPC_PORT": "{port1}",
            "MLSERVER_METRICS_PORT": "{port2}",
        },
    ),
    Peer(
        "bentoml",
        "BentoML, ONNX Runtime",
        ("bentoml", _SKLEARN, "skl2onnx", "onnxruntime"),
        ("-m", "bentoml", "serve", "bentoml_onnx:Irises", "--port", "{port}", "--host", "127.0.0.1"),
        "/predict",
        needs=("onnx",),
        environment={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "{folder}/bentoml"},
    ),
    Peer(
        "mlflow",
        "MLflow, scikit-learn",
        ("mlflow", _SKLEARN),
        (
            "-m",
            "mlflow",
            "models",
            "serve",
            "-m",
            "mlflow_model",
            "--port",
            "{port}",
            "--env-manager",
            "local",
            "-w",
            "1",
        ),
        "/invocations",
        needs=("mlflow",),
    ),
    Peer(
        "litserve",
        "LitServe, ONNX Runtime",
        ("litserve", _SKLEARN, "skl2onnx", "onnxruntime"),
        ("litserve_onnx.py", "{port}"),
        "/predict",
        needs=("onnx",),
    ),
    Peer(
        "django-noop",
        "a bare Django view, Granian",
        ("django", "granian"),
        (
            "-m",
            "granian",
            "--interface",
            "wsgi",
            "--port",
            "{port}",
            "--blocking-threads",
            "8",
            "--no-ws",
            "django_noop:application",
        ),
        "/noop",
    ),
)
BY_NAME = {peer.name: peer for peer in PEERS}


class PeerAbsent(Exception):
    """It could not be installed or started here, and why."""


@dataclass(frozen=True, slots=True)
class RunningPeer:
    peer: Peer
    version: str
    target: Target


def install(peer: Peer, folder: Path, data: Irises) -> str:
    """Its environment and its models in `folder`, unless they are there; its version. Raises
    PeerAbsent."""
    wanted = hashlib.sha256(json.dumps([peer.packages, peer.needs, sys.version]).encode()).hexdigest()
    done = folder / _DONE
    with contextlib.suppress(OSError, ValueError, KeyError):
        installed = json.loads(done.read_text())
        if installed["wanted"] == wanted:
            _lay_sources(folder)
            return str(installed["version"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _lay_sources(folder)
    np.savez(folder / ROWS_FILE, rows=data.train_rows, labels=data.train_labels)
    python = str(_python(folder))
    _run([sys.executable, "-m", "venv", "environment"], folder)
    _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages], folder)
    if peer.needs:
        _run([python, "prepare.py", *peer.needs], folder)
    asked = f"from importlib.metadata import version; print(version({peer.packages[0]!r}))"
    version = _run([python, "-c", asked], folder).strip()
    done.write_text(json.dumps({"wanted": wanted, "version": version}))
    return version


def _lay_sources(folder: Path) -> None:
    shutil.copytree(SOURCES, folder, dirs_exist_ok=True)


def _python(folder: Path) -> Path:
    return folder / "environment" / "bin" / "python"


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=INSTALL_SECONDS, check=True
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines()
        raise PeerAbsent(said[-1] if said else f"exit {error.returncode}") from error
    except (subprocess.TimeoutExpired, OSError) as error:
        raise PeerAbsent(str(error)) from error
    return done.stdout


def _environment() -> dict[str, str]:
    """Ours, less what would lead another Python to our packages."""
    ours = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "DJANGO_SETTINGS_MODULE"}}
    return ours | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@contextlib.contextmanager
def running(peer: Peer, folder: Path, version: str, data: Irises, cores: Cores) -> Iterator[RunningPeer]:
    """The peer, answering, for the time of a `with`. Raises PeerAbsent."""
    ports = _free_ports(3)
    filled = {"port": str(ports[0]), "port1": str(ports[1]), "port2": str(ports[2]), "folder": str(folder)}
    environment = {name: value.format(**filled) for name, value in peer.environment.items()}
    # Scripts that a server looks for by name are its environment's own.
    path = f"{_python(folder).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with (folder / "server.log").open("wb") as log, cores.starting_services():
        process = subprocess.Popen(
            [str(_python(folder)), *(part.format(**filled) for part in peer.command)],
            cwd=folder,
            env=_environment() | environment | {"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    target = Target("127.0.0.1", ports[0], _request(peer, data))
    try:
        _wait(process, target, folder / "server.log")
        yield RunningPeer(peer, version, target)
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The server and the processes that it started: they are a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 15)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in opened]


def _request(peer: Peer, data: Irises) -> Any:
    rows = [row.tolist() for row in data.rows]
    bodies: list[dict[str, Any]] = [{"inputs": [row]} for row in rows]
    if peer.body == "v2":
        tensor = {"name": "input", "shape": [1, 4], "datatype": "FP64"}
        outputs = [{"name": "predict_proba"}]
        bodies = [{"inputs": [{**tensor, "data": row}], "outputs": outputs} for row in rows]
    requests = [http("POST", peer.path, body=json.dumps(body).encode()) for body in bodies]
    turn = iter(range(1 << 62))
    return lambda: requests[next(turn) % len(requests)]


def _wait(process: "subprocess.Popen[bytes]", target: Target, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    problem: Exception | None = None
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            if load(target, connections=1, seconds=0.2).latencies:
                return
        except LoadFailed as error:
            problem = error
        time.sleep(0.5)
    said = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise PeerAbsent(f"it did not answer: {problem}; {' '.join(said)}"[:300])
