"""Half a minute in which web and Redis, then web and PostgreSQL, do not hear each other."""

import pytest

from tests.partitioned import begin, part, unkept
from tests.three_hosts import three_hosts, why_not

WHY_NOT = why_not()
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]
SECONDS = 30.0


def test_partitions__of_half_a_minute__lose_double_and_falsify_nothing() -> None:
    with three_hosts() as hosts:
        key = begin(hosts)
        for other in ("redis", "data"):
            told = part(hosts, key, other, SECONDS)
            print(other, told.statuses, told.stale, len(told.arms), len(told.rewards))  # noqa: T201 - what it is run for
            assert told.stale or other != "redis", "its answers said that they were of an old snapshot"
            assert told.statuses["feedback", 503] or other != "data", "feedback that was not stored was not taken"
            assert unkept(hosts, told) == ""
