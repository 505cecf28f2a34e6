"""Answers that are kept: the same rows, and no others; the decision is made and recorded all the
same, and nothing false is learned of how long a call takes or how often one fails."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from noregret.experiments.models import Experiment
from noregret.learning import baselines, shadows
from noregret.learning.models import ArmStatistics
from noregret.learning.rebuild import rebuild
from noregret.learning.summing import sums_of
from noregret.learning.sums import Sums
from noregret.learning.watched.comparisons import compare
from noregret.learning.watched.watches import watches_of
from noregret.registry.frameworks.sklearn import SklearnFramework
from noregret.steering.round import learn
from onnx import TensorProto, helper
from sklearn.decomposition import NMF
from sklearn.dummy import DummyClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - without it the next is not there
from sklearn.impute import IterativeImputer
from sklearn.linear_model import BayesianRidge, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from serving import metrics, snapshot
from serving.breaker import FAILURES
from serving.deadline import DeadlineExceeded, WaitedInVain
from serving.deciding import Asked, decide
from serving.live import load_model
from serving.prediction_cache import OVERHEAD_BYTES, PredictionCache, PredictionCaches, key_of
from serving.process import process
from serving.runtimes import kinds
from serving.runtimes.columns import Column
from serving.runtimes.rows import from_columns, to_rows
from serving.runtimes.sklearn import SklearnModel
from tests import callables
from tests.conftest import Api, endpoint_of, python_model, start_experiment, static_model
from tests.learning import past_traffic
from tests.learning.test_shadows import copied
from tests.learning.told import results

PREDICT = "/api/v1/endpoints/pages/predict"
MODEL = SklearnModel(model="m@1", framework="sklearn", sha256="a" * 64, features=2)
FOR_A_MINUTE = {"entries": 100, "seconds": 60}


@pytest.fixture(autouse=True)
def calls() -> Iterator[list[Any]]:
    callables.CALLS.clear()
    yield callables.CALLS
    callables.CALLS.clear()


def cached(api: Api, cache: Any = FOR_A_MINUTE, endpoint: str = "pages") -> None:
    answer = api("PATCH", f"/api/v1/endpoints/{endpoint}", {"cache": cache})
    assert answer.status == 200, answer.content
    process().store.refresh(20.0)


def predicted(api: Api, rows: Any, path: str = PREDICT, **more: Any) -> Any:
    answer = api.post(path, {"inputs": rows, **more})
    assert answer.status == 200, answer.content
    return answer.body


# The key: what the model gets.


def test_key__same_rows_however_they_are_spelt__is_the_same() -> None:
    def of(rows: Any, model: Any = MODEL) -> bytes | None:
        return key_of(model, to_rows(rows, model))

    assert of([[1, 2]]) == of([[1.0, 2.0]]) == of(np.array([[1, 2]])) == of(np.array([[1, 2]], dtype=np.float32))
    assert of([[1, 2], [3, 4]]) != of([[3, 4], [1, 2]])
    assert len({of([[1, 2], [3, 4]]), of([[1, 2]]), of([[2, 1]]), of([[1e9, 2]]), of([[1e9 + 1e-6, 2]])}) == 5
    # A model may tell them apart, as 1 / x does: each has its own answer.
    assert of([[0.0, 2]]) != of([[-0.0, 2]])
    for other in ({"model": "m@2"}, {"sha256": "b" * 64}):
        assert of([[1, 2]]) != of(
            [[1, 2]], SklearnModel(**{"model": "m@1", "framework": "sklearn", "sha256": "a" * 64, **other})
        )  # type: ignore[arg-type]
    flat, square = np.arange(4.0).reshape(1, 4), np.arange(4.0).reshape(2, 2)
    assert key_of(MODEL, flat) != key_of(MODEL, square)


def test_key__typed_columns__null_is_one_value_and_types_are_apart() -> None:
    columns = (
        Column("city", "string", nullable=True), Column("age", "integer", nullable=True), Column("size"),
        Column("member", "boolean", nullable=True),
    )  # fmt: skip
    model = SklearnModel(model="m@1", framework="sklearn", sha256="a" * 64, columns=columns)

    def of(*rows: Any) -> bytes | None:
        return key_of(model, to_rows(list(rows), model))

    row = ["Seoul", 31, 1.5, True]
    assert (
        of(row) == of(["Seoul", 31.0, 1.5, True]) == of(dict(zip(("city", "age", "size", "member"), row, strict=True)))
    )
    arrays = {
        "member": np.array([True]), "size": np.array([1.5]), "age": np.array([31.0]),
        "city": np.array(["Seoul"], dtype=object),
    }  # fmt: skip
    assert of(row) == key_of(model, from_columns(arrays, columns))
    gap = np.frombuffer(np.array([0x7FF8000000000123], dtype=np.uint64).tobytes())  # another NaN
    assert of(["Seoul", None, 1.5, True]) == key_of(model, from_columns({**arrays, "age": gap}, columns))
    others = [
        row, ["Seoul", 0, 1.5, True], ["Seoul", None, 1.5, True], [None, 31, 1.5, True], ["", 31, 1.5, True],
        ["None", 31, 1.5, True], ["Seoul", 31, 1.5, None], ["Seoul", 31, 1.5, False], ["seoul", 31, 1.5, True],
        ["Se\u0301oul", 31, 1.5, True], ["S\u00e9oul", 31, 1.5, True],
    ]  # fmt: skip
    assert len({of(one) for one in others}) == len(others)
    # Where one text ends and the next begins is told.
    assert of(["ab", 1, 1, None], ["c", 1, 1, None]) != of(["a", 1, 1, None], ["bc", 1, 1, None])


# The store: bounded, by entries and by bytes.


def rows_of(value: float) -> Any:
    return np.array([[value, 0.0]])


def ask(
    cache: PredictionCache, value: float, answer: Any = None, *, patience: float | None = None, seconds: float = 10.0
) -> Any:
    outputs = {"predict": [value if answer is None else answer]}
    return cache.answer(MODEL, rows_of(value), lambda: outputs, time.perf_counter() + seconds, patience=patience)


def document(name: str, **cache: Any) -> snapshot.Endpoint:
    return snapshot.Endpoint(1, name, 1, 0.0, MODEL, 300, cache=snapshot.Cache(**cache) if cache else None)


def cache_of(caches: PredictionCaches, name: str = "a", **limits: Any) -> PredictionCache:
    cache = caches.of(document(name, **{"entries": 3, **limits}))
    assert cache is not None
    return cache


def test_entries__past_their_number__the_longest_unused_goes() -> None:
    cache = cache_of(PredictionCaches(10**6))
    assert [ask(cache, i).is_kept for i in (1, 2, 3, 1, 4, 1, 3, 2)] == [False] * 3 + [True, False, True, True, False]
    assert len(cache) == 3
    assert cache_of(PredictionCaches(10**6)).takes("always")
    assert not cache.takes("for-a-time")
    assert cache_of(PredictionCaches(10**6), seconds=1.0).takes("for-a-time")
    assert not cache.takes("never")


def test_seconds__answer_that_is_older__is_computed_anew() -> None:
    now = [100.0]
    cache = cache_of(PredictionCaches(10**6, lambda: now[0]), seconds=10.0)

    def slow() -> Any:
        now[0] += 4.0
        return {"predict": [1.0]}

    cache.answer(MODEL, rows_of(1), slow, 0.0, patience=None)
    now[0] = 109.9  # from when it was asked for, and not from when it came
    assert ask(cache, 1).is_kept
    now[0] = 110.0
    assert not ask(cache, 1).is_kept
    assert ask(cache, 1).is_kept


def test_bytes__of_all_endpoints__are_bounded__and_the_largest_makes_room() -> None:
    caches = PredictionCaches(40 * (OVERHEAD_BYTES + 1000))
    small, large = (cache_of(caches, name, entries=1000) for name in "ab")
    for i in range(5):
        ask(small, i, "x" * 900)
    for i in range(500):
        ask(large, i, "x" * 1000)
        assert caches.bytes <= caches.limit
    assert len(small) == 5
    assert all(ask(small, i).is_kept for i in range(5))
    assert not ask(large, -1, "x" * 10**6).is_kept  # one that would move many others out
    assert not ask(large, -1, "x").is_kept
    caches.keep_only(["a"])
    assert caches.bytes == small.bytes > 0
    ask(large, 1)  # a request that began before it was dropped
    assert caches.bytes == small.bytes
    assert caches.of(document("a")) is None
    caches.keep_only([])
    assert caches.bytes == 0


def test_bytes__are_about_what_python_takes() -> None:
    import tracemalloc

    caches = PredictionCaches(10**8)
    cache = cache_of(caches, entries=10**6)
    tracemalloc.start()
    for i in range(5000):
        ask(cache, float(i), [0.1 * i, 1.0])
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.4 * taken < caches.bytes < 2.0 * taken


def test_answers__are_nobody_elses_to_change__and_odd_ones_are_not_kept() -> None:
    cache = cache_of(PredictionCaches(10**6))
    ask(cache, 1, [0.25, 0.75])
    first = ask(cache, 1).outputs
    first["predict"][0][0] = 9.0
    assert ask(cache, 1).outputs == {"predict": [[0.25, 0.75]]}
    assert [ask(cache, 2, 10**30).is_kept for _ in range(2)] == [False, False]

    def failing() -> Any:
        raise RuntimeError

    for patience in (None, 10.0):
        with pytest.raises(RuntimeError):
            cache.answer(MODEL, rows_of(3), failing, time.perf_counter() + 1, patience=patience)
    assert not ask(cache, 3, patience=10.0).is_kept


def test_same_rows_at_once__one_call__and_nobody_waits_past_his_deadline() -> None:
    cache = cache_of(PredictionCaches(10**6))
    gate, calls = threading.Event(), []

    def slow() -> Any:
        calls.append(1)
        assert gate.wait(30.0)
        return {"predict": [1.0]}

    def asked(seconds: float) -> Any:
        return cache.answer(MODEL, rows_of(1), slow, time.perf_counter() + seconds, patience=60.0)

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(asked, 30.0)
        while not calls:
            time.sleep(0.001)
        others = [pool.submit(asked, 30.0) for _ in range(7)]
        with pytest.raises(WaitedInVain):
            asked(0.05)
        gate.set()
        assert not first.result().is_kept
        assert all(one.result() == ({"predict": [1.0]}, True) for one in others)
    assert len(calls) == 1
    assert issubclass(WaitedInVain, DeadlineExceeded)


def test_same_rows_at_once__the_call_fails__and_the_others_call_themselves() -> None:
    cache = cache_of(PredictionCaches(10**6))
    gate, calls = threading.Event(), []

    def first_fails() -> Any:
        calls.append(1)
        if len(calls) == 1:
            assert gate.wait(30.0)
            raise RuntimeError
        return {"predict": [1.0]}

    def asked() -> Any:
        return cache.answer(MODEL, rows_of(1), first_fails, time.perf_counter() + 30, patience=60.0)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(asked)
        while not calls:
            time.sleep(0.001)
        others = [pool.submit(asked) for _ in range(3)]
        time.sleep(0.05)
        gate.set()
        with pytest.raises(RuntimeError):
            first.result()
        assert {one.result().outputs["predict"][0] for one in others} == {1.0}
    assert 2 <= len(calls) <= 4


def test_same_rows_at_once__the_call_hangs__the_next_is_made_once__and_the_others_have_its_answer() -> None:
    cache = cache_of(PredictionCaches(10**6))
    gate, calls = threading.Event(), []

    def first_hangs() -> Any:
        calls.append(time.perf_counter())
        if len(calls) == 1:
            assert gate.wait(60.0)
        return {"predict": [float(len(calls))]}

    def asked() -> Any:
        return cache.answer(MODEL, rows_of(1), first_hangs, time.perf_counter() + 50, patience=0.4)

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(asked)
        while not calls:
            time.sleep(0.001)
        others = [pool.submit(asked) for _ in range(6)]
        assert [one.result().outputs["predict"] for one in others] == [[2.0]] * 6
        assert len(calls) == 2
        assert calls[1] - calls[0] >= 0.4
        assert ask(cache, 1).outputs == {"predict": [2.0]}
        gate.set()
        assert not first.result().is_kept


def test_same_rows_at_once__the_call_is_left__who_has_less_time_makes_none() -> None:
    cache = cache_of(PredictionCaches(10**6))
    calls: list[int] = []

    def late() -> Any:
        calls.append(1)
        time.sleep(0.5)
        raise DeadlineExceeded

    def asked(seconds: float) -> Any:
        return cache.answer(MODEL, rows_of(1), late, time.perf_counter() + seconds, patience=60.0)

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(asked, 60.0)
        while not calls:
            time.sleep(0.001)
        others = [pool.submit(asked, 0.6) for _ in range(6)]
        with pytest.raises(DeadlineExceeded):
            first.result()
        for one in others:
            with pytest.raises(WaitedInVain):
                one.result()
    assert len(calls) == 1


# Which models.


def test_every_runtime__says_whether_its_answers_last() -> None:
    assert {name: kind.kept for name, kind in kinds().items()} == {
        "http": "for-a-time", "onnx": "always", "python": "for-a-time", "sklearn": "always", "static": "never",
    }  # fmt: skip


def test_onnx_that_draws__is_kept_for_a_time_at_most(tmp_path: Any) -> None:
    from serving.runtimes.onnx import OnnxModel

    class Files:
        def read(self, sha256: str) -> bytes:
            return bodies[sha256]

    x, y = (helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 2]) for name in "xy")
    drawn = helper.make_node("RandomUniformLike", ["x"], ["r"], dtype=TensorProto.DOUBLE)
    graphs = {
        "b" * 64: [helper.make_node("Identity", ["x"], ["y"])],
        "a" * 64: [drawn, helper.make_node("Add", ["x", "r"], ["y"])],
    }
    opset = [helper.make_opsetid("", 15)]
    bodies = {
        key: helper.make_model(
            helper.make_graph(nodes, "g", [x], [y]), opset_imports=opset, ir_version=8
        ).SerializeToString()
        for key, nodes in graphs.items()
    }
    resources: Any = SimpleNamespace(
        artifacts=Files(), settings=SimpleNamespace(ONNX_PROVIDERS=[], ONNX_THREADS=1, ONNX_MEMORY_LIMIT=None)
    )
    lives = {
        key: load_model(
            lambda model: model.load(resources),
            OnnxModel(model="m@1", framework="onnx", sha256=key, features=2, outputs=["predict"]),
        )
        for key in bodies
    }
    assert (lives["a" * 64].kept, lives["b" * 64].kept) == ("for-a-time", "always")


def test_sklearn__that_draws_or_sees_other_rows__is_kept_for_a_time_at_most__and_not_batched() -> None:
    numbers = np.random.default_rng(1).normal(size=(60, 2)) ** 2
    labels = (numbers[:, 0] > 0.5).astype(int)
    table = pd.DataFrame({"size": numbers[:, 0], "age": numbers[:, 1]}).mask(numbers > 3.0)
    imputer = IterativeImputer(sample_posterior=True, random_state=0)
    versions = {
        "draws": (DummyClassifier(strategy="stratified"), numbers),
        "draws by place": (DummyClassifier(strategy="uniform", random_state=0), numbers),
        "draws for a null": (make_pipeline(imputer, BayesianRidge()), table),
        "fits all rows together": (make_pipeline(NMF(2, tol=0.05), LogisticRegression()), numbers),
        "steady": (KNeighborsClassifier(3), numbers),
    }
    told = {}
    for name, (estimator, rows) in versions.items():
        body = skops.io.dumps(estimator.fit(rows, labels))
        examined = SklearnFramework().inspect(body, {"trusted": [], "sample": None})
        assert examined.compiled is None, name
        told[name] = examined.signature.by_row
    assert told == dict.fromkeys(versions, False) | {"steady": True}

    class Files:
        def read(self, sha256: str) -> bytes:
            return body

    resources: Any = SimpleNamespace(artifacts=Files(), settings=SimpleNamespace(SKOPS_TRUSTED=[]))
    for more, kept in (({"by_row": True}, "always"), ({"by_row": False}, "for-a-time"), ({}, "for-a-time")):
        model = SklearnModel(model="m@1", framework="sklearn", sha256="a" * 64, features=2, outputs=["predict"], **more)  # type: ignore[arg-type]  # the last are models of before, of which nobody knows
        assert load_model(lambda one: one.load(resources), model).kept == kept


def test_callable__kept_only_where_the_owner_says_for_how_long(alice: Api, calls: list[Any]) -> None:
    endpoint_of("pages", python_model("m", "1", "counted"))
    for cache, more in ((None, 2), ({"entries": 10}, 2), ({"entries": 10, "seconds": 60}, 1), (None, 2)):
        cached(alice, cache)
        before = len(calls)
        assert [predicted(alice, [[1.0, 2.0]])["outputs"] for _ in range(2)] == [{"predict": [3.0]}] * 2
        assert len(calls) - before == more, cache


def test_kept_answers__stay_through_snapshots_and_changed_limits(alice: Api, calls: list[Any]) -> None:
    endpoint_of("pages", python_model("m", "1", "counted"))
    cached(alice)
    before = predicted(alice, [[1.0, 2.0]])
    alice("PATCH", "/api/v1/endpoints/pages", {"deadline_ms": 1000})
    cached(alice, {"entries": 10, "seconds": 120})
    after = predicted(alice, [[1.0, 2.0]])
    assert after["policy_version"] > before["policy_version"]
    assert after["decision_id"] != before["decision_id"]
    assert len(calls) == 1


# Decisions: made and recorded, whoever answers.


def start(strategy: str, champion: str = "counted", challenger: str = "counted", **changes: Any) -> Experiment:
    endpoint_of("pages", python_model("m", "champion", champion), deadline_ms=2000)
    arm = {"name": "new", "model": python_model("m", "new", challenger)}
    arms = [arm] if strategy in ("canary", "shadow") else [{"name": "old", "model": "m@champion"}, arm]
    return start_experiment({"name": "e", "endpoint": "pages", "strategy": strategy, "arms": arms, **changes})


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [("ab", {}), ("canary", {"canary": {"steps": [0.5, 1.0], "bake_seconds": 3600}}), ("shadow", {}), ("bandit", {}),
     ("bandit", {"sticky": True}), ("bandit", {"holdout": 0.5}), ("bandit", {"apprentice": True})],
)  # fmt: skip
def test_every_strategy__repeated_rows__each_decision_is_recorded__and_calls_are_counted_once(
    alice: Api, calls: list[Any], strategy: str, changes: dict[str, Any]
) -> None:
    experiment = start(strategy, **changes)
    cached(alice)
    answers = [predicted(alice, [[float(i % 3), 1.0]], unit=f"u{i % 10}") for i in range(40)]
    answers += [predicted(alice, [[0.0, 1.0]], exclude=["new"]) for _ in range(2)]
    assert [answer["outputs"]["predict"][0] for answer in answers] == [i % 3 + 1.0 for i in range(40)] + [1.0, 1.0]
    assert len({answer["decision_id"] for answer in answers}) == 42
    assert all(answer["learnable"] for answer in answers)
    models = {answer["model"] for answer in answers}
    assert models == ({"m@champion"} if strategy == "shadow" or "apprentice" in changes else {"m@champion", "m@new"})
    assert len(calls) <= 3 * len(models)
    for answer in answers[:20]:
        said = alice.post("/api/v1/feedback", {"decision_id": answer["decision_id"], "value": 1})
        assert said.status == 202
    learn(experiment.endpoint_id)
    told = {arm["name"]: arm for arm in results(experiment)["arms"]}
    assert sum(arm["decisions"] for arm in told.values()) == 42
    assert sum(arm["rewards"] for arm in told.values()) == 20
    for row in ArmStatistics.objects.select_related("arm"):
        assert row.calls == min(row.calls, 3)
        share = None if not row.decisions else pytest.approx(1 - row.calls / row.decisions)
        assert told[row.arm.name]["cached"] == share
    assert sum(row.calls for row in ArmStatistics.objects.all()) == len(calls)
    assert rebuild(experiment, write=False) == []
    lines = [line for line in alice.get("/api/v1/experiments/e/decisions.ndjson").content.decode().splitlines() if line]
    assert sum('"cached":true' in line for line in lines) == 42 - len(calls)


def test_version_asked_for__uses_the_same_answers(alice: Api, calls: list[Any]) -> None:
    endpoint_of("pages", python_model("m", "1", "counted"))
    cached(alice)
    body = {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}]}
    for path in ("", "/versions/1", "/versions/1"):
        answer = alice.post(f"/v2/models/pages{path}/infer", body)
        assert answer.status == 200, answer.content
        assert answer["outputs"][0]["data"] == [3.0]
    assert len(calls) == 1


def test_arm_that_fails__is_never_kept__and_the_champions_answers_are(alice: Api, calls: list[Any]) -> None:
    experiment = start("ab", challenger="counted_failing")
    cached(alice)
    answers = [predicted(alice, [[1.0, 2.0]], exclude=["old"]) for _ in range(FAILURES + 3)]
    assert {answer["model"] for answer in answers} == {"m@champion"}
    reasons = [answer["fallback_reason"] for answer in answers]
    assert reasons == ["error"] * FAILURES + ["circuit_open"] * 3
    assert len(calls) == FAILURES + 1
    learn(experiment.endpoint_id)
    row = ArmStatistics.objects.get(arm__name="new")
    # A failure is one whoever answered for it, and from where.
    assert (row.decisions, row.failures, row.calls) == (FAILURES + 3,) * 3


def test_arm_whose_circuit_is_open__does_not_live_on_what_is_kept(alice: Api, calls: list[Any]) -> None:
    start("ab")
    cached(alice)
    assert predicted(alice, [[1.0, 2.0]], exclude=["old"])["fallback_reason"] is None
    live = process().store.endpoint("pages")
    assert live is not None
    for _ in range(FAILURES):
        live.arms[1].breaker.failed()
    answer = predicted(alice, [[1.0, 2.0]], exclude=["old"])
    assert (answer["fallback_reason"], answer["model"]) == ("circuit_open", "m@champion")


def test_requests_at_once__of_a_slow_model__share_a_call__and_each_has_its_decision(
    alice: Api, calls: list[Any]
) -> None:
    endpoint_of("pages", python_model("m", "1", "counted_slowly"), deadline_ms=5000)
    cached(alice)
    parts = process()
    live = parts.store.endpoint("pages")
    assert live is not None
    metrics.GATHERING.flush()
    before = {result: metrics.CACHE_LOOKUPS.labels("pages", result)._value.get() for result in ("hit", "miss")}
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: decide(parts, live, Asked([[1.0, 2.0]])), range(8)))
    assert len(calls) == 1
    assert {one.outputs["predict"][0] for one in made} == {3.0}
    assert len({one.decision_id for one in made}) == 8
    metrics.GATHERING.flush()
    after = {result: metrics.CACHE_LOOKUPS.labels("pages", result)._value.get() for result in ("hit", "miss")}
    assert {result: after[result] - before[result] for result in after} == {"hit": 7.0, "miss": 1.0}


def test_single_deployment__its_baseline_tells_the_share__and_times_calls_alone(alice: Api) -> None:
    endpoint = endpoint_of("pages", python_model("m", "1", "counted"))
    cached(alice)
    for i in range(20):
        predicted(alice, [[float(i % 2), 0.0]])
    learn(endpoint.pk)
    told = alice.get("/api/v1/endpoints/pages/baselines")["items"][0]
    assert (told["decisions"], told["cached"]) == (20, pytest.approx(0.9))
    assert told["latency_ms"]["p99"] is not None
    assert baselines.rebuild(endpoint.baselines.get(), write=False) == []


# What is learned of calls.


def test_failures_beside_the_controls__are_those_of_calls(two_arms: Any) -> None:
    """Both models fail in a fiftieth of their calls. The control's rows were asked before, and the
    challenger's were not: of decisions the challenger fails ten times as often."""
    experiment = two_arms(
        strategy="ab", guardrails=[{"metric": "error_rate", "versus": "control", "max": 0.0, "action": "pause"}]
    )
    for i in range(50):
        past_traffic.decide(experiment, "a", failed=i == 0, seconds_ago=100)
        past_traffic.decide(experiment, "b", failed=i == 0, seconds_ago=100)
    for _ in range(450):
        past_traffic.decide(experiment, "a", cached=True, seconds_ago=100, latency_ms=0.01)
    learn(experiment.endpoint_id)
    rows = {row.arm.name: row for row in ArmStatistics.objects.select_related("arm")}
    assert (rows["a"].decisions, rows["a"].calls, rows["b"].calls) == (500, 50, 50)
    assert rows["a"].latencies == rows["b"].latencies
    watch = next(iter(watches_of(experiment).values()))
    begun = experiment.created_at
    for last in (False, True):  # from the rows, and from the intervals
        states = compare(experiment, watch, {}, begun.replace(year=begun.year - 1), None, last=last)
        assert states[str(experiment.arms.get(name="b").pk)]["control"] == 50.0
    assert rebuild(experiment, write=False) == []


