"""Keeps decisions on local disk while Redis takes none, within a limit, and hands them over when
there is room again.

One folder a machine; each process writes a file an endpoint, and a new one when that has grown. A
record is its length, its CRC-32, then the endpoint's name and the event; a torn tail (the process
was killed while it wrote) fails its checksum and is cut off. A file is shipped under a lock of the
operating system, which a dead process no longer holds: whoever comes next ships what it left.
Shipping twice is harmless, for the ledger knows each decision by its id. A file holds one
endpoint's decisions, so that one whose stream has no room keeps no other's back; and it is small,
so that a shipping that breaks off begins again with little.
"""

import contextlib
import fcntl
import os
import struct
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO

import structlog

log = structlog.get_logger(__name__)

_HEADER = struct.Struct(">IIH")  # length of the rest, CRC-32 of the rest, length of the endpoint's name
SUFFIX = ".spool"
FILE_BYTES = 1 << 20
"""A file that has grown so large is let go of."""
OPEN_FILES = 32
"""A process writes to so many files at most: thousands of endpoints must not use up what it may
open."""
AT_ONCE = 200
"""Records handed over together."""

Send = Callable[[str, list[bytes]], None]
"""(endpoint, bodies): puts events into their stream, or raises."""


class SpoolFull(Exception):
    """The decision can't be kept. `reason`: `limit` or `disk`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class CannotSend(Exception):
    """Raised by `Send`. `endpoint_only`: others' events may be taken all the same."""

    def __init__(self, detail: str, *, endpoint_only: bool = False) -> None:
        super().__init__(detail)
        self.endpoint_only = endpoint_only


@dataclass(slots=True)
class _OwnFile:
    file: IO[bytes]
    whole: int = 0  # bytes of whole records in it


