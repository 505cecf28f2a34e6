"""Model files onto the device: each once, by its hash, gone on with where it broke off, and checked
before it stands under its name."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from noregret_client import transport
from noregret_client.errors import NoregretError, Unreachable, problem_of

from . import shared_folder
from .bundle import Artifact

_PART = 1 << 20
_PART_OF = ".part"
_IS_HASH = re.compile(r"[0-9a-f]{64}")
_TRIES = 5
_OK, _PARTIAL, _NOT_SATISFIABLE = 200, 206, 416


class WrongFile(NoregretError):
    """What came is not the file of this hash."""


class Files:
    """Model files in a folder, by their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, artifact: Artifact) -> Path:
        """Where the file is, or would be. Raises ValueError for what is no hash."""
        sha256 = artifact.sha256
        if not _IS_HASH.fullmatch(sha256):
            raise ValueError("a SHA-256 in hexadecimal was expected")
        return self._folder / sha256

    @contextmanager
    def alone(self, seconds: float) -> Iterator[bool]:
        """As shared_folder.alone, of these files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with shared_folder.alone(self._folder.with_name(f".{self._folder.name}.lock"), seconds) as is_alone:
            yield is_alone

    def has(self, artifact: Artifact) -> bool:
        return self.path(artifact).is_file()

    def is_whole(self, artifact: Artifact) -> bool:
        try:
            return _sha256(self.path(artifact)) == artifact.sha256
        except FileNotFoundError:
            return False

    def read(self, artifact: Artifact) -> bytes:
        """The file. Raises WrongFile for one that is damaged, which is removed, and OSError."""
        path = self.path(artifact)
        body = path.read_bytes()
        if hashlib.sha256(body).hexdigest() != artifact.sha256:
            path.unlink(missing_ok=True)
            raise WrongFile(f"the file of {artifact.sha256[:12]} is damaged: refresh")
        return body

    def fetch(self, http: httpx.Client, artifact: Artifact, seconds: float) -> bool:
        """Fetch it unless it is there and whole; False where it was. What came of it stays where
        the connection broke off. Raises Problem, Unreachable, WrongFile."""
        if self.is_whole(artifact):
            return False
        path = self.path(artifact)
        path.unlink(missing_ok=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(_PART_OF)
        ends = time.monotonic() + seconds
        for tries_left in range(_TRIES - 1, -1, -1):
            try:
                self._go_on(http, artifact, part, ends)
                break
            except Unreachable:
                if tries_left == 0 or time.monotonic() >= ends:
                    raise
        if _sha256(part) != artifact.sha256:
            part.unlink()
            raise WrongFile(f"the file of {artifact.sha256[:12]} came with another hash")
        part.replace(path)
        return True

    def _go_on(self, http: httpx.Client, artifact: Artifact, part: Path, ends: float) -> None:
        there = part.stat().st_size if part.exists() else 0
        if there > artifact.bytes:
            part.unlink()
            there = 0
        if there == artifact.bytes:
            return
        headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
        if there:
            headers |= {"Range": f"bytes={there}-", "If-Range": f'"{artifact.sha256}"'}
        seconds = max(ends - time.monotonic(), 0.1)
        request = http.build_request("GET", artifact.url, headers=headers)
        request.extensions["timeout"] = httpx.Timeout(min(seconds, 30.0)).as_dict()
        try:
            response = http.send(request, stream=True)
            try:
                if response.status_code not in (_OK, _PARTIAL):
                    body = response.read()
                    if response.status_code == _NOT_SATISFIABLE:
                        part.unlink(missing_ok=True)
                    raise problem_of(response.status_code, response.reason_phrase, response.headers, body)
                goes_on = response.status_code == _PARTIAL
                if goes_on and not response.headers.get("content-range", "").startswith(f"bytes {there}-"):
                    raise Unreachable("another range came than was asked for", maybe_done=False)
                self._write(response, part, there if goes_on else 0, artifact.bytes, ends)
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise transport.unreachable(error, seconds) from error

    def _write(self, response: httpx.Response, part: Path, there: int, size: int, ends: float) -> None:
        with part.open("ab" if there else "wb") as file:
            for body in response.iter_raw():
                file.write(body)
                there += len(body)
                if there > size:
                    break
                if time.monotonic() > ends:
                    raise Unreachable("the file came too slowly", maybe_done=False)
            file.flush()
            os.fsync(file.fileno())
        if there < size:
            raise Unreachable(f"{there} of {size} bytes came", maybe_done=False)

    def keep_only(self, artifacts: set[str]) -> None:
        """Remove the files of all other hashes; for who is alone."""
        for path in self._folder.iterdir():
            sha256 = path.name.removesuffix(_PART_OF)
            if _IS_HASH.fullmatch(sha256) and sha256 not in artifacts:
                path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while body := file.read(_PART):
            digest.update(body)
    return digest.hexdigest()
