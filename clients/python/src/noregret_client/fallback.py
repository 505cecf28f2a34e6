"""The model that answers in this process while the platform is away, and when it is not asked for a
while."""

import time
from collections.abc import Callable
from typing import Any

from .documents import Choice, Prediction
from .rows import is_texts, rows_of

UNREACHABLE = "platform_unreachable"
"""The `fallback_reason` of what this process answered by itself."""
LOCAL_MODEL = "local"


class Breaker:
    """After `failures` in a row the platform is not asked for `seconds`; then one caller tries, and
    all others still don't. It has no lock, which a process that forks could leave locked: in a race
    two callers try."""

    def __init__(self, failures: int = 3, seconds: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = failures
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._closed_until = 0.0

    def admits(self) -> bool:
        """May the platform be asked now? Whoever is told so says by `succeeded` or `failed` how it
        went."""
        if self._failures < self._most:
            return True
        now = self._clock()
        if now < self._closed_until:
            return False
        self._closed_until = now + self._seconds
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        if self._failures >= self._most:
            self._closed_until = self._clock() + self._seconds


def local_prediction(endpoint: str, model: Any, rows: Any) -> Prediction:
    """What `model` answers, in the shape of the platform's answer.

    `model` has `predict`, and perhaps `predict_proba`; or it is a function of the rows, which
    returns the predictions or a mapping of outputs. It gets a table as it was passed, and lists as
    an array. What it raises is raised.
    """
    given = _as_array(rows)
    if hasattr(model, "predict"):
        outputs = {"predict": model.predict(given)}
        if hasattr(model, "predict_proba"):
            outputs["predict_proba"] = model.predict_proba(given)
    else:
        answered = model(given)
        outputs = dict(answered) if isinstance(answered, dict) else {"predict": answered}
    lists = {name: _as_list(values) for name, values in outputs.items()}
    return Prediction(**_told(endpoint), outputs=lists)


def local_choice(endpoint: str, payload: Any) -> Choice:
    return Choice(**_told(endpoint), payload=payload)


def _told(endpoint: str) -> dict[str, Any]:
    return {
        "decision_id": None,
        "endpoint": endpoint,
        "model": LOCAL_MODEL,
        "strategy": "single",
        "propensity": 1.0,
        "policy_version": 0,
        "learnable": False,
        "stale": True,
        "fallback_reason": UNREACHABLE,
    }


def _as_array(rows: Any) -> Any:
    """Lists of rows as models take them; whatever is a table already as it is."""
    if hasattr(rows, "shape") or hasattr(rows, "columns") or is_texts(rows):
        return rows
    plain = rows_of(rows)
    if plain and isinstance(plain[0], dict):
        try:
            import pandas
        except ImportError:
            return plain
        return pandas.DataFrame(plain)
    try:
        import numpy
    except ImportError:
        return plain
    return numpy.asarray(plain)


def _as_list(values: Any) -> list[Any]:
    # A row's probabilities of several outputs stand together, as the platform tells them.
    if isinstance(values, list) and values and getattr(values[0], "ndim", 0) == 2:
        return [[output[i].tolist() for output in values] for i in range(len(values[0]))]
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    return list(listed) if isinstance(listed, list | tuple) else [listed]
