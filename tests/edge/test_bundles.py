"""What leaves for a device: signed, cut to one endpoint, the same from every process, and files
that go on where they broke off."""

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from django.db import transaction
from noregret.access.keys import create_key
from noregret.env import BadEnvironment, Environment
from noregret.experiments.models import Experiment
from noregret.rollout.publish import publish_endpoint_on_commit
from noregret_client import Problem, Unreachable
from noregret_client.edge import BundleNotTrusted, EdgeClient, NoBundle, models
from noregret_client.edge import bundle as bundles
from noregret_client.edge.fetching import Files, WrongFile

from serving import process as processes
from serving.artifacts import supplied
from serving.web.app import heads
from tests.conftest import ACTOR, Api, endpoint_of, static_model
from tests.edge.conftest import BUNDLE, X, drained, served

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]


def keys_of(api: Api) -> dict[str, str]:
    return {one["id"]: one["public_key"] for one in api.get("/api/v1/edge/key")["keys"]}


def test_bundle__one_endpoint__has_what_a_device_needs_and_no_more(device: Api, irises: Experiment, alice: Api) -> None:
    static_model("secret", "1", {"theirs": 1})
    endpoint_of("others", "secret@1")
    for _ in range(12):
        told = alice.post("/api/v1/endpoints/irises/predict", {"inputs": X[:1].tolist()}).body
        alice.post("/api/v1/feedback", {"decision_id": told["decision_id"], "value": 1})
    drained(irises)
    served()
    answer = device.get("/api/v1/endpoints/irises/edge")
    bundle = answer.body
    assert (answer.status, bundle["endpoint"], bundle["experiment"], bundle["choice"]) == (200, "irises", "e", "draw")
    linear, tree, code = bundle["arms"]
    assert sum(arm["propensity"] for arm in bundle["arms"]) == pytest.approx(1.0)
    assert np.shape(linear["parameters"]["weights"]) == (3, 4)
    assert tree["parameters"] is None
    assert (code["artifact"], code["parameters"]) == (None, None)
    assert tree["artifact"]["url"] == f"/api/v1/artifacts/{tree['artifact']['sha256']}"
    text = answer.content.decode()
    assert set(linear) == {
        *("name", "model", "control", "enabled", "propensity", "payload", "outputs", "artifact", "parameters")
    }
    assert (bundle["policy"], bundle["belief"]) == (None, None)
    assert not any(word in text for word in ("theirs", "others", "secret", "nr_", "mean", "count", "example"))
    assert bundles.read(answer.content, keys_of(Api(None))).version == bundle["version"]
    for wrong in (
        text.replace('"sticky":true', '"sticky":false'),
        text.replace('"signature":"', '"signature":"A'),
        text[:-30] + '"}',
        json.dumps(bundle),
        '{"endpoint":"irises"}',
        "",
    ):
        with pytest.raises(BundleNotTrusted):
            bundles.read(wrong.encode(), keys_of(Api(None)))
    with pytest.raises(BundleNotTrusted, match="not trusted"):
        bundles.read(answer.content, {})
    for api, status in ((Api(None), 401), (alice, 403)):
        assert api.get("/api/v1/endpoints/irises/edge").status == status
    assert device.get("/api/v1/endpoints/none/edge").status == 404


def test_bundle__asked_again__is_the_same_from_every_process_until_it_says_something_else(
    device: Api, alice: Api, two_arms: Start
) -> None:
    experiment = two_arms(policy={"name": "uniform"})
    served()
    first = device.get(BUNDLE)
    tag = first.response["ETag"]
    processes.reset()  # as another process would make it
    assert device.get(BUNDLE).content == first.content
    for asked in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = device.get(BUNDLE, headers={"If-None-Match": asked})
        assert (answer.status, answer.content, answer.response["ETag"]) == (304, b"", tag)
    alice.post("/api/v1/endpoints/pages/decide", {})
    drained(experiment)
    with transaction.atomic():
        publish_endpoint_on_commit(experiment.endpoint_id)
    served()
    assert device.get(BUNDLE, headers={"If-None-Match": tag}).status == 304  # another version of the same
    assert alice.post("/api/v1/experiments/e/arms/b/disable").status == 200
    served()
    answer = device.get(BUNDLE, headers={"If-None-Match": tag})
    assert answer.status == 200
    assert [arm["propensity"] for arm in answer["arms"]] == [1.0, 0.0]
    assert Api(None)("HEAD", "/api/v1/edge/key").status == 200


