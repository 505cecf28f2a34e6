"""An endpoint's package: what travels and what is refused, its bytes, its log, and its upload."""

import hashlib
import io
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from noregret.access.keys import create_key
from noregret.experiments.models import Experiment
from noregret.packaging import carried
from noregret.packaging.contents import CannotTravel, Terms, compose
from noregret.packaging.export import export, package_name, wheel_of
from noregret.packaging.wheel import Wheel, build
from noregret.registry.frameworks import SklearnDefinition
from noregret.registry.register import register_model
from noregret.steering.round import learn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from serving import snapshot
from serving.artifacts import ArtifactStore
from serving.models import Decision
from serving.packaged.frozen import SNAPSHOT
from serving.packaged.journal import Journal
from serving.packaged.rewards import FeedbackRefused
from serving.packaged.router import Router
from serving.packaged.uploading import UploadFailed
from serving.process import process
from serving.runtimes.http import HttpModel
from serving.runtimes.python import PythonModel
from serving.runtimes.sklearn import SklearnModel
from tests.client_environments import told_by
from tests.conftest import ACTOR, Api, endpoint_of, start_experiment, static_model
from tests.edge.conftest import url as url
from tests.edge.odd_requests import ODD
from tests.guide_code import code_of
from tests.packages.environments import install, installed
from tests.vectors import making

Start = Callable[..., Experiment]
Open = Callable[..., Router]
TERMS = Terms("receipt", 4e9)
NOWHERE = ArtifactStore(Path("nowhere"))


