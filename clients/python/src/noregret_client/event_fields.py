"""What a decision that is made apart from the service may say of its request, checked where it is
made: the platform would refuse it later, when nobody waits for an answer.

An exported package and the Python client of devices hold the same file, so it needs the standard
library alone.
"""

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

LONGEST_TEXT = 256
LONGEST_CONTEXT = 256 * 1024
"""Characters as JSON: with its receipt a decision fits into a body of a mebibyte."""
MOST_EXCLUDED = 1000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_LEAST, _GREATEST = -(2**63), 2**63 - 1


def check_text(name: str, value: Any) -> None:
    """Raises ValueError for what is no text of 1 to 256 characters, or holds what the ledger
    can't."""
    if value is None:
        return
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_TEXT:
        raise ValueError(f"{name}: a text of 1 to {LONGEST_TEXT} characters was expected")
    check_characters(name, value)


def check_context(context: Any) -> dict[str, Any] | None:
    """The context as a dict. Raises ValueError for what is no mapping of names to texts, finite
    numbers, truths and None, or is too large."""
    if context is None:
        return None
    if not isinstance(context, Mapping):
        raise ValueError("context: names and their values were expected, as a dict")
    for name, value in context.items():
        if not isinstance(name, str):
            raise ValueError("context: names must be texts")
        check_characters("context", name)
        if isinstance(value, str):
            check_characters(f"context.{name}", value)
        elif not (value is None or isinstance(value, bool) or _is_number(value)):
            raise ValueError(
                f"context.{name}: a text, a finite number (a whole one of 64 bits), a truth or None was expected"
            )
    checked = dict(context)
    length = len(json.dumps(checked))
    if length > LONGEST_CONTEXT:
        raise ValueError(f"context: at most {LONGEST_CONTEXT} characters as JSON were expected, not {length}")
    return checked


def check_exclude(exclude: Any) -> Collection[str]:
    """The names of arms. Raises ValueError for what is no collection of names."""
    if exclude is None:
        return ()
    if isinstance(exclude, str | bytes | Mapping) or not isinstance(exclude, Collection):
        raise ValueError("exclude: a list of arms' names was expected")
    if len(exclude) > MOST_EXCLUDED:
        raise ValueError(f"exclude: at most {MOST_EXCLUDED} names were expected")
    for name in exclude:
        if not isinstance(name, str) or not _NAME.match(name):
            raise ValueError(f"exclude: {str(name)[:80]!r} is no arm's name")
    return exclude


def is_metric(name: Any) -> bool:
    """Is it a name that a metric can have?"""
    return isinstance(name, str) and _NAME.match(name) is not None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return _LEAST <= value <= _GREATEST if isinstance(value, int) else math.isfinite(value)


def check_characters(name: str, text: str) -> None:
    """Raises ValueError for a text that no ledger can hold."""
    if "\0" in text:
        raise ValueError(f"{name}: holds NUL")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: holds a lone surrogate") from error
