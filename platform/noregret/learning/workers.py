"""Parts of a rebuild (noregret.learning.parts) computed by Celery workers of the queue `rebuild`,
on as many hosts as there are; and by threads of this process where no worker takes them.

A chord whose joint is a table. Parts are rows; a message says which row to look at, and may be
lost, or come twice. Whoever takes a part holds it by a lease that is renewed while it is computed:
the part of a worker that is killed is told to others when its lease has expired, and the first
piece that is stored is the piece. All are computed in the snapshot that the transaction of the
rebuild has exported, so a piece that is computed again is the same, and a worker that is late finds
either its row or its snapshot gone.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import msgspec
import redis
import structlog
from django.db import DatabaseError, connection
from kombu.exceptions import KombuError

from noregret.celery import app
from noregret.experiments.models import Experiment

from .collector import uncollected
from .kept import Part, exported, snapshot
from .parts import AnyPart

log = structlog.get_logger(__name__)

QUEUE = "rebuild"
TASK = "noregret.learning.tasks.compute_part"
LEASE_SECONDS = 10.0
UNTAKEN_SECONDS = 5.0
"""A message that no worker took for so long is left: a thread of this process takes its part."""
UNHEARD_SECONDS = 60.0
"""So long no further messages are sent then."""
ATTEMPTS = 5
LONGEST_PROBLEM = 500
_LOOK_SECONDS = 0.1
_ALIVE_SECONDS = 5.0

_INSERT = """
INSERT INTO learning_rebuildpart (token, place, experiment_id, snapshot, part, attempts, problem, made_at)
VALUES (%s, %s, %s, %s, %s, 0, '', clock_timestamp())
"""
_DELETE = "DELETE FROM learning_rebuildpart WHERE token = %s OR made_at < clock_timestamp() - interval '1 day'"
_OPEN = """
SELECT id, place, attempts, problem, coalesce(taken_until > clock_timestamp(), false) FROM learning_rebuildpart
WHERE token = %s AND piece IS NULL ORDER BY place
"""
_PIECE = "SELECT piece FROM learning_rebuildpart WHERE token = %s AND place = %s"
_TAKE = """
UPDATE learning_rebuildpart
SET attempts = attempts + 1, taken_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND piece IS NULL AND (taken_until IS NULL OR taken_until < clock_timestamp())
RETURNING experiment_id, snapshot, part, attempts
"""
_RENEW = """
UPDATE learning_rebuildpart SET taken_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND attempts = %(attempt)s AND piece IS NULL
"""
_FAIL = "UPDATE learning_rebuildpart SET taken_until = NULL, problem = %s WHERE id = %s AND attempts = %s"
_STORE = "UPDATE learning_rebuildpart SET piece = %s, taken_until = NULL WHERE id = %s AND piece IS NULL"


class PartFailed(Exception):
    """A part could not be computed, by anybody; the message says why."""


class Workers:
    """Computes `at_once` parts at a time. `tell` is given how many are done, and of how many."""

    def __init__(self, at_once: int, tell: Callable[[int, int], None] = lambda done, of: None) -> None:
        self.at_once = at_once
        self._tell = tell

    def __call__(self, experiment: Experiment, parts: Sequence[Part]) -> Generator[Any]:
        """Raises PartFailed."""
        token = uuid4()
        # The transaction of the rebuild sees one state of the database: what workers write since is
        # read through another connection.
        beside = connection.copy()
        try:
            of = exported()
            with beside.cursor() as cursor:
                cursor.execute(_DELETE, [token])
                rows = [(token, i, experiment.pk, of, msgspec.json.encode(part)) for i, part in enumerate(parts)]
                cursor.executemany(_INSERT, rows)
            with _Foreman(token, len(parts), self.at_once, self._tell) as foreman:
                for place, part in enumerate(parts):
                    foreman.wait_for(place)
                    with beside.cursor() as cursor:
                        cursor.execute(_PIECE, [token, place])
                        body = bytes(cursor.fetchone()[0])
                    yield part.from_bytes(body)
        finally:
            with suppress(DatabaseError), beside.cursor() as cursor:
                cursor.execute(_DELETE, [token])
            beside.close()


class _Foreman:
    """A thread that gives out parts, and sees which are done."""

    def __init__(self, token: UUID, parts: int, at_once: int, tell: Callable[[int, int], None]) -> None:
        self._token, self._parts, self._at_once, self._tell = token, parts, at_once, tell
        self._open = set(range(parts))
        self._changed, self._over = threading.Condition(), threading.Event()
        self._failed: Exception | None = None
        self._given: dict[int, tuple[float, int]] = {}
        """By place: when its part was given out, and after how many attempts."""
        self._unheard_until = 0.0
        self._own: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run, name="rebuild", daemon=True)

    def __enter__(self) -> "_Foreman":
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._over.set()
        for thread in (self._thread, *self._own):
            thread.join(timeout=LEASE_SECONDS)

    def wait_for(self, place: int) -> None:
        """Until the piece of a place is there. Raises PartFailed, or what keeps this process from
        looking."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: place not in self._open or self._failed, timeout=_ALIVE_SECONDS)
                if place not in self._open:
                    return
                if self._failed is not None:
                    raise self._failed
            with connection.cursor() as cursor:  # the snapshot's transaction is not idle
                cursor.execute("SELECT 1")

    def _run(self) -> None:
        try:
            while not self._over.is_set() and self._open:
                self._look()
                self._over.wait(_LOOK_SECONDS)
        except Exception as error:
            with self._changed:
                self._failed = error
                self._changed.notify_all()
        finally:
            connection.close()

    def _look(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_OPEN, [self._token])
            rows = cursor.fetchall()
        open_places = {place for _, place, *_ in rows}
        if open_places != self._open:
            with self._changed:
                self._open = open_places
                self._changed.notify_all()
            self._tell(self._parts - len(open_places), self._parts)
        now = time.monotonic()
        busy, free = 0, []
        for pk, place, attempts, problem, taken in rows:
            if not taken and attempts >= ATTEMPTS:
                why = problem or "whoever computed it was gone each time"
                raise PartFailed(f"part {place + 1} of {self._parts} failed {attempts} times: {why}")
            at, attempts_then = self._given.get(place, (-UNTAKEN_SECONDS, -1))
            waits = attempts == attempts_then and now - at < UNTAKEN_SECONDS
            if taken or waits:
                busy += 1
            else:
                free.append((pk, place, attempts, attempts == attempts_then))
        for pk, place, attempts, unheard in free[: max(self._at_once - busy, 0)]:
            if unheard:
                self._unheard_until = now + UNHEARD_SECONDS
            if now < self._unheard_until or not _send(pk):
                self._compute_here(pk)
            self._given[place] = time.monotonic(), attempts

    def _compute_here(self, pk: int) -> None:
        def compute() -> None:
            try:
                compute_part(pk)
            finally:
                connection.close()

        thread = threading.Thread(target=compute, name=f"rebuild part {pk}", daemon=True)
        self._own = [each for each in self._own if each.is_alive()] + [thread]
        thread.start()


