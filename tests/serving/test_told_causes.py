"""What operators are told: why feedback was not taken, which request a line belongs to, and whose
counters these are."""

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import structlog
from django.db import connection
from noregret.env import BadEnvironment, Environment
from noregret.experiments.models import Experiment
from prometheus_client import REGISTRY
from psycopg_pool import PoolTimeout

from serving import exposition
from serving.ledger import causes
from serving.ledger.group_commit import NotTold
from serving.metrics import web_processes
from serving.request_lines import RequestLines
from tests.conftest import Api
from tests.test_log_lines import lines, tell, written

__all__ = ["written"]

Start = Callable[..., Experiment]


def unavailable(reason: str) -> float:
    return REGISTRY.get_sample_value("noregret_feedback_unavailable_total", {"reason": reason}) or 0.0


def test_feedback_while_postgresql_refuses__the_cause_is_logged_once_a_second_and_counted(
    alice: Api, two_arms: Start, written: io.StringIO
) -> None:
    two_arms()
    decisions = [alice.post("/api/v1/endpoints/pages/decide", {})["decision_id"] for _ in range(12)]
    before = unavailable("timeout")
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as other:
        other.execute("LOCK TABLE serving_reward IN ACCESS EXCLUSIVE MODE")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("serving.ledger.statements._BOUNDED", "SET LOCAL statement_timeout = 50;")
            answers = [alice.post("/api/v1/feedback", {"decision_id": one, "value": 1}) for one in decisions]
    assert {answer.status for answer in answers} == {503}
    tell(written)
    told = [line for line in lines(written) if line["event"] == "feedback not taken"]
    assert sum(1 + line.get("suppressed", 0) for line in told) == 12
    assert len(told) < 12
    assert {line["reason"] for line in told} == {"timeout"}
    # And no other lines for the same, but for the request's own.
    assert told == [line for line in lines(written) if line["level"] != "info" and line["event"] != "request"]
    assert "statement timeout" in told[0]["error"]
    assert unavailable("timeout") - before == 12


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotTold("others' commit took more than 2.5 s"), "not_told"),
        (PoolTimeout("couldn't get a connection after 1.00 sec"), "no_connection"),
        (psycopg.errors.DiskFull("could not extend file"), "disk_full"),
        (psycopg.errors.QueryCanceled("canceling statement"), "timeout"),
        (psycopg.errors.LockNotAvailable("lock"), "timeout"),
        (psycopg.errors.ReadOnlySqlTransaction("read-only"), "read_only"),
        (psycopg.errors.AdminShutdown("terminating"), "connection"),
        (psycopg.errors.ConnectionFailure("gone"), "connection"),
        (psycopg.OperationalError("server closed the connection unexpectedly"), "connection"),
        (psycopg.errors.UndefinedTable("no table"), "other"),
        (None, "other"),
    ],
)
def test_cause__of_each_kind__has_its_reason(error: BaseException | None, expected: str) -> None:
    assert causes.reason(error) == expected


def test_cause__line__has_one_line() -> None:
    assert causes.line(psycopg.OperationalError("first\nDETAIL: secret")) == "first"
    assert causes.line(ValueError()) == "ValueError"


def asked(application: RequestLines, **environ: Any) -> dict[str, str]:
    headers: dict[str, str] = {}

    def start(line: str, given: list[tuple[str, str]], *more: Any) -> None:
        headers.update(given)

    b"".join(application({"REQUEST_METHOD": "GET", "PATH_INFO": "/p", "REMOTE_ADDR": "127.0.0.1"} | environ, start))
    return headers


def answering(status: str) -> Callable[..., Iterable[bytes]]:
    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        structlog.get_logger("noregret.inside").warning("inside")
        start(status, [("Content-Type", "text/plain")])
        return [b"x"]

    return application


