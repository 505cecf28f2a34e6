"""The policies by name. Adding one: a file with the class, and a line here."""

from collections.abc import Callable
from typing import Any

from .protocol import Policy
from .thompson import Thompson
from .ucb1 import UCB1
from .uniform import Uniform

_REGISTRY: dict[str, Callable[..., Policy]] = {
    "thompson": Thompson,
    "ucb1": UCB1,
    "uniform": Uniform,
}

__all__ = ["Policy", "make", "names"]


def names() -> tuple[str, ...]:
    """Every policy's name, sorted."""
    return tuple(sorted(_REGISTRY))


def make(name: str, **params: Any) -> Policy:
    """The policy `name` with its parameters. Raises ValueError for a name or a parameter that does not exist."""
    try:
        policy = _REGISTRY[name]
    except KeyError:
        raise ValueError(f"policy is {name!r}: one of {', '.join(names())} was expected") from None
    try:
        return policy(**params)
    except TypeError as error:
        raise ValueError(f"parameters of {name}: {error}") from None
