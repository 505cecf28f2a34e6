"""One consumer: takes messages, answers them, in rounds.

In a round, what is going to be answered is kept first, then its decisions go into the ledger's
stream, then answers are written and messages acknowledged. Wherever a consumer dies, whoever takes
its messages up finds what was kept and does the rest again; the ledger knows a decision by its id,
and an engine acknowledges a message once. A consumer holds a bounded number of messages, and takes
none while it waits for anything: no request is dropped for want of a server, and nothing fills up.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import redis
import structlog

from serving import problems
from serving.ledger.decision_log import StreamUnavailable
from serving.live import LiveEndpoint
from serving.problems import Problem
from serving.process import Process

from . import counts
from .answering import Answering, Failed, Request, reason, reason_of
from .kept import KeptAnswers
from .messages import SUSPECT_DELIVERIES, VERSION, Engine, Kept, Message, NotNow, Outcome

log = structlog.get_logger(__name__)

TAKE_SECONDS = 1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
MOST_FAILURES = 5
"""A message that fails so often, while others are answered, is set aside."""
PATIENCE_SECONDS = 600.0
"""One that nobody could answer for so long is set aside, whatever became of others."""
MOST_DELIVERIES = 10
TELL_SECONDS = 10.0


class Consumer:
    """`most`: so many messages in hand. `threads` ask at a time, where a model is on another
    machine."""

    def __init__(
        self,
        process: Process,
        endpoint: str,
        engine: Engine,
        kept: KeptAnswers,
        answering: Answering,
        *,
        most: int,
        threads: int,
    ) -> None:
        self._process = process
        self._endpoint = endpoint
        self.engine = engine
        self._kept = kept
        self._answering = answering
        self._most = most
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="stream")
        self._held: list[Message] = []
        self._answered = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._waiting_for: str | None = None
        self._told = time.monotonic()
        self._since_told: Counter[str] = Counter()

    def start(self, stop: threading.Event) -> bool:
        """Wait for the engine; False where `stop` came first. Raises CannotStart."""
        while not stop.is_set():
            try:
                self.engine.start()
            except NotNow as away:
                self._wait(away.reason, str(away), stop)
            else:
                return True
        return False

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; the round under way then is brought to its end."""
        broken = False
        while not stop.is_set():
            try:
                if broken:
                    self.engine.recover(self._held)
                    broken = False
                self.round()
            except (NotNow, StreamUnavailable, redis.RedisError, OSError) as error:
                broken = True
                self._wait(*_told_of(error), stop)
            else:
                self._pause = FIRST_PAUSE_SECONDS
                self._waiting_for = None
            self._tell()

    @property
    def held(self) -> int:
        """Messages in hand."""
        return len(self._held)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.engine.close()

    def round(self) -> int:
        """Take, answer, finish: how many messages are done with. Raises NotNow, StreamUnavailable
        and redis.RedisError."""
        live = self._live()
        self._take()
        now = time.monotonic()
        to_answer = [message for message in self._held if message.outcome is None and message.next_try <= now]
        suspects = [message for message in to_answer if message.deliveries > SUSPECT_DELIVERIES]
        if suspects:
            to_answer = suspects[:1]
        self._answer(live, to_answer)
        self._record()
        done = self.engine.finish(self._held)
        self._count(done)
        gone = {id(message) for message in done}
        self._held = [message for message in self._held if id(message) not in gone]
        return len(done)

    def _live(self) -> LiveEndpoint:
        live = self._process.store.endpoint(self._endpoint)
        if live is None:
            raise NotNow("endpoint", f"there is no endpoint {self._endpoint}, or no snapshot of it was read yet")
        if not self._process.backlog.has_room(self._endpoint):
            raise NotNow("backlog", "too many decisions wait for the learner")
        return live

    def _take(self) -> None:
        room = self._most - len(self._held)
        in_sink = self.engine.room() if room else None
        if in_sink is not None:
            if in_sink <= 0:
                raise NotNow("sink", "the sink holds as much as it may")
            room = max(0, min(room, in_sink - len(self._held)))  # what is in hand goes there too
        now = time.monotonic()
        undone = [message.next_try for message in self._held]
        seconds = min(TAKE_SECONDS, max(0.01, min(undone) - now)) if undone else TAKE_SECONDS
        taken = self.engine.take(room, seconds)
        if lost := self.engine.lost():
            log.warning("the source was trimmed before its messages were answered", endpoint=self._endpoint, lost=lost)
            self._since_told["lost"] += lost
            counts.MESSAGES.labels(self._endpoint, "lost").inc(lost)
        for message in taken:
            message.since = message.next_try = time.monotonic()
            message.others_answered = self._answered
            self._held.append(message)

    # From a message to its outcome.

    def _answer(self, live: LiveEndpoint, messages: Sequence[Message]) -> None:
        """Give messages their outcomes, as far as they can be had now. Raises redis.RedisError."""
        read: list[tuple[Message, Request]] = []
        for message in messages:
            if message.body is None:
                message.outcome = Outcome(message.place)
            elif message.deliveries > MOST_DELIVERIES:
                detail = f"it was taken up {message.deliveries} times, and nobody lived to answer it"
                message.outcome = Outcome(message.place, reason=reason("It ends its consumers", detail))
            else:
                try:
                    read.append((message, self._answering.read(live, message)))
                except Problem as problem:
                    message.outcome = Outcome(message.place, reason=reason_of(problem))
        kept = self._kept.look([message.name for message, _ in read])
        unknown: list[tuple[Message, Request]] = []
        for (message, request), known in zip(read, kept, strict=True):
            if known is None:
                unknown.append((message, request))
            else:
                message.outcome = _outcome(message, known)
        proposed = [
            (message, kept)
            for (message, _), kept in zip(unknown, self._predicted(live, unknown), strict=True)
            if kept is not None
        ]
        winners = self._kept.keep([message.name for message, _ in proposed], [kept for _, kept in proposed])
        for (message, _), winner in zip(proposed, winners, strict=True):
            message.outcome = _outcome(message, winner)

    def _predicted(self, live: LiveEndpoint, asked: Sequence[tuple[Message, Request]]) -> list[Kept | None]:
        """What is to be kept of each; None of those that have an outcome without it, or are tried
        again."""

        def one(pair: tuple[Message, Request]) -> Kept | Exception:
            try:
                return self._answering.answer(live, *pair)
            except Exception as error:  # looked at below: a thread hands it over
                return error

        answers = list(self._threads.map(one, asked)) if live.waits else [one(pair) for pair in asked]
        self._answered += sum(isinstance(answer, Kept) for answer in answers)
        return [
            answer if isinstance(answer, Kept) else self._not_answered(message, answer)
            for (message, _), answer in zip(asked, answers, strict=True)
        ]

    def _not_answered(self, message: Message, error: Exception) -> Kept | None:
        if isinstance(error, Problem):
            message.outcome = Outcome(message.place, reason=reason_of(error))
            return None
        if not isinstance(error, Failed):
            log.error("unforeseen error", endpoint=self._endpoint, message=message.place, exc_info=error)
            error = Failed(problems.internal(), None)
        now = time.monotonic()
        if self._answered > message.others_answered:
            message.failures += 1
            message.others_answered = self._answered
        if message.failures >= MOST_FAILURES or now - message.since >= PATIENCE_SECONDS:
            return Kept(VERSION, message.place, None, error.event, reason_of(error.problem))
        counts.WAITS.labels(self._endpoint, "model").inc()
        message.next_try = now + self._model_pause(message)
        return None

    def _model_pause(self, message: Message) -> float:
        return float(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**message.failures))

    # Out.

    def _record(self) -> None:
        """Bring the decisions into the ledger's stream. Raises StreamUnavailable."""
        new = [message for message in self._held if message.outcome is not None and not message.is_recorded]
        bodies = [message.outcome.event for message in new if message.outcome and message.outcome.event is not None]
        if bodies:
            self._process.log.append_many(self._endpoint, bodies)
        for message in new:
            message.is_recorded = True

    def _count(self, done: Sequence[Message]) -> None:
        for message in done:
            outcome = message.outcome
            assert outcome is not None
            if outcome.answer is not None:
                name = "answered"
            elif outcome.reason is not None:
                name = "set_aside"
                log.warning(
                    "message set aside", endpoint=self._endpoint, message=message.place, reason=outcome.reason.decode()
                )
            else:
                name = "repeated" if message.body is not None else "lost"
            self._since_told[name] += 1
            counts.MESSAGES.labels(self._endpoint, name).inc()

    def _wait(self, reason: str, detail: str, stop: threading.Event) -> None:
        counts.WAITS.labels(self._endpoint, reason).inc()
        if self._waiting_for != reason:
            log.warning("waiting", endpoint=self._endpoint, reason=reason, detail=detail, held=len(self._held))
        self._waiting_for = reason
        stop.wait(self._pause)
        self._pause = min(LONGEST_PAUSE_SECONDS, 2 * self._pause)

    def _tell(self) -> None:
        """A line in the log, and the lag, now and then."""
        now = time.monotonic()
        if now - self._told < TELL_SECONDS:
            return
        self._told = now
        lag: int | None = None
        if self._waiting_for is None:
            try:
                lag = self.engine.lag()
            except NotNow:
                lag = None
            counts.LAG.labels(self._endpoint).set(math.nan if lag is None else lag)
        log.info(
            "stream",
            endpoint=self._endpoint,
            held=len(self._held),
            lag=lag,
            waiting_for=self._waiting_for,
            **self._since_told,
        )
        self._since_told.clear()


def _outcome(message: Message, kept: Kept) -> Outcome:
    """What becomes of a message, by what is kept of its request."""
    if kept.place != message.place or (kept.answer is None and kept.reason is None):
        return Outcome(message.name)  # another message is answered, or this one was
    return Outcome(message.name, kept.answer, kept.reason, kept.event, is_kept=True)


def _told_of(error: Exception) -> tuple[str, str]:
    if isinstance(error, NotNow):
        return error.reason, str(error)
    return ("ledger" if isinstance(error, StreamUnavailable) else "kept"), str(error)
