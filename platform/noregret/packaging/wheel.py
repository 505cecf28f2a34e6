"""A wheel from its files: the same bytes for the same files, and no network.

Written here, for a build backend wants a project on disk, and gives the day's date to what it
packs. Source: the binary distribution format of the Python Packaging Authority.
"""

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_DAY_ONE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can tell
_PERMISSIONS = 0o100644 << 16
_WHEEL = b"Wheel-Version: 1.0\nGenerator: noregret\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class Wheel(NamedTuple):
    """What is built. `package` is the module's name, which the distribution is called by too."""

    package: str
    version: str
    summary: str
    requires: Sequence[str]
    files: Mapping[str, bytes]
    """By their path within the package."""

    @property
    def filename(self) -> str:
        return f"{self.package}-{self.version}-py3-none-any.whl"


def build(wheel: Wheel) -> bytes:
    """The wheel's bytes."""
    about = f"{wheel.package}-{wheel.version}.dist-info"
    files = {f"{wheel.package}/{path}": body for path, body in wheel.files.items()}
    files[f"{about}/METADATA"] = _metadata(wheel)
    files[f"{about}/WHEEL"] = _WHEEL
    files[f"{about}/top_level.txt"] = f"{wheel.package}\n".encode()
    listed = "".join(f"{path},sha256={_digest(body)},{len(body)}\n" for path, body in sorted(files.items()))
    record = f"{about}/RECORD"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, body in [*sorted(files.items()), (record, f"{listed}{record},,\n".encode())]:
            entry = zipfile.ZipInfo(path, _DAY_ONE)
            entry.create_system = 3  # Unix, wherever it is built
            entry.external_attr = _PERMISSIONS
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, body)
    return packed.getvalue()


def _metadata(wheel: Wheel) -> bytes:
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {wheel.package.replace('_', '-')}",
        f"Version: {wheel.version}",
        f"Summary: {wheel.summary}",
        "Requires-Python: >=3.11",
        *(f"Requires-Dist: {requirement}" for requirement in wheel.requires),
    ]
    return ("\n".join(lines) + "\n").encode()


def _digest(body: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode("ascii")
