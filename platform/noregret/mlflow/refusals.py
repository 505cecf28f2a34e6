"""How what goes wrong with MLflow is told over HTTP."""

from noregret.rest.refusals import tell
from serving import problems

from .errors import ImportRefused, MlflowError, MlflowNotSet, MlflowUnavailable


def tell_refusals() -> None:
    tell(ImportRefused, lambda error: problems.refused(str(error)))
    tell(MlflowNotSet, _later)
    tell(MlflowUnavailable, _later)


def _later(error: MlflowError) -> problems.Problem:
    return problems.unavailable(str(error), retry_after=10)
