"""The OpenFeature Remote Evaluation Protocol: through public providers, and in its refusals."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from noregret.access.keys import create_key
from noregret.experiments.models import Experiment

from tests.client_environments import REQUIREMENTS, node_modules_of, python_of, told_by
from tests.conftest import ACTOR, Api, endpoint_of, python_model, start_experiment, static_model

FLAGS = "/ofrep/v1/evaluate/flags"
COUNTRY = {"fields": [{"name": "country", "type": "category", "values": ["KR", "US"]}]}
Start = Callable[..., Experiment]


@pytest.fixture
def flags(alice: Api, two_arms: Start) -> Api:
    """`pages` has an experiment of two payloads; `plain` a static text, `model` no payload."""
    two_arms(context=COUNTRY)
    endpoint_of("plain", static_model("text", "1", "hello"))
    endpoint_of("model", python_model("m", "1", "ones"))
    return alice


def refusal(answer: Any, status: int, key: str, code: str) -> str:
    assert (answer.status, answer.response["Content-Type"]) == (status, "application/json"), answer.content
    assert (answer["key"], answer["errorCode"]) == (key, code)
    return str(answer["errorDetails"])


def test_python_provider__unmodified__is_answered(web: str, flags: Api) -> None:
    key = create_key(name="client", scopes=["predict"], actor=ACTOR)[1]
    heard = told_by([str(python_of("ofrep")), str(REQUIREMENTS / "speak_ofrep.py")], address=web, key=key)
    for form in ("object", "no_context"):
        details = heard[form]
        assert (details["reason"], details["error_code"]) == ("SPLIT", None)
        assert details["value"] == {"text": details["variant"].upper()}
        metadata = details["flag_metadata"]
        assert (metadata["experiment"], metadata["propensity"]) == ("e", 0.5)
        fed = flags.post("/api/v1/feedback", {"decision_id": metadata["decision_id"], "value": 1})
        assert (fed.status, fed.body) == (202, {"status": "recorded"})
    single = heard["single"]
    assert (single["value"], single["reason"], single["variant"]) == ("hello", "STATIC", "text@1")
    assert (heard["no_payload"]["value"], heard["no_payload"]["variant"]) == ("default", "m@1")
    assert heard["no_payload"]["error_code"] is None
    for form, code, words in (
        ("wrong_type", "TYPE_MISMATCH", ""),
        ("no_flag", "FLAG_NOT_FOUND", "there is no endpoint nowhere"),
        ("wrong_context", "INVALID_CONTEXT", "context.country"),
        ("long_unit", "INVALID_CONTEXT", "context.targetingKey"),
        ("no_key", "GENERAL", "unauthorized"),
    ):
        assert heard[form]["error_code"] == code
        assert words in heard[form]["error_message"]


def test_web_provider__unmodified__is_answered(web: str, flags: Api) -> None:
    key = create_key(name="page", scopes=["predict"], endpoints=["pages", "plain"], actor=ACTOR)[1]
    modules = node_modules_of("ofrep-web")
    program = ["node", str(REQUIREMENTS / "ofrep-web" / "speak.cjs")]
    heard = told_by(program, variables={"NODE_PATH": str(modules)}, address=web, key=key)
    pages, other = heard["pages"], heard["other"]
    for details in (pages, other):
        assert (details["reason"], details["value"]) == ("SPLIT", {"text": details["variant"].upper()})
        decision = details["flagMetadata"]["decision_id"]
        fed = flags.post("/api/v1/activate", {"decision_ids": [decision]})
        assert (fed.status, [result["status"] for result in fed["results"]]) == (207, ["activated"])
    assert (heard["plain"]["reason"], heard["plain"]["value"]) == ("STATIC", "hello")
    assert heard["missing"]["errorCode"] == "FLAG_NOT_FOUND"
    # It sends the tag that it has, also with another context: then nothing of that is the answer.
    (first, none, tag), *_, (last, sent, other_tag) = heard["statuses"]
    assert (first, none, last, sent) == (200, None, 200, sent)
    assert tag != other_tag


def bulk(api: Api, context: dict[str, Any], tag: str = "") -> Any:
    return api.post(FLAGS, {"context": context}, headers={"If-None-Match": tag} if tag else {})


def test_flags__all_at_once__wait_to_be_shown_and_are_told_once(flags: Api, bob: Api) -> None:
    start_experiment_on_hashed_units()
    told = {flag["key"]: flag for flag in bulk(flags, {"targetingKey": "u", "country": "KR"})["flags"]}
    assert sorted(told) == ["hashed", "model", "pages", "plain"]
    assert told["hashed"]["variant"] in ("a", "b")
    context = {"targetingKey": "u", "country": "KR"}
    hers = Api(create_key(name="page", scopes=["predict"], endpoints=["hashed", "plain", "gone"], actor=ACTOR)[1])
    first = bulk(hers, context)
    assert [flag["key"] for flag in first["flags"]] == ["hashed", "plain"]
    tag = first.response["ETag"]
    again = bulk(hers, context, f'W/"x", {tag}')
    assert (again.status, again.content, again.response["ETag"]) == (304, b"", tag)
    for changed in (
        {"targetingKey": "u", "country": "US"},
        {"targetingKey": "v", "country": "KR"},
        context | {"x": []},
    ):
        assert bulk(hers, changed, tag).status == 200
    # One flag's trouble is that flag's.
    wrong = bulk(flags, {"country": 3})
    codes = {flag["key"]: flag.get("errorCode") for flag in wrong["flags"]}
    assert codes == {"hashed": None, "model": None, "pages": "INVALID_CONTEXT", "plain": None}
    waiting = told["pages"]["metadata"]["decision_id"]
    assert [result["status"] for result in flags.post("/api/v1/activate", {"decision_ids": [waiting]})["results"]] == [
        "activated"
    ]
    assert refusal(bob("POST", FLAGS, b"["), 400, "", "PARSE_ERROR")
    assert refusal(bob.get(FLAGS), 405, "", "GENERAL")


def start_experiment_on_hashed_units() -> None:
    """`hashed` has a fixed split: a unit always has the same arm."""
    endpoint_of("hashed", "page@a")
    arms = [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@b"}]
    start_experiment({"name": "h", "endpoint": "hashed", "strategy": "ab", "arms": arms})


def test_flag__tag_covers_unit_context_and_arm(flags: Api) -> None:
    def tag(context: dict[str, Any], endpoint: str = "plain") -> str:
        answer = flags.post(f"{FLAGS}/{endpoint}", {"context": context})
        assert answer.status == 200
        return str(answer.response["ETag"])

    first = tag({"targetingKey": "u", "a": [1], "b": 2})
    assert first == tag({"b": 2, "a": [1], "targetingKey": "u"})
    others = [tag({"targetingKey": "v", "a": [1], "b": 2}), tag({"targetingKey": "u", "a": [2], "b": 2}), tag({})]
    assert len({first, *others, tag({}, "model")}) == 5
    # It counts as a decision each time: its id must be told.
    again = flags.post(f"{FLAGS}/plain", {"context": {}}, headers={"If-None-Match": others[2]})
    assert again.status == 200


def test_refusals__carry_the_protocols_three_members(flags: Api, charlie: Api, bob: Api) -> None:
    assert refusal(flags.post(f"{FLAGS}/nowhere", {}), 404, "nowhere", "FLAG_NOT_FOUND")
    assert refusal(charlie.post(f"{FLAGS}/pages", {}), 401, "pages", "GENERAL")
    assert refusal(flags.get(f"{FLAGS}/pages"), 405, "pages", "GENERAL")
    assert refusal(flags.get("/ofrep/v1/configuration"), 404, "", "FLAG_NOT_FOUND")
    for body in (b"{", b"[]", b'{"context": 3}', b"\xff", b'{"context": ' + b"[" * 100_000):
        assert refusal(flags("POST", f"{FLAGS}/pages", body), 400, "pages", "PARSE_ERROR")
    for context in ({"targetingKey": "a\0b"}, {"a": "\0"}, {"\0": 1}):  # the ledger can't hold it
        body = json.dumps({"context": context}).encode()
        assert refusal(bob("POST", f"{FLAGS}/pages", body), 400, "pages", "INVALID_CONTEXT")
    for context in ({"targetingKey": 3}, {"country": 3}, {"a": 1e308, "targetingKey": "u" * 257}, {"a": 2**70}):
        body = json.dumps({"context": context}).encode()
        assert refusal(bob("POST", f"{FLAGS}/pages", body), 400, "pages", "INVALID_CONTEXT")


def test_page_of_another_origin__may_call_where_it_is_allowed(flags: Api, settings: Any) -> None:
    settings.CORS_ORIGINS = ("https://shop.example",)
    here = {"Origin": "https://shop.example"}
    asks = here | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    asked = flags("OPTIONS", f"{FLAGS}/pages", headers=asks)
    assert (asked.status, asked.response["Access-Control-Allow-Origin"]) == (204, "https://shop.example")
    answer = flags.post(f"{FLAGS}/pages", {}, headers=here)
    assert "ETag" in answer.response["Access-Control-Expose-Headers"]
    refused = flags.post(f"{FLAGS}/nowhere", {}, headers=here)
    assert refused.response["Access-Control-Allow-Origin"] == "https://shop.example"
    other = flags.post(f"{FLAGS}/pages", {}, headers={"Origin": "https://other.example"})
    assert "Access-Control-Allow-Origin" not in other.response
