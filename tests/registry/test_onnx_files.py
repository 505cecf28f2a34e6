"""ONNX files as people export them, and as nobody should: which columns they have, how they are
served, and why one is refused.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from noregret.registry.errors import ArtifactRefused
from noregret.registry.frameworks import Examined
from noregret.registry.frameworks.onnx import OnnxFramework
from noregret.registry.inspection import inspect
from onnx import TensorProto, helper, numpy_helper

from serving.runtimes.onnx_graph import OnnxRuntime, session
from serving.runtimes.rows import to_rows
from serving.runtimes.runtime import ModelError
from tests.conftest import Api, endpoint_of

FLOAT, DOUBLE, INT64, BOOL, STRING = (
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING,
)  # fmt: skip
OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
BOOSTED = Path(__file__).parent / "boosted"

Value = tuple[str, int, list[Any]]


def made(inputs: list[Value], outputs: list[Value], nodes: list[Any], constants: list[Any] | None = None) -> bytes:
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        constants or [],
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8).SerializeToString()


def sums(shape: list[Any], kind: int = FLOAT) -> bytes:
    """Of one input the sum of each row."""
    axes = numpy_helper.from_array(np.array([1]), "axes")
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
    return made([("x", kind, shape)], [("y", kind, [None, 1])], [node], [axes])


def of_columns() -> bytes:
    """A text, a whole number, a truth and a float: one answer."""
    inputs: list[Value] = [
        ("word", STRING, [None, 1]), ("times", INT64, [None, 1]), ("is_new", BOOL, [None]), ("weight", FLOAT, [None, 1]),
    ]  # fmt: skip
    keys = {"keys_strings": ["a", "b"], "values_floats": [1.0, 2.0], "default_float": 10.0}
    nodes = [
        helper.make_node("LabelEncoder", ["word"], ["w"], domain="ai.onnx.ml", **keys),
        helper.make_node("Cast", ["times"], ["t"], to=FLOAT),
        helper.make_node("Cast", ["is_new"], ["n"], to=FLOAT),
        helper.make_node("Reshape", ["n", "column"], ["n1"]),
        helper.make_node("Sum", ["w", "t", "n1", "weight"], ["total"]),
    ]
    return made(inputs, [("total", FLOAT, [None, 1])], nodes, [numpy_helper.from_array(np.array([-1, 1]), "column")])


def classifier(*, zipped: bool) -> bytes:
    """A linear classifier of two features, as converters write it, probabilities first."""
    attributes = {
        "coefficients": [1.0, -1.0, -1.0, 1.0], "intercepts": [0.0, 0.5], "classlabels_strings": ["no", "yes"],
        "multi_class": 0, "post_transform": "SOFTMAX",
    }  # fmt: skip
    nodes = [helper.make_node("LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", **attributes)]
    outputs: list[Any] = [helper.make_tensor_value_info("scores", FLOAT, [None, 2])]
    if zipped:
        labels = {"classlabels_strings": ["no", "yes"]}
        nodes.append(helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", **labels))
        kind = helper.make_sequence_type_proto(
            helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, None))
        )
        outputs = [helper.make_value_info("probabilities", kind)]
    else:
        nodes.append(helper.make_node("Identity", ["scores"], ["probabilities"]))
        outputs = [helper.make_tensor_value_info("probabilities", FLOAT, [None, 2])]
    label = helper.make_tensor_value_info("label", STRING, [None])
    given = [helper.make_tensor_value_info("x", FLOAT, [None, 2])]
    graph = helper.make_graph(nodes, "classifier", given, [*outputs, label])
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8).SerializeToString()


def examined(body: bytes, **options: Any) -> Examined:
    return OnnxFramework().inspect(body, {"sample": None, "expected": None, **options})


def told(found: Examined) -> dict[str, str]:
    return {column.name: str(column) for column in found.signature.columns or ()}


def answers(body: bytes, found: Examined, inputs: Any) -> dict[str, list[Any]]:
    runtime = OnnxRuntime(found.compiled or body, found.signature.outputs)
    return runtime.predict(to_rows(inputs, found.signature))


def test_file_of_one_input_of_numbers__has_features_and_no_columns() -> None:
    for kind in (FLOAT, DOUBLE):
        found = examined(sums([None, 3], kind))
        signature = found.signature
        assert (signature.features, signature.feature_names, signature.columns) == (3, None, None)
        assert (signature.task, found.compiled, len(signature.example_rows or [])) == ("regressor", None, 2)
        assert found.call_seconds is not None
        assert answers(sums([None, 3], kind), found, [[0.5, 1, 1e9], [1, 2, 3]]) == {
            "predict": [pytest.approx(1e9 + 1.5, rel=1e-6), 6.0]
        }
    named = examined(sums([None, 2]), columns=[{"name": "a"}, {"name": "b", "type": "integer"}])
    assert told(named) == {"a": "number", "b": "integer"}
    assert answers(sums([None, 2]), named, [{"b": 2, "a": 0.5}]) == {"predict": [2.5]}
    free = examined(sums([None, None]), sample=[[1, 2, 3, 4]])
    assert free.signature.features == 4
    whole = examined(sums([None, 2], INT64))
    assert told(whole) == {"x0": "integer", "x1": "integer"}
    assert answers(sums([None, 2], INT64), whole, [[2**31, 1]]) == {"predict": [2**31 + 1]}


def test_file_of_several_inputs__has_a_column_each__by_name_and_type() -> None:
    body = of_columns()
    found = examined(body)
    assert told(found) == {"word": "string", "times": "integer", "is_new": "boolean", "weight": "number"}
    assert found.signature.feature_names == ["word", "times", "is_new", "weight"]
    rows = [["a", 2, True, 0.5], {"weight": 1, "is_new": False, "times": 0, "word": "日本"}]
    assert answers(body, found, rows) == {"predict": [4.5, 11.0]}
    given = [{"name": name, "type": str(kind)} for name, kind in told(found).items()]
    with pytest.raises(ArtifactRefused, match="an input of string holds no null"):
        examined(body, columns=[given[0] | {"nullable": True}, *given[1:]])
    with pytest.raises(ArtifactRefused, match="calls column 0 'text': the model's input is 'word'"):
        examined(body, columns=[given[0] | {"name": "text"}, *given[1:]])


def test_file_of_a_classifier__has_labels_first_and_arrays_for_maps() -> None:
    for zipped in (True, False):
        body = classifier(zipped=zipped)
        found = examined(body)
        assert (found.signature.outputs, found.signature.classes) == (["predict", "predict_proba"], ["no", "yes"])
        assert (found.signature.task, found.compiled is not None) == ("classifier", True)
        answer = answers(body, found, [[3, 1], [1, 3]])
        assert answer["predict"] == ["no", "yes"]
        np.testing.assert_allclose(np.sum(answer["predict_proba"], axis=1), 1.0, atol=1e-6)


def test_expected_answers_of_the_sample__are_held_against_the_file() -> None:
    body = sums([None, 2])
    signature = examined(body, sample=[[1, 2], [3, 4]], expected={"predict": [3, 7.000001]}).signature
    assert (signature.features, signature.example_rows, signature.sampled) == (2, [[1, 2], [3, 4]], True)
    assert examined(body).signature.sampled is False
    with pytest.raises(ArtifactRefused, match=r"predict of row 1 of the sample is 7.0 where 8 was expected"):
        examined(body, sample=[[1, 2], [3, 4]], expected={"predict": [3, 8]})
    with pytest.raises(ArtifactRefused, match="`expected` names 'score'"):
        examined(body, sample=[[1, 2]], expected={"score": [3]})


@pytest.mark.parametrize("path", sorted(BOOSTED.glob("*.onnx")), ids=lambda path: path.stem)
def test_file_of_a_boosted_model__answers_as_its_original(path: Path) -> None:
    """As XGBoost's and LightGBM's users convert them; `boosted/make.py` makes them anew."""
    body, beside = path.read_bytes(), json.loads(path.with_suffix(".json").read_text())
    found = examined(body, **beside)
    is_classifier = "predict_proba" in beside["expected"]
    assert found.signature.task == ("classifier" if is_classifier else "regressor")
    assert found.signature.outputs == list(beside["expected"])
    answer = answers(body, found, beside["sample"])
    if is_classifier:
        assert answer["predict"] == beside["expected"]["predict"]
        assert set(answer["predict"]) <= set(found.signature.classes or [])
    for name, values in answer.items():
        if name == "predict_proba" or not is_classifier:
            np.testing.assert_allclose(values, beside["expected"][name], rtol=1e-5)
    gap = examined(body, sample=[*beside["sample"], [None, *beside["sample"][0][1:]]])
    assert [column.nullable for column in gap.signature.columns or ()] == [True] + [False] * (
        len(beside["sample"][0]) - 1
    )
    other = beside["expected"] | {"predict": beside["expected"]["predict"][::-1]}
    with pytest.raises(ArtifactRefused, match="answers otherwise than `expected`"):
        examined(body, sample=beside["sample"], expected=other)


def beside() -> bytes:
    model = onnx.load_model_from_string(sums([None, 2]))
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return model.SerializeToString()


def beside_in_a_branch() -> bytes:
    inner = onnx.load_model_from_string(beside()).graph
    del inner.input[:]
    condition = numpy_helper.from_array(np.array(True), "yes")
    node = helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner)
    return made([("x", FLOAT, [None, 2])], [("z", FLOAT, [None, 1])], [node], [condition])


def enormous() -> bytes:
    """A gigabyte from a few bytes."""
    shape = numpy_helper.from_array(np.array([1 << 28]), "shape")
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["shape"], ["big"], value=numpy_helper.from_array(np.array([1.0], np.float32))
        ),
        helper.make_node("ReduceSum", ["big"], ["total"], keepdims=0),
        helper.make_node("Mul", ["x", "total"], ["y"]),
    ]
    return made([("x", FLOAT, [None, 1])], [("y", FLOAT, [None, 1])], nodes, [shape])


def endless() -> bytes:
    """A loop whose condition stays true."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["v"], ["v_on"])],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go", BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, [None, 1]),
        ],
        [helper.make_tensor_value_info("go_on", BOOL, []), helper.make_tensor_value_info("v_on", FLOAT, [None, 1])],
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    node = helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)
    return made([("x", FLOAT, [None, 1])], [("y", FLOAT, [None, 1])], [node], [yes])


