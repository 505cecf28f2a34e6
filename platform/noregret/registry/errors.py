"""What can go wrong in the registry.

RegistryError
├── ArtifactRefused      the artefact is unsafe, damaged, or no model
├── DefinitionInvalid    what describes the model can't be used; `field` says which part
├── InspectionUnfinished an inspection was cut off, or nobody took its job up in time
├── NameTaken            the name of the model is others'
├── StillInspected       the inspection goes on; `job` can be asked what comes of it
├── StoreUnavailable     the artefact could not be kept where all machines reach it
├── TooManyUploads       as many uploads, or questions to other machines, are under way as may be
└── VersionTaken         the version exists with another content
"""

from uuid import UUID


class RegistryError(Exception):
    """The root of these."""


class ArtifactRefused(RegistryError):
    """The artefact is unsafe, damaged, or no model."""


class DefinitionInvalid(RegistryError):
    """What describes the model can't be used."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class InspectionUnfinished(RegistryError):
    """An inspection was cut off, or nobody took its job up in time; nothing is known of the
    artefact, and the same can be sent again."""


class StillInspected(RegistryError):
    """The inspection goes on, and the caller need not wait for it."""

    def __init__(self, job: UUID) -> None:
        super().__init__(f"its inspection goes on as job {job}: look again in a minute")
        self.job = job


class StoreUnavailable(RegistryError):
    """The artefact could not be kept where all machines reach it."""


class TooManyUploads(RegistryError):
    """As many uploads, or questions to other machines, are under way as this process has at once;
    the same can be sent again a little later."""


class NameTaken(RegistryError):
    """The name of the model is others'."""


class VersionTaken(RegistryError):
    """The version exists with another content."""
