"""A step that is left: what was typed there is kept in place of what stood there, unless another
tab has saved that step meanwhile."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from . import sheets
from .experiment_form import BY_NAME, has, step_of
from .sheets import Page, Sheet, digest

LIFT = "suppose.lift"
"""What a forecast supposes: an input of the page, and no part of the document."""
_OWN = {"csrfmiddlewaretoken", "step", "to", "page", "seen"}
_ROW = re.compile(r"^(\w+(?:\.\w+)*\[\d+\])\.")
_SHOWN = 60
"""Of a longer value so much is shown beside another."""


@dataclass(frozen=True, slots=True)
class Clash:
    """Another page has saved a step since this one was drawn. `taken`: the form with what was typed
    on this one, which is not kept. `rows`: (path, here, there) of what differs."""

    taken: Sheet
    at: datetime | None
    rows: list[tuple[str, str, str]]


def held(typed: Mapping[str, str], step: str) -> dict[str, str]:
    """What a page of a step is drawn from; the review is drawn from all."""
    strategy = typed.get("strategy", "")
    whole = step not in BY_NAME or step == "review"
    return {name: value for name, value in typed.items() if name != LIFT and (whole or step_of(name, strategy) == step)}


def leave(sheet: Sheet, sent: Mapping[str, str], step: str, *, ends: bool) -> Sheet | Clash | None:
    """Keep what was typed in a step; the form as it is then. None where it was sent or discarded
    meanwhile. `ends`: the form is sent with it, so all of it must be as it was shown."""
    page = Page.sent(sent.get("page", ""))
    with sheets.locked(sheet) as current:
        if current is None:
            return None
        after = taken(current, sent, step)
        ours, theirs = held(after, step), held(current.typed, step)
        was_seen = page is None or digest(theirs) == page.held
        if step == "review":
            if ends and not was_seen:
                return Clash(current, current.changed_at, [])
        elif page is None or was_seen or current.saved.get(step) == page.own or digest(ours) == digest(theirs):
            current.typed = after
        elif digest(ours) != page.held:
            mine = Sheet(current.user, after, current.draft, current.revision, current.token, current.saved)
            return Clash(mine, current.changed_at, _differences(ours, theirs))
        else:  # nothing was typed on this page: what the other one saved stays
            page = None
        if step in BY_NAME:
            current.saved[step] = current.saved.get(step, "") if page is None else page.own
            current.last_step = step
        sheets.keep(current)
        return current


def taken(sheet: Sheet, sent: Mapping[str, str], step: str) -> dict[str, str]:
    """What a form holds with what was typed in a step, in place of what stood there; without a step
    in place of all. What the page did not ask for, as it is another strategy's, stays."""
    strategy = sent.get("strategy") or sheet.typed.get("strategy", "")
    fixed = {"name", "endpoint"} if sheet.draft is not None else set()
    typed = {name: sent[name] for name in sent if name not in _OWN | fixed and sent[name].strip()}
    rows = {found[1] for name in typed if (found := _ROW.match(name))}
    kept = {}
    for name, value in sheet.typed.items():
        row = _ROW.match(name)
        is_asked = has(name, strategy) or (row is not None and row[1] not in rows)
        stays = step != "careful" if name == LIFT else bool(step) and (step_of(name, strategy) != step or not is_asked)
        if stays or name in fixed:
            kept[name] = value
    return kept | typed


def _differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[tuple[str, str, str]]:
    names = [
        name for name in {**theirs, **ours} if digest({"": ours.get(name, "")}) != digest({"": theirs.get(name, "")})
    ]
    return [(name, _short(ours.get(name, "")), _short(theirs.get(name, ""))) for name in names]


def _short(value: str) -> str:
    return "empty" if not value else value if len(value) <= _SHOWN else f"{value[: _SHOWN - 1]}…"
