"""What a framework is: how a model of it is sent, what makes it the same, how it is examined, what
the snapshot says of it.

A framework that takes a file says besides how the file is inspected; that runs in a confined child
process, where there is no database and no setting. So a framework's file imports what it opens
models with only there.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar

import msgspec

from serving.runtimes import Model
from serving.runtimes.columns import Columns

if TYPE_CHECKING:  # the child process has no database
    from noregret.registry.models import ModelVersion

Text = Annotated[str, msgspec.Meta(max_length=255)]


@dataclass(frozen=True, slots=True)
class Signature:
    """As kept in the registry; `classes` are the labels as they were trained, of a model with
    several outputs a list an output.

    `features` is None for a model that takes rows of any width, as those that ignore them do.
    """

    features: int | None
    feature_names: list[str] | None
    outputs: list[str]
    classes: list[Any] | None
    task: str
    example_rows: list[list[Any]] | None = None  # that the model answers
    columns: Columns | None = None
    """None where rows are numbers, none of them null, as many as `features` says."""
    inputs: list[dict[str, Any]] | None = None  # tensors that a remote model's server described
    by_row: bool | None = None
    """Does each row's answer follow from that row and the file alone? None where nobody asked."""
    sampled: bool | None = None
    """Are the example rows of a sample that came with the model? Others were made up, and need look
    like no request. None where nobody noted it."""

    @property
    def has_several_outputs(self) -> bool:
        """Of a classifier: does a row get a label of each of several outputs?"""
        return bool(self.classes) and isinstance((self.classes or [None])[0], list)

    def to_dict(self) -> dict[str, Any]:
        signature: dict[str, Any] = msgspec.to_builtins(self)
        return signature


NO_SIGNATURE = Signature(features=None, feature_names=None, outputs=["predict"], classes=None, task="other")
"""Of a model whose rows and answers nobody knows beforehand."""


class Definition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="framework"):
    """What a caller says of a model version. Its tag is the framework's name.

    The API, the OpenAPI document and the admin's form are made from the fields: `bytes` are a file,
    `str` a text, all else JSON. The description of a field is the form's help.
    """

    name: Text
    version: Text

    @property
    def framework(self) -> str:
        """The framework's name."""
        return str(self.__struct_config__.tag)


class ArtifactDefinition(Definition, frozen=True, kw_only=True):
    """Of a model that is a file."""

    artifact: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """What stands under a version, for ever: the same again is the same version, anything else is
    refused.
    """

    sha256: str = ""
    callable: str = ""
    payload: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    """What else of its definition a framework needs to serve the model; JSON."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What a model turned out to be. `compiled` is the file that is served instead of the
    original."""

    signature: Signature = NO_SIGNATURE
    compiled: bytes | None = None
    note: str = ""
    call_seconds: float | None = None  # what a call takes, and what each row adds
    row_seconds: float | None = None


D = TypeVar("D", bound=Definition)
A = TypeVar("A", bound=ArtifactDefinition)


class Framework(ABC, Generic[D]):
    """A framework. One object serves all threads."""

    label: ClassVar[str]
    """As people read it."""
    definition: ClassVar[type[Definition]]
    asks_others: ClassVar[bool] = False
    """Does `examine` wait for another machine?"""

    @property
    def name(self) -> str:
        return str(self.definition.__struct_config__.tag)

    @property
    def takes_artifact(self) -> bool:
        return issubclass(self.definition, ArtifactDefinition)

    @abstractmethod
    def content(self, definition: D) -> Content:
        """Quick: it is asked before anything is examined. Raises DefinitionInvalid for fields that
        don't fit together.
        """

    @abstractmethod
    def examine(self, definition: D) -> Examined:
        """What the model turns out to be. Raises DefinitionInvalid, ArtifactRefused."""

    @abstractmethod
    def model(self, version: "ModelVersion", common: dict[str, Any]) -> Model:
        """What the snapshot says of a version; `common` are the arguments that each kind of model
        takes.
        """


class ArtifactFramework(Framework[A], Generic[A]):
    """One whose models are files."""

    def content(self, definition: A) -> Content:
        return Content(sha256=sha256(definition.artifact).hexdigest())

    def options(self, definition: A) -> dict[str, Any]:
        """What `inspect` is told besides the file; JSON."""
        return {}

    def examine(self, definition: A) -> Examined:
        from noregret.registry.errors import DefinitionInvalid
        from noregret.registry.inspection import inspect

        if not definition.artifact:
            raise DefinitionInvalid("artifact", "the file is empty")
        kind = type(self)
        return inspect(definition.artifact, f"{kind.__module__}:{kind.__qualname__}", self.options(definition))

    @abstractmethod
    def inspect(self, artifact: bytes, options: Mapping[str, Any]) -> Examined:
        """In the confined child process: open the file, check it, compile it, measure it. Raises
        ArtifactRefused with the reason.
        """
