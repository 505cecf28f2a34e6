"""The Open Inference Protocol over gRPC: through tritonclient, and by health and reflection."""

import asyncio
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from django.conf import settings
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from noregret.access.keys import create_key

from serving.open_inference_messages import CLASSES, METHODS, SERVICE, path_of
from serving.rpc.server import CannotListen, Server
from tests.client_environments import REQUIREMENTS, python_of, told_by
from tests.conftest import ACTOR, Api, endpoint_of, python_model, start_experiment
from tests.protocols.models import NAMES, X, iris, told, upload

ROWS = X[[0, 60, 120]]


@pytest.fixture
def server(platform: None) -> Iterator[str]:
    """`host:port` of a server in a thread of this process, which serves what the test's platform
    holds."""
    told: SimpleQueue[Any] = SimpleQueue()

    async def run() -> None:
        ending = asyncio.Event()
        own = Server(threads=4, message_bytes=settings.SERVING_BODY_LIMIT)
        await own.run("127.0.0.1:0", lambda port: told.put((port, asyncio.get_running_loop(), ending)), ending)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    port, loop, ending = told.get(timeout=20)
    yield f"127.0.0.1:{port}"
    loop.call_soon_threadsafe(ending.set)
    thread.join(20)
    assert not thread.is_alive()


def test_tritonclient__unmodified__is_answered(server: str) -> None:
    key = create_key(name="client", scopes=["predict", "manage", "feedback"], actor=ACTOR)[1]
    alice = Api(key)
    for version in ("1", "2"):
        upload(alice, iris(c=10.0 if version == "2" else 1.0, texts=True, names=True), "iris", version)
    endpoint_of("iris", "iris@1", deadline_ms=2000)
    arms = [{"name": "v1", "model": "iris@1"}, {"name": "v2", "model": "iris@2"}]
    start_experiment({"name": "e", "endpoint": "iris", "strategy": "ab", "arms": arms})
    told(alice)
    before = psutil.Process().memory_info().rss
    heard = told_by(
        [str(python_of("triton-grpc")), str(REQUIREMENTS / "speak_triton_grpc.py")],
        address=server,
        key=key,
        endpoint="iris",
        typed="told",
        rows=ROWS.tolist(),
        parameters={"unit": "user-1", "context.age": 31, "context.vip": True},
    )
    # 200 MB in one message, packed to 200 kB, and 100,000 empty tensors: neither was unpacked.
    assert psutil.Process().memory_info().rss - before < 120 * 2**20
    assert (heard["live"], heard["ready"], heard["model_ready"], heard["server"]) == (True, True, True, "noregret")
    assert heard["metadata"] == {
        "name": "iris",
        "versions": ["1", "2"],
        "inputs": [[name, "FP64", [-1, 1]] for name in NAMES],
        "outputs": [["predict", "BYTES", [-1]], ["predict_proba", "FP64", [-1, 3]]],
    }
    models = {"v1": iris(texts=True), "v2": iris(c=10.0, texts=True)}
    for form in ("defaults", "compressed", "one_output"):
        answer, parameters = heard[form], heard[form]["parameters"]
        model = models[parameters["arm"]]
        assert answer["arrays"]["predict"] == model.predict(ROWS).tolist()
        assert answer["model"] == ["iris", parameters["arm"][1]]
        assert (parameters["propensity"], parameters["learnable"]) == (0.5, True)
        fed = alice.post("/api/v1/feedback", {"decision_id": parameters["decision_id"], "value": 1})
        assert fed.status == 202
        if form == "one_output":
            assert list(answer["arrays"]) == ["predict"]
        else:
            assert np.allclose(answer["arrays"]["predict_proba"], model.predict_proba(ROWS), atol=1e-5)
    assert heard["defaults"]["id"] == "g-1"
    assert heard["version"]["parameters"] == {"model": "iris@2", "learnable": False}
    assert heard["version"]["arrays"]["predict"] == models["v2"].predict(ROWS).tolist()
    assert heard["typed"] == ["city=Seoul age=31 vip=True score=0.5", "city=Łódź age=7 vip=False score=2.5"]
    for form, code, words in (
        ("no_key", "UNAUTHENTICATED", ""),
        ("no_endpoint", "NOT_FOUND", "there is no endpoint nowhere"),
        ("no_version", "NOT_FOUND", "no version 9"),
        ("wrong_shape", "INVALID_ARGUMENT", "input: shape [3, 3] where [rows, 4] was expected"),
        ("wrong_type", "INVALID_ARGUMENT", "age: an integer was expected"),
        ("no_text", "INVALID_ARGUMENT", "city: an element is no text"),
        ("short", "INVALID_ARGUMENT", "input: 8 bytes where shape [1, 4] of FP64 has 32"),
        ("lying", "INVALID_ARGUMENT", "raw_input_contents: 2 where there are 1 inputs"),
        ("overflowing", "INVALID_ARGUMENT", "more elements"),
        ("negative", "INVALID_ARGUMENT", "negative size"),
        ("many", "INVALID_ARGUMENT", "at most 4096 tensors"),
        ("too_large", "RESOURCE_EXHAUSTED", ""),
        ("bomb", "RESOURCE_EXHAUSTED", ""),
        ("no_such_call", "UNIMPLEMENTED", ""),
    ):
        assert heard[form][0] == f"StatusCode.{code}", (form, heard[form])
        assert words in heard[form][1], (form, heard[form])
    assert heard["after"] == "iris"


