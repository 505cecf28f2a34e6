"""A model, twice: as the snapshot describes it, and loaded, with rows in and outputs by name
out."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.artifacts import ArtifactStore

from .columns import Columns, Rows

Outputs = dict[str, list[Any]]


class Runtime(Protocol):
    """A loaded model. Called from several threads at once."""

    bounded: bool
    """False for code that may hang or block whatever it took so far: each of its calls runs where
    it can be left."""

    def predict(self, rows: Rows) -> Outputs:
        """For n rows: a list of n JSON-ready values under each output's name. Raises ModelError.

        Rows are an (n, features) array of doubles, or a Table where the model's columns are not all
        numbers.
        """


class ModelError(Exception):
    """A model did not give what it should."""


LARGEST = 1e100
"""Rows with a number beyond it, either way, may be too large for arithmetic in double precision,
which holds 1e308: products, powers and sums of some go past that. Nothing that is counted or
measured comes near."""
LARGEST_SINGLE = 1e19
"""The same in single precision, which holds 3e38: the square of this, and every 64-bit integer."""


class NotFinite(ModelError):
    """An answer holds what is no finite number.

    `wrong` (n,) tells of which rows; rows with a number beyond `largest` are too large for the
    model.
    """

    def __init__(self, name: str, wrong: NDArray[np.bool_], largest: float = LARGEST) -> None:
        super().__init__(f"{name} is not finite")
        self.wrong = wrong
        self.largest = largest


def check_finite(name: str, answer: NDArray[Any], largest: float = LARGEST) -> None:
    """Raises NotFinite where an answer (n, ...) of numbers is not finite."""
    if answer.dtype.kind == "f" and not np.isfinite(answer).all():
        by_row = np.atleast_1d(answer)
        wrong: NDArray[np.bool_] = ~np.isfinite(by_row).reshape(len(by_row), -1).all(axis=1)
        raise NotFinite(name, wrong, largest)


class RowsRefused(ModelError):
    """The model says of these rows that it can't take them: an unknown category, a value outside
    what it was fitted to.
    """


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
