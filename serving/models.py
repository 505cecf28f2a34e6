"""Django looks for an app's models here; the ledger keeps them."""

from serving.ledger.models import Decision, QuarantinedEvent, Reward, ShadowPrediction

__all__ = ["Decision", "QuarantinedEvent", "Reward", "ShadowPrediction"]
