"""What a device was asked to keep: nothing that the platform would refuse, and where something is
refused all the same, nothing else is held up by it."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from noregret.experiments.models import Experiment
from noregret_client import Problem, Unreachable, event_fields, reward_values
from noregret_client.edge import EdgeClient
from noregret_client.edge.state import Passed, StateDamaged

import serving.packaged.event_fields
import serving.reward_values
from serving.models import Decision
from tests.clients.faulty_proxy import Fault, FaultyProxy, answered
from tests.conftest import Api
from tests.edge.conftest import X, drained, served, why
from tests.edge.odd_requests import ODD, ODD_METRICS, ODD_VALUES

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
BINARY = {"kind": "binary", "window_seconds": 600}


def test_rules__of_the_client_and_a_package__are_one_file() -> None:
    for ours, theirs in ((serving.packaged.event_fields, event_fields), (serving.reward_values, reward_values)):
        assert Path(str(ours.__file__)).read_bytes() == Path(str(theirs.__file__)).read_bytes()


@pytest.fixture
def proxy(url: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(url) as proxy:
        yield proxy


@pytest.fixture
def edge(proxy: FaultyProxy, device_key: str, two_arms: Start, tmp_path: Path) -> Iterator[EdgeClient]:
    two_arms(policy={"name": "uniform"}, reward=BINARY)
    served()
    with EdgeClient("pages", tmp_path / "device", proxy.url, device_key) as edge:
        edge.refresh()
        yield edge


def told_of(edge: EdgeClient, identity: str) -> bytes:
    """The event of a decision, as it waits."""
    (row,) = edge._state._rows("SELECT event FROM decisions WHERE id = ?", identity)
    return bytes(row[0])


def test_odd_request_or_value__is_refused_at_once__and_by_the_platform(edge: EdgeClient, device: Api) -> None:
    good = edge.decide(unit="good", context={"a": 1})
    honest = json.loads(told_of(edge, good.decision_id))
    bundle = {"receipt": edge.bundle.receipt}
    for fields, field in ODD:
        with pytest.raises(ValueError, match=f"^{field}"):
            edge.decide(**fields)
        with pytest.raises(ValueError, match=f"^{field}"):
            edge.predict(X[:1], **fields)
        told = {("excluded" if name == "exclude" else name): value for name, value in fields.items()}
        text = json.dumps(told)
        if len(text) < 2000 and not any(odd in text for odd in ("NaN", "Infinity", "ud800", '{"1"')):
            status, where = why(device, bundle, honest | told)
            assert (status, where.split(".")[0].split("[")[0]) == ("invalid", *told), fields
    for value in ODD_VALUES:
        with pytest.raises(ValueError, match=r"^value"):
            edge.feedback(good.decision_id, value)
    for metric in ODD_METRICS:
        with pytest.raises(ValueError, match=r"^metric"):
            edge.feedback(good.decision_id, 1, metric)
    assert edge.feedback(good.decision_id, 1)  # none of them is in its way
    assert edge.feedback(good.decision_id, 0.25, "seconds")
    assert edge.waiting == 3
    assert edge.upload().told == {"recorded": 3}


def test_decision_of_an_earlier_experiment__its_reward__is_by_the_rules_of_that(edge: EdgeClient, alice: Api) -> None:
    earlier = edge.decide(unit="u")
    assert alice.post("/api/v1/experiments/e/stop").status == 200
    assert (
        alice("PATCH", "/api/v1/endpoints/pages", {"reward": {"kind": "continuous", "window_seconds": 60}}).status
        == 200
    )
    served()
    assert edge.refresh()
    with pytest.raises(ValueError, match="binary"):
        edge.feedback(earlier.decision_id, 0.5)
    assert edge.feedback(edge.decide(unit="u").decision_id, 0.5)
    assert edge.feedback(earlier.decision_id, 1)


def test_event_that_can_be_nothing__from_an_older_version__holds_up_no_other(
    edge: EdgeClient, proxy: FaultyProxy, two_arms: Start
) -> None:
    """As one kept it that looked at nothing: too large for a body, no JSON that is read, and one
    that the platform fails on."""
    ids = [edge.decide(unit=f"u{i}").decision_id for i in range(20)]
    for identity in ids:
        edge.feedback(identity, 1)
    odd = {
        ids[3]: {"context": {"a": "x" * 1_300_000}},
        ids[7]: {"unit": "a\0b"},
        ids[11]: {"context": {"a": 10**400}},
    }
    with sqlite3.connect(edge._state._path) as file:
        for identity, change in odd.items():
            event = json.loads(told_of(edge, identity)) | change
            file.execute("UPDATE decisions SET event = ? WHERE id = ?", (msgspec.json.encode(event), identity))
        broken = told_of(edge, ids[15]).replace(b'"u15"', b'"\\ud800"')
        file.execute("UPDATE decisions SET event = ? WHERE id = ?", (broken, ids[15]))
    uploaded = edge.upload()
    assert (uploaded.told, uploaded.waiting) == ({"recorded": 32, "invalid": 4, "unknown": 4}, 0)
    assert len(proxy.requests) < 40
    # The platform fails on one: it waits, for that is the platform's fault, and others are told.
    last = edge.decide(unit="last").decision_id
    proxy.goes_wrong(*[answered(500, {"title": "It failed"})] * 3)  # as often as it is tried
    with pytest.raises(Problem, match="500"):
        edge.upload()
    assert edge.waiting == 1
    edge.feedback(last, 1)
    other = edge.decide(unit="other").decision_id
    edge.feedback(other, 1)
    proxy.goes_wrong(*[answered(500, {"title": "It failed"})] * 9)  # of all, of the first half, and of the first
    with pytest.raises(Problem, match="500"):
        edge.upload()
    assert edge.waiting == 2
    assert edge.upload() == ({"recorded": 2}, 0)


FOREIGN = (
    answered(400, {"type": "/problems/bad-request", "title": "The request can't be understood", "status": 400}),
    Fault("answer", answer=(400, {"Content-Type": "text/html"}, b"<html>400 Request Header Too Large</html>")),
    Fault("answer", answer=(422, {"Content-Type": "text/plain"}, b"no")),
    answered(401, {"type": "/problems/no-valid-key", "title": "A valid API key is needed", "status": 401}),
    Fault("answer", answer=(404, {"Content-Type": "text/html"}, b"<html>404</html>")),
    answered(409, {"type": "/problems/conflict", "title": "No", "status": 409}),
    Fault("answer", answer=(200, {"Content-Type": "text/html"}, b"<html>sign in to this network</html>")),
)
"""Answers that judge no event."""


def test_answer__that_judges_no_event__costs_none(edge: EdgeClient, proxy: FaultyProxy) -> None:
    ids = [edge.decide(unit=f"u{i}").decision_id for i in range(6)]
    for identity in ids:
        edge.feedback(identity, 1)
    for answer in FOREIGN:
        proxy.requests.clear()
        proxy.goes_wrong(*[answer] * 50)
        with pytest.raises((Problem, Unreachable)):
            edge.upload()
        assert edge.waiting == 12
        assert len(proxy.requests) <= 3
        proxy.faults.clear()
    # What stands before the platform takes smaller bodies alone, and then none: nothing is lost.
    proxy.requests.clear()
    proxy.goes_wrong(*[Fault("answer", answer=(413, {}, b"<html>413</html>"))] * 500)
    with pytest.raises(Problem, match="413"):
        edge.upload()
    assert (edge.waiting, len(proxy.requests) < 100) == (12, True)
    # One event alone is refused.
    proxy.faults.clear()
    proxy.goes_wrong(*[answered(400, {"type": "/problems/invalid-json", "title": "?", "status": 400})] * 4)
    uploaded = edge.upload()
    assert (uploaded.told, uploaded.waiting) == ({"invalid": 1, "recorded": 10, "unknown": 1}, 0)


def test_reward__made_while_a_batch_is_read__is_told_with_its_decision(
    edge: EdgeClient, proxy: FaultyProxy, client: Any, two_arms: Start
) -> None:
    """Another process decides and gives feedback between any two reads of the file."""
    other = client("device")
    edge.decide(unit="first")
    made: list[str] = []

    def decide_beside(statement: str) -> None:
        if "SELECT" in statement and "FROM decisions" in statement and len(made) < 5:
            made.append(other.decide(unit=f"u{len(made)}").decision_id)
            assert other.feedback(made[-1], 1)

    edge._state._connection.set_trace_callback(decide_beside)
    uploaded = edge.upload()
    edge._state._connection.set_trace_callback(None)
    assert made
    told = Counter(uploaded.told) + Counter(edge.upload().told)
    assert told == {"recorded": 1 + 2 * len(made)}
    assert all(
        len(body.get("events", [1])) for body in map(msgspec.json.decode, (b for _, _, b in proxy.requests if b))
    )


def test_reward__that_is_unknown_while_its_decision_waits__waits_too(edge: EdgeClient, proxy: FaultyProxy) -> None:
    """As where another process of an older version told them apart."""
    one = edge.decide(unit="u").decision_id
    edge.feedback(one, 1)
    batch = edge._state.batch(10, Passed())
    assert batch is not None
    edge._state.told([(batch.events[1], "unknown")])
    assert edge.waiting == 2
    assert edge.upload().told == {"recorded": 2}
    assert edge.waiting == 0


def test_upload__of_an_endpoint_that_is_no_more__holds_up_no_other(
    edge: EdgeClient, proxy: FaultyProxy, alice: Api
) -> None:
    edge.decide(unit="u")
    assert alice.post("/api/v1/experiments/e/arms/b/disable").status == 200
    served()
    assert edge.refresh()
    edge.decide(unit="v")
    proxy.goes_wrong(answered(404, {"type": "/problems/not-found", "title": "Not found", "status": 404}))
    with pytest.raises(Problem, match="404"):
        edge.upload()
    assert edge.waiting == 1
    assert edge.upload().told == {"recorded": 1}


def test_feedback__within_its_own_bundles_window__is_kept_whatever_the_next_bundle_says(
    edge: EdgeClient, alice: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = edge.decide(unit="u").decision_id  # with a window of 600 s
    assert alice.post("/api/v1/experiments/e/stop").status == 200
    assert alice("PATCH", "/api/v1/endpoints/pages", {"reward": BINARY | {"window_seconds": 1}}).status == 200
    served()
    assert edge.refresh()
    later = edge.decide(unit="v").decision_id
    now = edge.now()
    edge.upload()
    monkeypatch.setattr(edge, "now", lambda: now + 300)
    edge.upload()
    assert edge.feedback(earlier, 1)
    assert not edge.feedback(later, 1)
    monkeypatch.setattr(edge, "now", lambda: now + 700)
    edge.upload()
    assert not edge.feedback(earlier, 1, "other")


def test_answer__without_a_status_for_an_event__leaves_it_waiting(edge: EdgeClient, proxy: FaultyProxy) -> None:
    for i in range(4):
        edge.decide(unit=f"u{i}")
    for answer in ({"results": []}, {"results": "?"}, {}):
        proxy.goes_wrong(*[answered(200, answer)])
        with pytest.raises(Unreachable):
            edge.upload()
        assert edge.waiting == 4
    proxy.goes_wrong(answered(200, {"results": [{"status": "recorded"}]}))
    uploaded = edge.upload()
    assert (uploaded.told, uploaded.waiting) == ({"recorded": 4}, 0)
    drained(Experiment.objects.get())
    assert Decision.objects.count() == 3  # the first was never handed on


def test_file_of_the_device__that_is_damaged__is_set_aside_and_a_new_one_begun(
    edge: EdgeClient, device_key: str, proxy: FaultyProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "device" / "pages.sqlite"
    for number, spoil in enumerate((b"garbage" * 900, b"")):
        edge.close()
        for ending in ("-wal", "-shm"):
            Path(f"{path}{ending}").unlink(missing_ok=True)
        whole = path.read_bytes()
        path.write_bytes(spoil or whole[:4096] + b"\xff" * (len(whole) - 4096))
        with EdgeClient("pages", tmp_path / "device", proxy.url, device_key) as again:
            again.refresh()
            assert again.decide(unit="u").learnable
            assert again.upload().told == {"recorded": 1}
        assert len(list(path.parent.glob("pages.sqlite.damaged-*"))) == number + 1
    assert "is damaged" in caplog.text


def test_file_of_the_device__damaged_while_it_is_open__is_told_once(edge: EdgeClient) -> None:
    path = edge._state._path
    edge._state._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    edge._state._connection.execute("PRAGMA shrink_memory")

    def use() -> None:
        for i in range(100):
            edge.decide(unit=f"u{i}")

    with pytest.raises(StateDamaged):
        use()
    edge.refresh()
    assert edge.decide(unit="u").learnable


def test_model_file__that_is_damaged__is_no_arms_failure__and_fetched_again(
    client: Any, irises: Experiment, tmp_path: Path
) -> None:
    edge = client(endpoint="irises")
    edge.refresh()
    (file,) = (tmp_path / "device" / "models").iterdir()
    whole = file.read_bytes()

    def answers(of: EdgeClient) -> Counter[tuple[str | None, str | None, bool]]:
        told = [of.predict(X[:1], unit=f"u{i}") for i in range(30)]
        return Counter((one.arm, one.fallback_reason, one.learnable) for one in told)

    for spoilt in (b"\0" * len(whole), whole[:100]):
        file.write_bytes(spoilt)
        again = client(endpoint="irises")
        assert set(answers(again)) == {("linear", None, True)}
        assert again.refresh()
        assert file.read_bytes() == whole
        assert set(answers(again)) == {("linear", None, True), ("tree", None, True)}
        assert not again.refresh()
    assert edge.upload().told.keys() == {"recorded"}
