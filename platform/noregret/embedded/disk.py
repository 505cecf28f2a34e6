"""Can the data directory be written, and is there room? One sentence where not, the same for `up`
and `doctor`."""

import errno
import os
import secrets
import shutil
import time
from pathlib import Path

import structlog

from .errors import StartFailed

log = structlog.get_logger(__name__)

LEAST_BYTES = 64 << 20
"""Less than this is full: PostgreSQL alone takes as much for its log ahead of writes."""
LOOK_SECONDS = 10.0
_FULL = {errno.ENOSPC, errno.EDQUOT}
_PROBE_BYTES = 1 << 16


def trouble(folder: Path) -> str | None:
    """What is wrong with the disk below a folder that exists, found by writing to it; None when
    nothing is."""
    probe = folder / f".probe-{secrets.token_hex(4)}"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"\0" * _PROBE_BYTES)
        finally:
            os.close(descriptor)
            probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return told(folder, error)
    if free < LEAST_BYTES:
        return f"the disk of {folder} is full: {free >> 20} MiB are free, and {LEAST_BYTES >> 20} MiB are the least"
    return None


def told(folder: Path, error: OSError) -> str:
    """What kept a data directory from being written, as a sentence."""
    if error.errno in _FULL:
        return f"the disk of {folder} is full: make room, or name another --data-dir"
    if error.errno == errno.EROFS:
        return f"the disk of {folder} is read-only: name another --data-dir"
    return f"the data directory {folder} can't be written: {error.strerror}"


def check(folder: Path) -> None:
    """Raises StartFailed with what is wrong."""
    found = trouble(folder)
    if found is not None:
        raise StartFailed(found)


class Watch:
    """Looks at the disk of a running platform now and then, and logs when it is full and when it
    has room again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._due = time.monotonic() + LOOK_SECONDS
        self._told: str | None = None

    def look(self) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + LOOK_SECONDS
        found = trouble(self._folder)
        if found is not None and self._told is None:
            log.error("disk in trouble", problem=found)
        elif found is None and self._told is not None:
            log.info("disk well again")
        self._told = found
