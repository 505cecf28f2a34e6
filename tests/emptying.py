"""Every test empties every table. TRUNCATE makes a new file of each table, partition and index,
which takes longer than most tests: so rows are deleted, unless a table has grown large."""

from collections.abc import Sequence
from typing import Any

from django.db import connection

LARGE_BYTES = 1_000_000

_LARGEST = """
SELECT coalesce(max(size), 0) FROM (
    SELECT pg_relation_size(name::regclass)
            + (SELECT coalesce(sum(pg_relation_size(relid)), 0) FROM pg_partition_tree(name::regclass)) AS size
    FROM unnest(%s::text[]) AS name
) AS sizes
"""


def empty_by_rows() -> None:
    """Have Django's flush of the test database delete, as long as no table has grown large."""
    truncating = connection.ops.sql_flush

    def sql_flush(style: Any, tables: Sequence[str], **options: Any) -> list[str]:
        names = [connection.ops.quote_name(table) for table in tables]
        with connection.cursor() as cursor:
            cursor.execute(_LARGEST, [names])
            (largest,) = cursor.fetchone()
        if options.get("reset_sequences") or largest > LARGE_BYTES:
            statements: list[str] = truncating(style, tables, **options)
            return statements
        return ["; ".join(f"DELETE FROM {name}" for name in names)]  # noqa: S608 - quoted, and our own tables

    connection.ops.sql_flush = sql_flush