def _send(pk: int) -> bool:
    """Tell the workers of a part; False where the broker can't be reached."""
    try:
        app.send_task(TASK, [pk], queue=QUEUE, expires=UNHEARD_SECONDS, retry=False)
    except (KombuError, redis.RedisError, OSError) as error:
        log.warning("workers can't be told of a part", error=str(error))
        return False
    return True


def compute_part(pk: int) -> None:
    """Take a part, compute it and store its piece. Nothing where another has it, or its rebuild is
    over."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"id": pk, "seconds": LEASE_SECONDS})
        row = cursor.fetchone()
    if row is None:
        return
    experiment_id, of, body, attempt = row
    try:
        with _renewed(pk, attempt), uncollected(), snapshot(of):
            part: Part = msgspec.json.decode(bytes(body), type=AnyPart)
            experiment = Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment_id)
            piece = part.to_bytes(part.compute(experiment))
    except Exception as error:
        log.warning("a part of a rebuild failed", part=pk, attempt=attempt, error=str(error))
        with connection.cursor() as cursor:
            cursor.execute(_FAIL, [f"{type(error).__name__}: {error}"[:LONGEST_PROBLEM], pk, attempt])
        return
    with connection.cursor() as cursor:
        cursor.execute(_STORE, [piece, pk])


@contextmanager
def _renewed(pk: int, attempt: int) -> Iterator[None]:
    """The lease of a part, renewed by a thread."""
    over = threading.Event()

    def renew() -> None:
        try:
            while not over.wait(LEASE_SECONDS / 4):
                try:
                    with connection.cursor() as cursor:
                        cursor.execute(_RENEW, {"id": pk, "attempt": attempt, "seconds": LEASE_SECONDS})
                except DatabaseError:
                    connection.close()
        finally:
            connection.close()

    thread = threading.Thread(target=renew, name=f"lease of part {pk}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=LEASE_SECONDS)
