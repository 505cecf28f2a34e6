"""How many uploads a web process takes at once: each holds a request thread for as long as its body
and its inspection take.

They are held by the threads that answer predict. So only a quarter of those may be busy with
uploads; a further upload is told to come again, over the API before its body is looked at. Models
that have no file are no uploads: as many may be registered while other machines are asked of them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from .errors import TooManyUploads

AT_ONCE = max(1, settings.ENVIRONMENT.blocking_threads // 4)
_free = threading.BoundedSemaphore(AT_ONCE)
_asking = threading.BoundedSemaphore(AT_ONCE)
_thread = threading.local()


@contextmanager
def slot() -> Iterator[None]:
    """Inside an upload is taken; a thread that has a slot needs no other. Raises TooManyUploads."""
    if getattr(_thread, "has_slot", False):
        yield
        return
    if not _free.acquire(blocking=False):
        raise TooManyUploads(f"{AT_ONCE} uploads are under way, which is as many as this process takes at once")
    _thread.has_slot = True
    try:
        yield
    finally:
        _thread.has_slot = False
        _free.release()


@contextmanager
def asking() -> Iterator[None]:
    """Inside another machine is asked of its model. Raises TooManyUploads."""
    if not _asking.acquire(blocking=False):
        told = f"other machines are asked of {AT_ONCE} models, which is as many as this process does at once"
        raise TooManyUploads(told)
    try:
        yield
    finally:
        _asking.release()
