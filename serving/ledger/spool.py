"""Keeps decisions on local disk while Redis is away, within a limit, and ships them when it is back.

One folder a machine, one file a process. A record is its length, its CRC-32, then the endpoint's name and the event; a torn tail (the
process was killed while it wrote) fails its checksum and is cut off. A file is shipped under a lock of the operating system,
which a dead process no longer holds: whoever comes next ships what it left. Shipping twice is harmless, for the ledger
knows each decision by its id.
"""

import contextlib
import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

_HEADER = struct.Struct(">IIH")  # length of the rest, CRC-32 of the rest, length of the endpoint's name
SUFFIX = ".spool"

Append = Callable[[str, bytes], None]
"""(endpoint, body): puts one event into its stream, or raises."""


class SpoolFull(Exception):
    """The limit is reached: the decision can't be kept."""


class Spool:
    """The spool of this process, and the shipper of every file in the folder."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._whole = 0  # bytes of whole records in it
        # Of the whole folder as last measured, plus what this process wrote since: what dead processes left counts too.
        self._size = self._measure()

    def _measure(self) -> int:
        if not self._folder.is_dir():
            return 0
        total = 0
        for path in self._folder.glob(f"*{SUFFIX}"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:  # shipped by another process meanwhile
                continue
        return total

    def add(self, endpoint: str, body: bytes) -> None:
        """Keep one event. Raises SpoolFull past the limit or when the disk refuses."""
        name = endpoint.encode()
        rest = name + body
        record = _HEADER.pack(len(rest), zlib.crc32(rest), len(name)) + rest
        with self._lock:
            if self._size + len(record) > self._limit:
                raise SpoolFull(f"{self._limit} bytes")
            try:
                if self._file is None:
                    self._file, self._whole = self._open(), 0
                self._write(self._file, record)
            except OSError as error:
                raise SpoolFull(str(error)) from error
            self._size += len(record)

    def _write(self, file: IO[bytes], record: bytes) -> None:
        """All of a record or nothing of it: what is answered as not kept must not be shipped later. Raises OSError.

        Unbuffered, for a buffer would write what failed again when the file is closed.
        """
        try:
            left = memoryview(record)
            while left:
                left = left[file.write(left) :]
        except OSError:
            self._cut_back(file)
            raise
        self._whole += len(record)

    def _cut_back(self, file: IO[bytes]) -> None:
        """To the last whole record; a file that can't be cut is left as it is, and its torn tail fails its checksum."""
        try:
            file.truncate(self._whole)
            file.seek(self._whole)
        except OSError:
            self._file = None
            file.close()

    def _open(self) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{os.getpid()}-{os.urandom(4).hex()}"
        # Under a name that no shipper looks for until it is locked: one that came between would ship and remove it under our hands.
        # O_EXCL by "x": a recycled process id must not append to a file that another process is shipping.
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

    @property
    def size(self) -> int:
        """Bytes that are held back in the folder, as this process knows it."""
        return self._size

    def ship(self, append: Append) -> int:
        """Send what is spooled, oldest file first; how many events were sent. Stops at the first failure of `append`."""
        self._close_own()
        shipped = 0
        try:
            for path in sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder.is_dir() else []:
                shipped += self._ship_file(path, append)
        finally:
            with self._lock:
                self._size = self._measure()
        return shipped

    def close(self) -> None:
        """Let go of the own file: another process, or the next start, ships it."""
        self._close_own()

    def _close_own(self) -> None:
        """Let go of the own file, so that it is shipped like any other; the next failure opens a new one."""
        with self._lock:
            if self._file is not None:
                file, self._file = self._file, None
                with contextlib.suppress(
                    OSError
                ):  # nothing of ours is in a buffer; a disk that complains now changes nothing
                    file.close()

    def _ship_file(self, path: Path, append: Append) -> int:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return 0
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0  # a living process writes it, or another ships it
            shipped = 0
            for endpoint, body in read(file):
                append(endpoint, body)
                shipped += 1
            path.unlink(missing_ok=True)
        return shipped


def read(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """The whole records of a spool file, up to its end or its torn tail."""
    while len(header := file.read(_HEADER.size)) == _HEADER.size:
        length, checksum, name_length = _HEADER.unpack(header)
        rest = file.read(length)
        if len(rest) != length or zlib.crc32(rest) != checksum:
            return
        yield rest[:name_length].decode(), rest[name_length:]
