"""The Python client's calls: what they answer, and how they fail, over real sockets."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from noregret.embedded.running import RunningPlatform
from noregret_client import (
    Client,
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    NoregretError,
    NotAuthorized,
    NotFound,
    PlatformUnavailable,
    Retries,
    Unreachable,
)
from sklearn.linear_model import LogisticRegression

from serving.web.routes import find
from tests.clients.conftest import served_by
from tests.clients.faulty_proxy import DRIP, DROP, HANG, LOSE_ANSWER, RESET_MID_ANSWER, FaultyProxy, unavailable

SOURCE = Path(__file__).resolve().parents[2] / "clients" / "python" / "src"
needs_activate = pytest.mark.skipif(
    find("/api/v1/activate") is None, reason="NO ACTIVATE: the platform knows neither exclude nor activate yet"
)
ROWS = np.array([[5.1, 3.5], [1e9 + 0.25, 0.002], [-4.5, 0.0]])


@pytest.fixture
def proxied(proxy: FaultyProxy, key: str) -> "Client":
    client = Client(proxy.url, key, timeout=10.0, retries=Retries(first_pause=0.01))
    yield client  # type: ignore[misc]
    client.close()


def test_import__in_an_environment_with_its_dependencies_alone__works() -> None:
    code = f"""
import sys
allowed = {{"noregret_client", "httpx", "httpcore", "h11", "certifi", "idna", "anyio", "msgspec", "typing_extensions", "sniffio"}}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{{name}} is no dependency", name=name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {str(SOURCE)!r})
import noregret_client
for name in noregret_client.__all__:
    getattr(noregret_client, name)
