"""The Open Inference Protocol over HTTP: through public clients, and what no client would send."""

import base64
import gzip
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from noregret.access.keys import create_key

from serving.ledger.models import Decision
from tests.client_environments import REQUIREMENTS, python_of, told_by
from tests.conftest import ACTOR, Api, endpoint_of, python_model, start_experiment, static_model
from tests.protocols.models import NAMES, SPECIES, X, iris, told, upload

ROWS = X[[0, 60, 120]]
PARAMETERS = {"unit": "user-1", "context.country": "KR", "context.age": 31, "unknown": True}


@pytest.fixture
def key(platform: None) -> str:
    return create_key(name="client", scopes=["predict", "manage", "feedback"], actor=ACTOR)[1]


@pytest.fixture
def arms(key: str) -> Api:
    """An experiment `e` on `iris` of two versions with text labels and named features."""
    alice = Api(key)
    for version in ("1", "2"):
        upload(alice, iris(c=10.0 if version == "2" else 1.0, texts=True, names=True), "iris", version)
    endpoint_of("iris", "iris@1", deadline_ms=2000)
    arms = [{"name": "v1", "model": "iris@1"}, {"name": "v2", "model": "iris@2"}]
    start_experiment({"name": "e", "endpoint": "iris", "strategy": "ab", "arms": arms})
    return alice


def is_by(answer: Any, expected: dict[str, Any], *, tolerance: float = 1e-5) -> None:
    """The answer is that of the arm that it names."""
    arm = answer["parameters"]["arm"]
    labels, probabilities = expected[arm]
    assert answer["arrays"]["predict"] == labels
    assert np.allclose(answer["arrays"]["predict_proba"], probabilities, atol=tolerance)


def expected_answers() -> dict[str, Any]:
    models = {"v1": iris(texts=True), "v2": iris(c=10.0, texts=True)}
    return {arm: (model.predict(ROWS).tolist(), model.predict_proba(ROWS)) for arm, model in models.items()}


def test_tritonclient__unmodified__is_answered(web: str, arms: Api, key: str) -> None:
    told = told_by(
        [str(python_of("triton-http")), str(REQUIREMENTS / "speak_triton_http.py")],
        address=web,
        key=key,
        endpoint="iris",
        names=NAMES,
        rows=ROWS.tolist(),
        parameters=PARAMETERS,
        version="2",
    )
    assert (told["live"], told["ready"], told["model_ready"], told["other_ready"]) == (True, True, True, False)
    assert (told["server"]["name"], told["server"]["extensions"]) == ("noregret", ["binary_tensor_data"])
    metadata = told["metadata"]
    assert (metadata["name"], metadata["versions"]) == ("iris", ["1", "2"])
    assert metadata["inputs"] == [{"name": name, "datatype": "FP64", "shape": [-1, 1]} for name in NAMES]
    assert metadata["outputs"] == [
        {"name": "predict", "datatype": "BYTES", "shape": [-1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
    ]
    expected = expected_answers()
    for form in ("defaults", "columns", "json", "gzip", "deflate"):
        answer = told[form]["response"]
        parameters = answer["parameters"]
        is_by({"parameters": parameters, "arrays": told[form]["arrays"]}, expected)
        assert answer["model_name"] == "iris"
        assert answer["model_version"] == parameters["model"].partition("@")[2] == parameters["arm"][1]
        assert (parameters["propensity"], parameters["learnable"]) == (0.5, True)
        fed = arms.post("/api/v1/feedback", {"decision_id": parameters["decision_id"], "value": 1})
        assert (fed.status, fed.body) == (202, {"status": "recorded"})
    assert told["defaults"]["response"]["id"] == "r-7"
    assert all("binary_data_size" in output["parameters"] for output in told["defaults"]["response"]["outputs"])
    plain, binary = told["json"]["response"]["outputs"]
    assert plain["data"] == told["json"]["arrays"]["predict"]
    assert "data" not in binary

    pinned = told["version"]["response"]
    assert (pinned["model_version"], pinned["parameters"]) == ("2", {"model": "iris@2", "learnable": False})
    assert told["version"]["arrays"]["predict"] == expected["v2"][0]

    assert told["no_version"][0] == "404"
    assert "no version 9" in told["no_version"][1]
    assert told["no_key"] == ["401", told["no_key"][1]]
    assert told["no_endpoint"] == ["404", "there is no endpoint nowhere"]
    for form, words in {
        "wrong_shape": "input: shape [3, 3] where [rows, 4] was expected",
        "wrong_type": "input: datatype BYTES where numbers were expected",
        "wrong_name": "pw: missing tensor",
        "no_output": "outputs.none: no such output",
    }.items():
        assert told[form][0] == "400"
        assert words in told[form][1]
    # The front refuses these before a thread is taken, in the same words.
    assert told["too_large"] == ["413", "at most 1048576 bytes are taken here"]
    assert told["no_such_call"] == ["404", "there is nothing at /v2/repository/index"]


def test_kserve__unmodified__is_answered(web: str, arms: Api, key: str) -> None:
    told = told_by(
        [str(python_of("kserve")), str(REQUIREMENTS / "speak_kserve.py")],
        address=web,
        key=key,
        endpoint="iris",
        rows=ROWS.tolist(),
        parameters=PARAMETERS,
    )
    assert (told["live"], told["ready"], told["model_ready"], told["other_ready"]) == (True, True, True, False)
    expected = expected_answers()
    for form in ("json", "binary"):
        is_by(told[form], expected)
        assert told[form]["id"] == "k-1"
    assert told["no_endpoint"][0] == 404
    assert "there is no endpoint nowhere" in told["no_endpoint"][1]
    assert told["wrong_shape"][0] == 400
    assert "input: shape [3, 2] where [rows, 4] was expected" in told["wrong_shape"][1]


def infer(api: Api, body: Any, path: str = "/v2/models/m/infer", binary: bytes | None = None, **extra: Any) -> Any:
    """Without a Content-Type, as many clients send it."""
    head = body if isinstance(body, bytes) else json.dumps(body).encode()
    if binary is not None:
        extra["headers"] = {"Inference-Header-Content-Length": str(len(head))} | extra.get("headers", {})
    return api("POST", path, head + (binary or b""), content_type="", **extra)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]} | changes]}


