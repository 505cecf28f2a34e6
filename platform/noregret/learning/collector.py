"""When Python looks for cycles among its objects: not while thousands of rows are read.

None of them is in a cycle.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No collection of cycles inside.

    Each would go through all rows read so far, and take longer than what makes them. This is for
    work that is bounded. Objects that are in no cycle are freed as always.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