def test_signing_keys__next_one_is_told_before_it_signs(device: Api, two_arms: Start, settings: Any) -> None:
    two_arms()
    rules, seeds = settings.EDGE, (b"\x01" * 32, b"\x02" * 32)

    tags = []

    def with_seeds(*of: bytes) -> tuple[bytes, dict[str, str]]:
        settings.EDGE = type(rules)(of, rules.bundle_seconds, rules.grace_seconds, rules.events_per_minute)
        processes.reset()
        served()
        answer = device.get(BUNDLE)
        tags.append(answer.response["ETag"])
        assert answer["keys"] == Api(None).get("/api/v1/edge/key")["keys"]
        assert answer["keys"][0]["id"] == answer["key_id"]
        return answer.content, keys_of(Api(None))

    derived, derived_keys = with_seeds()
    before, both = with_seeds(*seeds)
    with_seeds(seeds[0])
    after, told = with_seeds(seeds[1], seeds[0])
    assert len(set(tags)) == 4
    assert set(both) == set(told)
    assert len(both) == 2
    assert not set(derived_keys) & set(both)
    assert bundles.read(before, told).key_id != bundles.read(after, both).key_id
    with pytest.raises(BundleNotTrusted):
        bundles.read(derived, both)
    text = base64.urlsafe_b64encode(seeds[0]).decode().rstrip("=")
    told_of = {"NOREGRET_EDGE_SIGNING_KEYS": f"{text}, derived, {text}="}
    assert Environment.read(told_of).edge_signing_keys == (seeds[0], None, seeds[0])
    with pytest.raises(BadEnvironment, match="32 bytes in base64url were expected at place 2") as caught:
        Environment.read({"NOREGRET_EDGE_SIGNING_KEYS": f"{text},c2VjcmV0"})
    assert "c2VjcmV0" not in str(caught.value)


def test_keys__rotated_in_front_of_a_device__are_learned_from_bundles(
    client: Any, two_arms: Start, settings: Any
) -> None:
    two_arms()
    rules, (a, b) = settings.EDGE, (None, b"\x02" * 32)  # from the derived one to one that is set

    def signs(*of: bytes | None) -> dict[str, str]:
        settings.EDGE = type(rules)(of, rules.bundle_seconds, rules.grace_seconds, rules.events_per_minute)
        processes.reset()
        served()
        return keys_of(Api(None))

    pins = signs(a)
    devices = [client("told"), client("pinned", public_keys=pins)]
    away = [client("away"), client("away too", public_keys=pins)]
    for edge in (*devices, *away):
        assert edge.refresh()
        assert not edge.refresh()
    for order in ((a, b), (b, a), (b,)):
        pins = signs(*order)
        for edge in devices:
            assert edge.refresh(), order
            assert edge.decide().learnable
    for edge in away:
        with pytest.raises(BundleNotTrusted, match="not trusted"):
            edge.refresh()
        assert edge.decide().learnable  # its bundle's time is not over
    anew = client("away too", public_keys=pins)  # the app is updated
    assert anew.refresh()
    assert anew.decide().learnable
    # What was sent before its time was over teaches nothing after it, nor does one that tells none.
    bundle, now = anew.bundle, anew.now()
    assert anew._trust.learned_of(bundle, now)
    assert not anew._trust.learned_of(bundle, bundle.expires_at.timestamp())
    assert not anew._trust.learned_of(msgspec.structs.replace(bundle, keys=[]), now)


