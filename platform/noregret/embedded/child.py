"""One child process in a group of its own: started, watched, and ended with everything that it
started."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .capped_log import CappedLog

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def death_signal(number: signal.Signals) -> Callable[[], None]:
    """What a child calls before it becomes its command: the kernel sends it this signal when its
    parent dies."""
    parent, ask = os.getpid(), _libc.prctl

    def ask_for_it() -> None:
        ask(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask_for_it


_AUTOGROUP_TRIES = 12
_AUTOGROUP_PAUSE_SECONDS = 0.05
"""Linux takes one such change in 0.1 s from those who are not root."""


def _yield_to_others(leader: int, niceness: int) -> None:
    """Have a session give way on a busy core: each of its processes, and the session, which Linux
    weighs as one against others where it groups tasks by session (sched(7), "The autogroup
    feature"); niceness counts within a session alone then.
    """
    os.setpriority(os.PRIO_PGRP, leader, os.getpriority(os.PRIO_PROCESS, 0) + niceness)
    for _ in range(_AUTOGROUP_TRIES):
        try:
            Path(f"/proc/{leader}/autogroup").write_text(str(niceness))
        except BlockingIOError:
            time.sleep(_AUTOGROUP_PAUSE_SECONDS)
        except OSError:  # a system without it
            return
        else:
            return


@dataclass(slots=True, eq=False)
class Child:
    """A command and the process that runs it, if one does.

    `user` is the (uid, gid) to run as, for a parent that is root. Output goes to files of a bounded
    size, the newest of them `log`.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    cwd: Path
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 20.0
    user: tuple[int, int] | None = None
    niceness: int = 0
    """From 0 to 19: how far it gives way to the others where a core is busy, once it is told to."""
    speaks: bool = False
    """What it writes to stderr goes where this process's own does."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    gives_way: bool = field(default=False, init=False)
    _output: CappedLog = field(init=False)

    def __post_init__(self) -> None:
        self._output = CappedLog(self.log)

    def start(self) -> None:
        """Start it. Only from the main thread: the death signal below belongs to the thread that
        forked."""
        user, group = self.user or (None, None)
        output = self._output.open()
        self.gives_way = False
        self.process = subprocess.Popen(
            list(self.command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if self.speaks else output,
            cwd=self.cwd,
            env=dict(self.environment),
            start_new_session=True,
            # If this process is killed outright, the kernel asks its children to stop: nothing may
            # outlive it.
            preexec_fn=death_signal(self.stop_signal),
            user=user,
            group=group,
            extra_groups=None if self.user is None else [],
            # Snapshots, spools, logs and the append-only file hold what requests held: for nobody
            # else on the machine.
            umask=0o077,
        )

    def give_way(self) -> None:
        """From now on, by its niceness. Not from its start: one that starts on a busy machine would
        wait for its turn to load what it runs."""
        if self.niceness and self.process is not None and self.alive:
            with contextlib.suppress(OSError):  # it has just died
                _yield_to_others(self.process.pid, self.niceness)
        self.gives_way = True

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)

    def stop(self) -> None:
        """End it: politely, then not; and whatever is left of its group."""
        if self.process is None:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(self.stop_seconds)
        self.clear_group()
        self.process.wait()
        self._output.close()

    def clear_group(self) -> None:
        """Kill what is left of the group: the children of one that died without stopping them."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def last_lines(self, count: int = 15) -> str:
        """The end of its log, for an error message."""
        return "\n".join(self._output.tail(count))
