"""The transforms of noregret_client.beam, run for real on Beam's local runner, in an environment
that has Beam; and the call that they make."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from noregret.embedded.running import RunningPlatform
from noregret_client import Client, NotFound, Prediction, Problem, Request, Retries, Unreachable
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.client_environments import python_of
from tests.clients.conftest import served_by
from tests.clients.faulty_proxy import LOSE_ANSWER, RESET_MID_ANSWER, FaultyProxy, answered, unavailable
from tests.guide_code import code_of

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "clients" / "python" / "src"


@pytest.fixture(scope="session")
def halves(running: RunningPlatform, key: str) -> str:
    """An endpoint whose two arms each get a half, in the experiment `halves-1`."""
    with Client(running.url, key, timeout=60.0) as client:
        for version in ("zeros", "ones"):
            definition = {"framework": "python", "callable": f"tests.callables.{version}"}
            client.register_definition({"name": "half", "version": version, **definition})
        client.create_endpoint("halves", champion="half@zeros", deadline_ms=5000)
        arms = [{"name": version, "model": f"half@{version}"} for version in ("zeros", "ones")]
        client.create_experiment({"name": "halves-1", "endpoint": "halves", "strategy": "ab", "arms": arms}, start=True)
        served_by(client, "halves", "halves-1")
    return "halves"


@pytest.fixture(scope="session")
def beam_python() -> Path:
    return python_of("beam")


class OnBeam:
    """Runs pipelines of flow_on_beam.py, and reads what they wrote."""

    def __init__(self, python: Path, url: str, key: str, folder: Path) -> None:
        self._command = [str(python), str(HERE / "flow_on_beam.py")]
        self._given = {"url": url, "key": key, "folder": str(folder)}
        self._folder = folder
        names = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO"))}
        self._environment = names | {"PYTHONPATH": str(SOURCE), "NO_PROXY": "127.0.0.1"}

    def start(self, what: str, name: str, **given: Any) -> "subprocess.Popen[bytes]":
        told = json.dumps(self._given | {"what": what, "name": name, "endpoint": "halves"} | given)
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen([*self._command, told], stdout=log, stderr=log, env=self._environment)

    def run(self, what: str, name: str, **given: Any) -> None:
        code = self.start(what, name, **given).wait(200)
        assert code == 0, (self._folder / "log").read_text()[-3000:]

    def written(self, name: str) -> list[list[Any]]:
        path = self._folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def on_beam(beam_python: Path, proxy: FaultyProxy, key: str, halves: str, tmp_path: Path) -> OnBeam:
    return OnBeam(beam_python, proxy.url, key, tmp_path)


def ledger(client: Client, name: str, count: int) -> dict[str, str]:
    """The decisions of `count` requests, by unit, each of which is there once: the learner takes
    its time."""
    deadline = time.monotonic() + 60
    while True:
        lines = decisions(client, name)
        if len(lines) >= count or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert len(lines) == count == len({line["unit"] for line in lines})
    return {line["unit"]: line["decision_id"] for line in lines}


def decisions(client: Client, name: str) -> list[dict[str, Any]]:
    settings = client._settings
    got = httpx.get(
        f"{settings.address.url}/api/v1/experiments/halves-1/decisions.ndjson", headers=settings.headers, timeout=60
    )
    lines = [json.loads(line) for line in got.text.splitlines()]
    return [line for line in lines if (line["unit"] or "").startswith(f"{name}-")]


# The call


def requests_of(name: str, count: int) -> list[Request]:
    return [Request(request_id=f"{name}-{n}", unit=f"{name}-{n}", inputs=np.array([[n / 7]])) for n in range(count)]


@pytest.fixture
def many(proxy: FaultyProxy, key: str, halves: str) -> Iterator[Client]:
    with Client(proxy.url, key, timeout=30.0, retries=Retries(tries=4, first_pause=0.01)) as client:
        yield client


def test_predict_many__answers_lost_and_refused__are_one_decision_a_request(many: Client, proxy: FaultyProxy) -> None:
    proxy.goes_wrong(LOSE_ANSWER, unavailable(), RESET_MID_ANSWER)
    requests = requests_of("lost", 230)
    results = many.predict_many("halves", requests)
    assert [result.request_id for result in results if isinstance(result, Prediction)] == [
        request.request_id for request in requests
    ]
    assert [len(body["requests"]) for body in proxy.bodies()] == [100, 100, 100, 100, 100, 30]
    again = many.predict_many("halves", requests[::-1])
    assert again == results[::-1]
    told = {result.request_id: result.decision_id for result in results if isinstance(result, Prediction)}
    assert ledger(many, "lost", 230) == told


def test_predict_many__what_is_wrong_with_one__is_its_own_and_with_all_is_raised(
    many: Client, proxy: FaultyProxy
) -> None:
    good, other = {"request_id": "w-1", "inputs": [[1.0]]}, {"request_id": "w-1", "inputs": [[2.0]]}
    text = {"request_id": "w-2", "inputs": [["x"]], "unit": "u"}
    first, second, third = many.predict_many("halves", [good, other, text])
    assert isinstance(first, Prediction)
    assert isinstance(second, Problem)
    assert isinstance(third, Problem)
    assert (second.status, third.status, third.field) == (409, 400, "inputs[0][0]")
    with pytest.raises(ValueError, match="request 1: request_id"):
        many.predict_many("halves", [good, {"request_id": "", "inputs": [[1.0]]}])
    with pytest.raises(TypeError, match=r"request 0.*colour"):
        many.predict_many("halves", [good | {"colour": "red"}])
    with pytest.raises(NotFound):
        many.predict_many("nowhere", [good])
    proxy.goes_wrong(answered(413, {"title": "The body is too large"}))
    assert len({type(result) for result in many.predict_many("halves", requests_of("halved", 9))}) == 1
    assert [len(body["requests"]) for body in proxy.bodies()[-4:]] == [9, 4, 4, 1]
    proxy.goes_wrong(*[unavailable()] * 4)
    assert {type(result).__name__ for result in many.predict_many("halves", requests_of("away", 120))} == {
        "PlatformUnavailable"
    }
    with Client("http://127.0.0.1:9", "key", retries=Retries(tries=2, first_pause=0.01)) as nobody:
        assert all(isinstance(result, Unreachable) for result in nobody.predict_many("halves", [good, good]))


# On Beam


def test_predict_and_feedback__answers_lost__each_once_with_its_time_and_window(
    on_beam: OnBeam, proxy: FaultyProxy, client: Client
) -> None:
    proxy.goes_wrong(LOSE_ANSWER, unavailable(), LOSE_ANSWER)
    on_beam.run("several", "several")
    answers = on_beam.written("answered")
    assert {(name, at // 1_000_000, window) for name, _, _, at, window in answers} == {
        (f"several-{n}", n, f"[{n // 60 * 60}.0, {n // 60 * 60 + 60}.0)") for n in range(250)
    }
    assert len(answers) == 250
    assert {arm for _, _, arm, *_ in answers} == {"zeros", "ones"}
    assert ledger(client, "several", 250) == {name: decision_id for name, decision_id, *_ in answers}
    assert Counter(reason for _, reason, *_ in on_beam.written("failed")) == {"not_a_request": 2, "invalid-fields": 1}
    recorded = Counter((name, status) for name, status, *_ in on_beam.written("recorded"))
    assert {name for name, _ in recorded} == {f"several-{n}" for n in range(250)}
    assert sum(recorded.values()) == 500
    unknown = on_beam.written("unknown")
    assert Counter(reason for _, reason, *_ in unknown) == {"unknown": 2, "not_a_request": 3, "too-large": 1}
    details = [detail for _, reason, _, detail, *_ in unknown if reason == "not_a_request"]
    assert (
        sum("occurred_at: a time as 2026-11-26T17:00:00Z was expected, not 'yesterday'" in one for one in details) == 1
    )
    assert sum("occurred_at: a datetime with its zone was expected, not int" in one for one in details) == 1
    raised = {detail.partition(":")[0] for _, reason, _, detail, *_ in on_beam.written("raised")}
    assert raised == {"IndexError", "ZeroDivisionError"}
    rewarded = {line["unit"]: line["reward"] for line in decisions(client, "several")}
    assert rewarded == {f"several-{n}": float(n % 10 == 7) for n in range(250)}


def test_pipeline__killed_and_started_again__each_request_is_once_in_the_ledger(
    on_beam: OnBeam, client: Client
) -> None:
    pipeline = on_beam.start("slowly", "killed", requests=500, pause=0.01)
    deadline = time.monotonic() + 120
    while len(on_beam.written("answered")) < 150:
        assert time.monotonic() < deadline
        assert pipeline.poll() is None
        time.sleep(0.05)
    pipeline.send_signal(signal.SIGKILL)
    pipeline.wait()
    before = len(on_beam.written("answered"))
    assert before < 500
    on_beam.run("slowly", "killed", requests=500, pause=0)
    answers = on_beam.written("answered")
    assert len(answers) == before + 500
    told = {(name, decision_id) for name, decision_id, *_ in answers}
    assert len(told) == 500  # the second time each heard what it had heard
    assert ledger(client, "killed", 500) == dict(told)
    assert on_beam.written("failed") == []


@pytest.fixture
def flows(client: Client) -> None:
    """The endpoints of docs/streams.md's flows."""
    languages = {
        "en": ["the room was a lovely one", "and loud and cold"],
        "de": ["das Zimmer war schön", "laut und kalt"],
    }
    texts = [text for language in languages.values() for text in language]
    named = [language for language, there in languages.items() for _ in there]
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 2))
    language = make_pipeline(letters, LogisticRegression(C=100)).fit(texts, named)
    table = pd.DataFrame({"text": [*texts, "a lovely quiet room"], "language": [*named, "en"]})
    words = [("words", TfidfVectorizer(), "text"), ("language", OneHotEncoder(handle_unknown="ignore"), ["language"])]
    moods = make_pipeline(ColumnTransformer(words), LogisticRegression(C=100)).fit(
        table, ["good", "bad", "good", "bad", "good"]
    )
    ages = np.array([[20.0], [30.0], [60.0], [70.0]])
    shelf = LogisticRegression().fit(ages, ["coffee", "coffee", "tea", "tea"])
    ranking = LinearRegression().fit(np.array([[20.0, 5.0], [20.0, 9.0], [60.0, 5.0]]), [0.9, 0.1, 0.8])
    samples = {"language": texts, "mood": table, "shelf": ages, "ranking": np.array([[20.0, 5.0]])}
    for name, model in {"language": language, "mood": moods, "shelf": shelf, "ranking": ranking}.items():
        client.register(model, name=name, version="1", sample=samples[name])
        client.create_endpoint(name, champion=f"{name}@1", deadline_ms=5000)
    for name, row in {"language": ["x"], "shelf": [1.0], "ranking": [1.0, 1.0]}.items():
        client.predict(name, [row])


def test_page__flows_of_several_models__run_as_they_stand_there(
    beam_python: Path, running: RunningPlatform, key: str, flows: None, tmp_path: Path
) -> None:
    _, _, *blocks = code_of("streams.md")
    page = tmp_path / "page.py"
    page.write_text("\n".join(blocks))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO"))} | {
        "PYTHONPATH": str(SOURCE),
        "NOREGRET_URL": running.url,
        "NOREGRET_KEY": key,
    }
    ran = subprocess.run(
        [str(beam_python), str(page)], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert sorted(ran.stdout.splitlines()) == sorted(
        [
            "c-1 en good",
            "c-2 de bad",
            "recorded",
            "recorded",
            "('v-1', ['assam', 'sencha'])",
            "('v-2', ['robusta', 'arabica'])",
        ]
    )
