"""Keeps a list of children running until it is told to stop. It knows nothing of what they are."""

import time
from collections.abc import Sequence
from typing import Protocol

import structlog

from .child import Child
from .stop_request import StopRequest

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
HEALTHY_SECONDS = 30.0
GIVES_WAY_SECONDS = 60.0
"""After its start, where nobody said earlier that all have started."""


class Watch(Protocol):
    """Something else that is looked at while children are watched."""

    def look(self) -> None: ...


class Supervisor:
    """Restarts a child that dies, waiting longer each time it does not last; stops all in the
    reverse of their order."""

    def __init__(self, servers: Sequence[Child], stop: StopRequest, watch: Sequence[Watch] = ()) -> None:
        self._servers = list(servers)
        self._children = list(servers)
        self._stop = stop
        self._watch = watch
        self._started_at: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        self._restart_at: dict[str, float] = {}

    def start(self, child: Child) -> None:
        """Start a child, unless it already runs, and watch over it from now on."""
        if child not in self._children:
            self._children.append(child)
        if not child.alive:
            child.start()
        self._started_at[child.name] = time.monotonic()
        log.info("started", child=child.name, pid=child.pid)

    def all_started(self) -> None:
        """What gives way does from now on; what is started again later, once it has lasted."""
        for child in self._children:
            child.give_way()

    def tick(self) -> None:
        """Look at each child once, and restart what died and has waited its time."""
        now = time.monotonic()
        for child in self._children:
            if not child.gives_way and now - self._started_at.get(child.name, now) > GIVES_WAY_SECONDS:
                child.give_way()
            if child.alive or child.name not in self._started_at:
                continue
            due = self._restart_at.get(child.name)
            if due is None:
                lasted = now - self._started_at[child.name]
                pause = (
                    FIRST_PAUSE_SECONDS
                    if lasted > HEALTHY_SECONDS
                    else self._pause.get(child.name, FIRST_PAUSE_SECONDS)
                )
                self._pause[child.name] = min(2 * pause, LONGEST_PAUSE_SECONDS)
                self._restart_at[child.name] = now + pause
                log.error("died", child=child.name, pid=child.pid, restart_in_seconds=pause, last=child.last_lines(3))
                child.clear_group()
            elif now >= due:
                self._start_again(child, now)

    def _start_again(self, child: Child, now: float) -> None:
        try:
            self.start(child)
        except OSError as error:  # no memory or no processes left, for now
            self._restart_at[child.name] = now + LONGEST_PAUSE_SECONDS
            log.error("not started", child=child.name, problem=str(error), again_in_seconds=LONGEST_PAUSE_SECONDS)
        else:
            del self._restart_at[child.name]

    def run(self) -> None:
        """Watch until asked to stop."""
        while not self._stop.asked:
            self.tick()
            for watch in self._watch:
                watch.look()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop every child: the last started first, so that nothing new comes in, then all others
        that need no server at once.

        `servers` are left to whoever started them: the others write to them until their end.
        """
        ours = [child for child in reversed(self._children) if child not in self._servers]
        for child in ours[:1]:
            child.stop()
        for child in ours:
            child.ask_to_stop()
        for child in ours:
            child.stop()
