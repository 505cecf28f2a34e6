"""What a key for one endpoint may see and do, on every route that there is: one that nobody decided
fails here.

Carol's keys are for `hers`; everything of `theirs` bears a mark that no answer to her may show.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.urls import URLPattern, URLResolver, get_resolver
from noregret.access.keys import SCOPES, create_key
from noregret.experiments.models import Experiment
from noregret.notify.webhooks import create_webhook
from noregret.registry.models import ModelVersion
from noregret.trail.models import AuditEntry

from serving.web.routes import ROUTES
from tests.conftest import ACTOR, Api, endpoint_of, start_experiment, static_model

MARK = "their-secret"
OPEN = None
"""Answers without a key: for operators and browsers."""

# By route and method: the scope that it needs, and what a key with it, for another endpoint, is
# answered about `theirs`. 200: a list or a shared address, without anything of theirs.
DECIDED: dict[tuple[str, str], tuple[str | None, int]] = {
    ("api/v1/endpoints/{endpoint}/predict", "POST"): ("predict", 404),
    ("api/v1/endpoints/{endpoint}/predictions", "POST"): ("predict", 404),
    ("api/v1/endpoints/{endpoint}/decide", "POST"): ("predict", 404),
    ("api/v1/ping", "GET"): (OPEN, 200),
    ("api/v1/feedback", "POST"): ("feedback", 404),
    ("v2", "GET"): (OPEN, 200),
    ("v2/health/live", "GET"): (OPEN, 200),
    ("v2/health/ready", "GET"): (OPEN, 200),
    ("v2/models/{endpoint}", "GET"): ("predict", 404),
    ("v2/models/{endpoint}/ready", "GET"): ("predict", 404),
    ("v2/models/{endpoint}/infer", "POST"): ("predict", 404),
    ("v2/models/{endpoint}/versions/{version}", "GET"): ("predict", 404),
    ("v2/models/{endpoint}/versions/{version}/ready", "GET"): ("predict", 404),
    ("v2/models/{endpoint}/versions/{version}/infer", "POST"): ("predict", 404),
    ("endpoints/{endpoint}/invocations", "POST"): ("predict", 404),
    ("endpoints/{endpoint}/ping", "GET"): ("predict", 404),
    ("endpoints/{endpoint}/health", "GET"): ("predict", 404),
    ("endpoints/{endpoint}/version", "GET"): ("predict", 404),
    ("ofrep/v1/evaluate/flags", "POST"): ("predict", 200),
    ("ofrep/v1/evaluate/flags/{endpoint}", "POST"): ("predict", 404),
    ("api/v1/activate", "POST"): ("feedback", 207),
    ("api/v1/endpoints/{endpoint}/edge", "GET"): ("edge", 404),
    ("api/v1/edge/key", "GET"): (OPEN, 200),
    ("api/v1/edge/events", "POST"): ("edge", 400),
    ("api/v1/artifacts/{sha256}", "GET"): ("edge", 404),
    ("api/v1/mlflow/imports", "GET"): ("manage", 200),
    ("api/v1/mlflow/imports", "POST"): ("manage", 400),
    ("api/v1/models", "GET"): ("manage", 200),
    ("api/v1/models", "POST"): ("manage", 409),
    ("api/v1/models/<str:name>/<str:version>", "GET"): ("manage", 404),
    ("api/v1/jobs/<str:job>", "GET"): ("manage", 404),
    ("api/v1/endpoints", "GET"): ("manage", 200),
    ("api/v1/endpoints", "POST"): ("manage", 404),
    ("api/v1/endpoints/<str:name>", "GET"): ("manage", 404),
    ("api/v1/endpoints/<str:name>", "PATCH"): ("manage", 404),
    ("api/v1/endpoints/<str:name>/rollback", "POST"): ("manage", 404),
    ("api/v1/endpoints/<str:name>/champions", "GET"): ("manage", 404),
    ("api/v1/endpoints/<str:name>/baselines", "GET"): ("manage", 404),
    ("api/v1/experiments", "GET"): ("manage", 200),
    ("api/v1/experiments", "POST"): ("manage", 400),
    ("api/v1/experiments/<str:name>", "GET"): ("manage", 404),
    ("api/v1/experiments/<str:name>", "PUT"): ("manage", 404),
    ("api/v1/experiments/<str:name>/start", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/pause", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/resume", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/stop", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/rollback", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/promote", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/advance", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/activate", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/floor", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/arms", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/arms/<str:arm>/enable", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/arms/<str:arm>/disable", "POST"): ("manage", 404),
    ("api/v1/experiments/<str:name>/results", "GET"): ("manage", 404),
    ("api/v1/experiments/<str:name>/decisions.ndjson", "GET"): ("manage", 404),
    ("api/v1/webhooks", "GET"): ("manage", 200),
    ("api/v1/webhooks", "POST"): ("manage", 409),
    ("api/v1/webhooks/<str:name>", "GET"): ("manage", 404),
    ("api/v1/webhooks/<str:name>", "DELETE"): ("manage", 404),
    ("api/v1/audit", "GET"): ("manage", 200),
    ("api/schema", "GET"): (OPEN, 200),
    ("api/docs", "GET"): (OPEN, 200),
    ("demo/digits", "GET"): (OPEN, 200),
    ("demo/digits/worker.js", "GET"): (OPEN, 200),
    ("demo/digits/onnxruntime-web-1.30.0/<str:name>", "GET"): (OPEN, 404),
    ("healthz", "GET"): (OPEN, 200),
    ("readyz", "GET"): (OPEN, 200),
    ("metrics", "GET"): (OPEN, 200),
    ("favicon.ico", "GET"): (OPEN, 204),
}
BODIES: dict[tuple[str, str], Any] = {
    ("api/v1/endpoints/{endpoint}/predict", "POST"): {"inputs": [[1.0]]},
    ("api/v1/edge/events", "POST"): {"receipt": "theirs", "events": [{}]},
    ("api/v1/models", "POST"): {"name": "theirs-model", "version": "9", "framework": "static", "payload": 1},
    ("api/v1/endpoints", "POST"): {"name": "theirs", "champion": "theirs-model@1"},
    ("api/v1/endpoints/<str:name>", "PATCH"): {"deadline_ms": 1},
    ("api/v1/experiments", "POST"): {
        "name": "new",
        "endpoint": "theirs",
        "strategy": "bandit",
        "arms": [{"name": "a", "model": "theirs-model@2"}],
    },
    ("api/v1/experiments/<str:name>", "PUT"): {
        "name": "theirs-experiment",
        "endpoint": "theirs",
        "strategy": "bandit",
        "arms": [{"name": "a", "model": "theirs-model@2"}],
    },
    ("api/v1/experiments/<str:name>/promote", "POST"): {"arm": "b"},
    ("api/v1/experiments/<str:name>/floor", "POST"): {"floor": 0.1},
    ("api/v1/experiments/<str:name>/arms", "POST"): {"name": "c", "model": "theirs-model@2"},
    ("api/v1/webhooks", "POST"): {"name": "theirs-hook", "url": "http://127.0.0.1:9/x"},
}


def routes(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[tuple[str, str]]:
    """Every route and method of the control plane; the admin's pages have people and roles
    instead."""
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            if route != "admin/":
                yield from routes(pattern.url_patterns, route)
            continue
        view: Any = getattr(pattern.callback, "cls", None)
        if view is not None:
            methods = [name.upper() for name in ("get", "post", "put", "patch", "delete") if hasattr(view, name)]
        else:
            methods = ["GET"]
        for method in methods:
            yield route, method


def test_routes__every_one__is_decided() -> None:
    data_plane = [(route.template[1:], method) for route in ROUTES for method in route.methods if method != "HEAD"]
    assert sorted([*data_plane, *routes(get_resolver().url_patterns)]) == sorted(DECIDED)


def filled(route: str) -> str:
    named = (
        route.replace("{endpoint}", "theirs")
        .replace("{version}", "1")
        .replace("<str:version>", "1")
        .replace("<str:arm>", "b")
    )
    named = named.replace("<str:job>", "theirs")
    if "models/" in route:
        name = "theirs-model"
    elif "experiments/" in route:
        name = "theirs-experiment"
    elif "webhooks/" in route:
        name = "theirs-hook"
    else:
        name = "theirs"
    return "/" + named.replace("<str:name>", name)


@pytest.fixture
def theirs(platform: None, settings: Any) -> str:
    """Another endpoint with everything, all of it marked; a decision of its experiment."""
    settings.WEBHOOK_PRIVATE = True
    for version in ("1", "2"):
        static_model("theirs-model", version, {"secret": MARK})
    static_model("hers-model", "1", "hers")
    endpoint_of("theirs", "theirs-model@1")
    endpoint_of("hers", "hers-model@1")
    start_experiment(
        {
            "name": "theirs-experiment",
            "endpoint": "theirs",
            "strategy": "bandit",
            "arms": [
                {"name": "a", "model": "theirs-model@1"},
                {"name": "b", "model": "theirs-model@2", "payload": MARK},
            ],
        }
    )
    create_webhook(name="theirs-hook", url=f"http://127.0.0.1:9/{MARK}", events=["*"], endpoints=["theirs"], actor=MARK)
    alice = Api(create_key(name="alice", scopes=SCOPES, actor=ACTOR)[1])
    answer = alice.post("/api/v1/endpoints/theirs/decide", {})
    assert answer["learnable"]
    return str(answer["decision_id"])


def limited(*scopes: str) -> Api:
    return Api(create_key(name="carol", scopes=scopes, endpoints=["hers"], actor=ACTOR)[1])


@pytest.mark.parametrize(("route", "method"), sorted(DECIDED), ids=lambda part: part)
def test_route__key_for_another_endpoint__shows_and_changes_nothing_of_theirs(
    theirs: str, route: str, method: str
) -> None:
    needed, status = DECIDED[route, method]
    of_decision = {
        "api/v1/feedback": {"decision_id": theirs, "value": 1},
        "api/v1/activate": {"decision_ids": [theirs]},
    }
    body = of_decision.get(route) or BODIES.get((route, method), {})
    body = None if method == "GET" else body
    keys = {scope: limited(scope) for scope in SCOPES}
    entries = AuditEntry.objects.count()
    for scope, carol in keys.items():
        answer = carol(method, filled(route), body)
        assert answer.status == (status if needed in (OPEN, scope) else 403), answer.content
        if needed is not OPEN:
            assert MARK.encode() not in answer.content
        if needed != scope:
            continue
        if route == "api/v1/activate":
            assert [result["status"] for result in answer["results"]] == ["unknown"]
        if method == "GET" and status == 200:
            assert "theirs" not in str(answer["items"])
        # Of a thing that is not there the answer is the same, but for its name.
        if status == 404 and route != "api/v1/feedback":
            nowhere = carol(method, filled(route).replace("theirs", "nowhere"), body)
            assert nowhere.status == 404
            assert nowhere["detail"].replace("nowhere", "theirs") == answer["detail"]
    assert AuditEntry.objects.count() == entries


def test_models__key_for_one_endpoint__sees_what_that_uses_and_what_it_registered(theirs: str, alice: Api) -> None:
    carol = limited("manage")
    static_model("hers-model", "0", "earlier")
    assert [row["model"] for row in carol.get("/api/v1/models")["items"]] == ["hers-model@1"]
    made = carol.post("/api/v1/models", {"name": "new", "version": "1", "framework": "static", "payload": 1})
    assert (made.status, ModelVersion.objects.get(name="new").endpoints) == (201, ["hers"])
    assert carol.get("/api/v1/models/new/1").status == 200
    assert [row["model"] for row in carol.get("/api/v1/models")["items"]] == ["new@1", "hers-model@1"]
    # The same limit sees it; another does not; a wider key whose endpoints include it does.
    assert limited("manage").get("/api/v1/models/new/1").status == 200
    for endpoints, status in ((["theirs"], 404), (["hers", "theirs"], 200)):
        other = Api(create_key(name="dave", scopes=["manage"], endpoints=endpoints, actor=ACTOR)[1])
        assert other.get("/api/v1/models/new/1").status == status
    # What was champion stays known, for it may be gone back to.
    assert carol("PATCH", "/api/v1/endpoints/hers", {"champion": "new@1"}).status == 200
    assert carol.get("/api/v1/models/hers-model/1").status == 200
    assert carol.post("/api/v1/endpoints/hers/rollback", {"to": "hers-model@1"})["champion"] == "hers-model@1"


def test_models__others__are_no_champion_and_no_arm_for_a_limited_key(theirs: str) -> None:
    carol = limited("manage")
    model = "theirs-model@2"
    arms = [{"name": "a", "model": "hers-model@1"}, {"name": "b", "model": model}]
    body = {"name": "e", "endpoint": "hers", "strategy": "bandit", "arms": arms}
    for answer, field in (
        (carol("PATCH", "/api/v1/endpoints/hers", {"champion": model}), "champion"),
        (carol.post("/api/v1/endpoints/hers/rollback", {"to": model}), "to"),
        (carol.post("/api/v1/experiments", body), "arms[1].model"),
    ):
        assert (answer.status, answer.fields()) == (400, [field])
        assert answer["errors"][0]["message"] == f"no model version {model} is registered"
    own = {"name": "new", "version": "1", "framework": "static", "payload": 1}
    assert carol.post("/api/v1/models", own).status == 201
    arms[1]["model"] = "new@1"
    assert carol.post("/api/v1/experiments", body).status == 201
    added = carol.post("/api/v1/experiments/e/arms", {"name": "c", "model": model})
    assert (added.status, added.fields()) == (400, ["model"])
    assert Experiment.objects.get(name="e").arms.count() == 2


def test_names__of_models_that_others_use_or_registered__are_taken_for_a_limited_key(theirs: str) -> None:
    carol = limited("manage")

    def post(name: str, version: str, payload: Any = 1) -> int:
        body = {"name": name, "version": version, "framework": "static", "payload": payload}
        return carol.post("/api/v1/models", body).status

    other = Api(create_key(name="dave", scopes=["manage"], endpoints=["theirs"], actor=ACTOR)[1])
    body = {"name": "daves", "version": "1", "framework": "static", "payload": MARK}
    assert other.post("/api/v1/models", body).status == 201
    static_model("unused", "1")
    assert [post("theirs-model", "3"), post("daves", "2"), post("unused", "2")] == [409, 409, 409]
    # Hers alone, whoever registered the first version of it; the same content again is the same
    # version.
    assert [post("hers-model", "2"), post("hers-model", "1", "hers"), post("hers-model", "1", "x")] == [201, 200, 409]
    # Once another endpoint uses it too, neither adds to it; what is there is there.
    alice = Api(create_key(name="alice", scopes=["manage"], actor=ACTOR)[1])
    assert alice.post("/api/v1/endpoints", {"name": "third", "champion": "hers-model@2"}).status == 201
    assert [post("hers-model", "3"), post("hers-model", "1", "hers")] == [409, 200]
    body = {"name": "hers-model", "version": "3", "framework": "static", "payload": 1}
    assert alice.post("/api/v1/models", body).status == 201


def test_names__free__are_taken_by_one_of_two_limits_at_once(theirs: str) -> None:
    keys = [
        Api(create_key(name="k", scopes=["manage"], endpoints=[name], actor=ACTOR)[1]) for name in ("hers", "theirs")
    ]

    def post(i: int) -> int:
        try:
            body = {"name": "free", "version": str(i), "framework": "static", "payload": i}
            return keys[i % 2].post("/api/v1/models", body).status
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(post, range(6)))
    assert sorted(statuses) == [201, 201, 201, 409, 409, 409]
    assert len({tuple(row.endpoints or ()) for row in ModelVersion.objects.filter(name="free")}) == 1
