"""The policies that there are, by name: each registers itself where its class is defined."""

from dataclasses import fields
from typing import Any, TypeVar

from bandits.memory import Memory

from .protocol import ContextualPolicy

_Kind = TypeVar("_Kind", bound=type)

_REGISTRY: dict[str, Any] = {}


def register(policy: _Kind) -> _Kind:
    """A class decorator: from now on the policy can be made by its `name`. Raises ValueError for a
    name that another class has."""
    name = policy.name  # type: ignore[attr-defined]  # every policy has one, and none has a common base
    if name in _REGISTRY:
        raise ValueError(f"policy {name!r} is registered already, by {_REGISTRY[name].__qualname__}")
    _REGISTRY[name] = policy
    return policy


def names() -> tuple[str, ...]:
    """Every policy's name, sorted."""
    return tuple(sorted(_REGISTRY))


def contextual_names() -> tuple[str, ...]:
    """The names of those that need features, sorted."""
    return tuple(name for name in names() if _REGISTRY[name].contextual)


def summary(name: str) -> str:
    """A sentence on the policy for people. Raises ValueError for a name that does not exist."""
    said: str = _kind(name).summary
    return said


def make(name: str, **params: Any) -> Any:
    """The policy `name`, a Policy or a ContextualPolicy, with its parameters; every one takes
    `discount` or `sliding_window`.

    Raises ValueError for a name or a parameter that does not exist, or for a value out of range.
    """
    kind = _kind(name)
    accepted = [field.name for field in fields(kind) if field.name != "memory"]
    for given in params:
        if given not in (*accepted, "discount", "sliding_window"):
            expected = ", ".join((*accepted, "discount or sliding_window"))
            raise ValueError(f"parameters of {name}: {given} is unknown: {expected} was expected")
    own = dict(params)
    memory = {key: own.pop(key) for key in ("discount", "sliding_window") if key in own}
    try:
        return kind(memory=Memory(**memory), **own)
    except ValueError as error:
        raise ValueError(f"parameters of {name}: {error}") from None


def make_contextual(name: str, **params: Any) -> ContextualPolicy:
    """As `make`, for a policy that is known to need features. Raises ValueError."""
    policy: ContextualPolicy = make(name, **params)
    if not policy.contextual:
        raise ValueError(f"policy is {name!r}: one of {', '.join(contextual_names())} was expected")
    return policy


def _kind(name: str) -> Any:
    if name not in _REGISTRY:
        raise ValueError(f"policy is {name!r}: one of {', '.join(names())} was expected")
    return _REGISTRY[name]
