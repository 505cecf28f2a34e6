"""How a service's refusals are told: by type of exception, as problem documents.

Services know nothing of HTTP, and this package knows no service. An app enters how each of its
refusals is told when it starts.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from serving.problems import Problem

E = TypeVar("E", bound=Exception)

_TOLD: dict[type[Exception], Callable[[Any], Problem]] = {}


def tell(kind: type[E], problem: Callable[[E], Problem]) -> None:
    """From now on a `kind`, or an exception derived from it, is told as `problem` says."""
    _TOLD[kind] = problem


def refusal(error: Exception) -> Problem | None:
    """A service's refusal as a problem; None for an exception that no app entered."""
    for kind in type(error).__mro__:
        if kind in _TOLD:
            return _TOLD[kind](error)
    return None
