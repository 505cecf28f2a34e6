"""A device's folder, which processes and endpoints share: one of them at a time changes its model
files, and what any of them names stays.
"""

import errno
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec

from noregret_client.errors import DeadlineExceeded

log = logging.getLogger("noregret_client")

_PAUSE_SECONDS = 0.05
_WAIT_SECONDS = 5.0
_BUSY = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})


class _Artifact(msgspec.Struct):
    sha256: str


class _Arm(msgspec.Struct):
    artifact: _Artifact | None = None


class _Bundle(msgspec.Struct):
    arms: list[_Arm]


@contextmanager
def alone(lock: Path, seconds: float) -> Iterator[bool]:
    """While no other process or client that shares the file `lock` is in here; a process that dies
    leaves. False where the file system has no locks. Raises DeadlineExceeded after so many
    seconds."""
    ends = time.monotonic() + seconds
    with lock.open("ab") as file:
        number = file.fileno()
        while True:
            try:
                _lock(number)
                is_alone = True
                break
            except OSError as error:
                if error.errno not in _BUSY:
                    log.warning("%s can't be locked (%s): files that nobody names stay", lock, error)
                    is_alone = False
                    break
            if time.monotonic() >= ends:
                raise DeadlineExceeded(f"another process kept {lock} for {seconds:g} s", maybe_done=False)
            time.sleep(_PAUSE_SECONDS)
        try:
            yield is_alone
        finally:
            if is_alone:
                _unlock(number)


def artifacts_named(folder: Path) -> set[str] | None:
    """The SHA-256 of every file that a bundle in this folder names, of whatever endpoint; None
    where one of its states can't be read, so that nobody knows."""
    named: set[str] = set()
    try:
        for path in folder.glob("*.sqlite"):
            with closing(
                sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", timeout=_WAIT_SECONDS, uri=True)
            ) as state:
                row = state.execute("SELECT value FROM settled WHERE name = 'bundle'").fetchone()
            if row is not None:
                arms = msgspec.json.decode(row[0], type=_Bundle).arms
                named.update(arm.artifact.sha256 for arm in arms if arm.artifact is not None)
    except (sqlite3.Error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("a state in %s can't be read (%s): files that nobody names stay", folder, error)
        return None
    return named


if sys.platform == "win32":
    import msvcrt

    def _lock(number: int) -> None:
        os.lseek(number, 0, os.SEEK_SET)
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)

    def _unlock(number: int) -> None:
        os.lseek(number, 0, os.SEEK_SET)
        msvcrt.locking(number, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(number: int) -> None:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(number: int) -> None:
        with suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_UN)
