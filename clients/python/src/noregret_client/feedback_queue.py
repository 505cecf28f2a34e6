"""Feedback that is sent in the background: a bounded queue, and a thread that sends it in batches.

Promises: an item that `put` took is sent, or its failure is told. What the platform can't take now
is sent again for `retry_seconds`. `close`, and the end of the interpreter, send what is left. A
process that forks sends its items itself; its child begins with an empty queue.
"""

import atexit
import logging
import multiprocessing
import multiprocessing.util
import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from .calls import OF_THE_BODY, Feedback, feedback_item
from .documents import FeedbackResult
from .errors import NoregretError, PlatformUnavailable, Problem, Unreachable
from .retrying import Retries

log = logging.getLogger("noregret_client")

IDLE_SECONDS = 10.0
"""A thread with nothing to do ends after it; the next item starts another."""
_TOLD_FULL_EVERY_SECONDS = 10.0

Send = Callable[[Sequence[Feedback], float], Sequence[FeedbackResult]]
"""Sends a batch within so many seconds. Raises NoregretError."""
FailedStatus = Literal[
    "late", "conflict", "not_learnable", "unknown", "invalid", "refused", "unreachable", "queue_full", "closed"
]


@dataclass(frozen=True, slots=True)
class FailedFeedback:
    """Feedback that taught nothing, and why. The first five statuses are the platform's word on
    this item; `refused`: its word on the whole batch, as where the key is not valid;
    `unreachable`: it took nothing for as long as was tried; `queue_full` and `closed`: it was not
    sent."""

    feedback: Feedback
    status: FailedStatus
    message: str


OnFailed = Callable[[FailedFeedback], None]


@dataclass(frozen=True, slots=True)
class Batching:
    """How feedback is sent in the background.

    A batch goes when `size` items wait, or the oldest has waited `seconds`. With `most_queued`
    items waiting a further one is not taken: it is told as `queue_full`, for a caller must never
    wait for its feedback. A batch that can't be sent is tried again for `retry_seconds`. Closing,
    and the interpreter's end, take at most `close_seconds`.
    """

    size: int = 500
    seconds: float = 1.0
    most_queued: int = 10_000
    retry_seconds: float = 60.0
    close_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 1000:
            raise ValueError("size: from 1 to 1000 was expected")
        if self.most_queued < 1:
            raise ValueError("most_queued: at least 1 was expected")


