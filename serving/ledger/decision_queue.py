"""Decisions by a queue of the caller's in place of Redis: for a function that reaches none.

A queue may deliver twice and in any order: the ledger knows each decision by its id. Whoever reads
it hands the texts to `put_into_streams`, where there is a Redis.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import msgspec
import structlog

from serving.redis_keys import Keys

from . import events
from .decision_log import DecisionLog, StreamUnavailable

log = structlog.get_logger(__name__)


class _Queued(msgspec.Struct):
    endpoint: str
    decision: str  # base64


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_Queued)


class QueuedDecisions(DecisionLog):
    """As a DecisionLog for who appends. `name`: a callable that takes a text, and raises where it
    does not keep it."""

    def __init__(self, name: str, url: str, keys: Keys) -> None:
        super().__init__(url, keys)
        module, _, attribute = name.rpartition(".")
        self._send: Callable[[str], Any] = getattr(import_module(module), attribute)

    def append(self, endpoint: str, body: bytes) -> None:
        text = _encode(_Queued(endpoint, base64.b64encode(body).decode())).decode()
        try:
            self._send(text)
        except Exception as error:  # whatever it raises, the decision is not kept
            log.warning("decision not queued", endpoint=endpoint, error=repr(error))
            raise StreamUnavailable("refused", repr(error)) from error

    def append_many(self, endpoint: str, bodies: Sequence[bytes]) -> None:
        for body in bodies:
            self.append(endpoint, body)


def put_into_streams(decisions: DecisionLog, texts: Sequence[str]) -> list[int]:
    """Append what came out of a queue; the positions of those that are to come again. What is no
    decision comes never again, and is logged."""
    again: list[int] = []
    for position, text in enumerate(texts):
        try:
            queued = _decoder.decode(text)
            body = base64.b64decode(queued.decision, validate=True)
            events.decode(body)
        except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
            log.error("no decision", text=text[:500], error=str(error))
            continue
        try:
            decisions.append_many(queued.endpoint, [body])
        except StreamUnavailable as error:
            log.warning("decision not taken from the queue", endpoint=queued.endpoint, reason=error.reason)
            again.append(position)
    return again
