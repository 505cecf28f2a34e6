"""`manage.py grpc`: a process that serves the Open Inference Protocol over gRPC."""

import argparse
import asyncio
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Serves the Open Inference Protocol over gRPC, with health and reflection."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8001, help="port to listen on; 0: a free one (default 8001)")

    def handle(self, *args: Any, **options: Any) -> None:
        # Imported here: the list of commands needs no gRPC.
        from serving.rpc.server import CannotListen, Server, serve
        from serving.starting import begin_serving, end_serving

        host = f"[{options['host']}]" if ":" in options["host"] else options["host"]

        def started(port: int) -> None:
            self.stdout.write(f"ready grpc://{host}:{port}")
            self.stdout.flush()

        begin_serving()
        server = Server(threads=settings.ENVIRONMENT.blocking_threads, message_bytes=settings.SERVING_BODY_LIMIT)
        try:
            asyncio.run(serve(server, f"{host}:{options['port']}", started))
        except CannotListen as error:
            raise CommandError(f"can't listen on {host}:{options['port']}: {error}") from error
        finally:
            end_serving()
