"""Which core runs what: the service's whole process tree on one, the load generator on another.

Children inherit their parent's core, so that a tree is started on it rather than moved there.
Where the machine has no two cores to choose from, or no way to choose, nothing is pinned.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cores:
    """`service` and `load` are numbers of cores, None where nothing is pinned."""

    service: int | None
    load: int | None

    @classmethod
    def of_this_machine(cls) -> "Cores":
        if sys.platform != "linux":
            return cls(None, None)
        ours = sorted(os.sched_getaffinity(0))
        return cls(ours[0], ours[1]) if len(ours) > 1 else cls(None, None)

    @property
    def words(self) -> str:
        if self.service is None:
            return "nothing is pinned, for there are no two cores to choose from: ratios say less"
        return f"whole process trees on core {self.service}, the load generator on core {self.load}"

    def take_load_core(self) -> None:
        """This process goes to the load generator's core."""
        _pin([os.getpid()], self.load)

    @contextlib.contextmanager
    def starting_services(self) -> Iterator[None]:
        """What is started meanwhile, and its children, run on the service's core."""
        _pin([os.getpid()], self.service)
        try:
            yield
        finally:
            _pin([os.getpid()], self.load)

    @contextlib.contextmanager
    def moved_away(self, pids: Iterable[int]) -> Iterator[None]:
        """Meanwhile these processes share the load generator's core."""
        moved = list(pids)
        _pin(moved, self.load)
        try:
            yield
        finally:
            _pin(moved, self.service)


def _pin(pids: Iterable[int], core: int | None) -> None:
    if core is None or sys.platform != "linux":
        return
    for pid in pids:
        with contextlib.suppress(OSError):  # it has gone
            # An affinity is a thread's, and a process's number means its first thread alone.
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(int(thread.name), {core})
