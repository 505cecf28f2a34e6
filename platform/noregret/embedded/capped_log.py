"""What a child writes, kept in files of a bounded size: the newest whole, and a few before it.

The child writes into a pipe that never blocks it: while nobody reads, what does not fit is lost,
and the child goes on.
"""

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
import time
from pathlib import Path

LIMIT_BYTES = 8 << 20
"""A file that would grow past this becomes `NAME.1`, and that one `NAME.2`."""
OLDER_FILES = 2
_PIPE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
_TAIL_BYTES = 1 << 15
_SETTLE_SECONDS = 1.0


class CappedLog:
    """The log of one child through all its lives, from `open` to `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer: int | None = None
        """The end that a child writes to."""
        self._reader = -1
        self._file = -1
        self._size = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def open(self) -> int:
        """Make the pipe and start to read it, unless that is done; the end to write to."""
        if self.writer is None:
            # Without its file a child runs all the same; the file is tried again at the next line.
            with contextlib.suppress(OSError):
                self._open_file()
            self._reader, self.writer = os.pipe()
            with contextlib.suppress(OSError):
                fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            os.set_blocking(self.writer, False)
            self._thread = threading.Thread(target=self._read, name=f"log of {self.path.stem}", daemon=True)
            self._thread.start()
        return self.writer

    def close(self) -> None:
        """End it, once what was written is in the file; a writer that lives on is not waited
        for."""
        if self.writer is None:
            return
        os.close(self.writer)
        self.writer = None
        if self._thread is not None:
            self._thread.join(_SETTLE_SECONDS)

    def settle(self) -> None:
        """Wait until what was written so far is in the file."""
        until = time.monotonic() + _SETTLE_SECONDS
        while self.writer is not None and time.monotonic() < until:
            with self._lock:
                waiting = fcntl.ioctl(self._reader, termios.FIONREAD, b"\0" * 4)
            if not struct.unpack("i", waiting)[0]:
                return
            time.sleep(0.01)

    def tail(self, count: int) -> list[str]:
        """The last lines."""
        self.settle()
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
                return file.read().decode(errors="replace").splitlines()[-count:]
        except OSError:
            return []

    def _read(self) -> None:
        reader = self._reader
        while True:
            select.select([reader], [], [])
            with self._lock:
                chunk = os.read(reader, _CHUNK_BYTES)
                if not chunk:
                    break
                # A disk that is full keeps no child from running; `up` and `doctor` tell of it.
                with contextlib.suppress(OSError):
                    self._write(chunk)
        os.close(reader)
        if self._file >= 0:
            os.close(self._file)

    def _write(self, chunk: bytes) -> None:
        if self._size + len(chunk) > LIMIT_BYTES:
            whole_lines = chunk.rfind(b"\n") + 1
            self._append(chunk[:whole_lines])
            self._rotate()
            chunk = chunk[whole_lines:]
        self._append(chunk)

    def _append(self, chunk: bytes) -> None:
        if self._file < 0:
            self._open_file()
        self._size += len(chunk)
        os.write(self._file, chunk)

    def _rotate(self) -> None:
        os.close(self._file)
        self._file = -1
        for number in range(OLDER_FILES, 0, -1):
            before = self._older(number - 1)
            with contextlib.suppress(FileNotFoundError):
                before.replace(self._older(number))
        self._open_file()

    def _older(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _open_file(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._file).st_size
        if self._size > LIMIT_BYTES + _CHUNK_BYTES:  # as earlier releases left them
            os.ftruncate(self._file, 0)
            self._size = 0