class Spool:
    """The spool of this process, and the shipper of every file in the folder."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._own: OrderedDict[str, _OwnFile] = OrderedDict()  # by endpoint, the last written last
        # Of the whole folder as last measured, plus what this process wrote since: what others
        # write, and dead ones left, counts too.
        self._size = 0
        self.measure()

    def measure(self) -> int:
        """Ask the folder how much it holds, in bytes: other processes write there too."""
        with self._lock:
            self._size = sum(size for _, size in self._files())
        return self._size

    @property
    def size(self) -> int:
        """Bytes that are held back in the folder, as this process knows it."""
        return self._size

    def _files(self) -> list[tuple[Path, int]]:
        """The files and their sizes, oldest first."""
        files = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder.is_dir() else []:
            with contextlib.suppress(FileNotFoundError):  # shipped by another process meanwhile
                files.append((path, path.stat().st_size))
        return files

    # Keeping.

    def add(self, endpoint: str, body: bytes) -> None:
        """Keep one event. Raises SpoolFull past the limit or when the disk refuses."""
        name = endpoint.encode()
        rest = name + body
        record = _HEADER.pack(len(rest), zlib.crc32(rest), len(name)) + rest
        with self._lock:
            if self._size + len(record) > self._limit:
                raise SpoolFull("limit", f"{self._limit} bytes are kept at most")
            try:
                self._write(endpoint, record)
            except OSError as error:
                raise SpoolFull("disk", str(error)) from error
            self._size += len(record)

    def _write(self, endpoint: str, record: bytes) -> None:
        """All of a record or nothing of it: what is answered as not kept must not be shipped later.
        Raises OSError.

        Unbuffered, for a buffer would write what failed again when the file is closed.
        """
        own = self._own.get(endpoint)
        if own is not None and own.whole >= FILE_BYTES:
            self._let_go(endpoint)
            own = None
        if own is None:
            while len(self._own) >= OPEN_FILES:
                self._let_go(next(iter(self._own)))
            own = self._own[endpoint] = _OwnFile(self._open())
        self._own.move_to_end(endpoint)
        try:
            left = memoryview(record)
            while left:
                left = left[own.file.write(left) :]
        except OSError:
            self._cut_back(endpoint, own)
            raise
        own.whole += len(record)

    def _cut_back(self, endpoint: str, own: _OwnFile) -> None:
        """To the last whole record; a file that can't be cut is left as it is, and its torn tail
        fails its checksum."""
        try:
            own.file.truncate(own.whole)
            own.file.seek(own.whole)
        except OSError:
            self._let_go(endpoint)

    def _open(self) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{os.getpid()}-{os.urandom(4).hex()}"
        # Under a name that no shipper looks for until it is locked: one that came between would
        # ship and remove it under our hands. O_EXCL by "x": a recycled process id must not append
        # to a file that another process is shipping.
        hidden = self._folder / f".{name}"
        file = hidden.open("xb", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            hidden.rename(self._folder / f"{name}{SUFFIX}")
        except OSError:
            file.close()
            hidden.unlink(missing_ok=True)
            raise
        return file

    def _let_go(self, endpoint: str) -> None:
        """Of the own file of an endpoint, so that it is shipped like any other; the next event
        opens a new one."""
        own = self._own.pop(endpoint, None)
        if own is not None:
            # Nothing of ours is in a buffer; a disk that complains now changes nothing.
            with contextlib.suppress(OSError):
                own.file.close()

    def close(self) -> None:
        """Let go of the own files: another process, or the next start, ships them."""
        with self._lock:
            for endpoint in list(self._own):
                self._let_go(endpoint)

    # Shipping.

    def waiting(self) -> dict[str, bytes]:
        """The oldest event of each endpoint that waits here."""
        oldest: dict[str, bytes] = {}
        for path, _ in self._files():
            first = _first(path)
            if first is not None:
                oldest.setdefault(*first)
        return oldest

    def ship(self, send: Send, may_ship: Callable[[str], bool] = lambda endpoint: True) -> int:
        """Send what waits of the endpoints that may, oldest file first; how many events were sent.

        `may_ship` is asked before each file. Raises CannotSend when nobody's events can be sent.
        """
        shipped = 0
        refused: set[str] = set()
        try:
            for path, _ in self._files():
                first = _first(path)
                endpoint = None if first is None else first[0]
                if endpoint is not None and (endpoint in refused or not may_ship(endpoint)):
                    continue
                if endpoint is not None:
                    with self._lock:
                        self._let_go(endpoint)
                try:
                    shipped += self._ship_file(path, send)
                except CannotSend as error:
                    if not error.endpoint_only or endpoint is None:
                        raise
                    log.error("spooled decisions refused", endpoint=endpoint, error=str(error))
                    refused.add(endpoint)
                except OSError as error:  # one file that can't be read keeps no other from being shipped
                    log.error("spooled decisions not read", file=path.name, error=str(error))
        finally:
            self.measure()
        return shipped

    def _ship_file(self, path: Path, send: Send) -> int:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return 0
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0  # a living process writes it, or another ships it
            if os.fstat(file.fileno()).st_nlink == 0:
                return 0  # another shipped it between the two lines above
            shipped = 0
            for endpoint, records in groupby(read(file), key=lambda record: record[0]):
                bodies: list[bytes] = []
                for _, body in records:
                    bodies.append(body)
                    if len(bodies) == AT_ONCE:
                        send(endpoint, bodies)
                        shipped += len(bodies)
                        bodies = []
                if bodies:
                    send(endpoint, bodies)
                    shipped += len(bodies)
            path.unlink(missing_ok=True)
        return shipped


def _first(path: Path) -> tuple[str, bytes] | None:
    """A file's first record; None where it holds none, is gone, or can't be read."""
    try:
        with path.open("rb") as file:
            return next(read(file), None)
    except OSError:
        return None


def read(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """The whole records of a spool file, up to its end or its torn tail."""
    size = os.fstat(file.fileno()).st_size
    while len(header := file.read(_HEADER.size)) == _HEADER.size:
        length, checksum, name_length = _HEADER.unpack(header)
        if length > size:  # no memory is asked for by what a damaged header says
            return
        rest = file.read(length)
        if len(rest) != length or zlib.crc32(rest) != checksum:
            return
        yield rest[:name_length].decode(), rest[name_length:]
