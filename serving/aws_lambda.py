"""The data plane as a function behind API Gateway: `handler` takes events of both payload versions,
`take_decisions` what a queue of decisions delivers.

Between two requests nothing runs: snapshots are refreshed by their age at a request, and a decision
is sent before its answer.
"""

import os
import time
from contextlib import suppress
from typing import Any

import django
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings.data_plane")
if not apps.ready:
    django.setup()

from apig_wsgi import make_lambda_handler
from django.conf import settings

from serving.ledger.decision_queue import put_into_streams
from serving.process import CannotServe, process
from serving.request_lines import RequestLines
from serving.starting import begin_serving, end_serving
from serving.web import app

REFRESH_WAIT_SECONDS = 1.0
"""So long at most a request waits for a newer snapshot, once a refresh."""

_answer = make_lambda_handler(RequestLines(app.application, settings.ACCESS_LINES), binary_support=True)
_refreshed = time.time()  # and no monotonic clock: that may stand still with the function
begin_serving()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """API Gateway's event of payload version 1.0 or 2.0, and its answer."""
    global _refreshed
    now = time.time()
    if not 0.0 <= now - _refreshed < settings.REFRESH_SECONDS:
        _refreshed = now
        with suppress(CannotServe):  # the answer tells it
            process().store.refresh(REFRESH_WAIT_SECONDS)
    answer: dict[str, Any] = _answer(event, context)
    end_serving()
    return answer


def take_decisions(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Decisions from SQS into Redis: of a function that reaches it. What Redis does not take comes
    again (`ReportBatchItemFailures`)."""
    records = event["Records"]
    again = put_into_streams(process().log, [record["body"] for record in records])
    return {"batchItemFailures": [{"itemIdentifier": records[position]["messageId"]} for position in again]}
