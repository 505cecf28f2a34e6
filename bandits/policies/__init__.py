"""The policies by name. Adding one: a file with the class, and a line here (docs/adding-a-policy.md)."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from bandits.memory import Memory

from .bayes_ucb import BayesUCB
from .greedy import EpsilonGreedy, Softmax
from .kl_ucb import KLUCB
from .linear import LinThompson, LinUCB
from .logistic import LogisticThompson
from .protocol import ContextualPolicy, Policy
from .thompson import Thompson
from .top_two import TopTwoThompson
from .ucb1 import UCB1, UCBTuned
from .uniform import Uniform

_POLICIES: tuple[Callable[..., Policy], ...] = (
    Thompson,
    TopTwoThompson,
    UCB1,
    UCBTuned,
    KLUCB,
    BayesUCB,
    EpsilonGreedy,
    Softmax,
    Uniform,
)
_CONTEXTUAL: tuple[Callable[..., ContextualPolicy], ...] = (LinUCB, LinThompson, LogisticThompson)

_REGISTRY: dict[str, Callable[..., Policy]] = {policy().name: policy for policy in _POLICIES}
_CONTEXTUAL_REGISTRY: dict[str, Callable[..., ContextualPolicy]] = {policy().name: policy for policy in _CONTEXTUAL}

__all__ = ["ContextualPolicy", "Policy", "contextual_names", "make", "make_contextual", "names"]


def names() -> tuple[str, ...]:
    """Every policy's name, sorted."""
    return tuple(sorted((*_REGISTRY, *_CONTEXTUAL_REGISTRY)))


def contextual_names() -> tuple[str, ...]:
    """The names of those that need features, sorted."""
    return tuple(sorted(_CONTEXTUAL_REGISTRY))


def make(name: str, **params: Any) -> Any:
    """The policy `name`, a Policy or a ContextualPolicy, with its parameters; every one takes `discount` or `sliding_window`.

    Raises ValueError for a name or a parameter that does not exist, or for a value out of range.
    """
    known = {**_REGISTRY, **_CONTEXTUAL_REGISTRY}
    if name not in known:
        raise ValueError(f"policy is {name!r}: one of {', '.join(names())} was expected")
    accepted = [field.name for field in fields(known[name]) if field.name != "memory"]  # type: ignore[arg-type]  # dataclasses all
    for given in params:
        if given not in (*accepted, "discount", "sliding_window"):
            expected = ", ".join((*accepted, "discount or sliding_window"))
            raise ValueError(f"parameters of {name}: {given} is unknown: {expected} was expected")
    own = dict(params)
    memory = {key: own.pop(key) for key in ("discount", "sliding_window") if key in own}
    try:
        return known[name](memory=Memory(**memory), **own)
    except ValueError as error:
        raise ValueError(f"parameters of {name}: {error}") from None


def make_contextual(name: str, **params: Any) -> ContextualPolicy:
    """As `make`, for a policy that is known to need features. Raises ValueError."""
    policy: ContextualPolicy = make(name, **params)
    if not policy.contextual:
        raise ValueError(f"policy is {name!r}: one of {', '.join(contextual_names())} was expected")
    return policy
