"""What is typed into a form of several pages, kept until it is sent: a row of its own, which no
other form of the same person and no other tab can overwrite."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.backends.db import SessionStore

KEPT = timedelta(days=7)
_KEY = "sheet"


@dataclass(slots=True)
class Sheet:
    """`typed`: by the names of inputs. `draft`: the experiment that it changes, as it was at
    `revision`; None: it makes one."""

    user: int
    typed: dict[str, str] = field(default_factory=dict)
    draft: int | None = None
    revision: int | None = None
    token: str = ""


def new_sheet(sheet: Sheet) -> str:
    """Keep it; its token."""
    store = SessionStore()
    store[_KEY] = _told(sheet)
    store.set_expiry(KEPT)
    store.create()
    return str(store.session_key)


def sheet_of(token: str, user: int) -> Sheet | None:
    """What this person typed; None where there is nothing of that token, or it is another's."""
    told = SessionStore(session_key=token).get(_KEY) if token else None
    return Sheet(**told, token=token) if told is not None and told["user"] == user else None


def keep(sheet: Sheet) -> bool:
    """As it is now; False where it was sent meanwhile."""
    store = SessionStore(session_key=sheet.token)
    if store.get(_KEY) is None:
        return False
    store[_KEY] = _told(sheet)
    try:
        store.save()
    except UpdateError:
        return False
    return True


def drop(sheet: Sheet) -> None:
    SessionStore(session_key=sheet.token).delete()


def _told(sheet: Sheet) -> dict[str, Any]:
    return {"user": sheet.user, "typed": sheet.typed, "draft": sheet.draft, "revision": sheet.revision}
