"""The first lines of `up`: signals, arguments, and the user to run as. The rest is loaded when
these are settled.

Nothing here knows Django, and nothing that `up` itself runs loads what serves: migrations and the
first admin are a child's work.
"""

import argparse
import sys
from dataclasses import dataclass
from typing import NoReturn

from .errors import StartFailed
from .stop_request import StopAsked, StopRequest

HIGHEST_PORT = 65535
MOST_WEB_WORKERS = 256


@dataclass(frozen=True, slots=True)
class Arguments:
    host: str
    port: int
    web_workers: int
    grpc_port: int | None = None
    """None: no gRPC is served."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"noregret up: {message}\n")


def _whole(lowest: int, highest: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = lowest - 1
    if not lowest <= number <= highest:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from {lowest} to {highest} was expected")
    return number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--port",
        type=lambda text: _whole(0, HIGHEST_PORT, text),
        default=8000,
        help="port to listen on; 0: a free one (default 8000)",
    )
    parser.add_argument(
        "--web-workers",
        type=lambda text: _whole(1, MOST_WEB_WORKERS, text),
        default=1,
        help="web processes (default 1)",
    )
    parser.add_argument(
        "--grpc-port",
        type=lambda text: _whole(0, HIGHEST_PORT, text),
        help="port of a process that serves the Open Inference Protocol over gRPC; 0: a free one (default: none)",
    )


def main(argv: list[str]) -> int:
    """Run the platform until it is asked to stop; the exit code. `--data-dir` was taken out
    before."""
    stop = StopRequest()
    stop.listen()
    parser = _Parser(
        prog="noregret up",
        description="Starts PostgreSQL, Redis, web, the workers and beat, and stops them all on SIGINT or SIGTERM.",
        epilog="--data-dir DIR names the data directory, for this and every other command.",
    )
    add_arguments(parser)
    chosen = parser.parse_args(argv)
    return run(Arguments(chosen.host, chosen.port, chosen.web_workers, chosen.grpc_port), stop)


def run(arguments: Arguments, stop: StopRequest) -> int:
    try:
        from . import foreground

        foreground.run(arguments, stop)
    except StopAsked:
        pass
    except StartFailed as failure:
        print(f"noregret up: {failure}", file=sys.stderr)  # noqa: T201 - as argparse speaks
        return 1
    return 0
