"""The events of devices as they come, and what each is told (docs/edge.md)."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from serving.api import bodies
from serving.api.documents import MOST_EXCLUDED, Context, Name, Text256
from serving.problems import FieldError
from serving.times import Time

from .receipt import LONGEST

MOST_EVENTS = 1000

EventStatus = Literal[
    "recorded", "duplicate", "conflict", "late", "not_learnable", "unknown", "expired", "refused", "invalid"
]

ReceiptText = Annotated[str, Meta(min_length=1, max_length=LONGEST, description="Of the bundle, as it is there.")]


class KeptArm(Struct, frozen=True, forbid_unknown_fields=True):
    """Of a sticky unit's arm: the bundle that it was drawn under, and the context of that draw."""

    receipt: ReceiptText
    context: Context | None = None


class EdgeDecisionEvent(Struct, frozen=True, forbid_unknown_fields=True, tag="decision"):
    """A decision that was made on a device."""

    id: Annotated[UUID, Meta(description="Made by the device, once a decision.")]
    arm: Name | None
    propensity: Annotated[float, Meta(gt=0, le=1)]
    decided_at: Annotated[Time, Meta(description="By the device's clock.")]
    unit: Text256 | None = None
    context: Context | None = None
    request_id: Text256 | None = None
    holdout: bool = False
    excluded: Annotated[list[Name], Meta(max_length=MOST_EXCLUDED)] = []
    fallback_reason: Literal["error", "timeout"] | None = None
    kept: KeptArm | None = None


class EdgeRewardEvent(Struct, frozen=True, forbid_unknown_fields=True, tag="reward"):
    """Feedback on such a decision."""

    decision_id: UUID
    value: float | bool
    occurred_at: Annotated[Time, Meta(description="By the device's clock.")]
    metric: Name | None = None


class EdgeEventsRequest(Struct, forbid_unknown_fields=True):
    """Body of a device's events, all of decisions under one bundle and of rewards."""

    receipt: ReceiptText
    events: Annotated[list[EdgeDecisionEvent | EdgeRewardEvent], Meta(min_length=1, max_length=MOST_EVENTS)]
    key: Annotated[str, Meta(description="The API key, where no header can be set.")] | UnsetType = UNSET


class EdgeEventResult(Struct):
    """What became of an event."""

    status: EventStatus
    error: FieldError | None


class EdgeEventResults(Struct):
    """Answer of events, in their order."""

    results: list[EdgeEventResult]


class EdgeEventsBody(Struct, forbid_unknown_fields=True):
    """The same as it is decoded: events are checked one by one, so that one wrong event spoils no
    other."""

    receipt: ReceiptText
    events: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MOST_EVENTS)]
    key: str | UnsetType = UNSET


def _count_keys(body: EdgeEventsBody) -> int:
    # A key is free text, which may hold colons of its own.
    return 2 if body.key is UNSET else 3 + body.key.count(":")


def _uncounted(event: EdgeDecisionEvent | EdgeRewardEvent) -> int:
    return bodies.UNCOUNTED


EVENTS = bodies.ListForm(EdgeEventsBody, lambda body: body.events, _count_keys)
_EVENT: msgspec.json.Decoder[EdgeDecisionEvent | EdgeRewardEvent] = msgspec.json.Decoder(
    EdgeDecisionEvent | EdgeRewardEvent
)


def event_of(raw: msgspec.Raw) -> EdgeDecisionEvent | EdgeRewardEvent:
    """Raises bodies.WrongItem."""
    return bodies.decode_item(raw, _EVENT, _uncounted)