def test_newest_decisions__that_say_whether_an_arm_fails__are_calls(two_arms: Any) -> None:
    """An arm that fails in every call, and whose kept answers are served, fails."""
    experiment = two_arms(strategy="ab")
    for i in range(100):
        past_traffic.decide(experiment, "b", failed=i % 10 == 0, cached=i % 10 != 0, seconds_ago=100 - i / 2)
    learn(experiment.endpoint_id)
    sums = sums_of(experiment)
    assert isinstance(sums, Sums)
    assert sums.failed(experiment.arms.get(name="b").pk) == [True] * 10
    assert rebuild(experiment, write=False) == []


def test_shadow__champion_from_the_cache__challengers_predict__and_only_calls_are_timed(alice: Api) -> None:
    experiment = start("shadow", challenger="sums")
    cached(alice)
    for _ in range(10):
        predicted(alice, [[1.0, 2.0]])
    copied(10)
    assert shadows.mirror(experiment) == 10
    learn(experiment.endpoint_id)
    sums = experiment.arms.get(name="new").shadow_statistics.sums
    assert (sums["predictions"], sums["agreed"]) == (10, 10)
    assert (sum(sums["latencies"]), sum(sums["champion_latencies"])) == (10, 1)
    assert rebuild(experiment, write=False) == []


