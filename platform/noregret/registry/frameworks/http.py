"""A model on another machine: behind Triton, MLServer, KServe or MLflow. Its server is asked what
it takes, and, where rows are given, what it answers.
"""

import time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
import numpy as np
from django.conf import settings

from noregret.registry.errors import DefinitionInvalid
from serving.deadline import DeadlineExceeded
from serving.outbound.addresses import AddressRefused
from serving.outbound.reach import Reach
from serving.remote.described import Described
from serving.remote.tensors import LayoutUnknown, width_of
from serving.runtimes import ModelError
from serving.runtimes.http import HttpModel, RemoteModel, RemoteProtocol, remote_model

from .protocol import Content, Definition, Examined, Framework, Signature

if TYPE_CHECKING:
    from noregret.registry.models import ModelVersion

SECONDS = 8.0
"""For all that a registration asks a model's server."""

_Url = Annotated[
    str,
    msgspec.Meta(
        max_length=2000,
        description="For a remote model: http://host:port/v2/models/NAME, or MLflow's http://host:port.",
    ),
]
_Protocol = Annotated[
    RemoteProtocol, msgspec.Meta(description="For a remote model: open-inference (Triton, MLServer, KServe) or mlflow.")
]
_Sample = Annotated[
    list[list[float]],
    msgspec.Meta(min_length=1, max_length=1000, description="For a remote model: rows that it answers, as JSON."),
]
_Names = Annotated[
    list[Annotated[str, msgspec.Meta(max_length=255)]],
    msgspec.Meta(min_length=1, description="For a remote model: names of its features in order, as JSON."),
]


class HttpDefinition(Definition, frozen=True, kw_only=True, tag="http"):
    """An address. What it answers may change behind it: an address that names the version is
    better.
    """

    url: _Url
    protocol: _Protocol
    feature_names: _Names | None = None
    sample: _Sample | None = None


class HttpFramework(Framework[HttpDefinition]):
    label: ClassVar[str] = "Remote model"
    definition: ClassVar[type[Definition]] = HttpDefinition
    asks_others: ClassVar[bool] = True

    def content(self, definition: HttpDefinition) -> Content:
        for i, row in enumerate(definition.sample or []):
            if len(row) != len((definition.sample or [[]])[0]):
                raise DefinitionInvalid(f"sample[{i}]", "as many values as in the first row were expected")
        return Content(options={"url": definition.url, "protocol": definition.protocol})

    def examine(self, definition: HttpDefinition) -> Examined:
        """Raises DefinitionInvalid for an address that may not be called, one where nobody answers,
        and for rows that the model does not answer.
        """
        reach = Reach.of(settings)
        try:
            reach.check(definition.url)
        except AddressRefused as error:
            raise DefinitionInvalid("url", str(error)) from error
        until = time.monotonic() + SECONDS
        plain = self._model(definition, Described())
        try:
            described = self._remote(plain, reach).describe(until - time.monotonic())
            width = width_of(described.inputs)
        except (ModelError, DeadlineExceeded, LayoutUnknown) as error:
            raise DefinitionInvalid("url", str(error)[:500]) from error
        names = definition.feature_names
        if len(described.inputs) > 1:
            told = [tensor.name for tensor in described.inputs]
            if names is not None and names != told:
                raise DefinitionInvalid("feature_names", f"its inputs are {', '.join(told)}"[:500])
            names = told
        if names is not None and len(set(names)) < len(names):
            raise DefinitionInvalid("feature_names", "different names were expected")
        if names is not None and width is not None and len(names) != width:
            raise DefinitionInvalid("feature_names", f"{width} names were expected: so many features it takes")
        width = width if width is not None else None if names is None else len(names)
        outputs = _known(described.outputs)
        if definition.sample is not None:
            if width is not None and len(definition.sample[0]) != width:
                raise DefinitionInvalid("sample", f"rows of {width} values were expected: so many features it takes")
            remote = self._remote(self._model(definition, described), reach)
            try:
                rows = np.asarray(definition.sample, dtype=np.float64)
                outputs = list(remote.predict(rows, until - time.monotonic()))
            except (ModelError, DeadlineExceeded) as error:
                raise DefinitionInvalid("sample", f"it does not answer these rows: {error}"[:500]) from error
            width = len(definition.sample[0])
        signature = Signature(
            features=width,
            feature_names=names,
            outputs=outputs,
            classes=None,
            task="other",
            example_rows=None if definition.sample is None else definition.sample[:2],
            inputs=[msgspec.to_builtins(tensor) for tensor in described.inputs] or None,
        )
        return Examined(signature)

    def model(self, version: "ModelVersion", common: dict[str, Any]) -> HttpModel:
        inputs = version.signature.get("inputs") or []
        return msgspec.convert({"runtime": "http", **version.options, "inputs": inputs, **common}, HttpModel)

    def _model(self, definition: HttpDefinition, described: Described) -> HttpModel:
        return HttpModel(
            model=f"{definition.name}@{definition.version}",
            framework=self.name,
            url=definition.url,
            protocol=definition.protocol,
            feature_names=definition.feature_names,
            inputs=described.inputs,
        )

    @staticmethod
    def _remote(model: HttpModel, reach: Reach) -> RemoteModel:
        return remote_model(model, reach, settings.REMOTE_ANSWER_LIMIT)


def _known(outputs: list[str]) -> list[str]:
    """The server's names as outputs have them here: `predict`, or else the first, is what it
    predicts.
    """
    if not outputs or "predict" in outputs:
        return outputs or ["predict"]
    return ["predict", *outputs[1:]]
