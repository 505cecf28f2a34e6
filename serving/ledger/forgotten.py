"""Units that were forgotten while decisions of theirs were on their way: in a stream, in a spool,
on another machine's disk.

Nothing here names them. A keyed digest tells that a decision that comes in is of one, and it is
stored under a random pseudonym.
"""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.conf import settings
from django.db import connection

from .events import DecisionEvent, encode
from .ingest import StreamedDecision, as_json

ReadableContext = Callable[[int, dict[str, Any] | None], dict[str, Any] | None]
"""(experiment id, context): what of a context is needed by what learns from it."""


def digest(unit: str) -> bytes:
    return hashlib.blake2b(
        unit.encode(), key=settings.SECRET_KEY.encode()[:64], digest_size=32, person=b"noregret.forget"
    ).digest()


def pseudonym() -> str:
    """A unit that nobody is, and that nothing leads back from."""
    return f"forgotten:{secrets.token_hex(16)}"


def remember(unit: str, at: datetime) -> None:
    """From the commit on, decisions of the unit that were made before `at` come in without its
    name."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO serving_forgottenunit AS held (digest, forgotten_at) VALUES (%s, %s) "
            "ON CONFLICT (digest) DO UPDATE SET forgotten_at = greatest(held.forgotten_at, EXCLUDED.forgotten_at)",
            [digest(unit), at],
        )


def without_name(event: DecisionEvent, unit: str, readable: ReadableContext) -> DecisionEvent:
    """The same decision of the unit `unit`, with nothing that tells whose it was."""
    context = readable(event.experiment_id, event.context)
    return msgspec.structs.replace(event, unit=unit, request_id=None, context=context)


def without_names(decisions: Sequence[StreamedDecision], readable: ReadableContext) -> list[StreamedDecision]:
    """The decisions, those of forgotten units under a pseudonym each. In the transaction that
    stores them."""
    units = {decision.event.unit for decision in decisions if decision.event.unit is not None}
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM serving_forgottenunit)")
        if not units or not cursor.fetchone()[0]:
            return list(decisions)
        by_digest = {digest(unit): unit for unit in units}
        cursor.execute(
            "SELECT digest, forgotten_at FROM serving_forgottenunit WHERE digest = ANY(%s)", [list(by_digest)]
        )
        forgotten = {by_digest[bytes(row[0])]: row[1] for row in cursor.fetchall()}
    pseudonyms: dict[tuple[int, str], str] = {}
    found = []
    for decision in decisions:
        unit = decision.event.unit
        if unit in forgotten and decision.made_at < forgotten[unit]:
            name = pseudonyms.setdefault((decision.event.experiment_id, unit), pseudonym())
            event = without_name(decision.event, name, readable)
            decision = msgspec.structs.replace(
                decision, event=event, body=encode(event), context=as_json(event.context)
            )
        found.append(decision)
    return found
