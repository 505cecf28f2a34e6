"""A Noregret platform as transforms of Apache Beam: `Predict` and `Feedback`.

answered, failed = requests | Predict("iris")

Elements go in batches over connections that are kept. A request is decided once under its
`request_id`: a bundle that a runner tries again, and a pipeline that is started again, hear what
was answered before, and the ledger holds each request once.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

import apache_beam as beam
import msgspec
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from . import calls
from .client import Client
from .documents import Prediction
from .errors import NoregretError, PlatformUnavailable, Problem, Unreachable
from .retrying import Retries

FAILED = "failed"
"""The tag of the side output."""
ANSWERED = "answered"
PATIENT = Retries(tries=10, longest_pause=5.0)
"""Nobody waits for the single answer."""

T = TypeVar("T")
Item = TypeVar("Item")


class Answered(NamedTuple):
    """An element of Predict, and what the platform answered."""

    element: Any
    answer: Prediction


class Recorded(NamedTuple):
    """An element of Feedback, and what became of it: `recorded`, `duplicate` or `late`."""

    element: Any
    status: str


class Failed(NamedTuple):
    """An element that has no answer, and why.

    `reason`: `not_a_request`; a refusal's name (`invalid-fields`, `conflict`, `unavailable`, ...);
    `unreachable`; of feedback also `conflict`, `not_learnable`, `unknown` and `invalid`. `status`
    is HTTP's, None where there was none.
    """

    element: Any
    reason: str
    status: int | None
    detail: str


@dataclasses.dataclass(frozen=True, slots=True)
class Platform:
    """Where the platform is, and how long a batch may take there.

    `url` and `key` default to NOREGRET_URL and NOREGRET_KEY of the worker's environment; a `key`
    that is given here is part of the pipeline's graph, where whoever sees that can read it.
    `timeout`: seconds of a batch, with its retries. `raises`: where the platform is away for longer
    the bundle fails, so that the runner tries it again, in place of the side output.
    """

    url: str | None = None
    key: str | None = dataclasses.field(default=None, repr=False)
    timeout: float = 60.0
    retries: Retries = PATIENT
    raises: bool = False

    def client(self) -> Client:
        return Client(self.url, self.key, timeout=self.timeout, retries=self.retries)


class Predict(beam.PTransform):
    """Requests to `answered` (Answered) and `failed` (Failed), in that order and by these names.

    `request` makes of an element what predict takes: `request_id`, `inputs`, and perhaps `unit`,
    `context`, `exclude`, `activate`. Without it an element is that itself: a dict, a Row, a
    NamedTuple, a dataclass. The `request_id` must follow from the element, for it says that two are
    one; of two endpoints in one pipeline each has its own. It is known for `remember_seconds`
    after its answer: longer than a bundle takes until it is tried again, and than a pipeline is
    down.

    A wrong key, or an endpoint that is not there, fails the bundle: no element is at fault. Times
    and windows of elements stay as they are.
    """

    def __init__(
        self,
        endpoint: str,
        request: Callable[[Any], Any] | None = None,
        *,
        platform: Platform | None = None,
        batch: int = calls.MOST_PREDICTIONS,
        remember_seconds: int = 3600,
    ) -> None:
        super().__init__()
        if not 1 <= batch <= calls.MOST_PREDICTIONS:
            raise ValueError(f"batch: 1 to {calls.MOST_PREDICTIONS} was expected")
        self._function = _Predict(endpoint, request, platform or Platform(), batch, remember_seconds)

    def expand(self, requests: beam.PCollection) -> Any:
        return requests | beam.ParDo(self._function).with_outputs(FAILED, main=ANSWERED)


class Feedback(beam.PTransform):
    """Rewards to `answered` (Recorded) and `failed` (Failed), in that order and by these names.

    `reward` makes of an element what feedback takes: `decision_id`, `value`, and perhaps `metric`
    and `occurred_at` (a datetime with its zone, Beam's Timestamp, or a text as
    2026-11-26T17:00:00Z). Without it an element is that itself. A repetition is a `duplicate`, so
    that a bundle may be tried again.
    """

    def __init__(
        self,
        reward: Callable[[Any], Any] | None = None,
        *,
        platform: Platform | None = None,
        batch: int = calls.MOST_FEEDBACK,
    ) -> None:
        super().__init__()
        if not 1 <= batch <= calls.MOST_FEEDBACK:
            raise ValueError(f"batch: 1 to {calls.MOST_FEEDBACK} was expected")
        self._function = _Feedback(reward, platform or Platform(), batch)

    def expand(self, rewards: beam.PCollection) -> Any:
        return rewards | beam.ParDo(self._function).with_outputs(FAILED, main=ANSWERED)


class _Batched(beam.DoFn, Generic[Item]):
    """Elements of a bundle, `batch` at a time. What comes of one gets the time and the windows that
    it came with; beam.BatchElements would give it those of its batch."""

    def __init__(self, platform: Platform, batch: int) -> None:
        self._platform = platform
        self._batch = batch
        self._waiting: list[tuple[WindowedValue, Item]] = []
        self._client: Client | None = None

    def setup(self) -> None:
        self._client = self._platform.client()

    def start_bundle(self) -> None:
        self._waiting = []  # of a bundle that failed

    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterable[Any]:
        came = WindowedValue(element, timestamp, (window or GlobalWindow(),))
        try:
            item = self.item(element)
        except Exception as error:  # of the caller's function, too: one element ends no bundle
            failed = Failed(element, "not_a_request", None, f"{type(error).__name__}: {error}")
            yield TaggedOutput(FAILED, failed)
            return
        self._waiting.append((came, item))
        if len(self._waiting) >= self._batch:
            yield from self._sent()

    def finish_bundle(self) -> Iterable[Any]:
        if self._waiting:
            yield from self._sent()

    def teardown(self) -> None:
        if self._client is not None:
            self._client.close()

    def item(self, element: Any) -> Item:
        """What is sent. Raises whatever the caller's function does, TypeError or ValueError."""
        raise NotImplementedError

    def outcomes(self, client: Client, elements: Sequence[Any], items: Sequence[Item]) -> Sequence[Any]:
        """What comes of each."""
        raise NotImplementedError

    def _sent(self) -> Iterator[Any]:
        assert self._client is not None
        waiting, self._waiting = self._waiting, []
        elements = [came.value for came, _ in waiting]
        for (came, _), outcome in zip(
            waiting, self.outcomes(self._client, elements, [item for _, item in waiting]), strict=True
        ):
            output = came.with_value(outcome)
            yield TaggedOutput(FAILED, output) if isinstance(outcome, Failed) else output

    def _failed(self, element: Any, error: NoregretError) -> Failed:
        if self._platform.raises and isinstance(error, Unreachable | PlatformUnavailable):
            raise error
        if isinstance(error, Problem):
            name = error.type.rpartition("/")[2] or "refused"
            return Failed(element, name, error.status, f"{error.title}: {error.detail}")
        return Failed(element, "unreachable", None, str(error))


