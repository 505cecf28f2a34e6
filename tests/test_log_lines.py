"""What the log holds when requests try to fill it."""

import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from django.conf import settings
from django.test import Client
from noregret.log_lines import A_SECOND, EXCEPTION, KINDS, TEXT, LimitedStream, cap


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """A log as it is configured, at level INFO, into memory."""
    stream = io.StringIO()
    handler = LimitedStream(stream)
    configuration = settings.LOGGING["formatters"]["json"]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=configuration["processors"], foreign_pre_chain=configuration["foreign_pre_chain"]
        )
    )
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    yield stream
    handler.close()
    root.handlers[:] = before
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def handler_of(written: io.StringIO) -> LimitedStream:
    (handler,) = (each for each in logging.getLogger().handlers if getattr(each, "stream", None) is written)
    assert isinstance(handler, LimitedStream)
    return handler


def tell(written: io.StringIO) -> None:
    handler = handler_of(written)
    handler.acquire()
    handler.tell_suppressed(until=float("inf"))
    handler.release()


def test_host_that_is_not_ours__many_times__is_a_few_short_lines_and_no_traceback(written: io.StringIO) -> None:
    client = Client(raise_request_exception=False)
    began = time.monotonic()
    for i in range(500):
        answer = client.get("/api/v1/models", headers={"host": f"h{i}" + "x" * 60_000})
        assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    tell(written)
    found = lines(written)
    assert len(found) <= (A_SECOND + 1) * (time.monotonic() - began + 2)
    assert all(len(line) < 1000 for line in written.getvalue().splitlines())
    assert not any("exception" in line for line in found)
    assert {line["logger"] for line in found} == {"django.security.DisallowedHost"}
    assert sum(1 + line.get("suppressed", 0) for line in found) == 500


@pytest.mark.parametrize("path", ["/api/v1/feedback", "/api/v1/endpoints/x/predict", "/admin/login/", "/nowhere"])
def test_host_that_is_not_ours__on_every_part__is_a_problem(written: io.StringIO, path: str) -> None:
    answer = Client(raise_request_exception=False).get(path, headers={"host": "evil.example"})
    assert answer.status_code in {400, 404, 405}
    assert answer["Content-Type"] == "application/problem+json"
    assert "Traceback" not in written.getvalue()


def test_lines_of_one_kind__past_the_limit__are_counted_and_the_last_is_told(written: io.StringIO) -> None:
    log = structlog.get_logger("serving.feedback")
    for i in range(538):
        log.warning("feedback not taken", reason="timeout", error=f"the {i}th")
    for _ in range(3):
        log.warning("feedback not taken", reason="disk_full", error="no space")
    tell(written)
    found = [line for line in lines(written) if line["reason"] == "timeout"]
    # One a second, and the last with those that it stands for.
    assert sum(1 + line.get("suppressed", 0) for line in found) == 538
    assert (found[0]["error"], found[-1]["error"]) == ("the 0th", "the 537th")
    assert len(found) <= 4
    assert {line["reason"] for line in lines(written)} == {"timeout", "disk_full"}


def test_lines_of_other_places_and_endpoints__are_kinds_of_their_own(written: io.StringIO) -> None:
    log = structlog.get_logger("noregret.steering.round")
    for i in range(50):
        log.error("experiment not learned", endpoint="a" if i else "b")
    tell(written)
    assert [line["endpoint"] for line in lines(written)].count("b") == 1
    assert 5 <= [line["endpoint"] for line in lines(written)].count("a") <= 12


def test_kinds_without_end__are_bounded(written: io.StringIO) -> None:
    log = structlog.get_logger("noregret.anything")
    for i in range(5 * KINDS):
        log.error("odd", endpoint=f"e{i}")
    assert len(handler_of(written)._seconds) <= KINDS + 1
    tell(written)
    assert sum(1 + line.get("suppressed", 0) for line in lines(written)) == 5 * KINDS


def test_suppressed_lines__when_no_more_come__are_told_all_the_same(written: io.StringIO) -> None:
    log = structlog.get_logger("serving.quiet")
    for _ in range(10):
        log.warning("odd")
    done = threading.Event()
    for _ in range(40):
        if sum(1 + line.get("suppressed", 0) for line in lines(written)) == 10:
            break
        done.wait(0.1)
    assert sum(1 + line.get("suppressed", 0) for line in lines(written)) == 10


def test_fields__long_ones__are_cut_in_the_middle() -> None:
    capped = cap(None, "error", {"event": "e" * 10_000, "exception": "f" * 10**6, "n": 3, "many": list(range(10**5))})
    assert len(capped["event"]) < TEXT + 50
    assert len(capped["exception"]) < EXCEPTION + 50
    assert capped["n"] == 3
    assert len(capped["many"]) < TEXT + 50
    assert cap(None, "error", {"event": "short", "list": [1, 2]}) == {"event": "short", "list": [1, 2]}


def test_unforeseen_error__keeps_its_traceback__and_its_end(written: io.StringIO) -> None:
    try:
        raise ValueError("m" * 10**6)
    except ValueError:
        structlog.get_logger("noregret.rest").exception("unforeseen error")
        logging.getLogger("django.request").exception("Internal Server Error: %s", "/x" * 10**5)
    structured, foreign = lines(written)
    for line in (structured, foreign):
        assert "Traceback" in line["exception"]
        assert len(json.dumps(line)) < EXCEPTION + 2 * TEXT + 500
