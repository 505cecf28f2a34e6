"""The control plane as the contract has it: every call right and wrong, and refusals without
effect."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from django.db import connection
from noregret.access.keys import revoke_key
from noregret.access.models import ApiKey
from noregret.experiments.models import ChampionChange, Endpoint, Experiment
from noregret.learning.shown.results import Results
from noregret.registry import api as registry
from noregret.registry.models import ModelVersion
from noregret.rollout.api import render
from noregret.trail import api as trail_api
from noregret.trail.models import AuditEntry

from serving.process import process
from tests.conftest import Api, endpoint_of, static_model

MODELS = "/api/v1/models"
ENDPOINTS = "/api/v1/endpoints"
EXPERIMENTS = "/api/v1/experiments"


@pytest.fixture
def pages(alice: Api) -> Api:
    """Alice, with two models and an endpoint."""
    static_model("page", "a", "A")
    static_model("page", "b", "B")
    endpoint_of("pages", "page@a")
    return alice


def body(**changes: Any) -> dict[str, Any]:
    return {
        "name": "e",
        "endpoint": "pages",
        "strategy": "bandit",
        "arms": [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@b"}],
    } | changes


def test_models__static__is_made_shown_and_listed(alice: Api) -> None:
    made = alice.post(MODELS, {"name": "page", "version": "1", "framework": "static", "payload": {"x": 1}})
    assert made.status == 201
    shown = msgspec.convert(made.body, registry.Model)
    assert (shown.model, shown.framework, shown.compiled, shown.payload) == ("page@1", "static", False, {"x": 1})
    assert alice.get(f"{MODELS}/page/1").body == made.body
    assert alice.get(MODELS).body == {"items": [made.body], "next_cursor": None}
    assert alice.get(f"{MODELS}/page/2").status == 404


def test_models__same_version__is_the_same_or_a_conflict(alice: Api) -> None:
    same = {"name": "page", "version": "1", "framework": "static", "payload": 1}
    assert alice.post(MODELS, same).status == 201
    assert alice.post(MODELS, same).status == 200
    assert alice.post(MODELS, same | {"payload": 2}).status == 409
    assert ModelVersion.objects.get().payload == 1


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"name": "Page"}, ["name"]),
        ({"name": "x" * 64}, ["name"]),
        ({"name": None}, ["name"]),
        ({"version": ""}, ["version"]),
        ({"framework": "torch"}, ["framework"]),
        ({"framework": "sklearn"}, ["artifact"]),
        ({"framework": "python", "payload": None}, ["callable"]),
        ({"framework": "python", "callable": "os.system", "payload": None}, ["callable"]),
        ({"framework": "python", "callable": "tests.callables.NOT_CALLABLE", "payload": None}, ["callable"]),
        ({"framework": "python", "callable": "tests.callables.missing", "payload": None}, ["callable"]),
        ({"colour": "red"}, ["colour"]),
    ],
)
def test_models__wrong__names_the_field_and_makes_nothing(
    alice: Api, change: dict[str, Any], fields: list[str]
) -> None:
    good = {"name": "page", "version": "1", "framework": "static", "payload": 1}
    answer = alice.post(MODELS, good | change)
    assert answer.status == 400
    assert answer.fields() == fields
    assert ModelVersion.objects.count() == 0
    assert AuditEntry.objects.filter(action="model.registered").count() == 0


def test_endpoints__made_shown_changed_and_rolled_back(pages: Api) -> None:
    made = pages.post(ENDPOINTS, {"name": "other", "champion": "page@b", "deadline_ms": 50})
    assert made.status == 201
    msgspec.convert(made.body, render.Endpoint)
    assert pages.post(ENDPOINTS, {"name": "other", "champion": "page@a"}).status == 409
    assert pages.get(f"{ENDPOINTS}/other")["deadline_ms"] == 50
    changed = pages("PATCH", f"{ENDPOINTS}/other", {"champion": "page@a", "deadline_ms": 60, "reason": "try"})
    assert (changed.status, changed["champion"], changed["deadline_ms"]) == (200, "page@a", 60)
    rolled = pages.post(f"{ENDPOINTS}/other/rollback", {"reason": "worse"})
    assert (rolled.status, rolled["champion"]) == (200, "page@b")
    assert pages.post(f"{ENDPOINTS}/other/rollback").status == 409
    actions = [item["action"] for item in pages.get("/api/v1/audit?endpoint=other")["items"]]
    assert actions == ["endpoint.rolled_back", "endpoint.updated", "endpoint.champion_changed", "endpoint.created"]


def test_endpoints__repeated_rollback__goes_further_back(pages: Api) -> None:
    static_model("page", "c", "C")
    for version in ("b", "c"):
        pages("PATCH", f"{ENDPOINTS}/pages", {"champion": f"page@{version}"})
    assert pages.post(f"{ENDPOINTS}/pages/rollback")["champion"] == "page@b"
    assert pages.post(f"{ENDPOINTS}/pages/rollback")["champion"] == "page@a"
    assert pages.post(f"{ENDPOINTS}/pages/rollback").status == 409


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"champion": "page@zzz"}, "champion"),
        ({"champion": "page"}, "champion"),
        ({"deadline_ms": 0}, "deadline_ms"),
        ({"deadline_ms": 1.5}, "deadline_ms"),
        ({"deadline_ms": "50"}, "deadline_ms"),
        ({"name": "No"}, "name"),
        ({"sticky": 1}, "sticky"),
        ({"other": 1}, "other"),
    ],
)
def test_endpoints__wrong__names_the_field(pages: Api, change: dict[str, Any], field: str) -> None:
    answer = pages.post(ENDPOINTS, {"name": "other", "champion": "page@a"} | change)
    assert (answer.status, answer.fields()) == (400, [field])
    assert Endpoint.objects.count() == 1


def test_experiment__whole_life__as_the_contract_says(pages: Api) -> None:
    made = pages.post(EXPERIMENTS, body())
    assert (made.status, made["status"]) == (201, "draft")
    shown = msgspec.convert(made.body, render.ExperimentState)
    assert shown.policy is not None
    assert (shown.policy.name, shown.policy.floor, shown.policy.burn_in) == ("thompson", 0.01, 100)
    assert (shown.reward.window_seconds, shown.promotion.alpha) == (3600, 0.05)
    for action, status in (("pause", 409), ("start", 200), ("start", 409), ("pause", 200), ("resume", 200)):
        answer = pages.post(f"{EXPERIMENTS}/e/{action}", {"reason": "because"})
        assert answer.status == status, answer.content
    assert pages.post(f"{EXPERIMENTS}/e/advance").status == 409
    assert pages.post(f"{EXPERIMENTS}/e/promote", {"arm": "zzz"}).fields() == ["arm"]
    ended = pages.post(f"{EXPERIMENTS}/e/promote", {"arm": "b", "reason": "sure"})
    assert (ended.status, ended["status"], ended["outcome"], ended["promoted_arm"]) == (
        200,
        "completed",
        "promoted",
        "b",
    )
    assert pages.get(f"{ENDPOINTS}/pages")["champion"] == "page@b"
    assert pages.post(f"{EXPERIMENTS}/e/stop").status == 409
    msgspec.convert(pages.get(f"{EXPERIMENTS}/e/results").body, Results)
    trail = pages.get("/api/v1/audit?experiment=e")["items"]
    assert [item["action"] for item in trail] == [
        "experiment.promoted",
        "endpoint.champion_changed",
        "experiment.resumed",
        "experiment.paused",
        "experiment.started",
        "experiment.created",
    ]
    assert (trail[0]["actor"], trail[0]["reason"]) == ("key:alice", "sure")
    msgspec.convert(trail, list[trail_api.AuditEntry])


def test_experiment__no_arm_has_the_champion__control_is_added(pages: Api) -> None:
    made = pages.post(EXPERIMENTS, body(arms=[{"name": "b", "model": "page@b"}]))
    assert [(arm["name"], arm["model"], arm["is_control"]) for arm in made["arms"]] == [
        ("control", "page@a", True),
        ("b", "page@b", False),
    ]


AGE = {"fields": [{"name": "age", "type": "number", "min": 0, "max": 120}]}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "E"}, "name"),
    ({"endpoint": "none"}, "endpoint"),
    ({"strategy": "magic"}, "strategy"),
    ({"strategy": "canary", "arms": [{"name": n, "model": f"page@{n}"} for n in "abc"]}, "arms"),
    ({"strategy": "canary", "canary": {"steps": [0.5, 0.25]}}, "canary.steps[1]"),
    ({"strategy": "canary", "canary": {"steps": []}}, "canary.steps"),
    ({"strategy": "canary", "canary": {"steps": [0]}}, "canary.steps[0]"),
    ({"strategy": "canary", "policy": {}}, "policy"),
    ({"strategy": "shadow", "shadow": {"sample": 2}}, "shadow.sample"),
    ({"canary": {"steps": [0.5]}}, "canary"),
    ({"shadow": {"sample": 0.5}}, "shadow"),
    ({"schedule": {"start_at": "2026-11-23T10:00:00"}}, "schedule.start_at"),
    ({"schedule": {"start_at": "2026-11-23T10:00:00Z", "end_at": "2026-11-22T10:00:00Z"}}, "schedule.end_at"),
    ({"arms": []}, "arms"),
    ({"arms": [{"name": "a", "model": "page@a"}]}, "arms"),
    ({"arms": [{"name": "a", "model": "page@a"}, {"name": "a", "model": "page@b"}]}, "arms[1].name"),
    ({"arms": [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@zzz"}]}, "arms[1].model"),
    ({"arms": [{"name": "a", "model": "page@a", "weight": 1}, {"name": "b", "model": "page@b"}]}, "arms[0].weight"),
    ({"arms": [{"name": "a", "model": "page@a", "colour": 1}, {"name": "b", "model": "page@b"}]}, "arms[0].colour"),
    ({"strategy": "ab", "policy": {}}, "policy"),
    (
        {"strategy": "ab", "arms": [{"name": "a", "model": "page@a", "weight": -1}, {"name": "b", "model": "page@b"}]},
        "arms[0].weight",
    ),
    ({"policy": {"name": "greedy"}}, "policy.name"),
    ({"policy": {"params": {"x": 1}}}, "policy.params"),
    ({"policy": {"floor": 0.6}}, "policy.floor"),
    ({"policy": {"floor": 2}}, "policy.floor"),
    ({"policy": {"burn_in": -1}}, "policy.burn_in"),
    ({"reward": {"kind": "binary", "maximum": 5}}, "reward.maximum"),
    ({"reward": {"kind": "continuous"}}, "reward.maximum"),
    ({"reward": {"kind": "continuous", "minimum": 2, "maximum": 1}}, "reward.maximum"),
    ({"reward": {"default": 0.5}}, "reward.default"),
    ({"reward": {"window_seconds": 0}}, "reward.window_seconds"),
    ({"reward": {"metric": "No Name"}}, "reward.metric"),
    ({"promotion": {"alpha": 0}}, "promotion.alpha"),
    ({"promotion": {"rule": "probability-best"}}, "promotion.rule"),
    ({"guardrails": [{"metric": "error_rate", "max": 0.02}]}, "guardrails[0].action"),
    ({"guardrails": [{"metric": "error_rate", "action": "pause"}]}, "guardrails[0].max"),
    ({"guardrails": [{"metric": "error_rate", "max": 2, "action": "pause"}]}, "guardrails[0].max"),
    ({"guardrails": [{"metric": "latency_p99_ms", "min": 2, "action": "pause"}]}, "guardrails[0].min"),
    (
        {"guardrails": [{"metric": "latency_p99_ms", "max": 2, "action": "pause", "versus": "control"}]},
        "guardrails[0].versus",
    ),
    ({"context": {"fields": [{"name": "age", "type": "number", "min": 1}]}}, "context.fields[0].max"),
    ({"context": {"fields": [{"name": "age", "type": "number", "min": 1, "max": 1}]}}, "context.fields[0].max"),
    (
        {"context": {"fields": [{"name": "age", "type": "number", "min": 1, "max": 2, "values": ["a"]}]}},
        "context.fields[0].values",
    ),
    ({"context": {"fields": [{"name": "age", "type": "text"}]}}, "context.fields[0].type"),
    (
        {"context": {"fields": [{"name": "land", "type": "category", "values": ["KR", "KR"]}]}},
        "context.fields[0].values",
    ),
    ({"context": {"fields": [{"name": "a", "type": "category", "values": ["x"]}] * 2}}, "context.fields[1].name"),
    ({"policy": {"name": "lin-ucb"}}, "context.fields"),
    ({"policy": {"name": "lin-ucb", "params": {"sliding_window": 5}}, "context": AGE}, "policy.params"),
    (
        {"policy": {"name": "logistic-thompson"}, "context": AGE, "reward": {"kind": "count", "maximum": 9}},
        "reward.kind",
    ),
    ({"policy": {"name": "thompson", "params": {"discount": 1.5}}}, "policy.params"),
    ({"policy": {"name": "thompson", "params": {"discount": 0.9, "sliding_window": 5}}}, "policy.params"),
    ({"policy": {"name": "kl-ucb", "params": {"c": "much"}}}, "policy.params"),
    ({"reward": {"pending": "exposure"}}, "reward.pending"),
    (
        {"reward": {"pending": "exposure", "default": 0}, "policy": {"name": "lin-ucb"}, "context": AGE},
        "reward.pending",
    ),
    ({"strategy": "ab", "sticky": True}, "sticky"),
    ({"strategy": "ab", "holdout": 0.1}, "holdout"),
    ({"strategy": "ab", "apprentice": True}, "apprentice"),
    ({"holdout": 0.95}, "holdout"),
    ({"unknown": 1}, "unknown"),
]


@pytest.mark.parametrize(("change", "field"), WRONG, ids=range(len(WRONG)))
def test_experiment__wrong__names_the_field_and_makes_nothing(pages: Api, change: dict[str, Any], field: str) -> None:
    answer = pages.post(EXPERIMENTS, body(**change))
    assert (answer.status, answer.fields()) == (400, [field]), answer.content
    assert Experiment.objects.count() == 0


@pytest.mark.parametrize(
    ("change", "choices"),
    [
        ({"strategy": "best"}, "ab, bandit, canary, shadow"),
        ({"reward": {"kind": "numeric"}}, "binary, continuous, count"),
        ({"guardrails": [{"metric": "a", "action": "shout"}]}, "disable_arm, pause, rollback"),
        ({"context": {"fields": [{"name": "age", "type": "text"}]}}, "category, number"),
    ],
)
def test_experiment__no_such_choice__is_told_the_choices(pages: Api, change: dict[str, Any], choices: str) -> None:
    answer = pages.post(EXPERIMENTS, body(**change))
    assert f"one of {choices} was expected" in answer["errors"][0]["message"]


def together(*calls: Callable[[], int]) -> list[int]:
    ready = threading.Barrier(len(calls))

    def run(call: Callable[[], int]) -> int:
        ready.wait()
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return sorted(future.result() for future in [pool.submit(run, call) for call in calls])


@pytest.mark.parametrize("reason", [" ", "\u200b", "\n\t", "\u3164\ufeff"])
def test_reason__of_which_nothing_can_be_read__is_refused_everywhere(pages: Api, reason: str) -> None:
    assert pages.post(EXPERIMENTS, body()).status == 201
    at = f"{EXPERIMENTS}/e"
    arm = {"name": "later", "model": "page@a"}
    calls = [
        *(("POST", f"{at}/{action}", {}) for action in ("start", "pause", "resume", "stop", "advance", "activate")),
        ("POST", f"{at}/promote", {"arm": "a"}),
        ("POST", f"{at}/floor", {"floor": 0.05}),
        ("POST", f"{at}/arms", arm),
        ("POST", f"{at}/arms/a/disable", {}),
        ("PUT", at, body()),
        ("PATCH", f"{ENDPOINTS}/pages", {"deadline_ms": 200}),
        ("POST", f"{ENDPOINTS}/pages/rollback", {}),
    ]
    for method, path, sent in calls:
        answer = pages(method, path, sent | {"reason": reason})
        assert answer.status == 400, path
        (error,) = answer["errors"]
        assert (error["field"], error["message"].partition(":")[0]) == ("reason", "nothing in it can be read")
    assert pages.get(at)["status"] == "draft"
    assert pages.post(f"{at}/start", {"reason": "\u200b서울 \u2764"}).status == 200


def test_start__two_on_one_endpoint_at_once__one_runs(pages: Api) -> None:
    for name in ("one", "two"):
        pages.post(EXPERIMENTS, body(name=name))
    found = together(*[lambda n=name: pages.post(f"{EXPERIMENTS}/{n}/start").status for name in ("one", "two")])  # type: ignore[misc]
    assert found == [200, 409]
    assert Experiment.objects.filter(status="running").count() == 1


def test_promote__from_six_at_once__happens_once(pages: Api) -> None:
    pages.post(EXPERIMENTS, body())
    pages.post(f"{EXPERIMENTS}/e/start")
    found = together(*[lambda: pages.post(f"{EXPERIMENTS}/e/promote", {"arm": "b"}).status] * 6)
    assert found == [200] + [409] * 5
    assert ChampionChange.objects.filter(champion__version="b").count() == 1
    assert AuditEntry.objects.filter(action="experiment.promoted").count() == 1


def test_running_experiment__champion_is_not_changed_beneath_it(pages: Api) -> None:
    pages.post(EXPERIMENTS, body())
    pages.post(f"{EXPERIMENTS}/e/start")
    assert pages("PATCH", f"{ENDPOINTS}/pages", {"champion": "page@b"}).status == 409
    assert pages.post(f"{ENDPOINTS}/pages/rollback").status == 409
    assert Endpoint.objects.get().champion.version == "a"


def test_keys__scopes_endpoints_and_revocation__are_held(pages: Api, bob: Api, carol: Api, charlie: Api) -> None:
    assert charlie.get(MODELS).status == 401
    assert bob.get(MODELS).status == 403
    assert carol.get(f"{ENDPOINTS}/pages").status == 404
    assert carol.get(ENDPOINTS)["items"] == []
    assert carol.post(ENDPOINTS, {"name": "stolen", "champion": "page@a"}).status == 404
    assert carol.post(EXPERIMENTS, body()).status == 400
    pages.post(EXPERIMENTS, body())
    assert carol.get(f"{EXPERIMENTS}/e").status == 404
    assert carol.post(f"{EXPERIMENTS}/e/start").status == 404
    assert Experiment.objects.get().status == "draft"
    key = ApiKey.objects.get(name="alice")
    assert revoke_key(key, actor="tests")
    assert not revoke_key(key, actor="tests")
    assert pages.get(MODELS).status == 401
    process().store.refresh()
    assert pages.post(f"{ENDPOINTS}/pages/decide", {}).status == 401


def test_lists__paged__give_everything_once(alice: Api) -> None:
    for i in range(7):
        static_model("page", str(i))
    seen: list[str] = []
    cursor = ""
    while True:
        page = alice.get(f"{MODELS}?limit=3{cursor}").body
        seen += [item["version"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]
    for wrong in ("limit=0", "limit=x", "limit=999", "cursor=!!", "cursor=MA", "colour=red", "limit=1&limit=2"):
        answer = alice.get(f"{MODELS}?{wrong}")
        assert (answer.status, answer.fields()) == (400, [wrong.partition("=")[0]])


def test_bodies__not_strict__are_refused_everywhere(pages: Api) -> None:
    for bad in (
        b"{",
        b'{"a": 1, "a": 2}',
        b'{"reason": NaN}',
        b'{"reason": "\\u0000"}',
        b'{"reason": "\\ud800"}',
        b"\xef\xbb\xbf{}",
    ):
        answer = pages.post(EXPERIMENTS, bad)
        assert (answer.status, answer["type"]) == (400, "/problems/invalid-json")
    assert pages.post(EXPERIMENTS, b"{}", content_type="text/plain").status == 415
    assert pages.post(EXPERIMENTS, b"[]").status == 400
    assert pages("DELETE", EXPERIMENTS).status == 405
    assert pages("DELETE", EXPERIMENTS).response["Content-Type"] == "application/problem+json"
    big = pages.post(EXPERIMENTS, {"name": "x" * (1 << 20)})
    assert big.status == 413
    assert Experiment.objects.count() == 0


def test_decisions__times_and_parameters__are_checked(pages: Api) -> None:
    pages.post(EXPERIMENTS, body())
    url = f"{EXPERIMENTS}/e/decisions.ndjson"
    assert pages.get(url).content == b""
    assert pages.get(f"{url}?since=2026-11-23T10:00:00Z&until=2026-11-23T10:00:00%2B02:00").status == 200
    assert pages.get(f"{url}?since=yesterday").fields() == ["since"]
    assert pages.get(f"{url}?since=2026-11-23T10:00:00").fields() == ["since"]


def test_openapi__is_valid_and_complete(alice: Api) -> None:
    from jsonschema import Draft202012Validator

    document = alice.get("/api/schema").body
    assert document["openapi"].startswith("3.1")
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    # Patterns are ECMA 262's: it knows no `\A` and no `\Z`, and takes them for letters.
    assert not any(anchor in json.dumps(document) for anchor in (r"\\A", r"\\Z"))
    paths = set(document["paths"])
    assert {
        "/api/v1/endpoints/{endpoint}/predict",
        "/api/v1/feedback",
        "/readyz",
        "/api/v1/experiments/{name}/promote",
    } <= paths
    identities = [
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
        if "operationId" in operation
    ]
    assert len(identities) == len(set(identities))
    text = alice.get("/api/schema").content.decode()
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    assert alice.get("/api/docs").status == 200


def test_operations__healthz_readyz_metrics__answer(alice: Api, charlie: Api) -> None:
    from noregret.learning.health import sign_of_life

    assert charlie.get("/healthz").body == {"status": "ok"}
    silent = charlie.get("/readyz")
    assert (silent.status, silent["status"]) == (200, "ready, with troubles")  # no learner has finished a round
    assert silent["checks"]["learner"]["ok"] is False
    assert charlie.get("/readyz?strict=1").status == 503
    sign_of_life()
    ready = charlie.get("/readyz?strict=1")
    assert (ready.status, ready["status"]) == (200, "ready"), ready.body
    assert set(ready["checks"]) == {
        "database",
        "migrations",
        "redis",
        "learner",
        "snapshots",
        "champions",
        "challengers",
    }
    endpoint_of("pages", static_model("page", "a"))
    alice.post("/api/v1/endpoints/pages/decide", {})
    assert b'noregret_decisions_total{arm="",endpoint="pages",fallback_reason=""}' in charlie.get("/metrics").content
