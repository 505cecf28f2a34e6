"""Where the newest decisions with a reward begin: what reads so many of them reads no row before.

Asked in one statement for the newest rows of two tables that are joined, PostgreSQL has joined all
of them first: four seconds for ten million rows, where the newest twenty thousand take a tenth of
one.
"""

from datetime import datetime
from typing import Any

from django.db.backends.utils import CursorWrapper

_FIRST = """
SELECT decided_at FROM serving_reward
WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND NOT late AND decided_at < %(until)s
ORDER BY decided_at DESC OFFSET %(limit)s - 1 LIMIT 1
"""


def since_newest(cursor: CursorWrapper, asked: dict[str, Any]) -> datetime | None:
    """When the first of the newest `limit` of them was decided; None where there are fewer.

    `asked`: `experiment` (its number), `metric`, `until` and `limit`.
    """
    cursor.execute(_FIRST, asked)
    row = cursor.fetchone()
    return None if row is None else row[0]
