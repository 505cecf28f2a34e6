"""As `endpoint`, for the asynchronous client."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio.to_thread

from .calls import Context
from .documents import Choice, Prediction
from .endpoint import DecisionAnswer
from .errors import NoregretError, PlatformUnavailable, Unreachable
from .fallback import Breaker, local_choice, local_prediction

if TYPE_CHECKING:
    from .async_client import AsyncClient

D = TypeVar("D", Prediction, Choice)
log = logging.getLogger("noregret_client")


class AsyncEndpoint:
    """As Endpoint. The fallback's model answers in a thread, so that the event loop goes on."""

    def __init__(
        self,
        name: str,
        *,
        client: "AsyncClient",
        fallback: Any = None,
        fallback_payload: Any = None,
        breaker: Breaker | None = None,
    ) -> None:
        self.name = name
        self.client = client
        self._fallback = fallback
        self._fallback_payload = fallback_payload
        self._breaker = breaker or Breaker()

    async def predict(
        self,
        rows: Any,
        *,
        unit: str | None = None,
        context: Context | None = None,
        request_id: str | None = None,
        exclude: Sequence[str] = (),
        activate: bool = True,
        timeout: float | None = None,
    ) -> Prediction:
        async def ask() -> Prediction:
            return await self.client.predict(
                self.name,
                rows,
                unit=unit,
                context=context,
                request_id=request_id,
                exclude=exclude,
                activate=activate,
                timeout=timeout,
            )

        if self._fallback is None:
            return await ask()
        return await self._asked_or(ask, lambda: local_prediction(self.name, self._fallback, rows))

    async def decide(
        self,
        *,
        unit: str | None = None,
        context: Context | None = None,
        request_id: str | None = None,
        exclude: Sequence[str] = (),
        activate: bool = True,
        timeout: float | None = None,
    ) -> Choice:
        async def ask() -> Choice:
            return await self.client.decide(
                self.name,
                unit=unit,
                context=context,
                request_id=request_id,
                exclude=exclude,
                activate=activate,
                timeout=timeout,
            )

        if self._fallback is None and self._fallback_payload is None:
            return await ask()
        return await self._asked_or(ask, lambda: local_choice(self.name, self._fallback_payload))

    def decision(self, rows: Any = None, **asked: Any) -> "AsyncDecisionScope":
        """A decision in an `async with`; takes what predict (with rows) or decide takes."""
        return AsyncDecisionScope(self, rows, asked)

    async def _asked_or(self, ask: Callable[[], Awaitable[D]], local: Callable[[], D]) -> D:
        if not self._breaker.admits():
            return await anyio.to_thread.run_sync(local)
        try:
            answer = await ask()
        except (Unreachable, PlatformUnavailable) as error:
            self._breaker.failed()
            log.warning("%s is answered by the local fallback: %s", self.name, error)
            return await anyio.to_thread.run_sync(local)
        except NoregretError:  # it refused, so it is there
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return answer


class AsyncDecisionScope(DecisionAnswer):
    """As DecisionScope. `reward` never waits; `activate` is awaited."""

    def __init__(self, endpoint: AsyncEndpoint, rows: Any, asked: dict[str, Any]) -> None:
        super().__init__(endpoint.client.feedback_later)
        self._endpoint = endpoint
        self._rows = rows
        self._asked = asked

    async def __aenter__(self) -> Self:
        if self._rows is None:
            self.answer = await self._endpoint.decide(**self._asked)
        else:
            self.answer = await self._endpoint.predict(self._rows, **self._asked)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def activate(self) -> str | None:
        if self.answer.decision_id is None:
            return None
        return (await self._endpoint.client.activate(self.answer.decision_id))[0].status
