"""Calls of the control plane take turns, and none waits for one that is long at it."""

import threading
from concurrent.futures import ThreadPoolExecutor

from noregret.rest.turns import Turns

LONG = 30.0


class Call:
    """A call in a thread of its own, which does what it is told when it is told."""

    def __init__(self, turns: Turns, threads: ThreadPoolExecutor) -> None:
        self._turns = turns
        self.computes, self.may_wait, self.may_go_on, self.may_end = (threading.Event() for _ in range(4))
        self.over = threads.submit(self._run)

    def _run(self) -> None:
        with self._turns.computing():
            self.computes.set()
            assert self.may_wait.wait(LONG)
            with self._turns.waiting():
                assert self.may_go_on.wait(LONG)
            assert self.may_end.wait(LONG)

    def may_do_all(self) -> None:
        for event in (self.may_wait, self.may_go_on, self.may_end):
            event.set()

    def end(self) -> None:
        self.may_do_all()
        self.over.result(LONG)


def test_call__while_another_computes__computes_when_that_one_waits() -> None:
    turns = Turns(LONG)
    with ThreadPoolExecutor(2) as threads:
        first = Call(turns, threads)
        assert first.computes.wait(LONG)
        second = Call(turns, threads)
        assert not second.computes.wait(0.2)
        first.may_wait.set()  # for its statement
        assert second.computes.wait(LONG)
        first.may_go_on.set()  # its statement is done, and it is the other's turn
        first.may_do_all()  # either may have the turn now, and the other waits for it
        second.end()
        first.end()


def test_call__while_another_is_long_at_it__does_not_wait() -> None:
    turns = Turns(0.01)
    with ThreadPoolExecutor(3) as threads:
        first = Call(turns, threads)
        assert first.computes.wait(LONG)
        others = [Call(turns, threads) for _ in range(2)]
        for other in others:
            other.end()
        first.end()
    with turns.waiting(), turns.waiting():  # outside a call it is nothing
        pass