def caller(channel: grpc.Channel, method: str) -> Any:
    request, answer = METHODS[method]
    return channel.unary_unary(
        path_of(method),
        request_serializer=CLASSES[request].SerializeToString,
        response_deserializer=CLASSES[answer].FromString,
    )


def test_key__for_another_endpoint__finds_nothing_of_it(server: str) -> None:
    endpoint_of("theirs", python_model("m", "1", "ones"))
    keys = {
        "hers": create_key(name="k", scopes=["predict"], endpoints=["hers"], actor=ACTOR)[1],
        "feedback": create_key(name="k", scopes=["feedback"], actor=ACTOR)[1],
    }
    asked = {
        "ModelInfer": lambda name: CLASSES["ModelInferRequest"](model_name=name),
        "ModelMetadata": lambda name: CLASSES["ModelMetadataRequest"](name=name),
        "ModelReady": lambda name: CLASSES["ModelReadyRequest"](name=name, version="1"),
    }
    with grpc.insecure_channel(server) as channel:
        for method, request in asked.items():
            told = {}
            for key, name in (("hers", "theirs"), ("hers", "nowhere"), ("feedback", "theirs")):
                with pytest.raises(grpc.RpcError) as refused:
                    caller(channel, method)(request(name), metadata=[("x-api-key", keys[key])], timeout=20)
                told[key, name] = refused.value.code(), refused.value.details().replace("nowhere", "theirs")
            assert told["hers", "theirs"] == told["hers", "nowhere"]
            assert told["hers", "theirs"][0] == grpc.StatusCode.NOT_FOUND
            assert told["feedback", "theirs"][0] == grpc.StatusCode.PERMISSION_DENIED


def test_message__that_is_none__is_refused_in_words_for_callers(server: str) -> None:
    with grpc.insecure_channel(server) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=bytes,
            response_deserializer=CLASSES["ModelInferResponse"].FromString,
        )
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff\xff", timeout=20)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "protobuf" not in refused.value.details()


def test_health_and_reflection__are_answered_without_a_key(server: str) -> None:
    with grpc.insecure_channel(server) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            status = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        watched = next(health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=20))
        assert watched.status == health_pb2.HealthCheckResponse.SERVING
        (unknown,) = health.Watch(health_pb2.HealthCheckRequest(service="x" * 100_000), timeout=20)
        assert unknown.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        asked = reflection_pb2.ServerReflectionRequest
        requests = [asked(list_services=""), asked(file_containing_symbol=SERVICE)]
        listed, described = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter(requests), timeout=20
        )
        names = [service.name for service in listed.list_services_response.service]
        assert names == sorted([SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"])
        assert b"GRPCInferenceService" in described.file_descriptor_response.file_descriptor_proto[0]


def test_calls__more_than_may_wait__are_told_to_come_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes its time holds its threads and no more; a client that gives up frees its
    place."""
    key = create_key(name="client", scopes=["predict"], actor=ACTOR)[1]
    endpoint_of("slow", python_model("slow", "1", "sleeps"), deadline_ms=500)
    request = CLASSES["ModelInferRequest"](model_name="slow")
    request.inputs.add(name="input", datatype="FP64", shape=[1, 1]).contents.fp64_contents.append(1.0)
    with grpc.insecure_channel(server) as channel:
        infer = caller(channel, "ModelInfer")
        with pytest.raises(grpc.RpcError) as failed:
            infer(request, metadata=[("x-api-key", key)], timeout=20)
        assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.RpcError) as failed:
            infer(request, metadata=[("x-api-key", key)], timeout=0.05)
        assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        calls = [infer.future(request, metadata=[("x-api-key", key)], timeout=0.3) for _ in range(300)]
        codes = [call.code() for call in calls]
        assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        assert grpc.StatusCode.UNAVAILABLE in codes
        live = caller(channel, "ServerLive")
        assert live(CLASSES["ServerLiveRequest"](), timeout=20, wait_for_ready=True).live


def test_address__that_is_taken__is_told(server: str) -> None:
    async def run() -> None:
        await Server(threads=1, message_bytes=1024).run(server, lambda port: None, asyncio.Event())

    with pytest.raises(CannotListen):
        asyncio.run(run())
