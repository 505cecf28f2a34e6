"""The verdict of an experiment of any strategy, from its results and its setting. Reads no row."""

from collections.abc import Callable

import msgspec

from noregret.learning.shown.results import Results

from .by_evidence import of_split
from .of_canary import of_canary
from .on_copies import of_apprentice, of_shadow
from .phases import of_draft, of_ended, of_paused, said_of_nothing
from .planned import planned
from .setting import Setting
from .structure import Verdict
from .troubles import taken_out_told, troubles, what_first

__all__ = ["Verdict", "verdict"]

_BY_STRATEGY: dict[str, Callable[[Results, Setting], Verdict]] = {
    "ab": of_split,
    "apprentice": of_apprentice,
    "bandit": of_split,
    "canary": of_canary,
    "shadow": of_shadow,
}


def verdict(results: Results, setting: Setting) -> Verdict:
    """What it has come to. Whoever is named best is the arm that the table shows to be, or the
    verdict says why not."""
    if results.status == "draft":
        return of_draft(setting)
    removed = taken_out_told(setting)
    if results.status == "completed":
        ended = of_ended(results, setting)
        return msgspec.structs.replace(ended, details=(*ended.details, *removed))
    kind = "apprentice" if setting.apprentice else str(results.strategy)
    standing = said_of_nothing(results, setting) or _BY_STRATEGY[kind](results, setting)
    standing = msgspec.structs.replace(standing, details=(*removed, *standing.details, *planned(results, setting)))
    if results.status == "paused":
        return of_paused(standing, results, setting)
    splits = kind not in ("shadow", "apprentice")
    return standing.beside(troubles(results, splits=splits), what_first(results, splits=splits))