def sized_by_a_value() -> bytes:
    """Adds to a row's sum that of as many zeros as its largest value says."""
    axes = [numpy_helper.from_array(np.array([0]), "first"), numpy_helper.from_array(np.array([1]), "second")]
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["whole"], to=INT64),
        helper.make_node("Unsqueeze", ["whole", "first"], ["length"]),
        helper.make_node("Relu", ["length"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("ReduceSum", ["x", "second"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "nothing"], ["y"]),
    ]
    return made([("x", FLOAT, [None, 2])], [("y", FLOAT, [None, 1])], nodes, axes)


def mixing() -> bytes:
    """Each row's answer holds the sum over all rows."""
    axes = numpy_helper.from_array(np.array([0]), "axes")
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["all"], keepdims=1),
        helper.make_node("Add", ["x", "all"], ["y"]),
    ]
    return made([("x", FLOAT, [None, 1])], [("y", FLOAT, [None, 1])], nodes, [axes])


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no graph"),
    "pickle": (b"\x80\x04\x95\x10\x00", "is no ONNX file"),
    "cut off": (sums([None, 2])[:-40], "no ONNX file|can't be loaded"),
    "data beside it": (beside(), "keeps 'axes' in a file beside it"),
    "data beside it in a branch": (beside_in_a_branch(), "keeps 'axes' in a file beside it"),
    "gigabyte from nothing": (enormous(), "memory|alloc|can't be loaded|answers no rows"),
    "three dimensions": (sums([None, 2, 2]), r"shape \[N, 2, 2\]: \[N\], \[N, 1\] or \[N, n\] was expected"),
    "a fixed number of rows": (sums([8, 2]), "takes exactly 8 rows"),
    "a width that is not known": (sums([None, None]), "send `columns` or a `sample`"),
    "another type": (sums([None, 2], TensorProto.FLOAT16), "is no tensor of double, float"),
    "rows that see each other": (mixing(), "depends on the rows beside it"),
    "wide inputs": (
        made(
            [("a", FLOAT, [None, 2]), ("b", FLOAT, [None, 1])],
            [("y", FLOAT, [None, 2])],
            [helper.make_node("Add", ["a", "b"], ["y"])],
        ),
        "input 'a' has 2 columns",
    ),
    "an operator that there is not": (
        made(
            [("x", FLOAT, [None, 1])],
            [("y", FLOAT, [None, 1])],
            [helper.make_node("RunMe", ["x"], ["y"], domain="evil")],
        ),
        "can't be loaded",
    ),
}


