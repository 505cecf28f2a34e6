"""A model as the snapshot describes it, and what it is loaded with."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec

from serving.artifacts import ArtifactStore

from .columns import Columns
from .runtime import Runtime

Kept = Literal["always", "for-a-time", "never"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process lends to a model that is loaded: the files, and the deployment's settings by
    their names.
    """

    artifacts: ArtifactStore
    settings: Any


class Model(msgspec.Struct, frozen=True, kw_only=True, tag_field="runtime"):
    """What a runtime is built from, as the snapshot says it. Each runtime has a kind of its own,
    and its tag is the runtime's name.

    A reader ignores fields that it does not know, and an earlier version of the program wants
    `model` and `framework` in each: so a kind may gain fields with defaults, and must not lose any.
    """

    label: ClassVar[str] = ""
    """The runtime as people read it."""
    waits: ClassVar[bool] = False
    """Does a call wait for another machine, and need no core meanwhile?"""
    kept: ClassVar[Kept] = "for-a-time"
    """May its answers be kept for the same rows? `always` where they follow from its file alone;
    `for-a-time` where it may answer otherwise tomorrow, so that the endpoint's owner says how long
    one is good for; `never` where computing costs nothing."""
    stays: ClassVar[str | None] = "it is served by the platform alone"
    """Why an exported package can't hold a model of this kind; None for one that it can."""

    model: str  # "name@version"
    framework: str  # as registered
    features: int | None = None
    feature_names: list[str] | None = None
    columns: Columns | None = None  # None: numbers, `features` of them, none of them null
    outputs: list[str] = []
    classes: list[Any] | None = None  # labels as they were trained
    example_rows: list[list[Any]] | None = None  # that the model is known to answer: it is warmed with them
    # The same of a model with columns: earlier versions of the program take no text in the other.
    examples: list[list[Any]] | None = None
    call_seconds: float | None = None  # what a call took when it was registered, and what each row added
    row_seconds: float | None = None

    @property
    def runtime(self) -> str:
        """The runtime's name."""
        return str(self.__struct_config__.tag)

    @property
    def sha256(self) -> str | None:
        """Of the file that the runtime loads; None for a kind without one."""
        return None

    @property
    def payload(self) -> Any:
        """What `decide` hands on for callers that do the work themselves; None for a kind without
        one.
        """
        return None

    @classmethod
    def prepare(cls) -> None:
        """Import what most deployments load this kind by; called once, before a process serves."""

    def load(self, resources: Resources) -> Runtime:
        """The loaded model; takes as long as it takes. Raises ModelError, ArtifactMissing, and what
        foreign code raises.
        """
        raise NotImplementedError
