"""MLflow's own server on the loopback, in an environment of its own, with models that were logged
as its users log them.
"""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.client_environments import REQUIREMENTS, python_of

START_SECONDS = 120.0
LOG_SECONDS = 240.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def plain_environment() -> dict[str, str]:
    names = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO", "NOREGRET"))}
    return names | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


@contextmanager
def running(command: list[str], url: str, folder: Path, **environment: str) -> Iterator[None]:
    """A server, from its first 200 at `url` to its end."""
    log = folder / "server.log"
    with log.open("wb") as told:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=plain_environment() | environment,
            stdout=told,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + START_SECONDS
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
            try:
                with opener.open(url, timeout=5.0) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(10)


def put_version(url: str, name: str, files: dict[str, bytes]) -> str:
    """A version of files as they are, whatever they hold: by MLflow's API, as anybody may."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(method: str, path: str, body: bytes, content_type: str = "application/json") -> Any:
        request = urllib.request.Request(  # noqa: S310 - of the server above
            f"{url}/api/2.0/{path}", data=body, method=method, headers={"Content-Type": content_type}
        )
        with opener.open(request, timeout=30.0) as answer:
            return json.loads(answer.read() or b"{}")

    run = call("POST", "mlflow/runs/create", b'{"experiment_id": "0"}')["run"]["info"]
    folder = f"{run['artifact_uri'].partition(':/')[2].strip('/')}/model"
    for file, content in files.items():
        call("PUT", f"mlflow-artifacts/artifacts/{folder}/{file}", content, "application/octet-stream")
    with suppress(urllib.error.HTTPError):  # it is there already
        call("POST", "mlflow/registered-models/create", json.dumps({"name": name}).encode())
    version = {"name": name, "source": f"runs:/{run['run_id']}/model", "run_id": run["run_id"]}
    made = call("POST", "mlflow/model-versions/create", json.dumps(version).encode())
    return str(made["model_version"]["version"])


@contextmanager
def mlflow_server(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Its address, and what was logged."""
    python, port = python_of("mlflow-server"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with running(command, f"{url}/health", folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"):
        script = REQUIREMENTS / "log_models.py"
        ran = subprocess.run(
            [str(python), str(script), json.dumps({"url": url})],
            capture_output=True, text=True, timeout=LOG_SECONDS, env=plain_environment(), cwd=folder, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr[-3000:]
        yield url, json.loads(ran.stdout.strip().splitlines()[-1])
