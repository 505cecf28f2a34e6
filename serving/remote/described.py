"""What a server says of its model."""

from dataclasses import dataclass, field

from .tensors import Tensor


@dataclass(frozen=True, slots=True)
class Described:
    """`outputs` are the server's own names; empty lists where it says nothing."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
