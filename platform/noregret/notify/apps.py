from django.apps import AppConfig


class NotifyConfig(AppConfig):
    name = "noregret.notify"
    label = "notify"
    verbose_name = "Notifications"

    def ready(self) -> None:
        from noregret.trail import outbox

        from .outbox import enqueue
        from .refusals import tell_refusals

        outbox.add_recipient(enqueue)
        tell_refusals()