class FeedbackQueue:
    """Safe to use from any thread. `on_failed` is called in the thread that sends."""

    def __init__(self, send: Send, batching: Batching, on_failed: OnFailed | None) -> None:
        self._send = send
        self._batching = batching
        self._on_failed = on_failed
        self._pauses = Retries(first_pause=0.1, longest_pause=5.0)
        self._told_full = -_TOLD_FULL_EVERY_SECONDS
        self._begin()
        _QUEUES.add(self)

    def _begin(self) -> None:
        """As new: also in a child that was forked, whatever its parent's threads had locked."""
        self._waiting: deque[tuple[float, Feedback]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._sending: Sequence[Feedback] = ()
        self._taken = self._handled = self._wanted = 0
        self._closed = False
        self._ends: float | None = None

    def put(
        self, decision_id: str, value: float | bool, metric: str | None = None, occurred_at: datetime | None = None
    ) -> bool:
        """Never waits. False where the queue is full, which is told as a failure, too. Raises
        TypeError or ValueError for what can't be sent, RuntimeError after `close`."""
        item = feedback_item(decision_id, value, metric, occurred_at or datetime.now(UTC))
        with self._changed:
            if self._closed:
                raise RuntimeError("the client is closed: feedback is not taken any more")
            is_full = len(self._waiting) + len(self._sending) >= self._batching.most_queued
            if not is_full:
                self._waiting.append((time.monotonic(), item))
                self._taken += 1
                self._ensure_thread()
                self._changed.notify_all()
        if is_full:
            self._tell_full(item)
        return not is_full

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until everything that was put before is sent or told; False after `timeout`
        seconds."""
        with self._changed:
            target = self._wanted = max(self._wanted, self._taken)
            if self._waiting:
                self._ensure_thread()
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._handled >= target, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Sends what is left, within `timeout` seconds, `close_seconds` where they are not given;
        what is left then is told as `closed`."""
        timeout = self._batching.close_seconds if timeout is None else timeout
        with self._changed:
            self._closed = True
            self._ends = time.monotonic() + timeout
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        self._work_until_empty()
        with self._changed:
            left = [*self._sending, *(item for _, item in self._waiting)]
            self._sending = ()
            self._waiting.clear()
            self._handled = self._taken
            self._changed.notify_all()
        self._tell([FailedFeedback(item, "closed", "the client was closed before it was sent") for item in left])

    def _ensure_thread(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._work, name="noregret-feedback", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending: its exit sends what waits
            return
        self._thread = thread
        if multiprocessing.parent_process() is not None:
            # Children of multiprocessing end without the interpreter's own exit.
            multiprocessing.util.Finalize(self, self.close, exitpriority=10)

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            self._deliver(batch)
            self._done(len(batch))

    def _work_until_empty(self) -> None:
        """In the thread of who closes, where no other is left that would."""
        while self._thread is None and self._waiting and not self._is_over():
            batch = self._take()
            self._deliver(batch)
            self._done(len(batch))

    def _next_batch(self) -> Sequence[Feedback] | None:
        """Waits for a batch; None when this thread is to end."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._closed, IDLE_SECONDS) or not self._waiting:
                self._thread = None
                return None
            oldest = self._waiting[0][0]
            self._changed.wait_for(self._is_due, max(0.0, oldest + self._batching.seconds - time.monotonic()))
            if self._is_over():
                self._thread = None
                return None
            return self._take()

    def _is_due(self) -> bool:
        return len(self._waiting) >= self._batching.size or self._handled < self._wanted or self._closed

    def _is_over(self) -> bool:
        return self._ends is not None and time.monotonic() >= self._ends

    def _take(self) -> Sequence[Feedback]:
        count = min(len(self._waiting), self._batching.size)
        self._sending = [self._waiting.popleft()[1] for _ in range(count)]
        return self._sending

    def _done(self, count: int) -> None:
        with self._changed:
            if self._sending:
                self._handled += count
                self._sending = ()
            self._changed.notify_all()

    def _deliver(self, batch: Sequence[Feedback]) -> None:
        """Sends a batch, as often as is needed, and tells what failed."""
        ends = time.monotonic() + self._batching.retry_seconds
        failures = 0
        while True:
            if self._ends is not None:
                ends = min(ends, self._ends)
            try:
                results = self._send(batch, max(0.05, ends - time.monotonic()))
            except (PlatformUnavailable, Unreachable) as error:
                failures += 1
                pause = self._pauses.pause(failures)
                if isinstance(error, PlatformUnavailable) and error.retry_after is not None:
                    pause = max(pause, error.retry_after)
                if not self._wait_to_retry(pause, ends):
                    self._fail(batch, "unreachable", str(error))
                    return
            except Problem as error:
                if error.status in OF_THE_BODY and len(batch) > 1:
                    self._deliver(batch[: len(batch) // 2])
                    self._deliver(batch[len(batch) // 2 :])
                else:
                    self._fail(batch, "refused", str(error))
                return
            except Exception as error:  # a fault here must not end the thread, and with it all feedback
                if not isinstance(error, NoregretError):
                    log.exception("feedback could not be sent")
                self._fail(batch, "refused", f"{type(error).__name__}: {error}")
                return
            else:
                self._tell(
                    [failed for item, result in zip(batch, results, strict=False) if (failed := _of(item, result))]
                )
                if not results:
                    self._fail(batch, "refused", "an answer came that says nothing of any item")
                elif len(results) < len(batch):
                    self._deliver(batch[len(results) :])
                return

    def _wait_to_retry(self, pause: float, ends: float) -> bool:
        """False where the time for it is over. Whoever closes shortens the pause."""
        with self._changed:
            if time.monotonic() + pause > ends:
                return False
            if self._closed:
                self._changed.wait(min(pause, 0.5))
            else:
                self._changed.wait_for(lambda: self._closed, pause)
            return not self._is_over()

    def _fail(self, batch: Sequence[Feedback], status: FailedStatus, message: str) -> None:
        if self._sending:  # else whoever closed has told it
            self._tell([FailedFeedback(item, status, message) for item in batch])

    def _tell_full(self, item: Feedback) -> None:
        now = time.monotonic()
        message = f"{self._batching.most_queued} items wait already"
        if now - self._told_full >= _TOLD_FULL_EVERY_SECONDS:
            self._told_full = now
            log.warning("feedback is not taken, and lost: %s", message)
        self._call_back(FailedFeedback(item, "queue_full", message))

    def _tell(self, failed: Sequence[FailedFeedback]) -> None:
        if not failed:
            return
        counts = ", ".join(f"{status} ({n})" for status, n in Counter(one.status for one in failed).most_common())
        log.warning("feedback that taught nothing: %s; the first: %s", counts, failed[0].message)
        for one in failed:
            self._call_back(one)

    def _call_back(self, failed: FailedFeedback) -> None:
        if self._on_failed is None:
            return
        try:
            self._on_failed(failed)
        except Exception:  # a caller's fault, which must lose nobody else's feedback
            log.exception("on_failed raised")


def _of(item: Feedback, result: FeedbackResult) -> FailedFeedback | None:
    message = result.error.message if result.error else "the decision's window was over"
    match result.status:
        case "late" | "conflict" | "not_learnable" | "unknown" | "invalid" as status:
            return FailedFeedback(item, status, message)
        case _:
            return None


_QUEUES: "weakref.WeakSet[FeedbackQueue]" = weakref.WeakSet()


def _close_all() -> None:
    for queue in list(_QUEUES):
        queue.close()


def _begin_all() -> None:
    for queue in list(_QUEUES):
        queue._begin()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)
