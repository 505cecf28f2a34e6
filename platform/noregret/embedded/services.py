"""The processes of Noregret itself: web, worker and beat, as commands."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from django.conf import settings

from noregret import variables
from noregret.package_path import python_path

from .child import Child
from .ends_with_up import STOP_SECONDS

NICENESS = 8
"""Of what learns, sends and keeps up: people wait for requests. A seventh of a core that
requests fill is left to it (sched(7)), where learning from them takes a twelfth."""

TOLD = 3
"""The exit code of a child that has told its failure in one sentence, the last of its log."""


def _environment(role: str, extra: Mapping[str, str]) -> dict[str, str]:
    return {
        **os.environ,
        **python_path(),
        "DJANGO_SETTINGS_MODULE": "noregret.settings",
        variables.DATA_DIR: str(settings.DATA_DIR),
        variables.ROLE: role,
        # One request or task a thread: the mathematics must not start threads of its own.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **extra,
    }


def _child(role: str, arguments: list[str], extra: Mapping[str, str] | None = None, *, niceness: int = 0) -> Child:
    return Child(
        name=role,
        command=[sys.executable, "-m", "noregret.embedded.ends_with_up", *arguments],
        log=settings.DATA_DIR / "logs" / f"{role}.log",
        environment=_environment(role, extra or {}),
        cwd=Path("/"),
        stop_seconds=STOP_SECONDS,
        niceness=niceness,
    )


def prepare() -> Child:
    """Migrations and the first admin; what it says to people goes to stderr, and TOLD is its exit
    code for a failure that it has told."""
    return replace(_child("prepare", ["noregret.embedded.prepare_database"]), speaks=True)


def web(host: str, port: int, workers: int) -> Child:
    """`workers` web processes. Their metrics folder is emptied: files of dead processes would be
    counted."""
    metrics = settings.DATA_DIR / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(parents=True)
    arguments = ["noregret.web", "--host", host, "--port", str(port), "--workers", str(workers)]
    return _child("web", arguments, {variables.METRICS_DIR: str(metrics)})


def grpc(host: str, port: int) -> Child:
    """The process that serves gRPC. It counts in the web processes' folder: made after them."""
    arguments = ["noregret", "grpc", "--host", host, "--port", str(port)]
    return _child("grpc", arguments, {variables.METRICS_DIR: str(settings.DATA_DIR / "metrics")})


def _celery(role: str, *arguments: str) -> Child:
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    command = ["celery", "--quiet", "-A", "noregret.celery", "worker", *arguments, *quiet]
    return _child(role, command, niceness=NICENESS)


def worker() -> Child:
    return _celery("worker", "--concurrency", "2", "-O", "fair")


def shadow() -> Child:
    """The worker of shadow challengers: its process is replaced when one of them made it grow."""
    limit = str(settings.SHADOW_MEMORY_BYTES // 1024)
    return _celery(
        "shadow", "--queues", "shadow", "--concurrency", "1", "--hostname", "shadow@%h", "--max-memory-per-child", limit
    )


def notify() -> Child:
    """The worker that sends webhooks and e-mail: a receiver that hangs keeps nobody from
    learning."""
    # Earlier versions sent to `notify`: what waits there at an upgrade, or comes from one that
    # still runs, is heard.
    return _celery("notify", "--queues", "deliver,notify", "--concurrency", "1", "--hostname", "notify@%h")


def inspector() -> Child:
    """The worker that inspects uploads, one at a time, each in a confined process of its own: so a
    thread is all that it needs."""
    return _celery(
        "inspector", "--queues", "inspect", "--pool", "threads", "--concurrency", "1", "--hostname", "inspector@%h"
    )


def beat() -> Child:
    schedule = settings.DATA_DIR / "beat-schedule"
    arguments = ["celery", "--quiet", "-A", "noregret.celery", "beat", "--loglevel", "WARNING"]
    return _child("beat", [*arguments, "--schedule", str(schedule)], niceness=NICENESS)
