from django.apps import AppConfig


class MlflowConfig(AppConfig):
    name = "noregret.mlflow"
    label = "mlflow"
    verbose_name = "MLflow"

    def ready(self) -> None:
        from noregret.trail import outbox

        from .aliases import enqueue
        from .refusals import tell_refusals

        outbox.add_recipient(enqueue)
        tell_refusals()
