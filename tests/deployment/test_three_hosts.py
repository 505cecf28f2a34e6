"""A network between three hosts is cut for some seconds, and healed (tests/soak/test_partition.py:
for half a minute)."""

import pytest

from tests.partitioned import begin, part, unkept
from tests.three_hosts import three_hosts, why_not

WHY_NOT = why_not()
pytestmark = [pytest.mark.timeout(600), pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]
SECONDS = 4.0


def test_partitions__of_some_seconds__lose_double_and_falsify_nothing() -> None:
    with three_hosts() as hosts:
        key = begin(hosts)
        redis_away = part(hosts, key, "redis", SECONDS)
        database_away = part(hosts, key, "data", SECONDS)
        assert database_away.statuses["feedback", 503], "it was away"
        for told in (redis_away, database_away):
            assert unkept(hosts, told) == ""
