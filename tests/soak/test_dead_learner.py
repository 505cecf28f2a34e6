"""200,000 decisions while the learner is dead: Redis stays within its bound, and nothing
acknowledged is lost when it is back."""

import threading
import time
from typing import Any
from uuid import UUID

import pytest
from noregret.redis_client import client, keys
from noregret.steering.round import learn

from serving import process as processes
from serving.ledger import backlog
from serving.models import Decision
from serving.process import Process
from tests.serving.test_backlog import MEBIBYTE, Start, decided, id_of
from tests.serving.test_when_things_break import OwnRedis, own_redis

__all__ = ["own_redis"]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
DECISIONS = 200_000


def test_learner_dead__200_000_decisions_of_two_web_processes__are_in_the_ledger_once(
    own_redis: OwnRedis, settings: Any, two_arms: Start
) -> None:
    experiment = two_arms()
    maximum = 24 * MEBIBYTE
    client().config_set("maxmemory", str(maximum))
    stream = keys().decisions("pages")
    parts = processes.make(), processes.make()
    acknowledged: list[set[UUID]] = [set(), set()]

    def calls(i: int, part: Process) -> None:
        for n in range(DECISIONS // 2):
            answer = decided(part, country="KR", age=n % 90)
            if answer.learnable:
                acknowledged[i].add(id_of(part, answer))

    threads = [threading.Thread(target=calls, args=(i, part)) for i, part in enumerate(parts)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    most_bytes = most_used = 0
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.2)
        most_bytes = max(most_bytes, client().memory_usage(stream) or 0)
        most_used = max(most_used, backlog.memory(client())[0])
    seconds = time.monotonic() - began
    spooled = parts[0].spool.measure()
    wanted = acknowledged[0] | acknowledged[1]
    assert len(wanted) == DECISIONS
    assert most_used < 0.8 * maximum
    # Half of the maximum, an eighth of that for the endpoint's own, and what comes in between two
    # looks.
    assert maximum / 2 < most_bytes <= maximum / 2 * 9 / 8 + MEBIBYTE
    assert spooled > MEBIBYTE
    began = time.monotonic()
    while parts[0].spool.measure() or client().xlen(stream):
        learn(experiment.endpoint_id)
        assert time.monotonic() - began < 400
    drained = time.monotonic() - began
    for part in parts:
        part.close()
    assert {row.id for row in Decision.objects.only("id", "decided_at").iterator()} == wanted
    assert sum(arm.statistics.decisions for arm in experiment.arms.all()) == DECISIONS
    print(  # noqa: T201 - the figures are what this is run for
        f"{DECISIONS:,} decisions in {seconds:.0f} s; in Redis at most {most_bytes / 1e6:.1f} MB, used {most_used / 1e6:.1f} of "
        f"{maximum / 1e6:.1f} MB; {spooled / 1e6:.1f} MB on disk; in the ledger after {drained:.0f} s"
    )
