"""The OpenAPI document against the running service: whatever it allows or forbids, the answer is
one that it describes, and never a 5xx."""

import json
import re
from typing import Any

import pytest
import schemathesis
from django.urls import get_resolver
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from serving.web.routes import ROUTES
from tests.conftest import Api, endpoint_of, static_model
from tests.test_docs import addresses

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FUZZ = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
OPERATIONS = [
    ("POST", "/api/v1/models"),
    ("POST", "/api/v1/endpoints"),
    ("PATCH", "/api/v1/endpoints/pages"),
    ("POST", "/api/v1/endpoints/pages/rollback"),
    ("POST", "/api/v1/experiments"),
    ("POST", "/api/v1/experiments/e/promote"),
    ("POST", "/api/v1/endpoints/pages/predict"),
    ("POST", "/api/v1/endpoints/pages/decide"),
    ("POST", "/api/v1/feedback"),
]
TEMPLATES = {
    "/api/v1/endpoints/pages": "/api/v1/endpoints/{name}",
    "/api/v1/endpoints/pages/rollback": "/api/v1/endpoints/{name}/rollback",
    "/api/v1/experiments/e/promote": "/api/v1/experiments/{name}/promote",
    "/api/v1/endpoints/pages/predict": "/api/v1/endpoints/{endpoint}/predict",
    "/api/v1/endpoints/pages/decide": "/api/v1/endpoints/{endpoint}/decide",
}


@pytest.fixture
def document(alice: Api) -> dict[str, Any]:
    static_model("page", "a", "A")
    static_model("page", "b", "B")
    endpoint_of("pages", "page@a")
    arms = [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@b"}]
    assert (
        alice.post("/api/v1/experiments", {"name": "e", "endpoint": "pages", "strategy": "ab", "arms": arms}).status
        == 201
    )
    found: dict[str, Any] = alice.get("/api/schema").body
    return found


def described(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    operation: dict[str, Any] = document["paths"][TEMPLATES.get(path, path)][method.lower()]
    return operation


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_service__any_json__answers_as_described(alice: Api, document: dict[str, Any], method: str, path: str) -> None:
    statuses = set(described(document, method, path)["responses"])

    @FUZZ
    @given(values)
    def run(body: Any) -> None:
        answer = alice(method, path, json.dumps(body).encode("utf-8", "surrogatepass"))
        assert answer.status < 500, answer.content
        assert str(answer.status) in statuses, (answer.status, answer.content)

    run()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_service__bodies_of_the_schema__answer_as_described(
    alice: Api, document: dict[str, Any], method: str, path: str
) -> None:
    operation = described(document, method, path)
    statuses = set(operation["responses"])
    schema = schemathesis.openapi.from_dict(document)
    strategy = schema[TEMPLATES.get(path, path)][method].as_strategy()

    @FUZZ
    @given(strategy)
    def run(case: Any) -> None:
        if case.media_type not in (None, "application/json") or not isinstance(case.body, dict | list):
            return
        answer = alice(method, path, json.dumps(case.body).encode("utf-8", "surrogatepass"))
        assert answer.status < 500, answer.content
        assert str(answer.status) in statuses, (answer.status, answer.content)

    run()


def test_document__every_address__is_declared_where_it_is_answered(document: dict[str, Any]) -> None:
    """Of the data plane too. What is no API is left out, and the benchmark's fixed answer."""
    named = {(path, method) for path, operations in document["paths"].items() for method in operations}
    for route in ROUTES:
        if route.template != "/api/v1/ping":
            # What answers GET answers HEAD, too.
            methods = {method.lower() for method in route.methods if method != "HEAD"}
            assert {(route.template, method) for method in methods} <= named
    views = {path for path, operations in document["paths"].items() if path.startswith("/api/v1/")}
    for text in addresses(get_resolver().url_patterns):
        if text.startswith("/api/v1/"):
            assert text in views
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    assert all(re.fullmatch(r"\w+", name) for name in document["components"]["schemas"])
