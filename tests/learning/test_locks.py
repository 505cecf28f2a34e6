"""Leases: one holder at a time, and whoever lost one changes nothing any more."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction
from noregret.experiments.models import Experiment
from noregret.learning import locks
from noregret.learning.locks import LeaseLost, endpoint_lock
from noregret.learning.models import ArmStatistics, Lease
from noregret.steering.round import learn

Start = Callable[..., Experiment]
pytestmark = pytest.mark.usefixtures("platform")
NAME = "endpoint:1"


def elsewhere(work: Callable[[], Any]) -> Any:
    """What `work` gives on a connection of its own."""

    def run() -> Any:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def is_free() -> bool:
    with endpoint_lock(1) as ours:
        return ours


def expire(name: str = NAME) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE learning_lease SET expires_at = to_timestamp(0) WHERE name = %s", [name])


def test_lock__held__is_nobody_elses_and_then_free() -> None:
    with endpoint_lock(1) as ours:
        assert ours
        assert not elsewhere(is_free)
        with endpoint_lock(2) as other:
            assert other
    assert elsewhere(is_free)
    assert Lease.objects.get(name=NAME).token == 2


def test_lock__eight_at_once__one_has_it() -> None:
    start = threading.Barrier(8)
    taken = threading.Barrier(8)

    def take() -> bool:
        start.wait()
        try:
            with endpoint_lock(1) as ours:
                taken.wait()
                return ours
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        found = [future.result() for future in [pool.submit(take) for _ in range(8)]]
    assert found.count(True) == 1


def test_lock__holder_that_is_gone__is_free_once_expired() -> None:
    assert locks._take(NAME, 60.0) == 1  # and never given back
    with endpoint_lock(1) as ours:
        assert not ours
    expire()
    with endpoint_lock(1) as ours:
        assert ours
    assert locks._take(NAME, 60.0) == 3


def test_lock__lost_meanwhile__no_transaction_goes_on_and_the_next_holder_keeps_it() -> None:
    with endpoint_lock(1) as ours:
        assert ours
        expire()
        assert elsewhere(lambda: locks._take(NAME, 60.0)) == 2
        with pytest.raises(LeaseLost), transaction.atomic():
            Lease.objects.create(name="written", token=1, expires_at="2026-01-01T00:00:00Z")
        with pytest.raises(LeaseLost), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    assert not Lease.objects.filter(name="written").exists()
    assert not is_free()


def test_lock__expired_in_an_open_transaction__is_not_taken_until_its_end() -> None:
    with endpoint_lock(1) as ours:
        assert ours
        with transaction.atomic():
            assert ArmStatistics.objects.count() == 0  # begins the transaction: the lease's row is locked from here
            expire()
            assert not elsewhere(is_free)
        expire()
        assert elsewhere(is_free)


def test_lock__slow_transaction__is_renewed_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_RENEWALS_A_LEASE", 1e9)
    with endpoint_lock(1) as ours, transaction.atomic():
        assert ours
        before = Lease.objects.values_list("expires_at", flat=True).get(name=NAME)
        assert Lease.objects.values_list("expires_at", flat=True).get(name=NAME) > before


def test_lock__transaction_rolled_back__leaves_the_lease_as_it_was() -> None:
    with endpoint_lock(1) as ours:
        assert ours
        with transaction.atomic():
            ArmStatistics.objects.count()
            transaction.set_rollback(True)
        assert not elsewhere(is_free)
        with transaction.atomic():
            assert ArmStatistics.objects.count() == 0
    assert is_free()


def test_round__that_lost_its_lease__folds_nothing_and_says_that_another_is_at_it(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from noregret.steering import round as rounds

    experiment = two_arms()
    name = f"endpoint:{experiment.endpoint_id}"
    drain = rounds.drain

    def slow_drain(endpoint: Any) -> Any:
        drained = drain(endpoint)
        expire(name)
        elsewhere(lambda: locks._take(name, 60.0))
        return drained

    monkeypatch.setattr(rounds, "drain", slow_drain)
    assert learn(experiment.endpoint_id) is False
