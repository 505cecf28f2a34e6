"""`manage.py up`: the whole platform on this machine, in the foreground."""

import argparse
import os
import socket
import time
from typing import Any

import httpx
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from noregret.embedded import first_start, services
from noregret.embedded.engines import Engines
from noregret.embedded.errors import StartFailed
from noregret.embedded.lock import DataDirLock
from noregret.embedded.supervisor import Supervisor
from noregret.learning.days_ahead import make_days

READY_SECONDS = 60.0
WELL_SECONDS = 15.0
"""So long after it can serve it may take until it learns, too; then it is said to be ready all the same."""


class Command(BaseCommand):
    help = "Starts PostgreSQL, Redis, web, worker and beat, and stops them all on SIGINT or SIGTERM."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0: a free one (default 8000)")
        parser.add_argument("--web-workers", type=int, default=1, help="web processes (default 1)")

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = options["host"], options["port"]
        # What is kept here holds what requests held: for nobody else on the machine.
        os.umask(0o077)
        lock = DataDirLock(settings.DATA_DIR)
        try:
            port = self._port(host, port)
            lock.take(f"http://{host}:{port}")
            self._run(host, port, options["web_workers"])
        except StartFailed as failure:
            raise CommandError(str(failure)) from failure
        finally:
            lock.release()

    def _port(self, host: str, port: int) -> int:
        """The port, once it is known to be free; 0 becomes a free one."""
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise StartFailed(f"can't listen on {host}:{port}: {error.strerror}; try --port 0") from error
            chosen: int = probe.getsockname()[1]
            return chosen

    def _run(self, host: str, port: int, web_workers: int) -> None:
        environment = settings.ENVIRONMENT
        first_start.ensure_secret_key(settings.DATA_DIR)
        engines = Engines(settings.DATA_DIR, postgres=environment.embedded_database, redis=environment.embedded_redis)
        supervisor = Supervisor(engines.children)
        supervisor.listen_for_signals()
        try:
            engines.start()
            for child in engines.children:
                supervisor.start(child)
            if supervisor.stopping:
                return
            self._prepare_database()
            workers = (services.worker(), services.shadow(), services.notify(), services.beat())
            for child in (*workers, services.web(host, port, web_workers)):
                supervisor.start(child)
            if self._wait_ready(supervisor, f"http://{host}:{port}"):
                self.stdout.write(f"ready http://{host}:{port}")
                self.stdout.flush()
            supervisor.run()
        finally:
            supervisor.stop()
            engines.stop()

    def _prepare_database(self) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        # Before there is traffic: after a long rest today has no partition yet.
        make_days()
        password = first_start.ensure_admin()
        connection.close()
        if password is not None:
            self.stderr.write(
                f"The admin's user name is {first_start.ADMIN}, the password {password}; it is not shown again.",
                style_func=str,
            )

    def _wait_ready(self, supervisor: Supervisor, url: str) -> bool:
        until = time.monotonic() + READY_SECONDS
        serves_since: float | None = None
        last = "no answer"
        while not supervisor.stopping:
            supervisor.tick()
            try:
                answer = httpx.get(f"{url}/readyz", timeout=5.0)
                if answer.status_code == 200:
                    serves_since = serves_since or time.monotonic()
                    if answer.json()["status"] == "ready" or time.monotonic() - serves_since > WELL_SECONDS:
                        return True
                last = answer.text
            except httpx.TransportError as error:
                last = str(error)
            if time.monotonic() > until:
                raise StartFailed(f"not ready after {READY_SECONDS:.0f} s: {last}\nlogs: {settings.DATA_DIR / 'logs'}")
            time.sleep(0.1)
        return False
