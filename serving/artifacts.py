"""Model files by their SHA-256. A name that a client chose never becomes a path; what is read is checked against its name."""

import hashlib
import os
from pathlib import Path

_HEX = frozenset("0123456789abcdef")


class ArtifactMissing(Exception):
    """No file of this hash is here, or what is here has another hash."""


class ArtifactStore:
    """A directory of immutable files; several processes and machines may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Where the file of this hash is or would be. Raises ValueError for what is no SHA-256 in hexadecimal."""
        if len(sha256) != 64 or not _HEX.issuperset(sha256):
            raise ValueError(f"{sha256[:80]!r} is no SHA-256")
        return self._folder / sha256[:2] / sha256

    def put(self, body: bytes) -> str:
        """Keep `body`; its SHA-256. Storing twice is harmless, and no reader sees half a file."""
        sha256 = hashlib.sha256(body).hexdigest()
        path = self.path(sha256)
        if path.exists():
            return sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{sha256}.{os.urandom(4).hex()}")
        try:
            with temporary.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return sha256

    def read(self, sha256: str) -> bytes:
        """The file, its hash checked. Raises ArtifactMissing."""
        try:
            body = self.path(sha256).read_bytes()
        except OSError as error:
            raise ArtifactMissing(sha256) from error
        if hashlib.sha256(body).hexdigest() != sha256:
            raise ArtifactMissing(f"{sha256}: the file there has another hash")
        return body
