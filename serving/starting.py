"""What a web process does before its first request, and after its last."""

import gc
import sys

import structlog
from django.core.exceptions import ImproperlyConfigured

from .metrics import GATHERING
from .process import CannotServe, process

SWITCH_SECONDS = 0.001
"""A thread that computes lets another have its turn after this long; Python's own 5 ms are most of
a prediction's time, and each prediction asks for a turn several times while a page of the control
plane is made."""

log = structlog.get_logger(__name__)


def begin_serving() -> None:
    """Read the snapshots and load their models: the first request would wait for them. Once a
    process, after it has forked. Ends one whose settings can't be used."""
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        process()
    except CannotServe as error:
        if isinstance(error.__cause__, ImproperlyConfigured):  # no retry mends it: as a setting that can't be read
            sys.exit(f"noregret: {error.__cause__}")
        log.error("not serving yet", error=error.cause)  # requests try again, and readiness says what is wrong
    # What is loaded now stays: it is not searched for garbage again, which takes a moment of every
    # request that waits.
    gc.collect()
    gc.freeze()


def end_serving() -> None:
    """Add up what was counted since the last second."""
    GATHERING.flush()