class _Predict(_Batched[calls.Request]):
    def __init__(
        self,
        endpoint: str,
        request: Callable[[Any], Any] | None,
        platform: Platform,
        batch: int,
        remember_seconds: int,
    ) -> None:
        super().__init__(platform, batch)
        self._endpoint = endpoint
        self._request = request
        self._remember_seconds = remember_seconds

    def item(self, element: Any) -> calls.Request:
        made = element if self._request is None else self._request(element)
        request = made if isinstance(made, calls.Request) else calls.Request(**_fields(made))
        calls.request_body(request, 0)  # so that what is no request fails alone
        return request

    def outcomes(self, client: Client, elements: Sequence[Any], items: Sequence[calls.Request]) -> Sequence[Any]:
        results = client.predict_many(self._endpoint, items, remember_seconds=self._remember_seconds)
        return [
            self._failed(element, result) if isinstance(result, NoregretError) else Answered(element, result)
            for element, result in zip(elements, results, strict=True)
        ]


class _Feedback(_Batched[calls.Feedback]):
    def __init__(self, reward: Callable[[Any], Any] | None, platform: Platform, batch: int) -> None:
        super().__init__(platform, batch)
        self._reward = reward

    def item(self, element: Any) -> calls.Feedback:
        made = element if self._reward is None else self._reward(element)
        fields = {"metric": None, "occurred_at": None} | _fields(made)
        return calls.feedback_item(**fields | {"occurred_at": _moment(fields["occurred_at"])})

    def outcomes(self, client: Client, elements: Sequence[Any], items: Sequence[calls.Feedback]) -> Sequence[Any]:
        try:
            results = client.feedback_batch(items)
        except (Unreachable, PlatformUnavailable) as error:
            return [self._failed(element, error) for element in elements]
        except Problem as error:
            if error.status not in calls.OF_THE_BODY:
                raise
            if len(items) == 1:
                return [self._failed(elements[0], error)]
            half = len(items) // 2
            first = self.outcomes(client, elements[:half], items[:half])
            return [*first, *self.outcomes(client, elements[half:], items[half:])]
        return [
            Recorded(element, result.status)
            if result.error is None
            else Failed(element, result.status, None, result.error.message)
            for element, result in zip(elements, results, strict=True)
        ]


def _moment(occurred_at: Any) -> Any:
    """A text as JSON has it, or Beam's Timestamp, as a datetime. Raises ValueError."""
    if isinstance(occurred_at, Timestamp):
        return occurred_at.to_utc_datetime(has_tz=True)
    if not isinstance(occurred_at, str):
        return occurred_at
    try:
        return msgspec.convert(occurred_at, datetime)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"occurred_at: a time as 2026-11-26T17:00:00Z was expected, not {occurred_at[:80]!r}"
        ) from error


def _fields(made: Any) -> dict[str, Any]:
    """Of a dict, a Row, a NamedTuple, a dataclass or a structure. Raises TypeError."""
    if isinstance(made, msgspec.Struct):
        return msgspec.structs.asdict(made)
    if isinstance(made, Mapping):
        return dict(made)
    if isinstance(made, beam.Row):
        return dict(made.as_dict())
    if hasattr(made, "_asdict"):
        return dict(made._asdict())
    if dataclasses.is_dataclass(made) and not isinstance(made, type):
        return {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
    raise TypeError(f"a dict, a Row, a NamedTuple or a dataclass was expected, not {type(made).__name__}")
