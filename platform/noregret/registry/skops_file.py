"""Opens an uploaded scikit-learn artefact without trusting it. Runs only in the inspecting child process.

A skops file is a zip of JSON and arrays. What makes other formats dangerous is refused before anything is read: pickle and
joblib run code when they are loaded. Types are checked against skops' list of trusted ones plus what the operator
allowed; a function or method that is not on it is a type like any other.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import skops.io

from serving.runtimes.skops_types import CONFINED, HARMLESS

MAX_MEMBERS = 10_000
MAX_UNPACKED_BYTES = 1 << 30
MAX_RATIO = 200

_PICKLES = {
    b"\x80": "a pickle",
    b"\x1f\x8b": "a gzip file, as joblib writes",
    b"\x78": "a zlib stream, as joblib writes",
    b"BZh": "a bzip2 file, as joblib writes",
    b"\xfd7zXZ": "an xz file, as joblib writes",
    b"ZF": "an old joblib file",
    b"(": "a pickle of protocol 0",
    b"c": "a pickle of protocol 0",
}


class Refused(Exception):
    """The file is not taken; the message says why."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An estimator, and whether it holds types that only this process may load."""

    estimator: Any
    confined: bool


def load(body: bytes, trusted: Sequence[str]) -> Loaded:
    """The estimator in a skops file. Raises Refused."""
    _check_container(body)
    try:
        untrusted = set(skops.io.get_untrusted_types(data=body))
    except Exception as error:  # a hostile file may raise anything
        raise Refused(f"not a readable skops file: {type(error).__name__}: {error}") from error
    allowed = {*trusted, *HARMLESS, *CONFINED}
    unknown = sorted(untrusted - allowed)
    if unknown:
        raise Refused(f"holds types that are not allowed here: {', '.join(unknown[:10])}")
    try:
        estimator = skops.io.loads(body, trusted=sorted(allowed & untrusted))
    except Exception as error:  # as above
        raise Refused(f"can't be loaded: {type(error).__name__}: {error}") from error
    if not callable(getattr(estimator, "predict", None)):
        raise Refused(f"holds a {type(estimator).__name__}, which has no predict")
    _check_trees(estimator, set())
    return Loaded(estimator, confined=bool(untrusted & set(CONFINED)))


def _check_trees(thing: Any, seen: set[int]) -> None:
    """Every node of every decision tree leads to a node and reads a feature that exist: compiled code trusts them blindly."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if type(thing).__name__ == "Tree" and hasattr(thing, "children_left"):
        inner = thing.feature >= 0
        for children in (thing.children_left, thing.children_right):
            if ((children[inner] <= np.flatnonzero(inner)) | (children[inner] >= thing.node_count)).any():
                raise Refused("holds a decision tree whose nodes lead nowhere")
        leaves = ~inner
        if (thing.feature >= thing.n_features).any() or (thing.children_left[leaves] != -1).any():
            raise Refused("holds a decision tree that reads features which do not exist")
        return
    if isinstance(thing, dict):
        inside: Any = thing.values()
    elif isinstance(thing, list | tuple) or (isinstance(thing, np.ndarray) and thing.dtype == object):
        inside = np.ravel(thing) if isinstance(thing, np.ndarray) else thing
    else:
        inside = vars(thing).values() if hasattr(thing, "__dict__") else ()
    for part in inside:
        _check_trees(part, seen)


def _check_container(body: bytes) -> None:
    if not zipfile.is_zipfile(io.BytesIO(body)):
        for magic, what in _PICKLES.items():
            if body.startswith(magic):
                raise Refused(f"is {what}: loading it could run any code; save the model with skops.io.dump")
        raise Refused("is no skops file; save the model with skops.io.dump")
    try:
        members = zipfile.ZipFile(io.BytesIO(body)).infolist()
    except (zipfile.BadZipFile, ValueError) as error:
        raise Refused(f"is a damaged zip: {error}") from error
    names = [member.filename for member in members]
    if "schema.json" not in names:
        raise Refused("is a zip without schema.json, so no skops file; save the model with skops.io.dump")
    if len(members) > MAX_MEMBERS:
        raise Refused(f"has {len(members)} members: at most {MAX_MEMBERS} are taken")
    if any(name.startswith(("/", "\\")) or ".." in name.split("/") for name in names):
        raise Refused("has a member whose path leaves the file")
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES or unpacked > MAX_RATIO * max(len(body), 4096):
        raise Refused(f"unpacks to {unpacked} bytes from {len(body)}: too much")
