"""`python -m noregret.embedded.ends_with_up MODULE ...`: MODULE, run as `python -m MODULE ...`
would, with a bound on how long its group outlives the `up` that started it.

A killed `up` stops nothing. The kernel then asks each child to stop, its servers too, and a child
may wait without end: a Celery worker does for a process of its pool or for a broker that is gone,
and a second SIGTERM changes nothing. So here is what `up` would have done: after some seconds, the
group is killed. A child whose `up` lives is never touched.
"""

import os
import runpy
import select
import signal
import sys
import threading
import time

STOP_SECONDS = 6.0
"""Then a child is killed: a task is done again by the next round, and all of them together end
within ten seconds."""


def _end_with(parent: int, output: int) -> None:
    # `up` alone reads what a child writes: the pipe tells that its reader is gone, and nothing is
    # asked for until then.
    lost = select.poll()
    lost.register(output, 0)
    lost.poll()
    time.sleep(STOP_SECONDS)
    _end_group_without(parent)


def _end_group_without(parent: int) -> None:
    if os.getppid() != parent:
        os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    del sys.argv[0]  # the module's own is put there
    parent = os.getppid()
    watch = threading.Thread(target=_end_with, args=(parent, os.dup(1)), name="ends with up", daemon=True)
    watch.start()
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:  # whoever ends sooner than that may leave a process of its pool that does not answer
        _end_group_without(parent)


if __name__ == "__main__":
    main()
