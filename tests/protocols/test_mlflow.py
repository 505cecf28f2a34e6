"""MLflow's scoring protocol: through its own clients, and in every form that rows have there."""

import json
from typing import Any

import numpy as np
import pytest
from noregret.access.keys import create_key

from serving.ledger.models import Decision
from tests.client_environments import REQUIREMENTS, python_of, told_by
from tests.conftest import ACTOR, Api, endpoint_of, python_model
from tests.protocols.models import NAMES, X, iris, told, upload

ROWS = X[[0, 60, 120]]
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS.tolist()]


def invoke(api: Api, body: Any, endpoint: str = "iris", content_type: str = "application/json") -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return api("POST", f"/endpoints/{endpoint}/invocations", data, content_type=content_type)


def refusal(answer: Any, status: int = 400, code: str = "BAD_REQUEST") -> str:
    assert (answer.status, answer.response["Content-Type"]) == (status, "application/json"), answer.content
    assert answer["error_code"] == code
    return str(answer["message"])


@pytest.fixture
def iris_api(alice: Api) -> Api:
    """`iris` has named features and text labels."""
    upload(alice, iris(texts=True, names=True), "iris", "1")
    endpoint_of("iris", "iris@1", deadline_ms=2000)
    return alice


def test_mlflow__unmodified_clients__are_answered(web: str, iris_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    key = create_key(name="client", scopes=["predict"], actor=ACTOR)[1]
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", key)
    heard = told_by(
        [str(python_of("mlflow")), str(REQUIREMENTS / "speak_mlflow.py")],
        address=web,
        key=key,
        endpoint="iris",
        rows=ROWS.tolist(),
        records=RECORDS,
    )
    expected = iris(texts=True).predict(ROWS).tolist()
    for form in ("frame", "shuffled", "array", "deployments"):
        answer = heard[form]
        assert (answer["predictions"], answer["model"], answer["learnable"]) == (expected, "iris@1", True)
        fed = iris_api.post("/api/v1/feedback", {"decision_id": answer["decision_id"], "value": 1})
        assert fed.status == 202
    assert heard["predictions"] == expected
    assert heard["version"]
    assert "503" not in heard["no_endpoint"]
    assert "error code 404" in heard["no_endpoint"]
    assert "error code 401" in heard["no_key"]
    assert "missing feature" in heard["no_column"]
    assert "inputs[0][0]" in heard["gap"]


def test_rows__in_every_form__are_the_same_rows(iris_api: Api) -> None:
    expected = iris(texts=True).predict(ROWS).tolist()
    columns = {name: ROWS[:, i].tolist() for i, name in enumerate(NAMES)}
    split = {"columns": NAMES, "index": [0, 1, 2], "data": ROWS.tolist()}
    csv = (",".join(NAMES[::-1]) + "\n" + "\n".join(",".join(map(str, row[::-1])) for row in ROWS.tolist())).encode()
    for body in (
        {"dataframe_split": split},
        {"dataframe_split": {"columns": NAMES[::-1], "data": ROWS[:, ::-1].tolist()}},
        {"dataframe_split": {"columns": [0, 1, 2, 3], "data": ROWS.tolist()}},
        {"dataframe_split": {"data": ROWS.tolist()}},
        {"dataframe_records": RECORDS},
        {"instances": ROWS.tolist()},
        {"instances": RECORDS},
        {"inputs": ROWS.tolist()},
        {"inputs": columns},
        {"inputs": {name: [[value] for value in values] for name, values in columns.items()}},
    ):
        assert invoke(iris_api, body)["predictions"] == expected, body
    for sent in (csv, b"\xef\xbb\xbf" + csv.replace(b"\n", b"\r\n") + b"\r\n"):
        assert invoke(iris_api, sent, content_type="text/csv; charset=utf-8")["predictions"] == expected
    assert Decision.objects.count() == 0  # they are in the stream, and nothing was written beside it


def test_typed_columns__in_every_form__are_what_they_say(alice: Api) -> None:
    told(alice)
    rows = ["city=1.5 age=31 vip=True score=0.5", "city=None age=7 vip=False score=nan"]
    columns, data = ["city", "age", "vip", "score"], [["1.5", 31, True, 0.5], [None, 7, False, None]]
    assert invoke(alice, {"dataframe_split": {"columns": columns, "data": data}}, "told")["predictions"] == rows
    shuffled = b"vip,score,age,city\nTrue,0.5,31,1.5\nfalse,,7,\n"
    assert invoke(alice, shuffled, "told", "text/csv")["predictions"] == rows
    gap = json.dumps({"dataframe_records": [dict(zip(columns, [None, 7, False, float("nan")], strict=True))]}).encode()
    assert b"NaN" in gap
    assert invoke(alice, gap, "told")["predictions"] == rows[1:]
    wrong = invoke(alice, b"city,age,vip,score\nx,1.5,maybe,2\n", "told", "text/csv")
    assert "inputs[0].age: an integer was expected" in refusal(wrong)
    assert "inputs[0].vip: true or false was expected" in refusal(wrong)


NO_ROWS: list[tuple[Any, str]] = [
    ({}, "0 of dataframe_split"),
    ({"inputs": [[1.0]], "instances": [[1.0]]}, "2 of dataframe_split"),
    ({"inputs": []}, "at least one row"),
    ({"instances": [1.0, 2.0]}, "instances[0]: a row was expected"),
    ({"inputs": {"a": [1.0], "b": [1.0, 2.0]}}, "different lengths"),
    ({"inputs": {"a": 1.0}}, "a list of values a column"),
    ({"inputs": {"sl": [[1.0, 2.0]], "sw": [1.0], "pl": [1.0], "pw": [1.0]}}, "inputs[0]"),
    ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "two columns have one name"),
    ({"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}}, "dataframe_split.data[0]: 1 values"),
    ({"dataframe_split": {"columns": ["a"]}}, "dataframe_split.data: required"),
    ({"dataframe_records": [[1.0]]}, "dataframe_records[0]"),
    ({"inputs": [["1", "2", "3", "4"]]}, "inputs[0]"),
    ({"inputs": [[1.0, 2.0, 3.0]]}, "3 features where 4 were expected"),
    ({"inputs": [[1, 2, 3, 4]], "params": {"unit": 3}}, "params.unit"),
    ({"inputs": [[1, 2, 3, 4]], "params": {"context": {"a": []}}}, "params.context.a"),
    (b'{"inputs": [[NaN, 1, 1, 1]]}', "inputs[0]"),
    (b'{"inputs": [[NaN, Infinity, 1, 1]]}', "Infinity"),
    (b'{"NaN": ' + b"[" * 100_000, ""),
    (b"[" * 100_000, ""),
    (b"\xff", ""),
    (b"", ""),
]


def test_body__that_holds_no_rows__is_refused(iris_api: Api) -> None:
    for body, words in NO_ROWS:
        assert words in refusal(invoke(iris_api, body))


NO_CSV = [b"", b"a\n", b"sl,sw,pl,pw\n1,2,3\n", b'sl\n"1', b"\xff\n1\n", b"sl,sw,pl,pw\n1,2,3,x\n"]
NO_CSV += [
    b"sl,sw,pl,pw\n1,2,3,%s\n" % text for text in (b"nan", b"inf", b"-Infinity", b"1e999", b"", b"1_0", "١".encode())
]


def test_csv__that_holds_no_rows__is_refused(iris_api: Api) -> None:
    for body in NO_CSV:
        assert refusal(invoke(iris_api, body, content_type="text/csv"))


def test_refusals__are_in_mlflows_words(alice: Api, charlie: Api) -> None:
    endpoint_of("m", python_model("m", "1", "sums"))
    endpoint_of("broken", python_model("broken", "1", "raises"))
    assert refusal(invoke(charlie, {"inputs": [[1.0]]}, "m"), 401, "UNAUTHENTICATED")
    assert refusal(invoke(alice, {"inputs": [[1.0]]}, "x"), 404, "RESOURCE_DOES_NOT_EXIST")
    assert refusal(alice.get("/endpoints/m/nothing"), 404, "RESOURCE_DOES_NOT_EXIST")
    assert refusal(alice.get("/endpoints/m/invocations"), 405)
    assert refusal(invoke(alice, {"inputs": [[1.0]]}, "broken"), 503, "TEMPORARILY_UNAVAILABLE")
    for path in ("ping", "health", "version"):
        assert alice.get(f"/endpoints/m/{path}").status == 200
        assert charlie.get(f"/endpoints/m/{path}").status == 401
    assert np.isclose(invoke(alice, {"inputs": [[1.0, 2.5]]}, "m")["predictions"], 3.5)
