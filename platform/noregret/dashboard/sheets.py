"""What is typed into a form of several pages, kept until it is sent: a row of its own, which no
other form of the same person overwrites.

One form may stand open in several tabs. Each page says what its step held when it was drawn, and
nothing that another page has saved there since is overwritten unseen.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from .models import UnfinishedForm

KEPT = timedelta(days=7)
_SENT = re.compile(r"([0-9a-f]{8})\.([0-9a-f]{16})")
LISTED = 20
"""So many unfinished forms of a person are listed, newest first."""


@dataclass(slots=True)
class Sheet:
    """As its row (`UnfinishedForm`)."""

    user: int
    typed: dict[str, str] = field(default_factory=dict)
    draft: int | None = None
    revision: int | None = None
    token: str = ""
    saved: dict[str, str] = field(default_factory=dict)
    last_step: str = ""
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a form that stands open somewhere: `own` names it, `held` is a digest of what its
    step held when it was drawn. Sent with the form as text."""

    own: str
    held: str

    @classmethod
    def drawn(cls, values: Mapping[str, str]) -> "Page":
        return cls(secrets.token_hex(4), digest(values))

    @classmethod
    def sent(cls, text: str) -> "Page | None":
        found = _SENT.fullmatch(text)
        return None if found is None else cls(found[1], found[2])

    def __str__(self) -> str:
        return f"{self.own}.{self.held}"


def digest(values: Mapping[str, str]) -> str:
    """Of what stands in a step's inputs, as a browser sends it: with its own ends of lines."""
    told = sorted((name, value.replace("\r\n", "\n").strip()) for name, value in values.items())
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def new_sheet(sheet: Sheet) -> str:
    """Keep it; its token."""
    token = secrets.token_hex(16)
    UnfinishedForm.objects.create(
        token=token,
        user_id=sheet.user,
        typed=json.dumps(sheet.typed),
        draft=sheet.draft,
        revision=sheet.revision,
        saved=sheet.saved,
        last_step=sheet.last_step,
    )
    return token


def sheet_of(token: str, user: int) -> Sheet | None:
    """What this person typed; None where there is nothing of that token, or it is another's."""
    row = UnfinishedForm.objects.filter(token=token, user=user, changed_at__gt=timezone.now() - KEPT).first()
    return None if row is None else _sheet(row)


@contextmanager
def locked(sheet: Sheet) -> Iterator[Sheet | None]:
    """The sheet as it is by now, for the one who changes it and calls `keep`; None where it was
    sent or discarded meanwhile."""
    with transaction.atomic():
        row = UnfinishedForm.objects.select_for_update().filter(token=sheet.token, user=sheet.user).first()
        yield None if row is None else _sheet(row)


def keep(sheet: Sheet) -> None:
    """As it is now."""
    UnfinishedForm.objects.filter(token=sheet.token, user=sheet.user).update(
        typed=json.dumps(sheet.typed), saved=sheet.saved, last_step=sheet.last_step, changed_at=timezone.now()
    )


def is_anothers(token: str, user: int) -> bool:
    return UnfinishedForm.objects.filter(token=token).exclude(user=user).exists()


def unfinished(user: int) -> list[Sheet]:
    """A person's forms in which something was left, the one that was changed last first."""
    rows = UnfinishedForm.objects.filter(user=user, changed_at__gt=timezone.now() - KEPT).exclude(last_step="")
    return [_sheet(row) for row in rows.order_by("-changed_at")[:LISTED]]


def drop(sheet: Sheet) -> None:
    UnfinishedForm.objects.filter(token=sheet.token, user=sheet.user).delete()


def _sheet(row: UnfinishedForm) -> Sheet:
    return Sheet(
        user=row.user_id,
        typed=json.loads(row.typed),
        draft=row.draft,
        revision=row.revision,
        token=row.token,
        saved=row.saved,
        last_step=row.last_step,
        changed_at=row.changed_at,
    )