def test_contextual__belief_too_large_for_a_device__is_told(device: Api, two_arms: Start) -> None:
    fields = [{"name": f"f{i}", "type": "number", "min": 0, "max": 1} for i in range(50)]
    static_model("page", "c")
    arms = [{"name": f"v{i}", "model": "page@c"} for i in range(30)]
    two_arms(policy={"name": "lin-thompson"}, context={"fields": fields}, arms=arms)
    served()
    answer = device.get(BUNDLE)
    assert (answer.status, answer["type"]) == (409, "/problems/conflict")
    assert "too much for a device" in answer["detail"]


def test_artifact__ranges_and_names__as_http_has_them(device: Api, irises: Experiment) -> None:
    told = device.get("/api/v1/endpoints/irises/edge")["arms"][1]["artifact"]
    url, size = told["url"], told["bytes"]
    whole = device.get(url)
    assert whole.status == 200
    assert hashlib.sha256(whole.content).hexdigest() == told["sha256"]
    assert len(whole.content) == size == int(whole.response["Content-Length"])
    assert whole.response["Cache-Control"] == "private, max-age=31536000, immutable"
    tag = whole.response["ETag"]
    for asked, begin, end in (
        ("bytes=0-", 0, size),
        ("bytes=10-19", 10, 20),
        (f"bytes={size - 1}-", size - 1, size),
        ("bytes=5-999999999", 5, size),
        ("bytes=-7", size - 7, size),
        ("bytes=9-3", 0, size),
        ("bytes=0-1,4-5", 0, size),
        ("rows=1-2", 0, size),
    ):
        part = device.get(url, headers={"Range": asked})
        assert part.content == whole.content[begin:end], asked
        assert part.status == (200 if (begin, end) == (0, size) else 206)
        if part.status == 206:
            assert part.response["Content-Range"] == f"bytes {begin}-{end - 1}/{size}"
    assert device.get(url, headers={"Range": "bytes=4-", "If-Range": '"another"'}).status == 200
    assert device.get(url, headers={"Range": "bytes=4-", "If-Range": tag}).status == 206
    assert device.get(url, headers={"If-None-Match": tag}).status == 304
    for asked in (f"bytes={size}-", "bytes=-0"):
        beyond = device.get(url, headers={"Range": asked})
        assert (beyond.status, beyond.response["Content-Range"]) == (416, f"bytes */{size}")
    # Files that no bundle names: an original, another endpoint's, and what is no hash.
    original = supplied().put(b"an original")
    others = Api(create_key(name="others", scopes=["edge"], endpoints=["others"], actor=ACTOR)[1])
    for api, path in (
        (device, f"/api/v1/artifacts/{original}"),
        (others, url),
        (device, "/api/v1/artifacts/../../etc/passwd"),
        (device, "/api/v1/artifacts/" + "0" * 64),
    ):
        assert api.get(path).status == 404
    assert Api(None).get(url).status == 401


def test_cors__pages_of_named_origins__may_ask_for_ranges(settings: Any) -> None:
    settings.CORS_ORIGINS = ("https://shop.example.com",)
    asked = {
        "HTTP_ORIGIN": "https://shop.example.com",
        "REQUEST_METHOD": "OPTIONS",
        "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "GET",
    }
    told = dict(heads().preflight(asked) or [])
    assert {"Range", "If-None-Match", "Authorization"} <= set(told["Access-Control-Allow-Headers"].split(", "))
    exposed = set(dict(heads().of(asked))["Access-Control-Expose-Headers"].split(", "))
    assert {"Content-Range", "Date", "ETag"} <= exposed  # a device's clock may be off


