"""One address of the data plane: what answers there, by which methods, what body it takes, and how
it tells a refusal.
"""

from dataclasses import dataclass
from typing import Any

from .refusals import Tell, tell_problem

BODY_SECONDS = 10.0
"""A body that a client needs longer for is refused."""
AS_SET = -1
"""A limit of bodies: NOREGRET_SERVING_BODY_LIMIT, which the table of routes puts in its place."""


@dataclass(frozen=True, slots=True)
class Route:
    """One address. `template` is Falcon's: a name in braces stands for one part of the path."""

    template: str
    resource: Any  # a Falcon resource: a responder a method, by its name
    methods: tuple[str, ...]
    limit: int = AS_SET  # bytes of a body, at most
    seconds: float = BODY_SECONDS  # within which a body must be whole
    tell: Tell = tell_problem
    sends_files: bool = False  # as fast as they are taken: its answers have threads of their own


@dataclass(frozen=True, slots=True)
class Area:
    """A protocol's part of the address space: what lies at or below `prefix` and is no route of it
    is refused in its words too."""

    prefix: str
    tell: Tell

    def holds(self, path: str) -> bool:
        return path == self.prefix or path.startswith(f"{self.prefix}/")
