"""Model files by their SHA-256. A name that a client chose never becomes a path; what is read is checked against its name."""

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_HEX = frozenset("0123456789abcdef")
_ASIDE = ".removed"


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
        try:
            os.utime(path)  # young again: whoever removes what nothing names leaves it for whom it is stored now
        except FileNotFoundError:
            pass
        else:
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

    def older_than(self, at: float) -> Iterator[str]:
        """The files that were last stored before a Unix time. What a process that died left behind is cleared away on the way."""
        for path in self._folder.glob("??/.*") if self._folder.is_dir() else []:
            if path.suffix == _ASIDE and not (whole := path.with_name(path.name.split(".")[1])).exists():
                _put_back(path, whole)  # nobody is known to have looked whether it is named
            elif _stored_at(path) < at:
                path.unlink(missing_ok=True)
        for path in self._folder.glob("??/*") if self._folder.is_dir() else []:
            if len(path.name) == 64 and _HEX.issuperset(path.name) and _stored_at(path) < at:
                yield path.name

    def remove(self, sha256: str, older_than: float, is_named: Callable[[], bool]) -> bool:
        """Remove a file unless it `is_named` after all, or was stored again since a Unix time; was it removed?

        It is set aside before the last look: whoever stores it from then on finds none, and writes it anew.
        """
        path = self.path(sha256)
        aside = path.with_name(f".{sha256}.{os.urandom(4).hex()}{_ASIDE}")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        if _stored_at(aside) >= older_than or is_named():
            _put_back(aside, path)
            return False
        aside.unlink(missing_ok=True)
        return True


def _put_back(aside: Path, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # another did
        aside.rename(path)


def _stored_at(path: Path) -> float:
    """When a file was stored last; never, for one that is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
