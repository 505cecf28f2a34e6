"""How what goes wrong with endpoints and experiments is told over HTTP."""

from noregret.rest.refusals import tell
from serving import problems

from .errors import Conflict, FileLost, Invalid


def tell_refusals() -> None:
    tell(Invalid, lambda error: problems.invalid_fields([{"field": error.field, "message": error.message}]))
    tell(Conflict, lambda error: problems.conflict(str(error)))
    tell(FileLost, lambda error: problems.conflict(f"{error}{_FORCE if error.can_be_forced else ''}"))


_FORCE = '; where web processes still have copies of it, {"force": true} changes the champion all the same'
