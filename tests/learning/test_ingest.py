"""What comes out of a stream: good events in, bad ones aside, whatever they hold; and the days they
lie in."""

import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning import drain
from noregret.learning.models import ArmStatistics
from noregret.learning.rebuild import rebuild
from noregret.redis_client import client, decision_log, keys
from noregret.retention import days_ahead, tasks
from noregret.steering.round import learn

from serving.ledger import events, ingest, latency, partitions, rewards
from serving.ledger.rewards import NewReward, RewardWriter
from serving.models import Decision, QuarantinedEvent, Reward
from tests.learning.past_traffic import decide, decided_at

Start = Callable[..., Experiment]


def taken_out(endpoint: str = "pages") -> list[events.DecisionEvent]:
    """What waits in the stream, which is then empty."""
    batch = ingest.read(decision_log(), endpoint, 1000, timezone.now())
    decision_log().forget(endpoint, batch.entry_ids)
    return [decision.event for decision in batch.decisions]


def append(event: events.DecisionEvent, endpoint: str = "pages") -> None:
    client().xadd(keys().decisions(endpoint), {"d": events.encode(event)})


BAD: list[dict[str, Any]] = [
    {"experiment_id": 2**63},
    {"arm_id": -1},
    {"policy_version": 2**64 - 1},
    {"propensity": 0.0},
    {"propensity": float("nan")},
    {"propensity": 1.5},
    {"propensities": [0.5, float("inf")]},
    {"propensities": [-0.5, 1.5]},
    {"latency_ms": float("inf")},
    {"latency_ms": -1.0},
    {"unit": "a\x00b"},
    {"unit": "u" * 257},
    {"request_id": "r" * 257},
    {"fallback_reason": "f" * 65},
    {"context": {"a": "\x00"}},
    {"context": {"\x00": 1}},
    {"context": {"a": "\\\x00"}},
    {"context": {"a": msgspec.msgpack.Ext(5, b"")}},
    {"version": 99},
    {"id": b"short"},
    {"id": b"\x00" * 16},
]


@pytest.mark.parametrize("changes", BAD, ids=[f"{i}-{next(iter(change))}" for i, change in enumerate(BAD)])
def test_drain__event_that_no_row_can_hold__is_quarantined_and_its_neighbours_are_not(
    two_arms: Start, changes: dict[str, Any]
) -> None:
    experiment = two_arms()
    decide(experiment, "a")
    decide(experiment, "a")
    before, after = taken_out()
    append(before)
    append(msgspec.structs.replace(before, **({"id": before.id[:8] + b"12345678"} | changes)))
    append(after)
    assert learn(experiment.endpoint_id)
    assert {row.id.bytes for row in Decision.objects.all()} == {before.id, after.id}
    assert QuarantinedEvent.objects.count() == 1
    assert client().xlen(keys().decisions("pages")) == 0


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"path": "C:\\u0000", "quote": '"', "city": "Zürich", "emoji": "🙂"},
        {"nested": {"list": [1, 2.5, None, True]}},
        {"big": 2**64 - 1},
    ],
)
def test_drain__context__is_kept_as_it_was(two_arms: Start, context: dict[str, Any]) -> None:
    experiment = two_arms()
    decide(experiment, "a")
    append(msgspec.structs.replace(taken_out()[0], context=context))
    learn(experiment.endpoint_id)
    assert Decision.objects.get().context == context
    assert QuarantinedEvent.objects.count() == 0


def test_drain__same_id_twice_in_a_batch__is_the_first_of_them(two_arms: Start) -> None:
    experiment = two_arms()
    decide(experiment, "a")
    event = taken_out()[0]
    append(event)
    append(msgspec.structs.replace(event, unit="another", fallback_reason="error"))
    learn(experiment.endpoint_id)
    assert Decision.objects.get().unit is None
    assert ArmStatistics.objects.get(arm__name="a").failures == 0
    assert rebuild(experiment, write=False) == []


