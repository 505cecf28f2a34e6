"""The Open Inference Protocol over gRPC to a model on another machine: as the original, within the
deadline, and whatever its server does instead is a failure of the arm.
"""

import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from noregret.registry.models import ModelVersion

from serving import open_inference_messages as messages
from serving import process
from serving.deadline import BoundedCaller, DeadlineExceeded
from serving.outbound.reach import Reach
from serving.runtimes import ModelError
from serving.runtimes.http import HttpModel, HttpRuntime, remote_model
from tests.conftest import Api, endpoint_of
from tests.serving.grpc_server import GrpcServer, add
from tests.serving.test_remote_models import ESTIMATOR, LOOPBACK, MODELS, ROWS, answers

LIMIT = 1 << 20


@pytest.fixture(params=["raw", "typed"])
def far(request: pytest.FixtureRequest) -> Iterator[GrpcServer]:
    server = GrpcServer(answers, is_raw=request.param == "raw")
    yield server
    server.stop()


def definition(server: GrpcServer, **changes: Any) -> dict[str, Any]:
    return {"name": "m", "version": "1", "framework": "http", "url": server.url, "protocol": "open-inference"} | changes


def model_of(server: GrpcServer) -> HttpRuntime:
    model = HttpModel(model="m@1", framework="http", url=server.url, protocol="open-inference")
    return HttpRuntime(remote_model(model, LOOPBACK, LIMIT))


def test_grpc__registered_by_its_metadata__answers_as_the_original(alice: Api, far: GrpcServer, settings: Any) -> None:
    settings.REMOTE_TOKENS = {"127.0.0.1": "s3cret"}
    made = alice.post(MODELS, definition(far, sample=ROWS[:2]))
    assert made.status == 201, made.content
    assert (made["signature"]["features"], made["signature"]["outputs"]) == (4, ["predict", "probabilities"])
    assert ModelVersion.objects.get().runtime == "http"
    endpoint_of("pages", "m@1")
    answer = alice.post("/api/v1/endpoints/pages/predict", {"inputs": ROWS})
    assert answer.status == 200, answer.content
    assert answer["outputs"]["predict"] == ESTIMATOR.predict(ROWS).tolist()
    np.testing.assert_allclose(answer["outputs"]["probabilities"], ESTIMATOR.predict_proba(ROWS), atol=1e-12)
    assert {sent["authorization"] for sent in far.metadata} == {"Bearer s3cret"}
    assert process.waits("pages")


def test_grpc__columns_of_several_types__travel_with_them(alice: Api) -> None:
    inputs = [("city", "BYTES", [-1, 1]), ("age", "INT32", [-1]), ("member", "BOOL", [-1, 1])]
    server = GrpcServer(answers, inputs)

    def echo(request: Any, context: grpc.ServicerContext) -> Any:
        city, age, member = request.raw_input_contents
        answer = messages.ModelInferResponse()
        words = []
        while city:
            size = int.from_bytes(city[:4], "little")
            words.append(city[4 : 4 + size].decode())
            city = city[4 + size :]
        told = [
            f"{word} {years} {bool(flag)}"
            for word, years, flag in zip(words, np.frombuffer(age, "<i4"), member, strict=True)
        ]
        add(answer, "told", np.array(told), is_raw=True)
        return answer

    server.hostile = echo
    made = alice.post(MODELS, definition(server))
    assert [column["type"] for column in made["signature"]["columns"]] == ["string", "integer", "boolean"]
    endpoint_of("pages", "m@1")
    answer = alice.post("/api/v1/endpoints/pages/predict", {"inputs": [["Séoul", 30, True], ["", -1, False]]})
    assert answer["outputs"] == {"predict": ["Séoul 30 True", " -1 False"]}
    server.stop()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "grpc://127.0.0.1/m"}, "url"),
        ({"url": "grpc://127.0.0.1:8001"}, "url"),
        ({"url": "grpc://elsewhere:8001/m"}, "url"),
        ({"url": "grpc://127.0.0.1:1/m"}, "url"),
        ({"protocol": "mlflow"}, "url"),
    ],
)
def test_grpc__address_that_is_wrong__names_the_field(alice: Api, change: dict[str, Any], field: str) -> None:
    server = GrpcServer(answers)
    answer = alice.post(MODELS, definition(server) | change)
    assert (answer.status, answer.fields()) == (400, [field]), answer.content
    absent = alice.post(MODELS, definition(server) | {"url": server.url + "x"})
    assert "NOT_FOUND: no model mx" in absent.content.decode()
    server.stop()


def several(name: str, values: Any, shape: list[int], datatype: str = "FP64") -> Any:
    answer = messages.ModelInferResponse()
    answer.outputs.add(name=name, datatype=datatype, shape=shape)
    answer.raw_output_contents.append(values)
    return answer


ALL = len(ROWS)
HOSTILE: dict[str, Any] = {
    "nan": lambda *_: several("p", np.full(ALL, np.nan).tobytes(), [ALL]),
    "too few": lambda *_: several("p", np.zeros(1).tobytes(), [1]),
    "of another shape": lambda *_: several("p", np.zeros(ALL).tobytes(), [1, ALL]),
    "of no shape": lambda *_: several("p", np.zeros(ALL).tobytes(), [ALL, 2**62, 2**62]),
    "half a number": lambda *_: several("p", b"xxx", [ALL]),
    "no text": lambda *_: several("p", b"\xff\xff\xff\xff", [ALL], "BYTES"),
    "no utf-8": lambda *_: several("p", b"\x01\x00\x00\x00\xff" * ALL, [ALL], "BYTES"),
    "an unknown type": lambda *_: several("p", np.zeros(ALL).tobytes(), [ALL], "COMPLEX"),
    "no outputs": lambda *_: messages.ModelInferResponse(),
    "no message": lambda *_: b"\xff\xff\xff",
    "huge": lambda *_: several("p", b"\x00" * (8 << 20), [ALL]),
    "fails": lambda request, context: context.abort(grpc.StatusCode.INTERNAL, "out of memory"),
    "refuses": lambda request, context: context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad rows"),
}


def test_grpc__server_that_answers_no_prediction__is_raised_and_not_answered() -> None:
    server = GrpcServer(answers)
    runtime = model_of(server)
    rows = np.array(ROWS)
    for name, hostile in HOSTILE.items():
        server.hostile = hostile
        with pytest.raises(ModelError):
            pytest.fail(f"{name}: {runtime.predict(rows)}")
    server.hostile = None
    assert runtime.predict(rows)["predict"] == ESTIMATOR.predict(ROWS).tolist()
    server.stop()


def test_grpc__server_that_hangs__is_left_at_the_deadline_and_asked_again(far: GrpcServer) -> None:
    far.hostile = lambda request, context: time.sleep(2.0)
    runtime, caller = model_of(far), BoundedCaller("m@1")
    rows = np.array(ROWS)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            caller.call(lambda: runtime.predict(rows), 0.2)
    far.hostile = None
    assert caller.call(lambda: runtime.predict(rows), 10.0)["predict"] == ESTIMATOR.predict(ROWS).tolist()


def test_grpc__name_that_leads_elsewhere__is_called_nowhere() -> None:
    server = GrpcServer(answers)
    model = HttpModel(model="m@1", framework="http", url=server.url, protocol="open-inference")
    with pytest.raises(ModelError, match="neither an address of the internet"):
        HttpRuntime(remote_model(model, Reach(hosts=("127.0.0.1",)), LIMIT)).predict(np.array(ROWS))
    assert server.metadata == []
    server.stop()