class Breaking:
    """Between a client and the platform: ends each connection after so many bytes of answers."""

    def __init__(self, target: str, after: int) -> None:
        self._host, self._port = target.removeprefix("http://").split(":")
        self._after = after
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with taken, socket.create_connection((self._host, int(self._port))) as there:
                there.sendall(taken.recv(65536))
                left = self._after
                while left > 0 and (part := there.recv(min(left, 4096))):
                    taken.sendall(part)
                    left -= len(part)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def breaking(url: str) -> Iterator[Callable[[int], Breaking]]:
    made: list[Breaking] = []

    def make(after: int) -> Breaking:
        made.append(Breaking(url, after))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_file__download_that_breaks_off__goes_on_and_is_checked(
    breaking: Callable[[int], Breaking], device_key: str, device: Api, irises: Experiment, tmp_path: Path
) -> None:
    told = device.get("/api/v1/endpoints/irises/edge")["arms"][1]["artifact"]
    artifact = bundles.Artifact(**told)
    line = breaking(artifact.bytes // 3 + 700)
    with httpx.Client(base_url=line.url, headers={"Authorization": f"Bearer {device_key}"}) as http:
        files = Files(tmp_path / "models")
        assert files.fetch(http, artifact, 30.0)
        assert 3 <= line.connections <= 5
        assert hashlib.sha256(files.path(artifact).read_bytes()).hexdigest() == artifact.sha256
        count = line.connections
        assert not files.fetch(http, artifact, 30.0)
        assert line.connections == count
        # What somebody changed on the way is not taken, and begun anew.
        files.path(artifact).with_suffix(".part").write_bytes(b"x" * (artifact.bytes - 10))
        files.path(artifact).unlink()
        with pytest.raises(WrongFile):
            files.fetch(http, artifact, 30.0)
        assert files.fetch(http, artifact, 30.0)


def test_device__what_it_can_run__is_what_it_chooses_and_answers_as_the_platform(
    client: Any, irises: Experiment, alice: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = client(endpoint="irises")
    with pytest.raises(NoBundle):
        edge.predict(X[:1])
    assert edge.refresh()
    assert not edge.refresh()
    arms = set()
    for i in range(40):
        answer = edge.predict(X[i * 3 : i * 3 + 2], unit=f"u{i}")
        arms.add(answer.arm)
        wanted = alice.post(
            "/api/v1/endpoints/irises/predict",
            {
                "inputs": X[i * 3 : i * 3 + 2].tolist(),
                "exclude": [a for a in ("linear", "tree", "code") if a != answer.arm],
            },
        )
        assert answer.predictions == wanted["outputs"]["predict"]
        assert np.allclose(answer.outputs["predict_proba"], wanted["outputs"]["predict_proba"], atol=1e-6)
    assert arms == {"linear", "tree"}
    monkeypatch.setattr(models, "has_onnxruntime", lambda: False)
    assert {edge.predict([list(X[0])]).arm for _ in range(10)} == {"linear"}
    uploaded = edge.upload()
    assert uploaded.told == {"recorded": 50}


def test_device__offline_and_started_anew__goes_on_until_its_bundle_ends(
    client: Any, device_key: str, irises: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = client(endpoint="irises", limit=5)
    edge.refresh()
    first = edge.predict(X[:1], unit="u")
    edge.close()
    offline = EdgeClient("irises", tmp_path / "device", "http://127.0.0.1:9", device_key, timeout=1.0, limit=5)
    try:
        answers = [offline.predict(X[:1], unit="u") for _ in range(6)]
        assert {answer.arm for answer in answers} == {first.arm}
        assert [answer.learnable for answer in answers] == [True] * 4 + [False] * 2  # the file is bounded
        assert offline.feedback(first.decision_id, 1)
        assert not offline.feedback("not-of-here", 1)
        with pytest.raises(Unreachable):
            offline.upload()
        assert offline.waiting == 6
        ends = offline.bundle.expires_at.timestamp()
        monkeypatch.setattr("time.time", lambda: ends + 1)
        with pytest.raises(NoBundle, match="was good until"):
            offline.predict(X[:1], unit="u")
        monkeypatch.undo()
    finally:
        offline.close()
    again = client(endpoint="irises")
    assert again.upload().told == {"recorded": 6}
    with pytest.raises(Problem, match="404"):
        client("nobody", endpoint="none").refresh()
