"""The asynchronous client, for asyncio and trio. It sends feedback as the synchronous one does: in
the background, by a thread of its own."""

import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread

from . import calls, transport
from .async_endpoint import AsyncDecisionScope, AsyncEndpoint
from .calls import Call, Context, Feedback, Request
from .client import feedback_queue, new_request_id
from .connection import Address, AsyncPool, Pool, Settings
from .documents import ActivationResult, Choice, Column, FeedbackResult, Job, Model, Prediction
from .errors import DeadlineExceeded, NoregretError
from .feedback_queue import Batching, OnFailed
from .many import ManyRequests
from .registering import REGISTER_SECONDS, FollowedJob, prepared
from .retrying import YOUNG_SECONDS, Attempts, Repeats, Retries

T = TypeVar("T")


class AsyncClient:
    """As Client, whose docstrings say what each call does. For one event loop."""

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
        connections: int = 100,
        verify: bool | ssl.SSLContext = True,
    ) -> None:
        self._settings = Settings(Address.of(url, key), timeout, retries or Retries(), connections, verify)
        self._young: dict[str, float] = {}
        self._decisions_repeat = Repeats.SAFE if resend_lost_decisions else Repeats.HARMFUL
        self._pool = AsyncPool(self._settings)
        self._feedback_pool = Pool(self._settings)
        self._queue = feedback_queue(self._feedback_pool, self._settings, batching, on_feedback_failed)

    async def predict(
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
        return await self.send(call, timeout)

    async def predict_many(
        self,
        endpoint: str,
        requests: Sequence[Request | Mapping[str, object]],
        *,
        remember_seconds: int | None = None,
        timeout: float | None = None,
    ) -> list[Prediction | NoregretError]:
        many = ManyRequests(
            endpoint, requests, remember_seconds, self._settings.retries, timeout or self._settings.timeout
        )
        while (call := many.next_call()) is not None:
            try:
                await anyio.sleep(many.take(await self.send(call, max(many.remaining(), 0.001))))
            except NoregretError as error:
                many.failed(error)
        return many.results

    async def decide(
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
        call = calls.decide(
            endpoint,
            unit=unit,
            context=context,
            request_id=request_id or new_request_id(),
            exclude=exclude,
            activate=activate,
            repeats=self._decisions_repeat,
        )
        return await self.send(call, timeout)

    def endpoint(self, name: str, *, fallback: Any = None, fallback_payload: Any = None) -> AsyncEndpoint:
        return AsyncEndpoint(name, client=self, fallback=fallback, fallback_payload=fallback_payload)

    def decision(self, endpoint: str, rows: Any = None, **asked: Any) -> AsyncDecisionScope:
        """`async with client.decision("iris", unit="u-1") as d: ... d.reward(1)`"""
        return self.endpoint(endpoint).decision(rows, **asked)

    async def feedback(
        self,
        decision_id: str,
        value: float | bool,
        *,
        metric: str | None = None,
        occurred_at: datetime | None = None,
        timeout: float | None = None,
    ) -> str:
        return await self.send(calls.feedback(calls.feedback_item(decision_id, value, metric, occurred_at)), timeout)

    async def feedback_batch(self, items: Sequence[Feedback], *, timeout: float | None = None) -> list[FeedbackResult]:
        return await self.send(calls.feedback_batch(items), timeout)

    def feedback_later(
        self, decision_id: str, value: float | bool, *, metric: str | None = None, occurred_at: datetime | None = None
    ) -> bool:
        """Never waits, and so needs no `await`."""
        return self._queue.put(decision_id, value, metric, occurred_at)

    async def flush(self, timeout: float | None = None) -> bool:
        return await anyio.to_thread.run_sync(self._queue.flush, timeout)

    async def activate(self, *decision_ids: str, timeout: float | None = None) -> list[ActivationResult]:
        return await self.send(calls.activate(decision_ids), timeout)

    async def register(
        self,
        model: Any,
        *,
        name: str,
        version: str,
        sample: Any = None,
        columns: Sequence[Column] | None = None,
        timeout: float = REGISTER_SECONDS,
    ) -> Model:
        ends = time.monotonic() + timeout
        call = await anyio.to_thread.run_sync(
            lambda: prepared(model, name=name, version=version, sample=sample, columns=columns)
        )
        return await self._followed(await self.send(call, timeout), ends)

    async def register_payload(self, payload: Any, *, name: str, version: str, timeout: float | None = None) -> Model:
        definition = {"name": name, "version": version, "framework": "static", "payload": payload}
        return await self.register_definition(definition, timeout=timeout)

    async def register_definition(self, definition: Mapping[str, Any], *, timeout: float | None = None) -> Model:
        ends = time.monotonic() + (timeout or self._settings.timeout)
        return await self._followed(await self.send(calls.register_definition(definition), timeout), ends)

    async def create_endpoint(self, name: str, *, champion: str, timeout: float | None = None, **options: Any) -> Any:
        made = await self.call(
            "POST", "/api/v1/endpoints", {"name": name, "champion": champion} | options, timeout=timeout
        )
        self._young[name] = time.monotonic() + YOUNG_SECONDS
        return made

    async def create_experiment(self, document: Any, *, start: bool = False, timeout: float | None = None) -> Any:
        made = await self.call("POST", "/api/v1/experiments", document, timeout=timeout)
        return await self.start(made["name"], timeout=timeout) if start else made

    async def start(self, experiment: str, *, reason: str = "", timeout: float | None = None) -> Any:
        return await self.call(
            "POST", f"/api/v1/experiments/{calls.quoted(experiment)}/start", {"reason": reason}, timeout=timeout
        )

    async def results(self, experiment: str, *, timeout: float | None = None) -> Any:
        return await self.call("GET", f"/api/v1/experiments/{calls.quoted(experiment)}/results", timeout=timeout)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        return await self.send(calls.managing(method, path, body, query), timeout)

    async def send(self, call: Call[T], timeout: float | None = None) -> T:
        attempts = Attempts(
            self._settings.retries,
            timeout or self._settings.timeout,
            call.repeats,
            self._young.get(call.endpoint or "", 0.0),
        )
        http = self._pool.http()
        while True:
            try:
                return call.value(await transport.send_async(http, call.request(http), attempts.remaining()))
            except NoregretError as error:
                await anyio.sleep(attempts.pause_after(error))

    async def close(self, timeout: float | None = None) -> None:
        await anyio.to_thread.run_sync(self._queue.close, timeout)
        self._feedback_pool.close()
        await self._pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _followed(self, answer: Model | Job, ends: float) -> Model:
        followed = FollowedJob()
        while (model := followed.model(answer)) is None:
            pause = followed.pause()
            left = ends - time.monotonic() - pause
            if left <= 0.0:
                raise DeadlineExceeded(f"the registration {followed.job} still runs", maybe_done=True)
            await anyio.sleep(pause)
            answer = await self.send(calls.job(followed.job), left)
        return model
