"""`manage.py stream`: predictions from a stream of messages."""

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """A consumer of a group in this process, until SIGINT or SIGTERM. Several may run."""

    help = "Predict on an endpoint for each message of a stream, and write the answers to another."
    # The database is not asked for anything, and may be away.
    requires_system_checks = ()
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("endpoint")
        parser.add_argument("--source", required=True, help="redis://host/0?stream=NAME or kafka://host:9092/topic")
        parser.add_argument("--sink", required=True, help="the same form, on the source's server")
        parser.add_argument("--group", default="noregret", help="the consumer group")
        parser.add_argument(
            "--aside", help="name of the stream or topic of what can't be answered; default: SOURCE-dead"
        )
        parser.add_argument("--most", type=int, default=64, help="messages in hand at a time")
        parser.add_argument("--sink-limit", type=int, default=1_000_000, help="entries of a Redis sink; 0: any number")
        parser.add_argument("--claim-seconds", type=float, default=30.0, help="after which a dead consumer's are taken")
        parser.add_argument("--remember-seconds", type=int, default=3600, help="for which an answered request is known")
        parser.add_argument("--delete", action="store_true", help="take answered messages out of a Redis source")
        parser.add_argument("--metrics-port", type=int, help="serve /metrics there")
        parser.add_argument("--metrics-host", default="127.0.0.1")

    def handle(self, *args: Any, **options: Any) -> None:
        from serving.process import CannotServe, process, reset
        from serving.starting import begin_serving, end_serving
        from serving.streams import making
        from serving.streams.addresses import AddressInvalid, parse
        from serving.streams.messages import CannotStart

        if options["metrics_port"] is not None and settings.METRICS_DIR is not None:
            raise CommandError("metrics add up in PROMETHEUS_MULTIPROC_DIR: a web process tells them")
        try:
            source, sink = parse(options["source"]), parse(options["sink"])
            wanted = making.Wanted(
                endpoint=options["endpoint"],
                source=source,
                sink=sink,
                group=options["group"],
                aside=options["aside"] or f"{source.name}-dead",
                most=options["most"],
                sink_limit=options["sink_limit"],
                claim_seconds=options["claim_seconds"],
                remember_seconds=options["remember_seconds"],
                deletes=options["delete"],
            )
            making.check(wanted)
        except (AddressInvalid, CannotStart) as error:
            raise CommandError(str(error)) from error
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        begin_serving()
        try:
            consumer = making.make(wanted, process(), threads=4 * settings.ENVIRONMENT.blocking_threads)
            if options["metrics_port"] is not None:
                from prometheus_client import start_http_server

                start_http_server(options["metrics_port"], addr=options["metrics_host"])
            try:
                if consumer.start(stop):
                    self.stdout.write(f"ready {source} -> {sink}")
                    self.stdout.flush()
                    consumer.run(stop)
            finally:
                consumer.close()
        except (AddressInvalid, CannotStart) as error:
            raise CommandError(str(error)) from error
        except CannotServe as error:
            raise CommandError(f"nothing can be served with these settings: {error.cause}") from error
        finally:
            end_serving()
            reset()
