"""Model files by their SHA-256. A name that a client chose never becomes a path; what is read is
checked against its name.

On one machine they are a folder. On many, a source that all machines reach holds them, and the
folder is each machine's own copy of what it serves: bounded, and fetched anew where a file is not
there or is damaged.
"""

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

_RESTORED = "registering its version again, with the same file, restores it"
_HEX = frozenset("0123456789abcdef")
_ASIDE = ".removed"
_LEFT_OVER_SECONDS = 3600.0
"""A file that was begun so long ago belongs to a process that died over it."""


class ArtifactMissing(Exception):
    """No file of this hash is to be had, here or from the source, or what there is has another
    hash."""


class SourceFailed(Exception):
    """A source did not do what it was asked; the text says why, to people, and holds no secret."""


class ArtifactSource(Protocol):
    """What all machines reach. Its calls may take long, and raise SourceFailed; they are made where
    they can be left."""

    def fetch(self, sha256: str) -> Iterable[bytes]:
        """The file in parts. Raises FileNotFoundError where it holds none."""

    def store(self, sha256: str, body: bytes) -> None:
        """Keep a file; storing twice is harmless."""


class ArtifactStore:
    """A directory of immutable files, which several processes may share. With a `source` at most
    about `limit` bytes are kept in it, those that were read last; without one it is all there is,
    and nothing of it is ever removed.
    """

    def __init__(self, folder: Path, source: ArtifactSource | None = None, limit: int = 10 << 30) -> None:
        self._folder = folder
        self._source = source
        self._limit = limit
        self._checked: set[str] = set()

    def path(self, sha256: str) -> Path:
        """Where the file of this hash is or would be. Raises ValueError for what is no SHA-256 in
        hexadecimal."""
        if len(sha256) != 64 or not _HEX.issuperset(sha256):
            raise ValueError(f"{sha256[:80]!r} is no SHA-256")
        return self._folder / sha256[:2] / sha256

    def put(self, body: bytes) -> str:
        """Keep `body`; its SHA-256. Storing twice is harmless, and no reader sees half a file.
        Raises what the source raises."""
        sha256 = hashlib.sha256(body).hexdigest()
        if self._source is not None:
            self._source.store(sha256, body)
        path = self.path(sha256)
        if self._here(path) != body or not _is_young_again(path):
            with self._written(path) as file:
                file.write(body)
            self._make_room(path)
        return sha256

    def read(self, sha256: str) -> bytes:
        """The file, its hash checked, fetched first where it must be. Raises ArtifactMissing."""
        path = self.path(sha256)
        body = self._here(path)
        if body is not None and hashlib.sha256(body).hexdigest() == sha256:
            with contextlib.suppress(OSError):
                os.utime(path)  # the files that are read last are kept
            return body
        if self._source is None:
            raise ArtifactMissing(
                f"file {sha256} {'is not here' if body is None else 'has another hash here'}; {_RESTORED}"
            )
        return self._fetched(sha256, self._source)

    def restore(self, sha256: str) -> bool:
        """Is the file to be had where all machines reach it? Where only the copy here is whole, it
        is stored there anew. Raises what the source raises."""
        body = self._here(self.path(sha256))
        if body is not None and hashlib.sha256(body).hexdigest() == sha256:
            self.put(body)
            return True
        try:
            self.read(sha256)
        except ArtifactMissing:
            return False
        return True

    def size(self, sha256: str) -> int:
        """The file's bytes; it is fetched first where it must be. Raises ArtifactMissing."""
        with self.opened(sha256) as file:
            return os.fstat(file.fileno()).st_size

    def opened(self, sha256: str) -> BinaryIO:
        """The file, for who sends it on in parts. Its hash is checked when this store first opens
        it. Raises ArtifactMissing."""
        path = self.path(sha256)
        for _ in range(2):
            if sha256 not in self._checked:
                self.read(sha256)
                self._checked.add(sha256)
            try:
                return path.open("rb")
            except OSError:  # it made room for others, and is fetched again
                self._checked.discard(sha256)
        raise ArtifactMissing(f"file {sha256} can't be kept here")

    def _here(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except OSError:
            return None

    def _fetched(self, sha256: str, source: ArtifactSource) -> bytes:
        path = self.path(sha256)
        parts: list[bytes] = []
        size = 0
        try:
            for part in source.fetch(sha256):
                size += len(part)
                if size > self._limit:
                    raise ArtifactMissing(f"file {sha256} is larger than the {self._limit} bytes that are kept here")
                parts.append(part)
        except FileNotFoundError as error:
            raise ArtifactMissing(f"file {sha256} is neither here nor in the artefact store; {_RESTORED}") from error
        except ArtifactMissing:
            raise
        except SourceFailed as error:
            raise ArtifactMissing(f"file {sha256} can't be fetched: {error}") from error
        body = b"".join(parts)
        if hashlib.sha256(body).hexdigest() != sha256:
            raise ArtifactMissing(f"file {sha256} has another hash in the artefact store; {_RESTORED}")
        with contextlib.suppress(OSError):  # a full disk: what was fetched serves all the same
            with self._written(path) as file:
                file.write(body)
            self._make_room(path)
        return body

    @contextmanager
    def _written(self, path: Path) -> Iterator[BinaryIO]:
        """A file that stands at `path` once it is whole and on the disk."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _make_room(self, newest: Path) -> None:
        """Remove what was read longest ago, until the rest is within the limit; never the newest,
        and nothing without a source."""
        if self._source is None:
            return
        files: list[tuple[float, int, Path]] = []
        for path in self._folder.glob("??/*"):
            with contextlib.suppress(OSError):  # another process may have removed it
                status = path.stat()
                if not path.name.startswith("."):
                    files.append((status.st_mtime, status.st_size, path))
                elif time.time() - status.st_mtime > _LEFT_OVER_SECONDS:
                    path.unlink()
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._limit:
                return
            if path != newest:
                with contextlib.suppress(OSError):
                    path.unlink()
                total -= size

    def older_than(self, at: float) -> Iterator[str]:
        """The files that were last stored before a Unix time. What a process that died left behind
        is cleared away on the way."""
        for path in self._folder.glob("??/.*") if self._folder.is_dir() else []:
            if path.suffix == _ASIDE and not (whole := path.with_name(path.name.split(".")[1])).exists():
                _put_back(path, whole)  # nobody is known to have looked whether it is named
            elif _stored_at(path) < at:
                path.unlink(missing_ok=True)
        for path in self._folder.glob("??/*") if self._folder.is_dir() else []:
            if len(path.name) == 64 and _HEX.issuperset(path.name) and _stored_at(path) < at:
                yield path.name

    def remove(self, sha256: str, older_than: float, is_named: Callable[[], bool]) -> bool:
        """Remove a file from here unless it `is_named` after all, or was stored again since a Unix
        time; was it removed?

        It is set aside before the last look: whoever stores it from then on finds none, and writes
        it anew.
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


def _is_young_again(path: Path) -> bool:
    """Whoever removes what nothing names leaves it for whom it is stored now; False where it is
    gone."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
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


_make: Callable[[], ArtifactStore] | None = None


def supply(make: Callable[[], ArtifactStore]) -> None:
    """Say where this process has its artefacts from: whoever starts it knows the settings and the
    storage, and no reader does."""
    global _make
    _make = make


def supplied() -> ArtifactStore:
    """The store of this process."""
    if _make is None:
        raise RuntimeError("nobody said where artefacts are: serving.artifacts.supply")
    return _make()
