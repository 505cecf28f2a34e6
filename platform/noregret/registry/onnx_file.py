"""Opens an uploaded ONNX file without trusting it: what it takes and gives, read from the file.
Runs only in the inspecting child process.

A file must hold all of itself: data that lie beside it would be read from this machine's disk. Maps
that converters put behind a classifier are taken away, for an array of probabilities is what is
served.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, load_model_from_string

from serving.runtimes.columns import Column, ColumnType

_TYPES: dict[int, ColumnType] = {
    TensorProto.DOUBLE: "number",
    TensorProto.FLOAT: "number",
    TensorProto.INT64: "integer",
    TensorProto.INT32: "integer",
    TensorProto.BOOL: "boolean",
    TensorProto.STRING: "string",
}
_LABELS = ("label", "output_label", "predict", "prediction", "predictions", "variable")
MOST_INPUTS = 10_000


class Refused(Exception):
    """The file is not taken; the message says why."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a file says of itself."""

    body: bytes
    """As it is served: outputs in the order of `outputs`, without maps."""
    is_rewritten: bool
    columns: tuple[Column, ...] | None
    """None for one input of numbers whose width the file does not say."""
    is_named: bool
    """Is each column an input, whose name it has?"""
    outputs: list[str]
    classes: list[Any] | None
    task: str


def open_file(artifact: bytes) -> Opened:
    """Raises Refused."""
    try:
        model = load_model_from_string(artifact)
    except Exception as error:  # protobuf's own exception has no public base that says only this
        raise Refused(f"is no ONNX file: {type(error).__name__}: {error}"[:300]) from error
    graph = model.graph
    if not graph.node or not graph.output:
        raise Refused("is no ONNX file: it has no graph")
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data):
            raise Refused(
                f"keeps {tensor.name[:64] or 'a tensor'!r} in a file beside it: save the model with all data in one file"
            )
    columns, is_named = _columns(graph)
    classes = _classes(graph)
    rewritten = _without_maps(graph)
    outputs, order = _outputs(graph)
    if order != list(range(len(order))):
        rewritten = True
        ordered = [graph.output[place] for place in order]
        copies = [type(one).FromString(one.SerializeToString()) for one in ordered]
        del graph.output[:]
        graph.output.extend(copies)
    body = model.SerializeToString() if rewritten else artifact
    task = _task(graph, outputs)
    return Opened(body, rewritten, columns, is_named, outputs, classes if task == "classifier" else None, task)


def _columns(graph: GraphProto) -> tuple[tuple[Column, ...] | None, bool]:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [one for one in graph.input if one.name not in constants]  # older files list constants too
    if not inputs:
        raise Refused("takes no input")
    if len(inputs) > MOST_INPUTS:
        raise Refused(f"takes {len(inputs)} inputs: at most {MOST_INPUTS} columns are taken")
    read = [_input(one) for one in inputs]
    if len(read) == 1:
        name, kind, width = read[0]
        if width == 1:
            return (Column(name, kind),), True
        if width is None:
            if kind != "number":
                raise Refused(f"its input {name!r} does not say how many columns it has")
            return None, False
        return tuple(Column(f"x{place}", kind) for place in range(width)), False
    for name, _, width in read:
        if width != 1:
            wide = "an unknown number of" if width is None else str(width)
            raise Refused(f"its input {name!r} has {wide} columns: of several inputs each must be [N] or [N, 1]")
    return tuple(Column(name, kind) for name, kind, _ in read), True


def _input(value: Any) -> tuple[str, ColumnType, int | None]:
    """Name, type, and how many columns; None: any number."""
    name, kind = value.name[:64], value.type.WhichOneof("value")
    tensor = value.type.tensor_type
    if kind != "tensor_type" or tensor.elem_type not in _TYPES:
        known = "double, float, int64, int32, bool or string"
        raise Refused(f"its input {name!r} is no tensor of {known}")
    dimensions = [one.dim_value if one.HasField("dim_value") else None for one in tensor.shape.dim]
    if not tensor.HasField("shape") or len(dimensions) not in (1, 2):
        raise Refused(f"its input {name!r} has shape {_shape(dimensions)}: [N], [N, 1] or [N, n] was expected")
    if dimensions[0] is not None and dimensions[0] > 0:
        raise Refused(
            f"its input {name!r} takes exactly {dimensions[0]} rows: export it with a first dimension that is free"
        )
    width = 1 if len(dimensions) == 1 else dimensions[1]
    return value.name, _TYPES[tensor.elem_type], width if width is None or width > 0 else None


