"""Many requests, each decided once by its request_id: what is sent next, and what became of each.
Pure rules: nothing here sends or sleeps."""

import time
from collections.abc import Mapping, Sequence

import msgspec

from . import calls
from .calls import Call, Request
from .documents import Prediction, PredictionResult
from .errors import DeadlineExceeded, NoregretError, PlatformUnavailable, Problem, Unreachable
from .retrying import Retries

MOST_BYTES = 900_000
"""Of the requests of a call: the platform takes bodies of 1 MiB, unless it is set otherwise."""
_TOO_LARGE = 413


class ManyRequests:
    """`requests` of one endpoint on their way, within `seconds` from now. Raises TypeError or
    ValueError for what is no request, with its place.

    Whoever sends asks `next_call`, sends it within `remaining()`, says by `take` or `failed` what
    came of it, and waits for as long as that answers.
    """

    def __init__(
        self,
        endpoint: str,
        requests: Sequence[Request | Mapping[str, object]],
        remember_seconds: int | None,
        retries: Retries,
        seconds: float,
    ) -> None:
        self._endpoint = endpoint
        self._bodies = [calls.request_body(request, place) for place, request in enumerate(requests)]
        self._remember_seconds = remember_seconds
        self._retries = retries
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._most = calls.MOST_PREDICTIONS
        self._waiting = list(range(len(requests)))
        self._sent: list[int] = []
        self._failures = [0] * len(requests)
        self.results: list[Prediction | NoregretError] = [
            DeadlineExceeded(f"not sent within {seconds:g} s", maybe_done=False) for _ in requests
        ]
        """In the order of the requests, whole once there is no next call."""

    def remaining(self) -> float:
        """Seconds that are left."""
        return self._ends - time.monotonic()

    def next_call(self) -> Call[list[PredictionResult]] | None:
        """What is to be sent now; None where every request has its result, or the time is over."""
        if not self._waiting or self.remaining() <= 0.0:
            return None
        size, count = 0, 0
        for place in self._waiting[: self._most]:
            size += len(self._bodies[place]) + 1
            if count and size > MOST_BYTES:
                break
            count += 1
        self._sent = self._waiting[:count]
        bodies = [msgspec.Raw(self._bodies[place]) for place in self._sent]
        return calls.predictions(self._endpoint, bodies, self._remember_seconds)

    def take(self, results: list[PredictionResult]) -> float:
        """What the call was answered; the seconds to wait before the next. Raises
        NoregretError."""
        if len(results) != len(self._sent):
            raise NoregretError(f"{len(self._sent)} requests were answered by {len(results)} results")
        again = []
        for place, result in zip(self._sent, results, strict=True):
            outcome = result.outcome()
            self.results[place] = outcome
            if isinstance(outcome, PlatformUnavailable):
                self._failures[place] += 1
                if self._failures[place] < self._retries.tries:
                    again.append(place)
        self._waiting = again + self._waiting[len(self._sent) :]
        if not again:
            return 0.0
        # Others of the call were answered: it is short of time, and not away.
        if len(again) < len(results):
            return 0.0
        return min(self._retries.pause(max(self._failures[place] for place in again)), max(0.0, self.remaining()))

    def failed(self, error: NoregretError) -> None:
        """The call was not answered, with all its tries. Raises what is wrong with all requests
        alike; else what waits gets this error."""
        if isinstance(error, Problem) and error.status == _TOO_LARGE and len(self._sent) > 1:
            self._most = len(self._sent) // 2
            return
        if isinstance(error, Problem) and error.status == _TOO_LARGE:
            self.results[self._sent[0]] = error
            self._waiting = self._waiting[1:]
            return
        if not isinstance(error, Unreachable | PlatformUnavailable):
            raise error
        for place in self._waiting:
            self.results[place] = error
        self._waiting = []
