"""Why somebody did something, as the trail takes it."""

import unicodedata
from typing import Annotated

from msgspec import Meta

LONGEST = 2000
Reason = Annotated[str, Meta(max_length=LONGEST)]
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and signs by their class that are drawn as nothing."""


def says_nothing(reason: str) -> bool:
    """Is it text, and none of it to be seen: blanks, and what has no width?"""
    return bool(reason) and not any(map(_is_seen, reason))


def _is_seen(character: str) -> bool:
    # Separators, and what is no character of a text: controls, formats, marks without a letter.
    return unicodedata.category(character)[0] not in "ZCM" and character not in _BLANK_LETTERS
