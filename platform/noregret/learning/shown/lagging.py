"""Figures from a replica that may be some seconds behind, but never behind what people did."""

from collections.abc import Callable
from typing import Any, TypeVar

from noregret.rest.replica import Behind, from_replica, is_named, where_read

T = TypeVar("T")

# By act of somebody alone: what is learned stands in other rows.
_CHANGED = """
SELECT e.xmin::text, (SELECT string_agg(a.xmin::text, ' ' ORDER BY a.id) FROM experiments_arm AS a WHERE a.experiment_id = e.id)
FROM experiments_experiment AS e WHERE e.id = %s
"""


def of_experiment(experiment_id: int, read: Callable[[], T]) -> T:
    """What `read` returns, from the replica if that has the experiment and its arms as they were
    last changed."""
    if not is_named():
        return read()
    changed = _changed(experiment_id)

    def there() -> T:
        if _changed(experiment_id) != changed:
            raise Behind
        return read()

    return from_replica(there)


def _changed(experiment_id: int) -> Any:
    with where_read().cursor() as cursor:
        cursor.execute(_CHANGED, [experiment_id])
        return cursor.fetchone()
