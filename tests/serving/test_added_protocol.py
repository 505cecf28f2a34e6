"""A protocol that one file adds is routed, refused in its own words, and described; it decides and
records as every other.
"""

from collections.abc import Iterator

import pytest
from noregret.openapi import collect, components
from noregret.openapi.document import document

from serving.web import app, native, routes
from tests.conftest import Api, endpoint_of, python_model
from tests.serving import shouting


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As its line would: taken back when the test is over."""
    monkeypatch.setattr(routes, "TABLE", routes.Table((*routes.PROTOCOLS, shouting)))
    monkeypatch.setattr(app, "application", app.make(routes.TABLE))
    _forget_document()
    yield
    _forget_document()


def _forget_document() -> None:
    collect.addresses.cache_clear()
    components._made.cache_clear()


def shout(api: Api, body: bytes, endpoint: str = "pages") -> tuple[int, str]:
    answer = api("POST", f"/shout/{endpoint}", body, content_type="text/plain")
    return answer.status, answer.content.decode()


def test_protocol__predicts_and_is_refused_in_its_own_words(alice: Api, charlie: Api) -> None:
    endpoint_of("pages", python_model("m", "1", "ones"))
    assert shout(alice, b"0.5,1e9") == (200, "m@1 SAYS 1!")
    assert shout(alice, b"some") == (400, "NO: body: numbers were expected!")
    assert shout(alice, b"1", "nowhere") == (404, "NO: there is no endpoint nowhere!")
    assert shout(charlie, b"1")[0] == 401
    wrong = alice("GET", "/shout/pages")
    assert (wrong.status, wrong.content) == (405, b"NO: allowed here: POST!")
    # The others are as they were.
    answer = alice.post("/api/v1/endpoints/pages/predict", {"inputs": [[1.0]]})
    assert (answer.status, answer["outputs"]) == (200, {"predict": [1]})
    assert alice.post("/api/v1/endpoints/pages/predict", {}).fields() == ["inputs"]


def test_protocol__is_in_the_table_and_in_the_openapi_document() -> None:
    route = routes.find("/shout/pages")
    assert route is not None
    assert (route.methods, route.limit) == (("POST",), 1000)
    assert routes.find("/shout/pages/more") is None
    assert "/shout/{endpoint}" in document()["paths"]


def test_protocols__two_with_one_address__are_refused() -> None:
    with pytest.raises(ValueError, match="one address"):
        routes.Table((native, native))