@pytest.fixture
def sums(alice: Api) -> Api:
    """`m` adds up the numbers of a row, however many."""
    endpoint_of("m", python_model("m", "1", "sums"), deadline_ms=2000)
    return alice


def refusal(answer: Any, status: int = 400) -> str:
    assert answer.status == status, answer.content
    assert answer.response["Content-Type"] == "application/json"
    assert answer["status"] == status
    return str(answer["error"])


LYING: list[tuple[dict[str, Any], str]] = [
    ({"shape": [2**62, 2**62]}, "more elements"),
    ({"shape": [0, 2**62], "data": []}, "more elements"),
    ({"shape": [1, -2]}, "negative size"),
    ({"shape": [-1, -2]}, "negative size"),
    ({"shape": [0, 2], "data": []}, "no rows"),
    ({"shape": [1] * 5000}, "5000 dimensions"),
    ({"shape": [2]}, "shape [2] where [rows, n] was expected"),
    ({"shape": [1, 3]}, "2 values where shape [1, 3] has 3"),
    ({"shape": [1, 2.5]}, "shape"),
    ({"shape": [10**30, 1]}, ""),
    ({"datatype": "FP128"}, "datatype 'FP128'"),
    ({"datatype": "BF16"}, "datatype 'BF16'"),
    ({"datatype": "INT8", "data": [300, 1]}, "out of the range of INT8"),
    ({"datatype": "UINT8", "data": [-1, 1]}, "out of the range of UINT8"),
    ({"datatype": "FP16", "data": [1e300, 1]}, "finite"),
    ({"datatype": "INT64", "data": [1.5, 1]}, "integers were expected"),
    ({"datatype": "BOOL", "data": [1, 0]}, "true and false"),
    ({"datatype": "BOOL", "data": [True, False]}, "datatype BOOL where numbers were expected"),
    ({"data": [True, False]}, "numbers were expected"),
    ({"data": ["1", "2"]}, "numbers were expected"),
    ({"data": [None, 1.0]}, "finite"),
    ({"data": [[1.0], 2.0]}, "nested here and flat there"),
    ({"data": [[[[1.0, 2.0]]]]}, ""),
    ({"datatype": "BYTES", "data": ["a", "b"]}, "datatype BYTES where numbers were expected"),
    ({"parameters": {"binary_data_size": 16}}, "0 bytes are left"),
    ({"parameters": {"binary_data_size": -16}}, "binary_data_size -16"),
    ({"parameters": {"binary_data_size": True}}, "binary_data_size True"),
    ({"parameters": {"binary_data_size": "16"}}, "binary_data_size '16'"),
]


