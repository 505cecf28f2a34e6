"""Predict, decide, feedback and registration on a Noregret platform.

client = Client("http://127.0.0.1:8000", key)
answer = client.predict("iris", rows, unit="user-42")
client.feedback_later(answer.decision_id, 1)
"""

from .async_client import AsyncClient
from .async_endpoint import AsyncDecisionScope, AsyncEndpoint
from .calls import Feedback, Request
from .client import Client
from .documents import ActivationResult, Choice, Column, FeedbackResult, Model, Prediction
from .endpoint import DecisionScope, Endpoint
from .errors import (
    Conflict,
    DeadlineExceeded,
    FieldError,
    InvalidRequest,
    ModelNotTaken,
    NoregretError,
    NotAuthorized,
    NotFound,
    PlatformUnavailable,
    Problem,
    Unreachable,
)
from .fallback import Breaker
from .feedback_queue import Batching, FailedFeedback
from .retrying import Retries

__all__ = [
    "ActivationResult",
    "AsyncClient",
    "AsyncDecisionScope",
    "AsyncEndpoint",
    "Batching",
    "Breaker",
    "Choice",
    "Client",
    "Column",
    "Conflict",
    "DeadlineExceeded",
    "DecisionScope",
    "Endpoint",
    "FailedFeedback",
    "Feedback",
    "FeedbackResult",
    "FieldError",
    "InvalidRequest",
    "Model",
    "ModelNotTaken",
    "NoregretError",
    "NotAuthorized",
    "NotFound",
    "PlatformUnavailable",
    "Prediction",
    "Problem",
    "Request",
    "Retries",
    "Unreachable",
]
