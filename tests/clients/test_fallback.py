"""What answers while the platform is away."""

import numpy as np
import pytest
from noregret_client import Breaker, Client, Endpoint, InvalidRequest, Retries, Unreachable
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier

from tests.clients.conftest import served_by
from tests.clients.faulty_proxy import DROP, HANG, LOSE_ANSWER, FaultyProxy, unavailable

ROWS = np.array([[5.1, 3.5], [1e9, 0.002], [-4.5, 0.0]])
CLASSIFIER = LogisticRegression().fit(ROWS, ["long", "long", "short"])


@pytest.fixture
def away(key: str) -> "Client":
    client = Client("http://127.0.0.1:1", key, retries=Retries(tries=1))
    yield client  # type: ignore[misc]
    client.close()


def test_fallback__has_the_shape_of_the_platforms_answer(client: Client, proxy: FaultyProxy, key: str) -> None:
    client.register(CLASSIFIER, name="twin", version="1", sample=ROWS)
    client.create_endpoint("twin", champion="twin@1")
    served_by(client, "twin", None)
    with Client(proxy.url, key) as proxied:
        endpoint = proxied.endpoint("twin", fallback=CLASSIFIER)
        answers = [endpoint.predict(ROWS)]
        for faults in ([DROP], [LOSE_ANSWER], [unavailable()] * 3):
            proxy.goes_wrong(*faults)
            answers.append(endpoint.predict(ROWS.tolist()))
    platform, *local = answers
    assert platform.learnable
    for answer in local:
        assert (answer.decision_id, answer.fallback_reason) == (None, "platform_unreachable")
        assert (answer.learnable, answer.propensity, answer.arm) == (False, 1.0, None)
        assert answer.outputs.keys() == platform.outputs.keys()
        assert answer.predictions == platform.predictions
        assert answer.outputs["predict_proba"] == [
            pytest.approx(row, abs=1e-6) for row in platform.outputs["predict_proba"]
        ]


def test_fallback__refusals_are_the_callers_to_see(client: Client, pages: str) -> None:
    endpoint = client.endpoint(pages, fallback_payload={"text": "plain"})
    with pytest.raises(InvalidRequest):
        endpoint.decide(unit="u" * 257)


def test_decide_and_decision__with_a_local_payload__take_no_reward(away: Client) -> None:
    endpoint = away.endpoint("pages", fallback_payload={"text": "plain"})
    assert endpoint.decide(unit="u").payload == {"text": "plain"}
    with endpoint.decision(unit="u") as decision:
        assert (decision.payload, decision.decision_id) == ({"text": "plain"}, None)
        assert decision.reward(1) is False
        assert decision.activate() is None
    with pytest.raises(Unreachable):
        endpoint.predict([[1.0]])
    with pytest.raises(Unreachable):
        away.decide("pages")


def test_fallback__functions_and_other_outputs__are_told_alike(away: Client) -> None:
    many = MultiOutputClassifier(LogisticRegression()).fit(ROWS, [[0, 1], [0, 0], [1, 1]])
    answer = away.endpoint("x", fallback=many).predict(ROWS)
    assert np.shape(answer.outputs["predict_proba"]) == (3, 2, 2)
    assert away.endpoint("x", fallback=lambda rows: {"predict": rows[:, 0] * 2}).predict([[1.5]]).predictions == [3.0]
    regressor = LinearRegression().fit([[1.0], [2.0]], [2.0, 4.0])
    assert away.endpoint("x", fallback=regressor).predict([[3.0]]).predictions == pytest.approx([6.0])


def test_fallback__that_fails__raises_what_it_raised(away: Client) -> None:
    with pytest.raises(ValueError, match="features"):
        away.endpoint("x", fallback=CLASSIFIER).predict([[1.0, 2.0, 3.0]])


def test_breaker__after_failures_in_a_row__asks_no_more_for_a_while_and_then_once(
    proxy: FaultyProxy, key: str, pages: str
) -> None:
    now = 0.0
    breaker = Breaker(failures=2, seconds=5.0, clock=lambda: now)
    with Client(proxy.url, key, retries=Retries(tries=1)) as client:
        endpoint = Endpoint(pages, client=client, fallback_payload={}, breaker=breaker)
        proxy.goes_wrong(*[DROP] * 3)
        assert [endpoint.decide().is_local for _ in range(4)] == [True] * 4
        assert len(proxy.requests) == 2
        now = 5.0
        assert [endpoint.decide().is_local for _ in range(2)] == [True] * 2
        assert len(proxy.requests) == 3
        now = 10.0
        assert [endpoint.decide().is_local for _ in range(3)] == [False] * 3
        assert len(proxy.requests) == 6


def test_fallback__platform_hangs__answers_within_the_deadline(proxy: FaultyProxy, key: str, pages: str) -> None:
    proxy.goes_wrong(HANG)
    with Client(proxy.url, key, timeout=0.3) as client:
        assert client.endpoint(pages, fallback_payload={}).decide().is_local
        assert not client.endpoint(pages, fallback_payload={}).decide(timeout=10.0).is_local
