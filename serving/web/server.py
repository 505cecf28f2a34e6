"""Runs a front under uvicorn: its sockets, signals and processes, with our connections."""

import argparse
import contextlib
import resource

import uvicorn

from .connection import Connection

STOP_SECONDS = 3
"""A request that takes longer than this to end is cut off."""
BACKLOG = 2048
ANSWERS_SECONDS = 30
"""A process of several that does not say within this that it lives is replaced: it may be loading
models."""
OPEN_FILES = 8192
"""What most systems give a process is 1024, which is fewer than the connections that one holds."""


def main(front: str, program: str) -> None:
    """`front` names a Front as `module:attribute`. Ends when the process is told to."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default 8000)")
    parser.add_argument("--workers", type=int, help="processes (default WEB_CONCURRENCY, else 1)")
    chosen = parser.parse_args()
    _raise_file_limit()
    uvicorn.run(
        front,
        host=chosen.host,
        port=chosen.port,
        workers=chosen.workers,
        http=Connection,
        loop="uvloop",
        ws="none",
        lifespan="on",
        interface="asgi3",  # taken as it is: a Front is called for the process's life alone
        proxy_headers=False,  # X-Forwarded-For is believed as NOREGRET_PROXIES says, by those who ask
        access_log=False,
        log_config=None,
        log_level="warning",
        backlog=BACKLOG,
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_worker_healthcheck=ANSWERS_SECONDS,
    )


def _raise_file_limit() -> None:
    open_files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    if open_files != resource.RLIM_INFINITY and open_files < wanted:
        with contextlib.suppress(OSError, ValueError):  # a system may grant less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
