"""The circuit breaker: an arm that keeps failing is left alone, tried again, and taken back."""

import threading

import pytest

from serving.breaker import FAILURES, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Breaker, CircuitOpen


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.admit()
        breaker.failed()
    return breaker


def test_breaker__failures_in_a_row__open_it__and_others_do_not() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(3 * FAILURES):
        for _ in range(FAILURES - 1):
            breaker.admit()
            breaker.failed()
        breaker.succeeded()
    assert breaker.state == "closed"
    breaker = opened(clock)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpen):
        breaker.admit()


def test_breaker__after_its_pause__lets_one_try__and_closes_or_waits_longer() -> None:
    clock = Clock()
    breaker = opened(clock)
    pause = FIRST_PAUSE_SECONDS
    for _ in range(8):
        clock.now += pause + 0.01
        assert breaker.state == "half-open"
        admitted = []

        def one(admitted: list[int] = admitted) -> None:
            try:
                breaker.admit()
            except CircuitOpen:
                return
            admitted.append(1)

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(admitted) == 1
        breaker.failed()
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        clock.now += pause - 0.1
        with pytest.raises(CircuitOpen):
            breaker.admit()
        clock.now += 0.1 - pause
    clock.now += LONGEST_PAUSE_SECONDS + 1
    breaker.admit()
    breaker.succeeded()
    assert breaker.state == "closed"
    breaker.admit()


def test_breaker__call_that_never_comes_back__does_not_keep_it_open_for_ever() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += FIRST_PAUSE_SECONDS + 0.01
    breaker.admit()
    clock.now += FIRST_PAUSE_SECONDS + 0.01
    breaker.admit()  # another may try


def test_calls_from_before_it_opened__that_fail_late__do_not_lengthen_its_pause() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES + 8):
        breaker.admit()
    for _ in range(FAILURES + 7):
        breaker.failed()
    clock.now += FIRST_PAUSE_SECONDS - 0.01
    assert breaker.state == "open"
    clock.now += 0.02
    assert breaker.state == "half-open"
    breaker.admit()
    breaker.failed()  # who tried, or one more from before: once
    breaker.failed()
    clock.now += 2 * FIRST_PAUSE_SECONDS + 0.01
    assert breaker.state == "half-open"
