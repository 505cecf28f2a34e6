"""Opens an uploaded scikit-learn artefact without trusting it. Runs only in the inspecting child
process.

A skops file is a zip of JSON and arrays. What makes other formats dangerous is refused before
anything is read: pickle and joblib run code when they are loaded. What is inside is read by
`serving.runtimes.skops_reading`, as it is again where the model is served; a function or method
that is not on its list is a type like any other.
"""

import io
import zipfile
from collections.abc import Sequence
from typing import Any

from serving.runtimes import skops_reading

from . import widths

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


def load(body: bytes, trusted: Sequence[str]) -> Any:
    """The estimator in a skops file. Raises Refused."""
    _check_container(body)
    try:
        estimator = skops_reading.read(body, trusted)
    except skops_reading.Unreadable as error:
        raise Refused(str(error)) from error
    try:
        estimator.predict  # noqa: B018 - some estimators have it only with some of their options
    except AttributeError as error:
        if not hasattr(type(estimator), "predict"):
            raise Refused(f"holds a {type(estimator).__name__}, which has no predict") from error
        raise Refused(f"holds a {type(estimator).__name__} that can't predict: {error.__cause__ or error}") from error
    try:
        widths.check(estimator)
    except widths.WidthsDiffer as error:
        raise Refused(str(error)) from error
    return estimator


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