client = noregret_client.Client("http://127.0.0.1:1", "k")
answer = client.endpoint("x", fallback=lambda rows: [sum(row) for row in rows]).predict([[1, 2.5]])
print(answer.outputs, answer.fallback_reason)
"""
    found = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert found.stderr.count("Traceback") == 0, found.stderr
    assert found.stdout == "{'predict': [3.5]} platform_unreachable\n"


def test_predict__list_array_and_frame__answer_as_the_model(client: Client) -> None:
    pandas = pytest.importorskip("pandas", reason="NO PANDAS: frames are not tested")
    frame = pandas.DataFrame(ROWS, columns=["length", "width"])
    model = LogisticRegression().fit(frame, ["long", "long", "short"])
    assert client.register(model, name="leaf", version="1", sample=frame).model == "leaf@1"
    client.create_endpoint("leaf", champion="leaf@1")
    served_by(client, "leaf", None)
    expected = model.predict(frame).tolist()
    for rows in (ROWS, ROWS.tolist(), frame, frame[["width", "length"]], frame.to_dict("records")):
        answer = client.predict("leaf", rows, unit="u-1", context={"country": "KR", "age": 31})
        assert answer.predictions == expected
        assert answer.outputs["predict_proba"] == [
            pytest.approx(row, abs=1e-6) for row in model.predict_proba(frame).tolist()
        ]
        assert (answer.model, answer.strategy, answer.propensity, answer.is_local) == ("leaf@1", "single", 1.0, False)
    with pytest.raises(InvalidRequest) as wrong:
        client.predict("leaf", frame.rename(columns={"width": "height"}))
    assert wrong.value.status == 400
    assert wrong.value.field is not None
    assert wrong.value.field.startswith("inputs[0]")
    assert wrong.value.expected


def test_problems__are_exceptions_of_their_kind(running: RunningPlatform, client: Client, pages: str) -> None:
    with pytest.raises(NotFound) as missing:
        client.decide("nobody-made/this")
    assert (missing.value.status, missing.value.field) == (404, None)
    with pytest.raises(Conflict, match="already"):
        client.create_endpoint(pages, champion="page@a")
    with pytest.raises(InvalidRequest) as wrong:
        client.decide(pages, unit="u" * 257)
    assert (wrong.value.status, wrong.value.field, wrong.value.type) == (400, "unit", "/problems/invalid-fields")
    assert "256" in str(wrong.value.expected)
    with Client(running.url, "nr_wrong") as stranger, pytest.raises(NotAuthorized):
        stranger.decide(pages)
    with pytest.raises(ValueError, match="NOREGRET_URL"):
        Client("localhost:8000", "k")


def test_client__without_arguments__reads_the_environment(
    running: RunningPlatform, key: str, pages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOREGRET_URL", running.url + "/")
    monkeypatch.setenv("NOREGRET_KEY", key)
    with Client() as client:
        assert client.decide(pages).experiment == "pages-1"
    assert key not in repr(client._settings)


def test_connections__are_kept_alive(proxied: Client, proxy: FaultyProxy, pages: str) -> None:
    for _ in range(5):
        proxied.decide(pages)
    assert (len(proxy.requests), proxy.connections) == (5, 1)


def test_nobody_listens__is_unreachable__and_surely_not_done(key: str, pages: str) -> None:
    with Client("http://127.0.0.1:1", key) as client, pytest.raises(Unreachable) as error:
        client.decide(pages)
    assert error.value.maybe_done is False


def test_decide__refused_as_unavailable__is_tried_again_with_the_same_request_id(
    proxied: Client, proxy: FaultyProxy, pages: str
) -> None:
    proxy.goes_wrong(unavailable(), unavailable(retry_after=0))
    assert proxied.decide(pages).arm in {"a", "b"}
    assert len({body["request_id"] for body in proxy.bodies()}) == 1
    assert len(proxy.requests) == 3
    proxy.goes_wrong(*[unavailable()] * 3)
    with pytest.raises(PlatformUnavailable):
        proxied.decide(pages)
    assert len(proxy.requests) == 6


@pytest.mark.parametrize("fault", [DROP, LOSE_ANSWER, RESET_MID_ANSWER])
def test_decide__answer_lost__makes_no_second_decision_unless_wanted(
    proxied: Client, proxy: FaultyProxy, key: str, pages: str, fault: object
) -> None:
    proxy.goes_wrong(fault)  # type: ignore[arg-type]
    with pytest.raises(Unreachable) as error:
        proxied.decide(pages)
    assert error.value.maybe_done
    assert len(proxy.requests) == 1
    proxy.goes_wrong(fault)  # type: ignore[arg-type]
    with Client(proxy.url, key, resend_lost_decisions=True) as insistent:
        assert insistent.decide(pages, request_id="r-1").learnable
    assert [body["request_id"] for body in proxy.bodies()[1:]] == ["r-1", "r-1"]


@needs_activate
def test_exclude_and_activate__are_the_platforms(
    client: Client, proxied: Client, proxy: FaultyProxy, pages: str
) -> None:
    assert {client.decide(pages, exclude=["a"]).arm for _ in range(10)} == {"b"}
    nobody = client.decide(pages, exclude=["a", "b"])
    assert (nobody.arm, nobody.learnable, nobody.fallback_reason) == (None, False, "excluded")
    proxy.goes_wrong(LOSE_ANSWER)
    with proxied.decision(pages, activate=False) as decision:
        assert [body["activate"] for body in proxy.bodies()] == [False, False]  # sent again: it does no harm
        assert decision.activate() == "activated"
        proxy.goes_wrong(LOSE_ANSWER)
        assert decision.activate() == "duplicate"
    assert [one.status for one in client.activate("forged")] == ["unknown"]


@pytest.mark.parametrize("fault", [DROP, LOSE_ANSWER, RESET_MID_ANSWER, unavailable(), unavailable(status=502)])
def test_feedback__answer_lost_or_refused__is_sent_again_and_counts_once(
    proxied: Client, proxy: FaultyProxy, pages: str, fault: object
) -> None:
    decision_id = proxied.decide(pages).decision_id
    assert decision_id is not None
    proxy.goes_wrong(fault)  # type: ignore[arg-type]
    was_handed_on = fault in (LOSE_ANSWER, RESET_MID_ANSWER)
    assert proxied.feedback(decision_id, 1) == ("duplicate" if was_handed_on else "recorded")
    assert proxied.feedback(decision_id, True) == "duplicate"
    with pytest.raises(Conflict):
        proxied.feedback(decision_id, 0)
    with pytest.raises(ValueError, match="finite"):
        proxied.feedback(decision_id, float("nan"))


def test_retry_after__past_the_deadline__is_not_waited_for(proxied: Client, proxy: FaultyProxy, pages: str) -> None:
    proxy.goes_wrong(unavailable(retry_after=30))
    with pytest.raises(PlatformUnavailable) as error:
        proxied.decide(pages)
    assert (error.value.retry_after, len(proxy.requests)) == (30.0, 1)


def test_deadline__hanging_and_dripping_answers__end_at_it(proxied: Client, proxy: FaultyProxy, pages: str) -> None:
    for fault in (HANG, DRIP):
        proxy.goes_wrong(fault)
        with pytest.raises(DeadlineExceeded):
            proxied.decide(pages, timeout=0.5)
    assert proxied.decide(pages).arm


def test_redirect_and_what_is_no_platform__are_told(proxied: Client, proxy: FaultyProxy, pages: str) -> None:
    from tests.clients.faulty_proxy import answered

    proxy.goes_wrong(answered(301, {}, {"Location": "https://elsewhere"}), answered(200, ["hello"]))
    with pytest.raises(NoregretError, match="redirect to https://elsewhere"):
        proxied.decide(pages)
    with pytest.raises(NoregretError, match="no Noregret platform"):
        proxied.decide(pages)
    proxy.goes_wrong(*[answered(502, ["an HTML page"])] * 3)
    with pytest.raises(PlatformUnavailable):
        proxied.decide(pages)


def test_fork__child_uses_connections_of_its_own(proxied: Client, proxy: FaultyProxy, pages: str) -> None:
    proxied.decide(pages)
    assert proxy.connections == 1
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of every fork beside threads
        child = os.fork()
    if child == 0:  # pragma: no cover - in another process
        try:
            os.write(write_end, proxied.decide(pages).endpoint.encode())
        finally:
            os._exit(0)
    os.close(write_end)
    assert os.read(read_end, 100) == b"pages"
    os.close(read_end)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert proxied.decide(pages).arm
    assert proxy.connections == 2
