"""What is shown, as JSON: Structs, and what they hold. Times are told as RFC 3339, UTC with Z."""

from typing import Any

import msgspec
import numpy as np


def document(shown: Any) -> Any:
    """As dicts, lists, strings and numbers."""
    return msgspec.to_builtins(shown, enc_hook=_plain)


def encoded(shown: Any) -> bytes:
    """As JSON; a figure that is no number is null."""
    return msgspec.json.encode(shown, enc_hook=_plain)


def _plain(value: Any) -> Any:
    """What arithmetic left as NumPy's number, as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value)} has no form in JSON")
