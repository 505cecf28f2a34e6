"""The synchronous client."""

import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from . import calls, transport
from .calls import Call, Context, Feedback, Request
from .connection import Address, Pool, Settings
from .documents import ActivationResult, Choice, Column, FeedbackResult, Job, Model, Prediction
from .endpoint import DecisionScope, Endpoint
from .errors import DeadlineExceeded, NoregretError
from .feedback_queue import Batching, FeedbackQueue, OnFailed
from .many import ManyRequests
from .registering import REGISTER_SECONDS, FollowedJob, prepared
from .retrying import YOUNG_SECONDS, Attempts, Repeats, Retries

T = TypeVar("T")


class Client:
    """Calls a platform. Safe to use from any thread, and in processes that fork.

    `timeout` is in seconds and bounds a whole call, with its retries and the pauses between them;
    each call takes its own, too. `url` and `key` default to NOREGRET_URL and NOREGRET_KEY of the
    environment. `resend_lost_decisions`: predict and decide are sent again also where the answer
    was lost; the ledger may then hold a decision that nobody saw, under the same request_id, and
    where the reward has a default it teaches that.

    Every call raises Problem for what the platform refused, and Unreachable where nobody answered.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 5.0,
        retries: Retries | None = None,
        batching: Batching | None = None,
        on_feedback_failed: OnFailed | None = None,
        resend_lost_decisions: bool = False,
        connections: int = 20,
        verify: bool | ssl.SSLContext = True,
    ) -> None:
        self._settings = Settings(Address.of(url, key), timeout, retries or Retries(), connections, verify)
        self._young: dict[str, float] = {}
        self._decisions_repeat = Repeats.SAFE if resend_lost_decisions else Repeats.HARMFUL
        self._pool = Pool(self._settings)
        self._queue = feedback_queue(self._pool, self._settings, batching, on_feedback_failed)

    # Serving

    def predict(
        self,
        endpoint: str,
        rows: Any,
        *,
        unit: str | None = None,
        context: Context | None = None,
        request_id: str | None = None,
        exclude: Sequence[str] = (),
        activate: bool = True,
        timeout: float | None = None,
    ) -> Prediction:
        """Routes to an arm, which answers the rows: a DataFrame, an array, or rows as lists or
        objects. One decision, however many rows."""
        call = calls.predict(
            endpoint,
            rows,
            unit=unit,
            context=context,
            request_id=request_id or new_request_id(),
            exclude=exclude,
            activate=activate,
            repeats=self._decisions_repeat,
        )
        return self.send(call, timeout)

    def predict_many(
        self,
        endpoint: str,
        requests: Sequence[Request | Mapping[str, object]],
        *,
        remember_seconds: int | None = None,
        timeout: float | None = None,
    ) -> list[Prediction | NoregretError]:
        """Predicts for many requests, each with a `request_id`, which is decided once however
        often it is sent within `remember_seconds` (600).

        What became of each, in order: an answer, or the error of that request alone (a Problem,
        or Unreachable where nobody answered in time). So a call is sent again without harm, by
        anybody. Raises TypeError or ValueError for what is no request, and Problem for what is
        wrong with all of them, as a key or an endpoint.
        """
        many = ManyRequests(
            endpoint, requests, remember_seconds, self._settings.retries, timeout or self._settings.timeout
        )
        while (call := many.next_call()) is not None:
            try:
                time.sleep(many.take(self.send(call, max(many.remaining(), 0.001))))
            except NoregretError as error:
                many.failed(error)
        return many.results

    def decide(
        self,
        endpoint: str,
        *,
        unit: str | None = None,
        context: Context | None = None,
        request_id: str | None = None,
        exclude: Sequence[str] = (),
        activate: bool = True,
        timeout: float | None = None,
    ) -> Choice:
        """Routes to an arm, whose payload is answered: for callers that run the model, prompt or
        page themselves."""
        call = calls.decide(
            endpoint,
            unit=unit,
            context=context,
            request_id=request_id or new_request_id(),
            exclude=exclude,
            activate=activate,
            repeats=self._decisions_repeat,
        )
        return self.send(call, timeout)

    def endpoint(self, name: str, *, fallback: Any = None, fallback_payload: Any = None) -> Endpoint:
        """An endpoint by its name, with what answers in this process while the platform is away."""
        return Endpoint(name, client=self, fallback=fallback, fallback_payload=fallback_payload)

    def decision(self, endpoint: str, rows: Any = None, **asked: Any) -> DecisionScope:
        """`with client.decision("iris", unit="u-1") as d: d.reward(1)`; with rows it predicts."""
        return self.endpoint(endpoint).decision(rows, **asked)

    # Rewards

    def feedback(
        self,
        decision_id: str,
        value: float | bool,
        *,
        metric: str | None = None,
        occurred_at: datetime | None = None,
        timeout: float | None = None,
    ) -> str:
        """Says how a decision went, now: `recorded` (committed), `duplicate` or `late`."""
        return self.send(calls.feedback(calls.feedback_item(decision_id, value, metric, occurred_at)), timeout)

    def feedback_batch(self, items: Sequence[Feedback], *, timeout: float | None = None) -> list[FeedbackResult]:
        """At most 1000 pieces in one transaction, now; what became of each, in order."""
        return self.send(calls.feedback_batch(items), timeout)

    def feedback_later(
        self, decision_id: str, value: float | bool, *, metric: str | None = None, occurred_at: datetime | None = None
    ) -> bool:
        """Says it in the background, in batches, and never waits. What fails is told to
        `on_feedback_failed` and the log `noregret_client`. False where the queue is full."""
        return self._queue.put(decision_id, value, metric, occurred_at)

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until the feedback so far is sent or told; False after `timeout` seconds."""
        return self._queue.flush(timeout)

    def activate(self, *decision_ids: str, timeout: float | None = None) -> list[ActivationResult]:
        """Says that decisions made with `activate=False` were shown."""
        return self.send(calls.activate(decision_ids), timeout)

    # Managing

    def register(
        self,
        model: Any,
        *,
        name: str,
        version: str,
        sample: Any = None,
        columns: Sequence[Column] | None = None,
        timeout: float = REGISTER_SECONDS,
    ) -> Model:
        """Writes a fitted model as skops or ONNX and registers it, with rows of `sample` that the
        platform checks its copy on.

        Takes an estimator of scikit-learn, XGBoost or LightGBM (or a pipeline with one), an ONNX
        model, or a path to a `.skops` or `.onnx` file. Columns are read from the sample's dtypes
        where they are not given. Waits until the platform has looked at it. Raises ModelNotTaken.
        """
        ends = time.monotonic() + timeout
        answer = self.send(prepared(model, name=name, version=version, sample=sample, columns=columns), timeout)
        return self._followed(answer, ends)

    def register_payload(self, payload: Any, *, name: str, version: str, timeout: float | None = None) -> Model:
        """Registers a JSON payload (a prompt, a page's parameters) as a `static` model."""
        definition = {"name": name, "version": version, "framework": "static", "payload": payload}
        return self.register_definition(definition, timeout=timeout)

    def register_definition(self, definition: Mapping[str, Any], *, timeout: float | None = None) -> Model:
        """Registers a model without an artefact by its document."""
        ends = time.monotonic() + (timeout or self._settings.timeout)
        return self._followed(self.send(calls.register_definition(definition), timeout), ends)

    def create_endpoint(self, name: str, *, champion: str, timeout: float | None = None, **options: Any) -> Any:
        """Makes an endpoint; `options` as `deadline_ms`, `sticky`, `record`, `reward`."""
        made = self.call("POST", "/api/v1/endpoints", {"name": name, "champion": champion} | options, timeout=timeout)
        self._young[name] = time.monotonic() + YOUNG_SECONDS
        return made

    def create_experiment(self, document: Any, *, start: bool = False, timeout: float | None = None) -> Any:
        """Makes a draft of an experiment's document, a dict or anything that msgspec encodes; with
        `start` it is started, too."""
        made = self.call("POST", "/api/v1/experiments", document, timeout=timeout)
        return self.start(made["name"], timeout=timeout) if start else made

    def start(self, experiment: str, *, reason: str = "", timeout: float | None = None) -> Any:
        """Starts an experiment."""
        return self.call(
            "POST", f"/api/v1/experiments/{calls.quoted(experiment)}/start", {"reason": reason}, timeout=timeout
        )

    def results(self, experiment: str, *, timeout: float | None = None) -> Any:
        """What is known of an experiment."""
        return self.call("GET", f"/api/v1/experiments/{calls.quoted(experiment)}/results", timeout=timeout)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Any call of the HTTP API; its answer's JSON."""
        return self.send(calls.managing(method, path, body, query), timeout)

    # Sending

    def send(self, call: Call[T], timeout: float | None = None) -> T:
        """Sends a call, with retries, within `timeout` seconds."""
        attempts = Attempts(
            self._settings.retries,
            timeout or self._settings.timeout,
            call.repeats,
            self._young.get(call.endpoint or "", 0.0),
        )
        http = self._pool.http()
        while True:
            try:
                return call.value(transport.send(http, call.request(http), attempts.remaining()))
            except NoregretError as error:
                time.sleep(attempts.pause_after(error))

    def close(self, timeout: float | None = None) -> None:
        """Sends the feedback that waits, within `timeout` seconds, and closes the connections."""
        self._queue.close(timeout)
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _followed(self, answer: Model | Job, ends: float) -> Model:
        followed = FollowedJob()
        while (model := followed.model(answer)) is None:
            pause = followed.pause()
            left = ends - time.monotonic() - pause
            if left <= 0.0:
                raise DeadlineExceeded(f"the registration {followed.job} still runs", maybe_done=True)
            time.sleep(pause)
            answer = self.send(calls.job(followed.job), left)
        return model


def new_request_id() -> str:
    """For decisions whose caller names none: all tries of a call have the same."""
    return uuid.uuid4().hex


def feedback_queue(
    pool: Pool, settings: Settings, batching: Batching | None, on_failed: OnFailed | None
) -> FeedbackQueue:
    """Sends over `pool`; a batch is tried once a call, for the queue has retries of its own."""

    def send(items: Sequence[Feedback], seconds: float) -> Sequence[FeedbackResult]:
        http, call = pool.http(), calls.feedback_batch(items)
        return call.value(transport.send(http, call.request(http), min(seconds, settings.timeout)))

    return FeedbackQueue(send, batching or Batching(), on_failed)
