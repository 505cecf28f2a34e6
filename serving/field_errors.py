"""What is wrong with a field of a document, as callers are told it."""

from typing import TypedDict


class FieldError(TypedDict):
    """One wrong field, as a dotted path, and what was expected of it."""

    field: str
    message: str