def test_store__row_that_only_postgresql_refuses__is_found_and_quarantined(two_arms: Start) -> None:
    """Whatever the checks before it let through: here a batch that never met them."""
    experiment = two_arms()
    identities = [decide(experiment, "a") for _ in range(7)]
    key = keys().decisions("pages")
    batch = ingest.read(decision_log(), "pages", 1000, timezone.now())
    refused = [
        ingest.StreamedDecision(
            d.entry_id, d.body, msgspec.structs.replace(d.event, unit="u" * 300), d.decided_us, None
        )
        for d in batch.decisions[2:4]
    ]
    mixed = ingest.Batch([*batch.decisions[:2], *refused, *batch.decisions[4:]], [])
    assert drain.store(mixed, key) == 5
    assert {row.id.bytes for row in Decision.objects.all()} == {*identities[:2], *identities[4:]}
    assert QuarantinedEvent.objects.count() == 2
    assert ArmStatistics.objects.get(arm__name="a").decisions == 5
    assert drain.store(mixed, key) == 0  # and once more, as after a kill before the entries left the stream
    assert QuarantinedEvent.objects.count() == 2
    assert ArmStatistics.objects.get(arm__name="a").decisions == 5


def test_drain__in_parallel__stores_and_counts_each_decision_once(two_arms: Start) -> None:
    """Without the endpoint's lock, as after a split brain: the ledger itself keeps every row
    single."""
    experiment = two_arms()
    for _ in range(60):
        decide(experiment, "a")
    together = threading.Barrier(4)

    def run() -> int:
        try:
            together.wait()
            return drain.drain(experiment.endpoint).decisions
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        stored = [future.result() for future in [pool.submit(run) for _ in range(4)]]
    assert sum(stored) == 60
    assert ArmStatistics.objects.get(arm__name="a").decisions == 60
    assert rebuild(experiment, write=False) == []


def test_drain__decision_of_an_unknown_experiment__is_kept_and_counted_nowhere(two_arms: Start) -> None:
    experiment = two_arms()
    decide(experiment, "a")
    event = taken_out()[0]
    append(msgspec.structs.replace(event, experiment_id=999_999))
    append(msgspec.structs.replace(event, id=event.id[:8] + b"12345678", arm_id=999_999))
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 2
    assert ArmStatistics.objects.get(arm__name="a").decisions == 0
    assert rebuild(experiment, write=False) == []


def test_partitions__made_by_many_at_once__are_made_once(platform: None) -> None:
    first, last = (timezone.now() + timedelta(days=200)).date(), (timezone.now() + timedelta(days=203)).date()
    together = threading.Barrier(4)

    def run() -> int:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                together.wait()
                return partitions.ensure(cursor, first, last)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        made = [future.result() for future in [pool.submit(run) for _ in range(4)]]
    assert sorted(made) == [0, 0, 0, 4 * len(partitions.TABLES)]


def test_partitions__while_another_reads_for_long__give_up_and_block_nobody(two_arms: Start) -> None:
    """Whoever waited for the default partition's lock would keep every writer waiting behind it."""
    experiment = two_arms()
    decide(experiment, "a", seconds_ago=30 * 86_400)
    learn(experiment.endpoint_id)
    day = (timezone.now() - timedelta(days=30)).date()

    def ensure() -> int:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                return partitions.ensure(cursor, day, day)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert Decision.objects.count() == 1  # holds a lock on every partition until this transaction ends
            with pytest.raises(OperationalError, match="lock timeout"):
                pool.submit(ensure).result()
        assert pool.submit(ensure).result() == len(partitions.TABLES)


def test_partitions__made_while_their_rows_come_in__refuse_and_lose_none(two_arms: Start) -> None:
    """Decisions and rewards of days without a partition, by four writers, while the days are made
    one after another."""
    experiment = two_arms()
    arm = experiment.arms.get(name="a")
    begin = (timezone.now() + timedelta(days=300)).replace(hour=12, minute=0, second=0, microsecond=0)
    days = [begin + timedelta(days=n) for n in range(6)]
    over = threading.Event()
    written: list[int] = []
    failures: list[BaseException] = []

    def write(seed: int) -> None:
        writer = RewardWriter(connection.settings_dict, size=1)
        made = 0
        try:
            while not over.is_set():
                events_, rewards = [], []
                for day in days:
                    microseconds = int(day.timestamp() * 1e6) + made * 4 + seed
                    identity = microseconds.to_bytes(8, "big") + os.urandom(8)
                    rewards.append(
                        NewReward(identity, microseconds, experiment.pk, arm.pk, "reward", 1.0, None, 3600.0, True)
                    )
                    event = events.DecisionEvent(
                        events.VERSION, identity, experiment.pk, arm.pk, [1.0, 0.0], 1.0, 1, None, None, None, 1.0, None
                    )
                    events_.append(ingest.StreamedDecision(b"1-1", events.encode(event), event, microseconds, None))
                drain.store(ingest.Batch(events_, ()), "pages")
                writer.write(rewards)
                made += 1
        except BaseException as error:
            failures.append(error)
        finally:
            written.append(made)
            writer.close()
            connection.close()

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    made = 0
    try:
        for day in days:
            for _ in range(200):
                time.sleep(0.05)
                try:
                    with transaction.atomic(), connection.cursor() as cursor:
                        made += partitions.ensure(cursor, day.date(), day.date())
                    break
                except OperationalError:  # the lock was not to be had: rows go on into the default partition
                    continue
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=60)
    assert failures == []
    assert made == len(days) * len(partitions.TABLES)
    assert Decision.objects.count() == Reward.objects.count() == sum(written) * len(days) > 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM serving_decision_default UNION ALL SELECT count(*) FROM serving_reward_default"
        )
        assert [row[0] for row in cursor.fetchall()] == [0, 0]


