"""A verdict as a value."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

Tone = Literal["good", "wait", "bad", "over"]


class Verdict(Struct, frozen=True):
    """`headline`: what it has come to, a sentence. `details`: what belongs to it, sentences. `do`:
    what to do, a sentence. `tone`: is there something to be glad of, to wait for, to mend, or is it
    over? `actions`: the buttons that do what `do` says, and no others."""

    headline: str
    do: str
    tone: Tone
    details: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()

    def beside(self, troubles: Sequence[str], first: str = "") -> "Verdict":
        """The same with what must be mended first; `first` says how, in place of what was to do."""
        if not troubles:
            return self
        mended = msgspec.structs.replace(self, details=(*troubles, *self.details), tone="bad")
        return msgspec.structs.replace(mended, do=first, actions=()) if first else mended

    @property
    def text(self) -> str:
        """All of it, as one paragraph."""
        return " ".join([self.headline, *self.details, self.do])
