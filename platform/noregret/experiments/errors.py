"""What can go wrong with endpoints and experiments.

ExperimentsError
├── Invalid        what was asked for can't be; `field` says which part
└── Conflict       the present state does not allow it
    └── FileLost   a model's file is neither here nor in the artefact store
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


class FileLost(Conflict):
    """A model's file is neither here nor in the artefact store: no process could load it that has
    no copy. `can_be_forced`: whoever knows of copies may go on."""

    def __init__(self, message: str, *, can_be_forced: bool = False) -> None:
        super().__init__(message)
        self.can_be_forced = can_be_forced
