"""A local cluster of Apache Flink: a job manager and a task manager, of the jars that PyFlink
carries."""

import os
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

WAIT_SECONDS = 600
# A machine that does other things meanwhile takes its time to start, and for a heartbeat.
SETTINGS = """
jobmanager.rpc.port: {rpc}
rest.port: {rest}
rest.bind-address: 127.0.0.1
pekko.ask.timeout: 120 s
heartbeat.timeout: 30000
env.java.opts.jobmanager: -Dpekko.remote.classic.startup-timeout=180s -Dpekko.remote.startup-timeout=180s
env.java.opts.taskmanager: -Dpekko.remote.classic.startup-timeout=180s -Dpekko.remote.startup-timeout=180s
"""


class FlinkCluster:
    """On loopback alone, with logs and settings in `folder`; `variables` are added to its
    environment."""

    def __init__(self, python: Path, folder: Path, variables: dict[str, str]) -> None:
        self._python = python
        self._folder = folder
        self._home = next(python.parents[1].glob("lib/*/site-packages/pyflink"))
        settings = folder / "conf"
        settings.mkdir()
        for path in (self._home / "conf").iterdir():
            (settings / path.name).write_bytes(path.read_bytes())
        given = (self._home / "conf" / "config.yaml").read_text()
        rpc, self._rest = _free_port(), _free_port()
        with (settings / "config.yaml").open("w") as file:
            file.write(given.replace("port: 6123", f"port: {rpc}") + SETTINGS.format(rpc=rpc, rest=self._rest))
        names = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO"))}
        self._environment = names | {
            "FLINK_HOME": str(self._home),
            "FLINK_CONF_DIR": str(settings),
            "FLINK_LOG_DIR": str(folder / "log"),
            "PATH": f"{python.parent}{os.pathsep}{names.get('PATH', '')}",
        }
        self._environment |= variables
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start("jobmanager")
        self.start("taskmanager")
        deadline = time.monotonic() + WAIT_SECONDS
        while (self._asked("/overview") or {}).get("slots-total", 0) < 1:
            assert time.monotonic() < deadline, self._logs()
            time.sleep(0.5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._running):
            self.kill(name)

    def start(self, name: str) -> None:
        """`jobmanager` or `taskmanager`."""
        with (self._folder / f"{name}.out").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [str(self._home / "bin" / f"{name}.sh"), "start-foreground"],
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        self._running[name].kill()
        self._running.pop(name).wait()

    def submit(self, job: Path, argument: str) -> str:
        """The id of the job, which runs on its own."""
        command = [str(self._home / "bin" / "flink"), "run", "-d", "-m", f"127.0.0.1:{self._rest}"]
        command += ["-pyclientexec", str(self._python), "-pyexec", str(self._python), "--python", str(job), argument]
        ran = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
        )
        assert "Job has been submitted with JobID " in ran.stdout, ran.stdout[-2000:] + ran.stderr[-2000:]
        return ran.stdout.rpartition("JobID ")[2].split()[0]

    def state(self, job: str) -> str:
        """As Flink says it: `RUNNING`, `FINISHED`, ..."""
        return str((self._asked(f"/jobs/{job}") or {}).get("state"))

    def checkpoints(self, job: str) -> dict[str, int]:
        """How many were `completed` or `failed`, and how often the job went on from one
        (`restored`)."""
        counts: dict[str, int] = (self._asked(f"/jobs/{job}/checkpoints") or {}).get("counts", {})
        return counts

    def _asked(self, path: str) -> dict[str, Any] | None:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._rest}{path}", timeout=10, trust_env=False)
        except httpx.HTTPError:
            return None
        return dict(answer.json()) if answer.status_code == 200 else None

    def _logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self._folder.glob("*.out"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