@pytest.mark.parametrize("cause", REFUSED)
def test_file_that_can_not_be_served__is_refused_with_its_reason(cause: str) -> None:
    body, reason = REFUSED[cause]
    with pytest.raises(ArtifactRefused, match=reason):
        examined(body)


def test_file_with_a_loop_that_never_ends__is_refused_by_the_inspection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.runtimes.onnx_graph.LONGEST_SECONDS", 0.5)
    with pytest.raises(ArtifactRefused, match="answers no rows"):
        examined(endless())
    assert not OnnxRuntime(endless(), ["predict"]).bounded  # a request can leave it
    assert OnnxRuntime(sums([None, 2]), ["predict"]).bounded


def test_file_in_which_a_value_decides_a_size__takes_no_more_memory_than_is_allowed(alice: Api) -> None:
    body = sized_by_a_value()
    fields = {"name": "sized", "version": "1", "framework": "onnx", "artifact": SimpleUploadedFile("m", body)}
    assert alice.upload("/api/v1/models", fields).status == 201
    endpoint_of("sized", "sized@1", deadline_ms=5000)
    path = "/api/v1/endpoints/sized/predict"
    assert alice.post(path, {"inputs": [[1, 2]]})["outputs"] == {"predict": [3.0]}
    resident = psutil.Process().memory_info().rss
    refused = alice.post(path, {"inputs": [[6e8, 2]]})  # 2.4 GB: the machine would give it
    assert (refused.status, "ModelError" in refused["detail"]) == (503, True)
    assert psutil.Process().memory_info().rss - resident < 100 << 20
    assert alice.post(path, {"inputs": [[1, 2]]})["outputs"] == {"predict": [3.0]}
    assert not OnnxRuntime(body, ["predict"], memory=1 << 30).bounded  # a request can leave it


