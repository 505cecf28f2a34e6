"""The log of decisions, as the learner looks at it."""

import time
from datetime import UTC, datetime

import pytest
import redis
from noregret.redis_client import client, decision_log, keys

pytestmark = pytest.mark.usefixtures("platform")


def test_oldest_of_each__streams_of_every_kind__is_each_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filled, emptied, never written, and a key that is no stream; more than one command asks
    for."""
    monkeypatch.setattr("serving.ledger.decision_log.CHUNK", 3)
    log, before = decision_log(), datetime.fromtimestamp(int(time.time()), UTC)
    log.append_many("filled", [b"first", b"second"])
    log.append("emptied", b"gone")
    log.forget("emptied", [entry.id for entry in log.read("emptied", 1)])
    client().set(keys().decisions("damaged"), "no stream")
    filled, emptied, never, damaged, again = log.oldest_of_each(["filled", "emptied", "never", "damaged", "filled"])
    assert isinstance(filled, datetime)
    assert filled == again == log.oldest("filled")
    assert filled >= before
    assert (emptied, never) == (None, None)
    assert isinstance(damaged, redis.ResponseError)
    assert log.oldest_of_each([]) == []
    assert [entry.body for entry in log.read("filled", 10)] == [b"first", b"second"]  # on the same connection
