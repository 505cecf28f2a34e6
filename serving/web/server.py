"""Runs a front under uvicorn: its sockets, signals and processes, with our connections."""

import argparse

import uvicorn

from .connection import Connection

STOP_SECONDS = 3
"""A request that takes longer than this to end is cut off."""
BACKLOG = 2048
ANSWERS_SECONDS = 30
"""A process of several that does not say within this that it lives is replaced: it may be loading models."""


def main(front: str, program: str) -> None:
    """`front` names a Front as `module:attribute`. Ends when the process is told to."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default 8000)")
    parser.add_argument("--workers", type=int, help="processes (default WEB_CONCURRENCY, else 1)")
    chosen = parser.parse_args()
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
