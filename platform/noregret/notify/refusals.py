"""How what goes wrong with webhooks is told over HTTP."""

from noregret.rest.refusals import tell
from serving import problems

from .errors import WebhookInvalid, WebhookNameTaken


def tell_refusals() -> None:
    tell(WebhookInvalid, lambda error: problems.invalid_fields([{"field": error.field, "message": error.message}]))
    tell(WebhookNameTaken, lambda error: problems.conflict(str(error)))
