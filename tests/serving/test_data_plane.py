"""The data plane as an application: what it loads, and what it answers whatever its calls do."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from noregret.experiments.models import Experiment

from serving import problems
from serving.web import routes
from serving.web.answer_heads import AnswerHeads
from serving.web.data_plane import data_plane
from serving.web.front import Front
from serving.web.outside import Outside
from serving.web.refusals import tell_problem
from tests.conftest import Api

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., Experiment]

LOADED = """
import sys
sys.path[:0] = [{root!r}, {root!r} + "/platform"]
from types import SimpleNamespace
from django.conf import settings
# Bare ones: the service's settings load the admin's, and with them what pages need.
settings.configure(SERVING_BODY_LIMIT=1, ENVIRONMENT=SimpleNamespace(https=False))
import serving.web.app
parts = ("http", "middleware", "views", "core.handlers", "urls", "template")
print(sorted(name for name in sys.modules if name.startswith(tuple(f"django.{{part}}" for part in parts))))
"""


def test_data_plane__loads_no_request_view_or_middleware_of_django() -> None:
    code = LOADED.format(root=str(ROOT))
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/api/v1/endpoints/pages/predict", "/api/v1/endpoints/{endpoint}/predict"),
        ("/api/v1/endpoints/pages/decide", "/api/v1/endpoints/{endpoint}/decide"),
        ("/api/v1/feedback", "/api/v1/feedback"),
        ("/api/v1/endpoints/pages/rollback", None),
        ("/api/v1/endpoints//predict", None),
        ("/api/v1/endpoints/a/b/predict", None),
        ("/api/v1/endpoints/a\x00/predict", None),
        ("/api/v1/endpoints/pages/predict/", None),
        ("/api/v1/endpoints/pages/predict\n", None),
        ("/", None),
    ],
)
def test_route__of_a_path__is_the_one_whose_template_fits_it_whole(path: str, template: str | None) -> None:
    route = routes.find(path)
    assert (None if route is None else route.template) == template


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"])
def test_method__that_a_route_does_not_have__is_told_with_those_that_it_has(charlie: Api, method: str) -> None:
    answer = charlie(method, "/api/v1/endpoints/pages/predict")
    assert (answer.status, answer.response["Allow"]) == (405, "POST")
    assert answer.response["Content-Type"] == "application/problem+json"
    if method != "HEAD":
        assert answer["type"] == "/problems/method-not-allowed"


def test_answers__good_and_bad__have_the_headers_of_every_page(alice: Api, two_arms: Start) -> None:
    two_arms()
    good = alice.post("/api/v1/endpoints/pages/decide", {})
    bad = alice.post("/api/v1/endpoints/nowhere/decide", {})
    assert (good.status, bad.status) == (200, 404)
    for answer in (good, bad, alice.get("/api/v1/ping")):
        headers = answer.response.headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert len(headers["X-Request-ID"]) == 16


def test_call__that_breaks__is_a_problem_without_internals(alice: Api, two_arms: Start, monkeypatch: Any) -> None:
    two_arms()

    def breaks(*arguments: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("serving.api.face.decide", breaks)
    answer = alice.post("/api/v1/endpoints/pages/decide", {})
    assert (answer.status, answer["type"]) == (500, "/problems/internal")
    assert b"secret" not in answer.content


@pytest.mark.parametrize(
    ("length", "status", "kind"),
    [("x", 400, "bad-request"), ("-1", 400, "bad-request"), ("99999999999", 413, "too-large")],
)
def test_body__whose_length_is_none_or_too_much__is_not_read(
    alice: Api, two_arms: Start, length: str, status: int, kind: str
) -> None:
    two_arms()
    answer = alice.post("/api/v1/endpoints/pages/decide", {}, CONTENT_LENGTH=length)
    assert (answer.status, answer["type"]) == (status, f"/problems/{kind}")


def asked(
    environ: dict[str, str], *, hosts: list[str], https: bool = False, origins: tuple[str, ...] = ()
) -> tuple[str, dict[str, str]]:
    told: list[Any] = []

    def inside(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [])
        return [b""]

    heads = AnswerHeads(https=https, origins=lambda: origins)
    outside = Outside(inside, hosts=lambda: hosts, heads=heads, tell=tell_problem)
    outside(environ, lambda *answer: told.extend(answer))
    return told[0], dict(told[1])


@pytest.mark.parametrize(
    ("host", "hosts", "status"),
    [
        ("a.example", ["a.example"], "200 OK"),
        ("A.EXAMPLE.:8000", ["a.example"], "200 OK"),
        ("b.a.example", [".a.example"], "200 OK"),
        ("a.example", [".A.example"], "200 OK"),
        ("[::1]:8000", ["[::1]"], "200 OK"),
        ("any.where", ["*"], "200 OK"),
        ("xa.example", [".a.example"], "400 Bad Request"),
        ("b.example", ["a.example"], "400 Bad Request"),
        ("a.example/x", ["*"], "400 Bad Request"),
        ("a.example:x", ["*"], "400 Bad Request"),
        ("", ["*"], "400 Bad Request"),
        ("a.example:" + "1" * 1_000, ["*"], "400 Bad Request"),
    ],
)
def test_host__is_answered_where_it_is_allowed(host: str, hosts: list[str], status: str) -> None:
    assert asked({"HTTP_HOST": host}, hosts=hosts)[0] == status


def test_https__where_it_is_asked_for__is_where_others_are_sent() -> None:
    address = {"HTTP_HOST": "a.example", "PATH_INFO": "/api/v1/feedback", "QUERY_STRING": "x=1"}
    status, headers = asked(address, hosts=["*"], https=True)
    assert (status, headers["Location"]) == ("301 Moved Permanently", "https://a.example/api/v1/feedback?x=1")
    assert "Strict-Transport-Security" not in headers
    status, headers = asked(address | {"HTTP_X_FORWARDED_PROTO": "https"}, hosts=["*"], https=True)
    assert status == "200 OK"
    assert headers["Strict-Transport-Security"].startswith("max-age=")


HERE, OTHER = "https://shop.example", "https://other.example"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [((), HERE, None), ((HERE,), HERE, HERE), ((HERE,), OTHER, None), (("*",), OTHER, OTHER), ((HERE,), None, None)],
)
def test_origin__whose_pages_may_call__is_named_before_a_call_and_after(
    origins: tuple[str, ...], origin: str | None, allowed: str | None
) -> None:
    call = {"HTTP_HOST": "a", "REQUEST_METHOD": "POST"} | ({} if origin is None else {"HTTP_ORIGIN": origin})
    for environ in (call, call | {"REQUEST_METHOD": "OPTIONS", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST"}):
        status, headers = asked(environ, hosts=["*"], origins=origins)
        is_question = environ["REQUEST_METHOD"] == "OPTIONS"
        assert status == ("204 No Content" if is_question and allowed else "200 OK")
        assert headers.get("Access-Control-Allow-Origin") == allowed
        assert ("Vary" in headers) == bool(origins)
        assert ("X-API-Key" in headers.get("Access-Control-Allow-Headers", "")) == (is_question and allowed is not None)
        assert "Access-Control-Allow-Credentials" not in headers


def test_question_before_a_call__comes_through_the_front_where_any_page_may_call(settings: Any) -> None:
    def methods() -> tuple[str, ...]:
        rule = data_plane(threads=1, share=0.0)("/api/v1/feedback")
        assert rule is not None
        return rule.methods

    assert methods() == ("POST",)
    settings.CORS_ORIGINS = (HERE,)
    assert methods() == ("POST", "OPTIONS")


def test_refusal_of_the_front__has_the_words_of_its_address_and_the_headers_of_every_answer(tmp_path: Path) -> None:
    heads = AnswerHeads(https=False, origins=lambda: (HERE,))
    front = Front(lambda path: None, folder=tmp_path, disk_limit=0, share=0.0, tell=routes.tell, heads=heads)
    for path, media_type, member in (
        ("/v2/models/m/infer", "application/json", "error"),
        ("/v2/nothing", "application/json", "error"),
        ("/ofrep/v1/evaluate/flags/m", "application/json", "errorDetails"),
        ("/endpoints/m/invocations", "application/json", "message"),
        ("/api/v1/feedback", "application/problem+json", "detail"),
        ("/elsewhere", "application/problem+json", "detail"),
    ):
        for problem in (problems.too_large(10), problems.busy(), problems.slow_body(1.0)):
            environ = {"PATH_INFO": path, "HTTP_ORIGIN": HERE}
            status, headers, body = front.answer(environ, problem)
            told = dict(headers)
            assert status.startswith(str(problem.status))
            assert (told["Content-Type"], told["Access-Control-Allow-Origin"]) == (media_type, HERE)
            assert told["X-Content-Type-Options"] == "nosniff"
            assert told.get("Retry-After") == ("1" if problem.status == 503 else None)
            assert json.loads(body)[member] == json.loads(body)["detail"] == problem.detail
    assert front.answer({}, problems.slow_body(1.0))[0].startswith("408")


def test_address__with_nul__is_refused() -> None:
    assert asked({"HTTP_HOST": "a", "QUERY_STRING": "x=%00"}, hosts=["*"])[0] == "400 Bad Request"