def document(**changes: Any) -> snapshot.Endpoint:
    return snapshot.Endpoint(3, "my.pages", 17, 0.0, making.model(0), 300, **changes)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the router of a snapshot, as its package would; the log is in a folder by name."""
    routers: list[Router] = []

    def make(of: snapshot.Endpoint | Wheel, log: str = "log", terms: Terms = TERMS, **options: Any) -> Router:
        place = tmp_path / f"contents-{len(routers)}"
        if isinstance(of, Wheel):
            files = {
                path.removeprefix("contents/"): of.files[path] for path in of.files if path.startswith("contents/")
            }
        else:
            files = compose(of, NOWHERE, terms).files
        for path, body in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(body)
        kind = type("Router", (Router,), {"contents": place})
        routers.append(kind(tmp_path / log, **options))
        return routers[-1]

    yield make
    for one in routers:
        one.close()


# The wheel.


def test_carried_files__are_the_services_own__but_for_where_they_import_ours_from() -> None:
    sources = carried.sources("noregret_x")
    for path, body in sources.items():
        room, _, rest = path.partition("/")
        if path != "serving/runtimes/__init__.py":
            assert body.decode().replace("from noregret_x.", "from ") == (carried.ROOMS[room] / rest).read_text(), path
            assert b"\nimport bandits" not in body
            assert b"\nimport serving" not in body
    assert {"serving/routing.py", "serving/choosing.py", "bandits/policies/allocation.py"} <= sources.keys()


def test_wheel__of_one_snapshot__is_the_same_bytes__and_tells_its_files_hashes() -> None:
    wheel = wheel_of(document(), NOWHERE, TERMS)
    body = build(wheel)
    assert body == build(wheel_of(document(), NOWHERE, TERMS))
    assert wheel.filename == "noregret_my_pages-1.17-py3-none-any.whl"
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        listed = archive.read("noregret_my_pages-1.17.dist-info/RECORD").decode().splitlines()
        assert sorted(line.split(",")[0] for line in listed) == sorted(archive.namelist())
        for line in listed[:-1]:
            path, digest, size = line.split(",")
            part = archive.read(path)
            assert digest == "sha256=" + urlsafe_b64encode(hashlib.sha256(part).digest()).decode().rstrip("=")
            assert int(size) == len(part)
        metadata = archive.read("noregret_my_pages-1.17.dist-info/METADATA").decode()
    assert "\nRequires-Dist: numpy>=2.1\n" in metadata
    assert "onnxruntime" not in metadata  # a payload needs none


@pytest.mark.parametrize(
    ("endpoint", "package"),
    [("iris", "noregret_iris"), ("my.pages", "noregret_my_pages"), ("a-_.b-", "noregret_a_b"), ("9", "noregret_9")],
)
def test_package__is_named_after_its_endpoint(endpoint: str, package: str) -> None:
    assert package_name(endpoint) == package
    assert package.isidentifier()


def test_export__what_stays_with_the_platform__is_refused_by_arm_and_reason() -> None:
    stay = {
        "py": PythonModel(model="p@1", framework="python", callable="a.b"),
        "far": HttpModel(model="h@1", framework="http", url="http://there", protocol="open-inference"),
        "forest": SklearnModel(model="s@1", framework="sklearn", sha256="0" * 64),
    }
    arms = [snapshot.Arm(1, "plain", making.model(0), 0.4)]
    arms += [snapshot.Arm(i, name, model, 0.2) for i, (name, model) in enumerate(stay.items(), start=2)]
    reward = snapshot.Reward(7, "e", "reward", "binary", "maximize", 60.0)
    with pytest.raises(CannotTravel) as refused:
        compose(document(experiment=snapshot.Experiment(7, "e", "ab", arms, reward)), NOWHERE, TERMS)
    assert refused.value.reasons == [
        "arm py can't be in a package: its model p@1 stays, for it is code of the platform's own machine",
        "arm far can't be in a package: its model h@1 stays, for it answers on another machine",
        "arm forest can't be in a package: its model s@1 stays, for it could not be compiled, and needs scikit-learn",
    ]


def test_contents__hold_no_statistic_that_the_choice_does_not_need() -> None:
    told = json.loads(compose(making.documents(1)["thompson-continuous"], NOWHERE, TERMS).files[SNAPSHOT])
    for arm in told["experiment"]["arms"]:
        assert arm["count"] == 0.0
        assert arm["learned"] <= 100.0
        assert "mean" not in arm
        assert "m2" not in arm


def test_command__endpoint_that_is_not_there__says_so(platform: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="there is no endpoint nowhere"):
        call_command("export-package", "nowhere", out=tmp_path)
    for day, said in (("9999-12-31", "no day"), ("2026-02-30", "no day"), ("2020-01-01", "is over")):
        with pytest.raises(CommandError, match=said):
            call_command("export-package", "nowhere", "--out", str(tmp_path), "--until", day)


def test_package__installed_beside_numpy_and_onnxruntime_alone__answers_as_the_service(
    alice: Api, platform: None, tmp_path: Path
) -> None:
    X, y = load_iris(return_X_y=True)
    import skops.io

    for version, model in {
        "tree": DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, y),
        "linear": LogisticRegression(max_iter=500).fit(X, y),
    }.items():
        body = skops.io.dumps(model)
        register_model(SklearnDefinition(name="iris", version=version, artifact=body), actor=ACTOR)
    endpoint_of("iris", "iris@tree")
    arms = [{"name": name, "model": f"iris@{name}"} for name in ("tree", "linear")]
    start_experiment({"name": "e", "endpoint": "iris", "strategy": "ab", "arms": arms})
    process().store.refresh()
    call_command("export-package", "iris", out=tmp_path)
    wheel = export("iris")
    assert (tmp_path / wheel.filename).read_bytes() == build(wheel)
    assert "onnxruntime>=1.20" in wheel.requires
    python = installed(wheel, tmp_path)
    rows = X[::7].tolist()
    code = textwrap.dedent(
        """
        import json, sys, noregret_iris
        given = json.loads(sys.argv[-1])
        router = noregret_iris.Router(given["log"])
        answers = [router.predict(given["rows"], unit=unit) for unit in given["units"]]
        ours = sorted({name.partition(".")[0] for name in sys.modules} & {"bandits", "serving", "scipy", "msgspec"})
        print(json.dumps({"answers": answers, "ours": ours}))
        """
    )
    units = [f"u{i}" for i in range(20)]
    told = told_by([str(python), "-c", code], rows=rows, units=units, log=str(tmp_path / "log"))
    assert told["ours"] == []
    seen = set()
    for unit, answer in zip(units, told["answers"], strict=True):
        expected = alice.post("/api/v1/endpoints/iris/predict", {"unit": unit, "inputs": rows}).body
        assert list(answer) == list(expected)
        same = (
            "endpoint",
            "experiment",
            "arm",
            "model",
            "strategy",
            "propensity",
            "learnable",
            "fallback_reason",
        )
        assert {name: answer[name] for name in same} == {name: expected[name] for name in same}
        assert answer["outputs"]["predict"] == expected["outputs"]["predict"]
        assert np.allclose(answer["outputs"]["predict_proba"], expected["outputs"]["predict_proba"], atol=1e-12)
        seen.add(answer["arm"])
    assert seen == {"tree", "linear"}


# Requests.


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"inputs": []}, "at least one"),
        ({"inputs": [["x"]]}, r"inputs\[0\]\[0\]: a finite number"),
        ({"inputs": [[1.0, float("nan")]]}, r"inputs\[0\]\[1\]: a finite number"),
        ({"inputs": [[True]]}, "a finite number"),
        ({"inputs": [[1.0], [1.0, 2.0]]}, r"inputs\[1\]: 2 features"),
        ({"inputs": [[1.0]], "unit": ""}, "unit: a text of 1 to 256"),
        ({"inputs": [[1.0]], "unit": "a\0"}, "unit: holds NUL"),
        ({"inputs": [[1.0]], "context": {"a": [1]}}, "context.a"),
        ({"inputs": [[1.0]], "context": {"a": float("inf")}}, "context.a"),
    ],
)
def test_predict__what_the_service_refuses__is_a_value_error_that_says_which(
    opened: Open, given: dict[str, Any], said: str
) -> None:
    router = opened(document())
    with pytest.raises(ValueError, match=said):
        router.predict(**given)
    assert router.waiting == (0, 0)


def test_arm_that_fails__the_champion_answers__and_nothing_is_learned(opened: Open) -> None:
    router = opened(making.documents(1)["ab-9"])

    class Raising:
        bounded = True

        def predict(self, rows: Any) -> Any:
            raise RuntimeError("no")

    for seat in router._live.seats[1:]:
        object.__setattr__(seat.model, "runtime", Raising())
    answers = [router.predict(np.ones((1, 2)), unit=f"u{i}") for i in range(40)]
    failed = [answer for answer in answers if answer["arm"] != "arm-0"]
    assert failed
    for answer in failed:
        assert (answer["model"], answer["fallback_reason"], answer["learnable"]) == ("m@0", "error", False)
    with pytest.raises(FeedbackRefused) as refused:
        router.feedback(failed[0]["decision_id"], 1)
    assert refused.value.status == "not_learnable"


def test_seed__the_same__draws_the_same_arms(opened: Open) -> None:
    of = making.documents(1)["thompson-binary"]
    first, again, other = (opened(of, log=str(seed), seed=seed) for seed in (5, 5, 6))
    arms = [[router.decide()["arm"] for _ in range(200)] for router in (first, again, other)]
    assert arms[0] == arms[1] != arms[2]


# The log.


def test_log__full_by_number_or_by_bytes__decisions_are_answered_and_not_learnable(opened: Open) -> None:
    few = opened(document(baseline=snapshot.Baseline(7, 1)), most_decisions=3)
    assert [few.decide()["learnable"] for _ in range(5)] == [True] * 3 + [False] * 2
    small = opened(document(baseline=snapshot.Baseline(7, 1)), log="small", most_bytes=300_000)
    learnable = [small.decide(unit="u" * 256, context={"x": "y" * 2000})["learnable"] for _ in range(300)]
    assert learnable[0]
    assert not learnable[-1]
    assert small.waiting[0] == sum(learnable)
    assert sum(path.stat().st_size for path in small.folder.glob("log.sqlite3")) <= 300_000


def test_log__that_cannot_be_written__decisions_are_answered(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder was expected")
    router = opened(document(baseline=snapshot.Baseline(7, 1)), log="taken")
    answer = router.predict([[1.0]])
    assert answer["outputs"] == {"predict": [{"number": 0}]}
    assert not answer["learnable"]


def test_log__that_is_damaged__is_set_aside_and_a_new_one_begun(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "log" / "log.sqlite3"
    for number, spoil in enumerate((b"garbage" * 900, b"")):
        before = opened(document(baseline=snapshot.Baseline(7, 1)))
        before.decide()
        before.close()
        whole = path.read_bytes()
        path.write_bytes(spoil or whole[:4096] + b"\xff" * (len(whole) - 4096))
        router = opened(document(baseline=snapshot.Baseline(7, 1)))
        assert [router.decide()["learnable"] for _ in range(3)] == [False, True, True]
        assert router.waiting == (2, 0)
        router.close()
        assert len(list(path.parent.glob("log.sqlite3.damaged-*"))) == number + 1


def test_folder__that_is_no_path__is_told_at_once(opened: Open) -> None:
    with pytest.raises(ValueError, match="folder"):
        opened(document(), log="\0")


def test_package__past_its_day__answers_stale_and_is_not_learnable(opened: Open) -> None:
    answer = opened(document(baseline=snapshot.Baseline(7, 1)), terms=Terms("receipt", 1.0)).decide()
    assert (answer["stale"], answer["learnable"]) == (True, False)


def test_single_deployment__that_records_no_decision__keeps_none(opened: Open) -> None:
    router = opened(document(), terms=Terms(None, 4e9))
    assert not router.decide()["learnable"]
    assert router.waiting == (0, 0)


WRITER = """
import json, sys
from pathlib import Path
from serving.packaged.router import Router
contents, log, name = sys.argv[1:]
router = type("Router", (Router,), {"contents": Path(contents)})(log)
for i in range(100_000):
    answer = router.decide(unit=f"{name}-{i}")
    if answer["learnable"]:
        router.feedback(answer["decision_id"], 1)
        sys.stdout.write(answer["decision_id"] + "\\n")
        sys.stdout.flush()
