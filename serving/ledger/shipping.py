"""Looks after the backlog and ships what waits on disk: a thread of a web process, with connections
of its own.

No request waits for it. While decisions wait here, the learner is told since when: it closes no
bucket of theirs, and decides nothing on figures that lack them.
"""

import threading
from collections.abc import Callable, Collection, Sequence

import redis
import structlog

from . import events
from .backlog import Backlog
from .decision_log import DecisionLog, StreamUnavailable
from .spool import CannotSend, Spool

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
STOP_SECONDS = 3.0


class Shipper:
    """The thread of a process. `endpoints` names those whose streams are looked at."""

    def __init__(
        self,
        spool: Spool,
        backlog: Backlog,
        decisions: DecisionLog,
        endpoints: Callable[[], Collection[str]],
    ) -> None:
        self._spool = spool
        self._backlog = backlog
        self._decisions = decisions
        self._endpoints = endpoints
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=STOP_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.round()
            except (redis.RedisError, OSError) as error:
                log.warning("backlog not looked at", error=str(error))
            except Exception:
                log.exception("shipping failed")

    def round(self) -> int:
        """Look, tell, and ship what there is room for; how many decisions were shipped. Raises
        redis.RedisError or OSError."""
        self._backlog.look(self._endpoints())
        if not self._spool.measure():
            return 0
        self._tell()
        try:
            shipped = self._spool.ship(self._send, self._may_ship)
        except CannotSend as error:
            log.warning("spooled decisions not shipped", error=str(error))
            return 0
        if shipped:
            log.info("spooled decisions shipped", decisions=shipped, bytes_left=self._spool.size)
        return shipped

    def _tell(self) -> None:
        """The learner, since when decisions of which endpoints wait here."""
        for endpoint, body in self._spool.waiting().items():
            try:
                decided_at = int.from_bytes(events.decode(body).id[:8], "big")
            except ValueError:  # for the learner to quarantine
                continue
            try:
                self._decisions.tell_held_back(endpoint, decided_at)
            except (redis.ConnectionError, redis.TimeoutError) as error:  # of its server alone, in a cluster
                log.warning("the learner is not told of the spool", endpoint=endpoint, error=str(error))

    def _may_ship(self, endpoint: str) -> bool:
        """Asked before each file, and the streams are looked at anew: the file before it is in them
        now."""
        if self._stop.is_set():
            return False
        self._backlog.look(self._endpoints())
        return self._backlog.may_ship(endpoint)

    def _send(self, endpoint: str, bodies: Sequence[bytes]) -> None:
        if self._stop.is_set():
            raise CannotSend("the process is stopping")
        try:
            self._decisions.append_many(endpoint, bodies)
        except StreamUnavailable as error:
            raise CannotSend(str(error), endpoint_only=error.reason == "refused") from error
