"""A model on another machine: behind Triton, MLServer, KServe or MLflow. Its server is asked what
it takes, and, where rows are given, what it answers.
"""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from django.conf import settings

from noregret.registry.errors import DefinitionInvalid
from noregret.registry.samples import SampleInvalid, check_sample, sampled
from serving.deadline import DeadlineExceeded
from serving.outbound.addresses import AddressRefused
from serving.outbound.reach import Reach
from serving.remote.tensors import LayoutUnknown, Tensor, columns_of, width_of
from serving.runtimes import ModelError, Table
from serving.runtimes.columns import Columns
from serving.runtimes.http import HttpModel, RemoteModel, RemoteProtocol, remote_model, schemes_of

from .given_columns import GivenColumns, as_options, checked
from .protocol import Content, Definition, Examined, Framework, Signature

if TYPE_CHECKING:
    from noregret.registry.models import ModelVersion

EXAMPLE_ROWS = 2
SECONDS = 8.0
"""For all that a registration asks a model's server."""

_Url = Annotated[
    str,
    msgspec.Meta(
        max_length=2000,
        description="For a remote model: http://host:port/v2/models/NAME, grpc://host:port/NAME, or MLflow's http://host:port.",
    ),
]
_Protocol = Annotated[
    RemoteProtocol, msgspec.Meta(description="For a remote model: open-inference (Triton, MLServer, KServe) or mlflow.")
]
_Sample = Annotated[
    list[list[Any] | dict[str, Any]],
    msgspec.Meta(min_length=1, max_length=1000, description="For a remote model: rows that it answers, as JSON."),
]


class HttpDefinition(Definition, frozen=True, kw_only=True, tag="http"):
    """An address. What it answers may change behind it: an address that names the version is
    better.
    """

    url: _Url
    protocol: _Protocol
    columns: GivenColumns | None = None
    sample: _Sample | None = None


class HttpFramework(Framework[HttpDefinition]):
    label: ClassVar[str] = "Remote model"
    definition: ClassVar[type[Definition]] = HttpDefinition
    asks_others: ClassVar[bool] = True

    def content(self, definition: HttpDefinition) -> Content:
        check_sample(definition.sample)
        checked(definition.columns)
        return Content(
            options={"url": definition.url, "protocol": definition.protocol, **as_options(definition.columns)}
        )

    def examine(self, definition: HttpDefinition) -> Examined:
        """Raises DefinitionInvalid for an address that may not be called, one where nobody answers,
        and for rows that the model does not answer.
        """
        reach = Reach.of(settings)
        try:
            reach.check(definition.url, schemes_of(definition.protocol))
        except AddressRefused as error:
            raise DefinitionInvalid("url", str(error)) from error
        until = time.monotonic() + SECONDS
        try:
            described = self._remote(self._model(definition), reach).describe(until - time.monotonic())
            width = width_of(described.inputs)
        except (ModelError, DeadlineExceeded, LayoutUnknown) as error:
            raise DefinitionInvalid("url", str(error)[:500]) from error
        columns = _agreed(checked(definition.columns), described.inputs, width)
        model = self._model(
            definition,
            features=width if columns is None else len(columns),
            feature_names=None if columns is None else [column.name for column in columns],
            columns=columns,
            inputs=described.inputs,
        )
        signature = Signature(
            features=model.features,
            feature_names=model.feature_names,
            outputs=_known(described.outputs),
            classes=None,
            task="other",
            columns=columns,
            inputs=[msgspec.to_builtins(tensor) for tensor in described.inputs] or None,
        )
        if definition.sample is None:
            return Examined(signature)
        try:
            rows = sampled(definition.sample, signature)
            answer = self._remote(model, reach).predict(rows, until - time.monotonic())
        except SampleInvalid as error:
            raise DefinitionInvalid("sample", str(error)) from error
        except (ModelError, DeadlineExceeded) as error:
            raise DefinitionInvalid("sample", f"it does not answer these rows: {error}"[:500]) from error
        features = rows.shape[1] if columns is None and not isinstance(rows, Table) else signature.features
        examples: list[Any] = rows[:EXAMPLE_ROWS].tolist() if columns is None else definition.sample[:EXAMPLE_ROWS]
        if not all(isinstance(row, list) for row in examples):
            examples = []
        return Examined(
            replace(
                signature,
                features=features,
                outputs=list(answer),
                example_rows=examples or None,
                sampled=bool(examples) or None,
            )
        )

    def model(self, version: "ModelVersion", common: dict[str, Any]) -> HttpModel:
        inputs = msgspec.convert(version.signature.get("inputs") or [], list[Tensor])
        options = version.options
        return HttpModel(url=options["url"], protocol=options["protocol"], inputs=inputs, **common)

    def _model(self, definition: HttpDefinition, **told: Any) -> HttpModel:
        return HttpModel(
            model=f"{definition.name}@{definition.version}",
            framework=self.name,
            url=definition.url,
            protocol=definition.protocol,
            **told,
        )

    @staticmethod
    def _remote(model: HttpModel, reach: Reach) -> RemoteModel:
        return remote_model(model, reach, settings.REMOTE_ANSWER_LIMIT)


def _agreed(given: Columns | None, inputs: list[Tensor], width: int | None) -> Columns | None:
    """The columns that a caller named, if the server's inputs can be those; else the inputs, where
    each is a column. Raises DefinitionInvalid.
    """
    told = columns_of(inputs)
    if given is None:
        return told
    if told is not None:
        said = [(column.name, column.type) for column in told]
        if [(column.name, column.type) for column in given] != said:
            wanted = ", ".join(f"{name} ({kind})" for name, kind in said)
            raise DefinitionInvalid("columns", f"its inputs are {wanted}"[:500])
    elif width is not None and len(given) != width:
        raise DefinitionInvalid("columns", f"{width} columns were expected: so many features it takes")
    elif inputs and not all(column.type in ("number", "integer") for column in given):
        raise DefinitionInvalid("columns", f"numbers alone were expected: they are one input {inputs[0].name}")
    return given


def _known(outputs: list[str]) -> list[str]:
    """The server's names as outputs have them here: `predict`, or else the first, is what it
    predicts.
    """
    if not outputs or "predict" in outputs:
        return outputs or ["predict"]
    return ["predict", *outputs[1:]]