def _shape(dimensions: list[int | None]) -> str:
    return "[" + ", ".join("N" if one is None else str(one) for one in dimensions) + "]"


def _without_maps(graph: GraphProto) -> bool:
    """Have the arrays answered that maps are made of; was there one?"""
    changed = False
    for output in list(graph.output):
        maker = next((node for node in graph.node if output.name in node.output), None)
        if maker is None or maker.op_type != "ZipMap" or not maker.input:
            continue
        output.ClearField("type")
        output.type.tensor_type.elem_type = TensorProto.FLOAT
        output.type.tensor_type.shape.dim.add()
        output.type.tensor_type.shape.dim.add()
        maker.op_type, maker.domain = "Identity", ""
        del maker.attribute[:]
        changed = True
    return changed


def _outputs(graph: GraphProto) -> tuple[list[str], list[int]]:
    """Our names of the outputs, and which of the graph's stands in each place."""
    for output in graph.output:
        tensor = output.type.tensor_type
        if output.type.WhichOneof("value") != "tensor_type" or tensor.elem_type not in _TYPES:
            raise Refused(f"its output {output.name[:64]!r} is no tensor of numbers, truths or strings")
    names = [output.name for output in graph.output]
    predict = next((place for place, name in enumerate(names) if name.lower() in _LABELS), None)
    if predict is None:
        predict = next((place for place, output in enumerate(graph.output) if not _is_wide(output)), 0)
    proba = next(
        (
            place
            for place, output in enumerate(graph.output)
            if place != predict
            and "prob" in output.name.lower()
            and output.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.DOUBLE)
        ),
        None,
    )
    first = [predict] if proba is None else [predict, proba]
    order = first + [place for place in range(len(names)) if place not in first]
    ours = ["predict", "predict_proba"][: len(first)] + [names[place] for place in order[len(first) :]]
    if len(set(ours)) != len(ours):
        raise Refused("has an output called predict or predict_proba beside those that are served under these names")
    return ours, order


def _is_wide(output: Any) -> bool:
    dimensions = output.type.tensor_type.shape.dim
    return len(dimensions) > 1 and not (dimensions[1].HasField("dim_value") and dimensions[1].dim_value == 1)


def _task(graph: GraphProto, outputs: list[str]) -> str:
    labels = graph.output[0].type.tensor_type.elem_type
    if "predict_proba" in outputs or labels in (TensorProto.INT64, TensorProto.STRING):
        return "classifier"
    return "regressor" if not _is_wide(graph.output[0]) else "other"


def _classes(graph: GraphProto) -> list[Any] | None:
    """As the last classifier of the graph names them."""
    for node in reversed(graph.node):
        for attribute in node.attribute:
            if attribute.name.startswith("classlabels_"):
                if attribute.strings:
                    return [label.decode(errors="replace") for label in attribute.strings]
                if attribute.ints:
                    return list(attribute.ints)
    return None


def _tensors(model: ModelProto) -> Iterator[Any]:
    """Every tensor of a file, wherever it stands."""
    graphs = [model.graph, *(info.initialization for info in model.training_info)]
    graphs += [info.algorithm for info in model.training_info]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
        else:
            for attribute in nodes.pop().attribute:
                yield from _of_attribute(attribute)
                graphs += [*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs]


def _of_attribute(attribute: AttributeProto) -> Iterator[Any]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in (
        *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else ()),
        *attribute.sparse_tensors,
    ):
        yield from (sparse.values, sparse.indices)
