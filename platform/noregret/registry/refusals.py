"""How what goes wrong in the registry is told over HTTP."""

from noregret.rest.refusals import tell
from serving import problems

from .errors import (
    ArtifactRefused,
    DefinitionInvalid,
    InspectionUnfinished,
    NameTaken,
    RegistryError,
    StoreUnavailable,
    TooManyUploads,
    VersionTaken,
)


def tell_refusals() -> None:
    tell(DefinitionInvalid, lambda error: problems.invalid_fields([{"field": error.field, "message": error.message}]))
    tell(ArtifactRefused, lambda error: problems.refused(str(error)))
    tell(NameTaken, _conflict)
    tell(VersionTaken, _conflict)
    tell(StoreUnavailable, _later)
    tell(TooManyUploads, _later)
    tell(InspectionUnfinished, _later)


def _conflict(error: RegistryError) -> problems.Problem:
    return problems.conflict(str(error))


def _later(error: RegistryError) -> problems.Problem:
    return problems.unavailable(str(error), retry_after=10)