"""


def test_log__of_several_processes__that_are_killed__holds_all_that_was_answered(opened: Open, tmp_path: Path) -> None:
    router = opened(making.documents(1)["sticky"])
    writers = []
    for number in range(3):
        with (tmp_path / f"answered-{number}").open("wb") as said:
            command = [sys.executable, "-c", WRITER, str(router.contents), str(router.folder), str(number)]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            writers.append(subprocess.Popen(command, stdout=said, env=environment))
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not all(len(answered(tmp_path, n)) > 30 for n in range(3)):
            time.sleep(0.05)
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
    told = [one for number in range(3) for one in answered(tmp_path, number)]
    assert len(told) > 90
    for decision_id in told:
        assert router.feedback(decision_id, 1) == {"status": "duplicate"}
    assert router.decide()["learnable"]
    decisions, rewards = router.waiting
    assert decisions >= rewards >= len(told)


def answered(folder: Path, number: int) -> list[str]:
    text = (folder / f"answered-{number}").read_text()
    return text[: text.rfind("\n") + 1].split()


def _decide_in_child(router: Router, pipe: Any) -> None:
    pipe.send([router.decide()["learnable"] for _ in range(20)])


def test_log__of_a_forked_child__is_its_parents_file_and_not_its_connection(opened: Open) -> None:
    router = opened(document(baseline=snapshot.Baseline(7, 1)))
    assert router.decide()["learnable"]
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    child = context.Process(target=_decide_in_child, args=(router, theirs))
    child.start()
    assert mine.poll(30)
    assert mine.recv() == [True] * 20
    child.join(30)
    assert router.decide()["learnable"]
    assert router.waiting[0] == 22


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [("binary", 2, "binary"), ("binary", "1", "a number"), ("count", 1.5, "whole"), ("continuous", True, "continuous")],
)
def test_feedback__value_that_the_reward_does_not_have__is_refused(
    opened: Open, kind: str, value: Any, said: str
) -> None:
    router = opened(making.documents(1)[f"thompson-{kind}"])
    decision_id = router.decide()["decision_id"]
    with pytest.raises(FeedbackRefused, match=said):
        router.feedback(decision_id, value)
    assert router.waiting == (1, 0)


def test_feedback__another_value__is_a_conflict__and_late_after_the_window(opened: Open) -> None:
    router = opened(making.documents(1)["thompson-continuous"])
    decision_id = router.decide()["decision_id"]
    assert router.feedback(decision_id, 1e9 + 0.25) == {"status": "recorded"}
    assert router.feedback(decision_id, 1e9 + 0.25) == {"status": "duplicate"}
    with pytest.raises(FeedbackRefused) as refused:
        router.feedback(decision_id, 1e9)
    assert refused.value.status == "conflict"
    later = datetime.now(UTC) + timedelta(hours=2)
    assert router.feedback(decision_id, 3, "clicks", occurred_at=later) == {"status": "late"}
    odd_times: list[Any] = [
        datetime.now(UTC) - timedelta(minutes=6),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=23))),
        "2026-11-26T03:11:00Z",
        5,
    ]
    for at in odd_times:
        with pytest.raises(FeedbackRefused, match="occurred_at") as refused:
            router.feedback(decision_id, 3, "views", occurred_at=at)
        assert refused.value.status == "invalid"
    with pytest.raises(FeedbackRefused, match="no decision"):
        router.feedback("0b6c3e0e-4c3d-4a55-9d1e-6a0f9f2f7f10", 1)


# Its upload.


@pytest.fixture
def edge_key(platform: None) -> str:
    return create_key(name="package", scopes=["edge"], actor=ACTOR)[1]


def test_upload__decisions_and_rewards__are_in_the_ledger_once_and_learned(
    two_arms: Start, opened: Open, url: str, edge_key: str
) -> None:
    experiment = two_arms(policy={"name": "thompson", "burn_in": 5}, edge_exclusions=True)
    process().store.refresh()
    router = opened(export("pages"))
    answers = [router.decide(unit=f"u{i}", context={"n": i}, exclude=["a"] if i % 5 == 0 else []) for i in range(60)]
    for answer in answers[:40]:
        router.feedback(answer["decision_id"], answer["arm"] == "b")
    assert router.upload(url, edge_key) == (60, 40, 0)
    assert router.waiting == (0, 0)
    assert router.upload(url, edge_key) == (0, 0, 0)
    router.feedback(answers[50]["decision_id"], 1)  # after its decision went
    assert router.upload(url, edge_key) == (0, 1, 0)
    learn(experiment.endpoint_id)
    rows = Decision.objects.filter(experiment_id=experiment.pk)
    assert rows.count() == 60
    assert sorted(rows.values_list("unit", "propensity")) == sorted(
        (f"u{i}", a["propensity"]) for i, a in enumerate(answers)
    )
    from noregret.learning.rebuild import rebuild

    assert rebuild(experiment, write=False) == []


def test_upload__answer_that_got_lost__is_sent_again_and_there_once(
    two_arms: Start, opened: Open, url: str, edge_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = two_arms()
    process().store.refresh()
    router = opened(export("pages"))
    for i in range(10):
        router.feedback(router.decide(unit=f"u{i}")["decision_id"], 1)
    settle = Journal.settle
    monkeypatch.setattr(Journal, "settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))  # it dies here
    with pytest.raises(KeyboardInterrupt):
        router.upload(url, edge_key)
    monkeypatch.setattr(Journal, "settle", settle)
    assert router.waiting == (10, 10)
    assert router.upload(url, edge_key) == (10, 10, 0)
    learn(experiment.endpoint_id)
    assert Decision.objects.filter(experiment_id=experiment.pk).count() == 10


def test_upload__platform_that_is_away_or_refuses_the_key__loses_nothing(
    two_arms: Start, opened: Open, url: str, edge_key: str
) -> None:
    two_arms()
    process().store.refresh()
    router = opened(export("pages"))
    router.decide()
    with pytest.raises(UploadFailed, match="401") as refused:
        router.upload(url, "no-key")
    assert refused.value.status == 401
    with pytest.raises(UploadFailed, match="no answer"):
        router.upload("http://127.0.0.1:1", edge_key, timeout=5)
    with pytest.raises(UploadFailed, match="no address"):
        router.upload("file:///etc/passwd", edge_key)
    assert router.waiting == (1, 0)
    assert router.upload(url, edge_key) == (1, 0, 0)


def test_upload__event_that_can_be_nothing__holds_up_no_other(
    two_arms: Start, opened: Open, url: str, edge_key: str
) -> None:
    experiment = two_arms()
    process().store.refresh()
    router = opened(export("pages"))
    for fields, field in ODD:
        with pytest.raises(ValueError, match=f"^{field}"):
            router.decide(**fields)
    ids = [router.decide(unit=f"u{i}")["decision_id"] for i in range(20)]
    for decision_id in ids:
        router.feedback(decision_id, 1)
    # As a version kept them that looked at nothing.
    large, nul, wrong = {"context": {"a": "x" * 1_300_000}}, {"unit": "a\0b"}, {"context": {"a": 10**30}}
    with sqlite3.connect(router.folder / "log.sqlite3") as log:
        for number, change in ((3, large), (7, nul), (11, wrong)):
            (text,) = log.execute("SELECT event FROM decision WHERE id = ?", (ids[number],)).fetchone()
            event = json.dumps(json.loads(text) | change)
            log.execute("UPDATE decision SET event = ? WHERE id = ?", (event, ids[number]))
        half = '{"type": "decision", "unit": "\\ud800"}'
        log.execute("UPDATE decision SET event = ? WHERE id = ?", (half, ids[15]))
        value = log.execute("SELECT event FROM reward WHERE decision_id = ?", (ids[0],)).fetchone()[0]
        log.execute(
            "UPDATE reward SET event = ? WHERE decision_id = ?", (value.replace('"value": 1', '"value": 7'), ids[0])
        )
    assert router.upload(url, edge_key) == (16, 15, 9)
    assert router.waiting == (0, 0)
    # What was refused of a decision that is there can be given anew.
    assert router.feedback(ids[0], 1) == {"status": "recorded"}
    assert router.upload(url, edge_key) == (0, 1, 0)
    learn(experiment.endpoint_id)
    assert Decision.objects.filter(experiment_id=experiment.pk).count() == 16


def test_upload__receipt_of_a_secret_that_is_no_more__is_refused_and_holds_up_no_other(
    two_arms: Start, opened: Open, url: str, edge_key: str
) -> None:
    two_arms()
    process().store.refresh()
    wheel = export("pages")
    before, after = opened(document(baseline=snapshot.Baseline(7, 1)), log="same"), opened(wheel, log="same")
    before.feedback(before.decide()["decision_id"], 1)
    after.decide()
    assert after.upload(url, edge_key) == (1, 0, 2)


def test_new_wheel__goes_on_with_the_log_and_units_keep_their_arms(
    two_arms: Start, opened: Open, url: str, edge_key: str
) -> None:
    experiment = two_arms(sticky=True, holdout=0.2, policy={"name": "thompson", "burn_in": 5})
    process().store.refresh()
    old = opened(export("pages"))
    units = [f"u{i}" for i in range(30)]
    first = {unit: old.decide(unit=unit) for unit in units}
    experiment.endpoint.refresh_from_db()
    before = experiment.endpoint.policy_version
    for unit in units:
        old.feedback(first[unit]["decision_id"], first[unit]["arm"] == "b")
    assert old.upload(url, edge_key) == (30, 30, 0)
    pending = old.decide(unit="u0")
    for _ in range(3):
        learn(experiment.endpoint_id)
    process().store.refresh()
    wheel = export("pages")
    assert int(wheel.version.removeprefix("1.")) > before
    new = opened(wheel)
    again = {unit: new.decide(unit=unit) for unit in units}
    assert {unit: one["arm"] for unit, one in again.items()} == {unit: one["arm"] for unit, one in first.items()}
    assert {unit: one["propensity"] for unit, one in again.items()} == {
        unit: one["propensity"] for unit, one in first.items()
    }
    assert new.feedback(pending["decision_id"], 1) == {"status": "recorded"}
    assert new.upload(url, edge_key) == (31, 1, 0)


def test_new_wheel__installed_over_the_old__is_what_is_imported(tmp_path: Path) -> None:
    old = wheel_of(document(), NOWHERE, TERMS)
    newer = snapshot.Endpoint(3, "my.pages", 18, 0.0, making.model(0), 300)
    python = installed(old, tmp_path)
    install(wheel_of(newer, NOWHERE, TERMS), python, tmp_path)
    code = "import noregret_my_pages as p, sys, json; r = p.Router(json.loads(sys.argv[-1])['log']); print(r.version)"
    assert told_by([str(python), "-c", code], log=str(tmp_path / "log")) == 18


def test_page__its_code__runs_where_numpy_and_the_package_are(
    platform: None, url: str, edge_key: str, tmp_path: Path
) -> None:
    static_model("iris", "1", payload="setosa")
    static_model("iris", "2", payload="virginica")
    endpoint_of("iris", "iris@1")
    arms = [{"name": f"v{version}", "model": f"iris@{version}"} for version in (1, 2)]
    experiment = start_experiment({"name": "e", "endpoint": "iris", "strategy": "bandit", "arms": arms})
    process().store.refresh()
    python = installed(export("iris"), tmp_path)
    blocks = code_of("package.md", **{"https://noregret.example.com": url, '"KEY"': repr(edge_key)})
    ran = subprocess.run(
        [str(python), "-c", "\n".join(blocks)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"HOME": str(tmp_path), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
    )
    assert ran.returncode == 0, ran.stderr
    arm, counts = ran.stdout.splitlines()
    assert arm in ("v1 ['setosa']", "v2 ['virginica']")
    assert counts == "1 1 0"
    learn(experiment.endpoint_id)
    (row,) = Decision.objects.filter(experiment_id=experiment.pk)
    assert row.unit == "user-42"
