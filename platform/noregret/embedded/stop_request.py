"""Has anybody asked this process to stop? Signals are only noted: whoever waits looks, so that
nothing is left half done."""

import signal
from types import FrameType


class StopAsked(Exception):
    """Somebody asked to stop while something was being started."""


class StopRequest:
    """SIGINT and SIGTERM, once `listen` was called, set `asked`."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """From now on. Ctrl-Z is ignored: a supervisor that stands still watches over nothing."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def check(self) -> None:
        """Raises StopAsked."""
        if self.asked:
            raise StopAsked