def test_file__is_opened_in_the_confined_process() -> None:
    framework = "noregret.registry.frameworks.onnx:OnnxFramework"
    found = inspect(of_columns(), framework, {"sample": None, "expected": None})
    assert told(found)["word"] == "string"
    with pytest.raises(ArtifactRefused, match=REFUSED["gigabyte from nothing"][1]):
        inspect(enormous(), framework, {"sample": None, "expected": None})


def test_provider_that_is_not_installed__is_told() -> None:
    with pytest.raises(ModelError, match="CUDAExecutionProvider is not installed here"):
        session(sums([None, 2]), ["CUDAExecutionProvider"])


def test_file__is_registered_and_served_over_http(alice: Api) -> None:
    fields = {"name": "words", "version": "1", "framework": "onnx"}
    rows = [["a", 2, True, 0.5]]
    sent = {"sample": json.dumps(rows), "expected": json.dumps({"predict": [4.5]})}
    made_version = alice.upload("/api/v1/models", fields | sent | {"artifact": SimpleUploadedFile("m", of_columns())})
    assert made_version.status == 201, made_version.content
    assert made_version["framework"] == "onnx"
    assert [column["type"] for column in made_version["signature"]["columns"]] == [
        "string",
        "integer",
        "boolean",
        "number",
    ]
    endpoint_of("words", "words@1", deadline_ms=5000)
    path = "/api/v1/endpoints/words/predict"
    assert alice.post(path, {"inputs": rows})["outputs"] == {"predict": [4.5]}
    wrong = alice.post(path, {"inputs": [["a", 2.5, 1, None]]})
    assert wrong.fields() == ["inputs[0].times", "inputs[0].is_new", "inputs[0].weight"]
    alone = alice.upload("/api/v1/models", fields | {"version": "2", "artifact": SimpleUploadedFile("m", beside())})
    assert (alone.status, "in a file beside it" in alone["detail"]) == (422, True)
    deep = {"columns": "[" * 3000, "artifact": SimpleUploadedFile("m", of_columns())}
    assert alice.upload("/api/v1/models", fields | {"version": "3"} | deep).fields() == ["columns"]
    lost = {"expected": "{}", "artifact": SimpleUploadedFile("m", of_columns())}
    assert alice.upload("/api/v1/models", fields | {"version": "3"} | lost).fields() == ["expected"]