def test_tensor__that_lies_or_does_not_fit__is_refused_by_name(sums: Api) -> None:
    for changes, words in LYING:
        assert words in refusal(infer(sums, tensor(**changes)))
        assert Decision.objects.count() == 0


def packed(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


LYING_BINARY: list[tuple[bytes, dict[str, Any], str]] = [
    (b"\0" * 15, {}, "15 bytes where shape [1, 2] of FP64 has 16"),
    (b"\0" * 17, {}, "17 bytes where"),
    (b"\0" * 20, {"parameters": {"binary_data_size": 16}}, "4 bytes come behind"),
    (b"\0" * 10, {"parameters": {"binary_data_size": 16}}, "10 bytes are left"),
    (b"\0" * 16, {"shape": [2**31, 2**31]}, "more elements"),
    (struct.pack("<2d", 1.0, float("nan")), {}, "finite"),
    (packed(b"a")[:-1], {"datatype": "BYTES", "shape": [1]}, "element 0 has 1 bytes by its length, and 0 are left"),
    (b"\xff\xff\xff\xff", {"datatype": "BYTES", "shape": [1]}, "element 0 has 4294967295 bytes"),
    (packed(b"a", b"b"), {"datatype": "BYTES", "shape": [1]}, "5 bytes are left after 1 elements"),
    (packed(b"a"), {"datatype": "BYTES", "shape": [2**30]}, "hold no 1073741824 elements"),
    (packed(b"\xff"), {"datatype": "BYTES", "shape": [1]}, "no text in UTF-8"),
]


def test_binary_tensor__that_lies__is_refused_by_name(sums: Api) -> None:
    for binary, changes, words in LYING_BINARY:
        sent = tensor(**({"parameters": {"binary_data_size": len(binary)}} | changes))
        del sent["inputs"][0]["data"]
        assert words in refusal(infer(sums, sent, binary=binary))


LENGTHS = ["-1", "x", "99999", "1e3", "9" * 5000, "²"]


def test_head__that_is_said_to_be_longer_than_the_body_or_no_number__is_refused(sums: Api) -> None:
    for length in LENGTHS:
        answer = infer(sums, tensor(), headers={"Inference-Header-Content-Length": length})
        assert "Inference-Header-Content-Length" in refusal(answer)


NO_REQUESTS = [
    b"",
    b"{",
    b"[]",
    b"{}",
    b'{"inputs": []}',
    b'{"inputs": [{}]}',
    b'{"inputs": ' + b"[" * 100_000,
    b"\xff\xfe",
    b'{"inputs": [' + b",".join([b'{"name":"a","shape":[],"datatype":"BOOL","data":[]}'] * 15_000) + b"]}",
    json.dumps({"inputs": tensor()["inputs"] * 2}).encode(),
    json.dumps(tensor() | {"parameters": {"unit": 3}}).encode(),
    json.dumps(tensor() | {"parameters": {"unit": "u" * 257}}).encode(),
    json.dumps(tensor() | {"parameters": {"context.a": [1]}}).encode(),
]


def test_body__that_is_no_request_of_inference__is_refused(sums: Api) -> None:
    for body in NO_REQUESTS:
        assert refusal(infer(sums, body))


def test_body__compressed__is_unpacked_within_the_limit(sums: Api) -> None:
    body = json.dumps(tensor()).encode()
    answer = infer(sums, gzip.compress(body), headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer["outputs"][0]["data"]) == (200, [3.0])
    bomb = gzip.compress(b" " * 200_000_000, compresslevel=9)
    assert len(bomb) < 2**20
    assert refusal(infer(sums, bomb, headers={"Content-Encoding": "gzip"}), 413)
    for wrong in (body, gzip.compress(body)[:-9], gzip.compress(body) + b"x", zlib.compress(body)):
        assert refusal(infer(sums, wrong, headers={"Content-Encoding": "gzip"}))
    assert refusal(infer(sums, body, headers={"Content-Encoding": "br"}), 415)


def test_outputs__of_every_kind__have_a_datatype_and_a_shape(sums: Api) -> None:
    """Numbers that a model is not known to give are FP64; what has no shape is a row's JSON."""
    endpoint_of("ones", python_model("ones", "1", "ones"), deadline_ms=2000)
    endpoint_of("page", static_model("page", "1", {"text": "é"}))
    endpoint_of("none", static_model("none", "1"))
    for name, datatype, data in (
        ("ones", "FP64", [1.0]),
        ("page", "BYTES", ['{"text":"é"}']),
        ("none", "BYTES", ["null"]),
    ):
        (output,) = infer(sums, tensor(), f"/v2/models/{name}/infer")["outputs"]
        assert (output["name"], output["datatype"], output["shape"], output["data"]) == ("predict", datatype, [1], data)
        answer = infer(sums, tensor() | {"parameters": {"binary_data_output": True}}, f"/v2/models/{name}/infer")
        assert answer.response["Content-Type"] == "application/octet-stream"
        at = int(answer.response["Inference-Header-Content-Length"])
        (told,) = json.loads(answer.content[:at])["outputs"]
        assert told["parameters"]["binary_data_size"] == len(answer.content) - at


def test_columns__of_every_type__are_a_tensor_each(alice: Api) -> None:
    told(alice)
    metadata = alice.get("/v2/models/told").body
    assert [(tensor["name"], tensor["datatype"]) for tensor in metadata["inputs"]] == [
        ("city", "BYTES"),
        ("age", "INT64"),
        ("vip", "BOOL"),
        ("score", "FP64"),
    ]
    sent = [
        {"name": "city", "shape": [2], "datatype": "BYTES", "data": ["Seoul", None]},
        {"name": "score", "shape": [2, 1], "datatype": "FP32", "data": [0.5, None]},
        {"name": "age", "shape": [2, 1], "datatype": "INT32", "data": [31, 7]},
        {"name": "vip", "shape": [2], "datatype": "BOOL", "data": [True, False]},
    ]
    rows = ["city=Seoul age=31 vip=True score=0.5", "city=None age=7 vip=False score=nan"]
    (output,) = infer(alice, {"inputs": sent}, "/v2/models/told/infer")["outputs"]
    assert (output["datatype"], output["data"]) == ("BYTES", rows)

    contents = [
        packed(b"Seoul", "Łódź".encode()),
        struct.pack("<2q", 31, 7),
        b"\x02\x00",
        struct.pack("<2f", 0.5, np.nan),
    ]
    forms = [("city", "BYTES"), ("age", "INT64"), ("vip", "BOOL"), ("score", "FP32")]
    binary = [
        {"name": name, "shape": [2, 1], "datatype": datatype, "parameters": {"binary_data_size": len(content)}}
        for (name, datatype), content in zip(forms, contents, strict=True)
    ]
    answer = infer(alice, {"inputs": binary}, "/v2/models/told/infer", binary=b"".join(contents))
    assert answer["outputs"][0]["data"] == [rows[0], rows[1].replace("None", "Łódź")]

    for place, changes, words in (
        (0, {"datatype": "FP64", "data": [1, 2]}, "city: a string or null was expected"),
        (2, {"datatype": "FP64", "data": [0.5, 1]}, "age: an integer was expected"),
        (2, {"datatype": "BYTES", "data": ["x", "y"]}, "age: an integer was expected"),
        (3, {"datatype": "INT8", "data": [1, 0]}, "vip: true or false was expected"),
        (1, {"shape": [1, 2]}, "score: shape [1, 2] where [rows, 1] was expected"),
        (2, {"shape": [1], "data": [1]}, "age: 1 values where city has 2"),
        (2, {"name": "other"}, "age: missing column"),
    ):
        wrong = [tensor | (changes if i == place else {}) for i, tensor in enumerate(sent)]
        assert words in refusal(infer(alice, {"inputs": wrong}, "/v2/models/told/infer"))
    whole = {"name": "input", "shape": [1, 4], "datatype": "BYTES", "data": ["a", "b", "c", "d"]}
    assert "a tensor a column was expected" in refusal(infer(alice, {"inputs": [whole]}, "/v2/models/told/infer"))


def test_classes__numbers__are_integers(alice: Api) -> None:
    upload(alice, iris(), "iris", "1")
    endpoint_of("iris", "iris@1", deadline_ms=2000)
    metadata = alice.get("/v2/models/iris").body
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP64", "shape": [-1, 4]}]
    assert metadata["outputs"][0] == {"name": "predict", "datatype": "INT64", "shape": [-1]}
    sent = tensor(shape=[2, 4], data=[*X[0].tolist(), *X[120].tolist()], datatype="FP32")
    answer = infer(alice, sent, "/v2/models/iris/infer")
    assert (answer["outputs"][0]["datatype"], answer["outputs"][0]["data"]) == ("INT64", [0, 2])
    assert SPECIES[answer["outputs"][0]["data"]].tolist() == ["setosa", "virginica"]


def test_version__that_is_asked_for__answers_alone_and_is_not_recorded(sums: Api) -> None:
    broken = python_model("broken", "7", "raises")
    arms = [{"name": "a", "model": "m@1"}, {"name": "b", "model": broken}]
    start_experiment({"name": "e", "endpoint": "m", "strategy": "ab", "arms": arms})
    assert sums.get("/v2/models/m")["versions"] == ["1", "7"]
    for version in ("1", "m@1"):
        answer = infer(sums, tensor(), f"/v2/models/m/versions/{version}/infer")
        assert answer["outputs"][0]["data"] == [3.0]
        assert answer["parameters"] == {"model": "m@1", "learnable": False}
    assert "the model could not answer" in refusal(infer(sums, tensor(), "/v2/models/m/versions/7/infer"), 503)
    assert sums.get("/v2/models/m/versions/7").status == sums.get("/v2/models/m/versions/7/ready").status == 200
    for path in ("", "/ready"):
        assert refusal(sums.get(f"/v2/models/m/versions/8{path}"), 404)


def test_parameters__say_which_arms_and_whether_it_counts(sums: Api) -> None:
    arms = [{"name": "a", "model": "m@1"}, {"name": "b", "model": python_model("m", "2", "ones")}]
    start_experiment({"name": "e", "endpoint": "m", "strategy": "bandit", "arms": arms})
    for exclude, arm, propensity in (("a", "b", 1.0), ("b,c", "a", 1.0), ("a,b", None, 1.0)):
        answer = infer(sums, tensor() | {"parameters": {"exclude": exclude, "activate": False, "unit": "u"}})
        told = answer["parameters"]
        assert (told.get("arm"), told["propensity"], told["learnable"]) == (arm, propensity, arm is not None)
    for wrong, field in (({"exclude": 3}, "exclude"), ({"exclude": "A!"}, "exclude"), ({"activate": "no"}, "activate")):
        assert f"parameters.{field}" in refusal(infer(sums, tensor() | {"parameters": wrong}))


def test_key__comes_in_any_way_that_clients_know(sums: Api, charlie: Api, key: str) -> None:
    for text in (f"{key}:", f":{key}", f"noregret:{key}", f"{key}:x"):
        basic = base64.b64encode(text.encode()).decode()
        assert infer(charlie, tensor(), headers={"Authorization": f"Basic {basic}"}).status == 200
    for wrong in ("Basic", "Basic !", "Basic " + base64.b64encode(b"a:b").decode(), "Digest x"):
        assert refusal(infer(charlie, tensor(), headers={"Authorization": wrong}), 401)
    # Of our own calls Bearer and X-API-Key are the ways.
    basic = base64.b64encode(f":{key}".encode()).decode()
    body = {"inputs": [[1.0]]}
    answer = charlie.post("/api/v1/endpoints/m/predict", body, headers={"Authorization": f"Basic {basic}"})
    assert answer.status == 401


def test_method_and_address__that_are_not_there__are_refused_in_the_protocols_words(sums: Api) -> None:
    assert refusal(sums.get("/v2/models/m/infer"), 405)
    assert refusal(sums.get("/v2/models/m/nothing"), 404)
    assert refusal(sums.get("/v2/repository/index"), 404)
    assert sums.get("/v2x").response["Content-Type"] == "application/problem+json"
