"""A whole platform as a child process in a directory of its own: what the demo, the benchmark and
the tests drive from outside."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from noregret.package_path import PACKAGE, command, python_path

from .errors import StartFailed

MANAGE = PACKAGE.parents[1] / "manage.py"
"""In a checkout."""
READY_SECONDS = 120.0
STOP_SECONDS = 90.0


class RunningPlatform:
    """`manage.py up` on a free port; `url` and `data_dir` say where. Used in a `with`, or by
    start() and stop()."""

    def __init__(
        self,
        data_dir: Path,
        *,
        web_workers: int = 1,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        with_grpc: bool = False,
    ) -> None:
        self.data_dir = data_dir
        self.url = ""
        self._command = command(
            "up",
            "--port",
            str(port),
            "--data-dir",
            str(data_dir),
            "--web-workers",
            str(web_workers),
            *(("--grpc-port", "0") if with_grpc else ()),
        )
        self.environment = {
            # Another platform's addresses and directory must not leak into this one.
            name: value
            for name, value in os.environ.items()
            if name not in {"DATABASE_URL", "REDIS_URL", "NOREGRET_DATA_DIR", "PROMETHEUS_MULTIPROC_DIR"}
        } | {**python_path(), **(environment or {})}
        """What commands about this platform run with, too."""
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait for its `ready` line. Raises StartFailed with what it said."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        errors = self.data_dir / "up.err"
        with errors.open("ab") as stderr:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=self.environment,
                text=True,
                start_new_session=True,
            )
        alarm = threading.Timer(READY_SECONDS, self.process.kill)
        alarm.start()
        try:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
        finally:
            alarm.cancel()
        if not line.startswith("ready "):
            self.stop()
            said = errors.read_text(errors="replace").splitlines()[-20:]
            raise StartFailed("the platform did not start:\n" + "\n".join(said))
        self.url = line.split()[1]

    def stop(self) -> int:
        """End it; its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def pids(self, role: str) -> list[int]:
        """Processes of a role (`postgres`, `redis`, `web`, `worker`, `shadow`, `beat`): the child
        of `up` first, then its own children."""
        if self.process is None:
            return []
        found: list[int] = []
        for child in psutil.Process(self.process.pid).children():
            try:
                if _MARKS[role] in " ".join(child.cmdline()):
                    found += [child.pid, *(process.pid for process in child.children(recursive=True))]
            except psutil.Error:  # it died while we looked
                continue
        return found

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


_MARKS = {
    "postgres": "bin/postgres",
    "redis": "-server",
    "web": "noregret.web",
    "grpc": "noregret grpc",
    "worker": "noregret.celery worker --concurrency",
    "shadow": "noregret.celery worker --queues shadow",
    "notify": "noregret.celery worker --queues deliver,notify",
    "inspector": "noregret.celery worker --queues inspect",
    "beat": "noregret.celery beat",
}
