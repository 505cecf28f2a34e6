"""Threads for whole requests: a bounded number, behind a bounded queue.

A request waits for a thread here, in memory and whole; a thread never waits for a request's sender.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue

import structlog

log = structlog.get_logger(__name__)

Job = Callable[[], None]


class Pool:
    """`threads` threads and at most `waiting` jobs that wait for one. Threads start with the first
    job."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.name = name
        self._count = threads
        self._waiting = waiting
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, job: Job) -> bool:
        """Have it done by the next thread that is free; False where too many wait already. From one
        thread alone."""
        if not self._threads:
            self._start()
        if self._jobs.qsize() >= self._waiting:
            return False
        self._jobs.put(job)
        return True

    def _start(self) -> None:
        for number in range(self._count):
            # Daemons: a process that is told to end does not wait for what hangs.
            thread = threading.Thread(target=self._work, name=f"{self.name}-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(self) -> None:
        take = self._jobs.get
        while True:
            job = take()
            try:
                job()
            except BaseException as error:  # a thread that ends is missed by every later request
                log.error("unforeseen error", pool=self.name, exc_info=error)
            del job  # what it held goes now, and not with the next one