# The setting.


def test_setting__checked__audited__and_part_of_the_endpoint(alice: Api) -> None:
    static_model("m", "1", "payload")
    made = alice.post("/api/v1/endpoints", {"name": "pages", "champion": "m@1", "cache": {"entries": 5}})
    assert (made.status, made["cache"]) == (201, {"entries": 5, "seconds": None})
    for wrong, field in (
        ({}, "cache.entries"), ({"entries": 0}, "cache.entries"), ({"entries": 10**9}, "cache.entries"),
        ({"entries": 1, "seconds": 0}, "cache.seconds"), ({"entries": 1, "bytes": 3}, "cache.bytes"),
    ):  # fmt: skip
        answer = alice("PATCH", "/api/v1/endpoints/pages", {"cache": wrong})
        assert (answer.status, answer.fields()) == (400, [field])
    assert (
        alice("PATCH", "/api/v1/endpoints/pages", {"cache": {"entries": 7, "seconds": 1.5}, "reason": "slow"}).status
        == 200
    )
    assert alice("PATCH", "/api/v1/endpoints/pages", {"deadline_ms": 200})["cache"] == {"entries": 7, "seconds": 1.5}
    assert alice("PATCH", "/api/v1/endpoints/pages", {"cache": None})["cache"] is None
    entries = [entry["details"].get("cache") for entry in alice.get("/api/v1/audit?endpoint=pages")["items"]]
    assert entries[:3] == [
        [{"entries": 7, "seconds": 1.5}, None], None, [{"entries": 5, "seconds": None}, {"entries": 7, "seconds": 1.5}],
    ]  # fmt: skip
