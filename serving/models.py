"""Django looks for an app's models here; the ledger keeps them."""

from serving.ledger.models import (
    Decision,
    EdgeDecision,
    FirstVisit,
    ForgottenUnit,
    LedgerHorizon,
    QuarantinedEvent,
    Reward,
    ShadowPrediction,
    WaitingDecision,
)

__all__ = [
    "Decision",
    "EdgeDecision",
    "FirstVisit",
    "ForgottenUnit",
    "LedgerHorizon",
    "QuarantinedEvent",
    "Reward",
    "ShadowPrediction",
    "WaitingDecision",
]
