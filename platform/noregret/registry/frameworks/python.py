"""A Python callable of this installation, on the operator's allow-list."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from django.conf import settings

from noregret.registry.errors import DefinitionInvalid
from serving.runtimes import ModelError
from serving.runtimes.python import PythonModel, resolve

from .given_columns import GivenColumns, as_options, checked
from .protocol import NO_SIGNATURE, Content, Definition, Examined, Framework

if TYPE_CHECKING:
    from noregret.registry.models import ModelVersion

_Path = Annotated[
    str,
    msgspec.Meta(max_length=255, description="For a Python callable: package.module.function, on the allow-list."),
]


class PythonDefinition(Definition, frozen=True, kw_only=True, tag="python"):
    """A dotted path. The callable gets the rows as a 2-d float array, or with columns as a mapping
    of each column's name to its array, and returns an array."""

    callable: _Path = ""
    columns: GivenColumns | None = None


class PythonFramework(Framework[PythonDefinition]):
    label: ClassVar[str] = "Python callable"
    definition: ClassVar[type[Definition]] = PythonDefinition

    def content(self, definition: PythonDefinition) -> Content:
        checked(definition.columns)
        return Content(callable=definition.callable, options=as_options(definition.columns))

    def examine(self, definition: PythonDefinition) -> Examined:
        if not definition.callable:
            raise DefinitionInvalid("callable", "a dotted path was expected, as package.module.function")
        try:
            resolve(definition.callable, settings.PYTHON_CALLABLES)
        except ModelError as error:
            raise DefinitionInvalid("callable", str(error)) from error
        columns = checked(definition.columns)
        if columns is None:
            return Examined()
        names = [column.name for column in columns]
        return Examined(replace(NO_SIGNATURE, features=len(columns), feature_names=names, columns=columns))

    def model(self, version: "ModelVersion", common: dict[str, Any]) -> PythonModel:
        return PythonModel(callable=version.callable, **common)
