"""The processes of Noregret itself: web, worker and beat, as commands."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings

from noregret import env

from .child import Child


def _environment(role: str, extra: Mapping[str, str]) -> dict[str, str]:
    root: Path = settings.BASE_DIR
    # What is on the path already stays there: the callables of `python` models may come from it.
    before = os.environ.get("PYTHONPATH", "")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "platform"), *filter(None, [before])]),
        "DJANGO_SETTINGS_MODULE": "noregret.settings",
        env.DATA_DIR: str(settings.DATA_DIR),
        env.ROLE: role,
        # One request or task a thread: the mathematics must not start threads of its own.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **extra,
    }


def _child(role: str, arguments: list[str], extra: Mapping[str, str] | None = None) -> Child:
    return Child(
        name=role,
        command=[sys.executable, "-m", *arguments],
        log=settings.DATA_DIR / "logs" / f"{role}.log",
        environment=_environment(role, extra or {}),
        cwd=settings.BASE_DIR,
    )


def web(host: str, port: int, workers: int) -> Child:
    """Granian with `workers` processes. Its metrics folder is emptied: files of dead processes would be counted."""
    metrics = settings.DATA_DIR / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(parents=True)
    arguments = ["granian", "--interface", "wsgi", "--host", host, "--port", str(port), "--workers", str(workers)]
    arguments += ["--blocking-threads", str(settings.ENVIRONMENT.blocking_threads), "--no-ws", "--http", "1"]
    arguments += ["--respawn-failed-workers", "--respawn-interval", "0.5", "--workers-kill-timeout", "10"]
    arguments += ["--log-level", "warning", "noregret.wsgi:application"]
    return _child("web", arguments, {env.METRICS_DIR: str(metrics)})


def _celery(role: str, *arguments: str) -> Child:
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    return _child(role, ["celery", "-A", "noregret.celery", "worker", *arguments, *quiet])


def worker() -> Child:
    return _celery("worker", "--concurrency", "2", "-O", "fair")


def shadow() -> Child:
    """The worker of shadow challengers: its process is replaced when one of them made it grow."""
    limit = str(settings.SHADOW_MEMORY_BYTES // 1024)
    return _celery(
        "shadow", "--queues", "shadow", "--concurrency", "1", "--hostname", "shadow@%h", "--max-memory-per-child", limit
    )


def notify() -> Child:
    """The worker that sends webhooks and e-mail: a receiver that hangs keeps nobody from learning."""
    return _celery("notify", "--queues", "notify", "--concurrency", "1", "--hostname", "notify@%h")


def beat() -> Child:
    schedule = settings.DATA_DIR / "beat-schedule"
    return _child(
        "beat", ["celery", "-A", "noregret.celery", "beat", "--loglevel", "WARNING", "--schedule", str(schedule)]
    )
