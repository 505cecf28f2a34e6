"""What a route takes: methods, how large a body, and how long its sender may need. Asked before a
thread is taken."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .pools import Pool

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""

WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Plane:
    """An application and the threads that it may have: no other plane waits for them."""

    application: Application
    pool: Pool


@dataclass(frozen=True, slots=True)
class Fixed:
    """An answer that is always the same, and needs no thread."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Rule:
    """What the addresses of a route take."""

    answers: Plane | Fixed
    methods: tuple[str, ...]
    limit: int
    """Bytes of a body; 0 where none is taken."""
    seconds: float
    """Within which the body must be whole."""
    upload_limit: int | None = None
    """Bytes of a body that is `multipart/form-data`, where that may be larger."""
    upload_seconds: float = 0.0

    def of_body(self, method: str, media_type: str) -> tuple[int, float]:
        """The bytes that a request's body may have, and the seconds that it may take."""
        if method in WITHOUT_BODY:
            return 0, self.seconds
        if self.upload_limit is not None and media_type.lower().startswith("multipart/form-data"):
            return self.upload_limit, self.upload_seconds
        return self.limit, self.seconds


Find = Callable[[str], Rule | None]
"""The rule of a path (WSGI's PATH_INFO); None where nothing is."""
