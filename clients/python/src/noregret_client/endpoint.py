"""An endpoint by its name, with what answers while the platform is away; and a decision in a
`with`."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .calls import Context
from .documents import Choice, Prediction
from .errors import NoregretError, PlatformUnavailable, Unreachable
from .fallback import Breaker, local_choice, local_prediction

if TYPE_CHECKING:
    from .client import Client

D = TypeVar("D", Prediction, Choice)
log = logging.getLogger("noregret_client")


class Endpoint:
    """`fallback`: a model of this process that answers while the platform is away (not where it
    refuses); `fallback_payload` is decide's answer then. Such an answer has `decision_id` None and
    `fallback_reason` `platform_unreachable`, and can be given no reward. After three failures in a
    row the platform is not asked for five seconds, so that no caller waits for it (`breaker`).

    Without `client` one is made from the environment's NOREGRET_URL and NOREGRET_KEY.
    """

    def __init__(
        self,
        name: str,
        *,
        client: "Client | None" = None,
        fallback: Any = None,
        fallback_payload: Any = None,
        breaker: Breaker | None = None,
    ) -> None:
        if client is None:
            from .client import Client

            client = Client()
        self.name = name
        self.client = client
        self._fallback = fallback
        self._fallback_payload = fallback_payload
        self._breaker = breaker or Breaker()

    def predict(
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
        """As Client.predict."""

        def ask() -> Prediction:
            return self.client.predict(
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
            return ask()
        return self._asked_or(ask, lambda: local_prediction(self.name, self._fallback, rows))

    def decide(
        self,
        *,
        unit: str | None = None,
        context: Context | None = None,
        request_id: str | None = None,
        exclude: Sequence[str] = (),
        activate: bool = True,
        timeout: float | None = None,
    ) -> Choice:
        """As Client.decide."""

        def ask() -> Choice:
            return self.client.decide(
                self.name,
                unit=unit,
                context=context,
                request_id=request_id,
                exclude=exclude,
                activate=activate,
                timeout=timeout,
            )

        if self._fallback is None and self._fallback_payload is None:
            return ask()
        return self._asked_or(ask, lambda: local_choice(self.name, self._fallback_payload))

    def decision(self, rows: Any = None, **asked: Any) -> "DecisionScope":
        """A decision in a `with`; takes what predict (with rows) or decide takes."""
        return DecisionScope(self, rows, asked)

    def _asked_or(self, ask: Callable[[], D], local: Callable[[], D]) -> D:
        if not self._breaker.admits():
            return local()
        try:
            answer = ask()
        except (Unreachable, PlatformUnavailable) as error:
            self._breaker.failed()
            log.warning("%s is answered by the local fallback: %s", self.name, error)
            return local()
        except NoregretError:  # it refused, so it is there
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return answer


class DecisionAnswer:
    """What was decided in a `with`, and the rewards of it, which go in the background."""

    def __init__(self, feedback_later: Callable[..., bool]) -> None:
        self._feedback_later = feedback_later
        self.answer: Prediction | Choice

    @property
    def decision_id(self) -> str | None:
        return self.answer.decision_id

    @property
    def arm(self) -> str | None:
        return self.answer.arm

    @property
    def payload(self) -> Any:
        """The arm's payload, of a decision without rows."""
        return self.answer.payload if isinstance(self.answer, Choice) else None

    @property
    def outputs(self) -> dict[str, list[Any]]:
        """The outputs of a decision with rows."""
        return self.answer.outputs if isinstance(self.answer, Prediction) else {}

    @property
    def predictions(self) -> list[Any]:
        """A value a row, of a decision with rows."""
        return self.outputs["predict"]

    def reward(self, value: float | bool, *, metric: str | None = None, occurred_at: datetime | None = None) -> bool:
        """Says how it went. False where that teaches nothing: the local fallback answered, the
        decision is not learnable, or the queue is full."""
        if self.answer.decision_id is None or not self.answer.learnable:
            return False
        return self._feedback_later(self.answer.decision_id, value, metric=metric, occurred_at=occurred_at)


class DecisionScope(DecisionAnswer):
    """A decision in a `with`; `answer` is a Prediction or a Choice."""

    def __init__(self, endpoint: Endpoint, rows: Any, asked: dict[str, Any]) -> None:
        super().__init__(endpoint.client.feedback_later)
        self._endpoint = endpoint
        self._rows = rows
        self._asked = asked

    def __enter__(self) -> Self:
        if self._rows is None:
            self.answer = self._endpoint.decide(**self._asked)
        else:
            self.answer = self._endpoint.predict(self._rows, **self._asked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def activate(self) -> str | None:
        """Says now that a decision made with `activate=False` was shown: `activated`, or what else
        became of it. None where the local fallback decided."""
        if self.answer.decision_id is None:
            return None
        return self._endpoint.client.activate(self.answer.decision_id)[0].status