def test_request_line__names_the_id_that_the_answer_and_all_lines_have(written: io.StringIO) -> None:
    headers = asked(RequestLines(answering("200 OK"), 1.0), QUERY_STRING="key=secret", HTTP_X_REQUEST_ID="r-1")
    assert headers == {"Content-Type": "text/plain", "X-Request-ID": "r-1"}
    inside, line = lines(written)
    assert inside["request_id"] == line["request_id"] == "r-1"
    assert (line["method"], line["path"], line["status"], line["client"]) == ("GET", "/p", 200, "127.0.0.1")
    assert "secret" not in written.getvalue()


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", 'a"b', "ü"])
def test_request_id__that_is_not_short_and_plain__is_replaced(written: io.StringIO, given: str) -> None:
    application = RequestLines(answering("200 OK"), 0.0)
    first, second = (asked(application, HTTP_X_REQUEST_ID=given)["X-Request-ID"] for _ in range(2))
    assert len(first) == len(second) == 16
    assert first != second


def test_request_lines__without_a_share__tell_of_failures_alone(written: io.StringIO) -> None:
    asked(RequestLines(answering("404 Not Found"), 0.0))
    asked(RequestLines(answering("503 Service Unavailable"), 0.0))

    def breaks(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        asked(RequestLines(breaks, 0.0))
    assert [line["status"] for line in lines(written) if line["event"] == "request"] == [503, 500]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--interface", "wsgi", "--workers", "2", "noregret.wsgi:application"], 2),
        (["--workers=3", "a:b"], 3),
        (["--blocking-threads", "8", "a:b"], 1),
        (["--workers", "many", "a:b"], 1),
        ([], 1),
    ],
)
def test_web_processes__by_the_command_line(arguments: list[str], expected: int) -> None:
    assert web_processes(arguments, 1) == expected


def test_metrics__of_several_processes_that_count_alone__are_refused(
    alice: Api, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alice.get("/metrics").status == 200
    monkeypatch.setattr("sys.argv", ["web", "--workers", "2"])
    assert exposition.counts_alone()
    answer = alice.get("/metrics")
    assert (answer.status, answer["type"]) == (503, "/problems/unavailable")
    assert "PROMETHEUS_MULTIPROC_DIR" in answer["detail"]
    monkeypatch.setattr("sys.argv", ["web", "--workers", "1"])
    assert alice.get("/metrics").status == 200


def test_environment__share_and_bound_that_are_none__are_refused() -> None:
    for name, text in (
        ("NOREGRET_ACCESS_LINES", "1.5"),
        ("NOREGRET_ACCESS_LINES", "-1"),
        ("NOREGRET_BACKLOG_LIMIT", "10"),
        ("NOREGRET_BACKLOG_LIMIT", "much"),
    ):
        with pytest.raises(BadEnvironment, match=name):
            Environment.read({name: text, "NOREGRET_SECRET_KEY": "k" * 40})
    assert Environment.read({"NOREGRET_SECRET_KEY": "k" * 40}).backlog_limit is None


def test_feedback__server_that_hangs__takes_no_more_threads(
    alice: Api, two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that the server does not end is given up, and its thread goes on answering
    predict."""
    two_arms()
    decision = alice.post("/api/v1/endpoints/pages/decide", {})["decision_id"]
    monkeypatch.setattr("serving.ledger.rewards.HANGS_SECONDS", 0.2)
    monkeypatch.setattr("serving.ledger.statements._BOUNDED", "SET LOCAL statement_timeout = 0;")
    feedback = {"decision_id": decision, "value": 1}
    with (
        psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.execute("LOCK TABLE serving_reward IN ACCESS EXCLUSIVE MODE")
        hangs = pool.submit(alice.post, "/api/v1/feedback", feedback)
        assert hangs.result(20).status == 503
        assert alice.post("/api/v1/endpoints/pages/decide", {}).status == 200
        other.rollback()
    # What was given up may be done all the same: then it is a duplicate.
    assert alice.post("/api/v1/feedback", feedback).status in (200, 202)