def test_housekeeping__makes_days_ahead_and_those_that_came_unannounced(two_arms: Start) -> None:
    experiment = two_arms()
    identity = decide(experiment, "a", seconds_ago=25 * 86_400)
    learn(experiment.endpoint_id)
    tasks.housekeeping.run()
    today = timezone.now().date()
    with connection.cursor() as cursor:
        assert partitions.days_in_default(cursor, today) == []
        cursor.execute("SELECT tableoid::regclass::text FROM serving_decision")
        assert cursor.fetchone()[0] == f"serving_decision_{decided_at(identity):%Y%m%d}"
        assert partitions.ensure(cursor, today, today + timedelta(days=days_ahead.AHEAD_DAYS)) == 0


def test_drain__some_of_a_batch_are_stored_already__the_rest_is_and_each_counts_once(two_arms: Start) -> None:
    """As after a learner that was killed between its commit and its taking out, and where a disk is
    shipped twice."""
    experiment = two_arms(strategy="ab", promotion={"auto": False})
    for i in range(6):
        decide(experiment, "ab"[i % 2], unit=f"user-{i % 4}")
    again = taken_out()
    for event in again[:4]:
        append(event)
    assert learn(experiment.endpoint_id)
    for event in [*again[2:], again[0]]:
        append(event)
    assert learn(experiment.endpoint_id)
    assert {row.id.bytes for row in Decision.objects.all()} == {event.id for event in again}
    assert Decision.objects.filter(trial=True).count() == 4  # the first of each unit
    assert sum(row.decisions for row in ArmStatistics.objects.all()) == 6
    assert client().xlen(keys().decisions("pages")) == 0
    assert rebuild(experiment, write=False) == []


@pytest.mark.parametrize("statement", [rewards._READ, rewards._METRICS], ids=["duplicate", "other metrics"])
def test_feedback__looks_a_decision_up__in_its_day_alone(two_arms: Start, statement: str) -> None:
    now = timezone.now()
    with transaction.atomic(), connection.cursor() as cursor:
        partitions.ensure(cursor, (now - timedelta(days=20)).date(), now.date())
        new = [NewReward(os.urandom(16), int(now.timestamp() * 1e6), 1, 1, "reward", 1.0, None, 3600.0, True)]
        columns = [rewards._ids(new), rewards._times(new)] + [rewards._metrics(new)] * (statement == rewards._READ)
        cursor.execute(f"EXPLAIN {statement}", [*columns, *rewards._bounds(new)])
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert set(re.findall(r"serving_reward_\d{8}", plan)) == {f"serving_reward_{now:%Y%m%d}"}


@pytest.mark.django_db
def test_latency__bucket_of_one__is_that_of_many_and_of_the_database() -> None:
    edges = latency.STARTS
    values = np.concatenate([edges, np.nextafter(edges, 0.0), np.nextafter(edges, 1e9), [0.0, 1e-9, 1e9]])
    one_by_one = [latency.bucket(value) for value in values.tolist()]
    assert latency.buckets(values).tolist() == one_by_one
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT array_agg(width_bucket(value, %s::float8[]) ORDER BY place) "
            "FROM unnest(%s::float8[]) WITH ORDINALITY AS u (value, place)",
            [edges.tolist(), values.tolist()],
        )
        assert cursor.fetchone()[0] == one_by_one
