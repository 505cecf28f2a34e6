"""What can go wrong with webhooks.

NotifyError
├── WebhookInvalid     what describes the webhook can't be used; `field` says which part
└── WebhookNameTaken   there is a webhook of this name
"""


class NotifyError(Exception):
    """The root of these."""


class WebhookInvalid(NotifyError):
    """What describes the webhook can't be used."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class WebhookNameTaken(NotifyError):
    """There is a webhook of this name."""
