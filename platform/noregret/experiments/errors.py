"""What can go wrong with endpoints and experiments.

ExperimentsError
├── Invalid        what was asked for can't be; `field` says which part
└── Conflict       the present state does not allow it
"""


class ExperimentsError(Exception):
    """The root of these."""


class Invalid(ExperimentsError):
    """What was asked for can't be."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Conflict(ExperimentsError):
    """The present state does not allow it."""
