"""A Noregret platform as a function of Apache Flink's tables (PyFlink).

tables.create_temporary_function("predict_iris", predict_function("iris"))
tables.sql_query("SELECT predict_iris(request) FROM requests")

Flink hands over a batch of rows at a time (`python.fn-execution.arrow.batch.size`). A request is
decided once under its `request_id`: what a job processes again after its last checkpoint is
answered as it was before, and the ledger holds each request once.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import pandas as pd
from pyflink.table import DataTypes
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from . import calls
from .client import Client
from .documents import Prediction
from .errors import PlatformUnavailable, Problem, Unreachable
from .retrying import Retries

PATIENT = Retries(tries=10, longest_pause=5.0)


def predict_function(
    endpoint: str,
    *,
    url: str | None = None,
    key: str | None = None,
    timeout: float = 60.0,
    remember_seconds: int = 3600,
) -> Any:
    """A vectorized function of a STRING, predict's JSON with a `request_id`. It returns a STRING,
    the JSON of `{"status": 200, "answer": {...}, "problem": null}`; what is refused has a status
    and a problem.

    Where the platform gives no answer within `timeout` seconds, for all tries, the job fails: Flink
    starts it again from its last checkpoint, if its restart strategy says so. `url` and `key`
    default to NOREGRET_URL and NOREGRET_KEY of the task managers. `remember_seconds`: longer than
    from a checkpoint to the end of a restart.
    """
    function = _Predict(endpoint, url, key, timeout, remember_seconds)
    return udf(function, input_types=[DataTypes.STRING()], result_type=DataTypes.STRING(), func_type="pandas")


class _Predict(ScalarFunction):
    def __init__(self, endpoint: str, url: str | None, key: str | None, timeout: float, remember_seconds: int) -> None:
        self._endpoint = endpoint
        self._address = (url, key)
        self._timeout = timeout
        self._remember_seconds = remember_seconds
        self._client: Client | None = None

    def open(self, function_context: FunctionContext) -> None:
        self._client = Client(*self._address, timeout=self._timeout, retries=PATIENT)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def is_deterministic(self) -> bool:
        """Flink may not work it out while it plans, nor leave a call out."""
        return False

    def eval(self, bodies: "pd.Series[str]") -> "pd.Series[str]":
        assert self._client is not None
        read = [_read(body) for body in bodies]
        requests = [request for request in read if isinstance(request, calls.Request)]
        results = iter(self._client.predict_many(self._endpoint, requests, remember_seconds=self._remember_seconds))
        told = [_told(next(results)) if isinstance(request, calls.Request) else _refused(request) for request in read]
        return pd.Series(told, dtype=object)


def _read(body: str | None) -> calls.Request | str:
    """A request, or what is wrong with it."""
    try:
        fields = msgspec.json.decode(body or "")
        if not isinstance(fields, Mapping):
            return "an object was expected"
        request = calls.Request(**fields)
        calls.request_body(request, 0)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        return str(error)
    return request


def _told(result: Any) -> str:
    if isinstance(result, Unreachable | PlatformUnavailable):
        raise result
    if isinstance(result, Prediction):
        return _json({"status": 200, "answer": result, "problem": None})
    assert isinstance(result, Problem)
    return _json(
        {"status": result.status, "answer": None, "problem": _problem(result.type, result.title, result.detail)}
    )


def _refused(detail: str) -> str:
    problem = _problem("about:blank", "This is no request", detail)
    return _json({"status": 400, "answer": None, "problem": problem})


def _problem(kind: str, title: str, detail: str) -> dict[str, str]:
    return {"type": kind, "title": title, "detail": detail}


def _json(document: Any) -> str:
    return msgspec.json.encode(document).decode()
