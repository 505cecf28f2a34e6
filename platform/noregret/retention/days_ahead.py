"""Partitions of the ledger, made ahead of time and for days that came unannounced."""

from datetime import timedelta

import structlog
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from serving.ledger import partitions

log = structlog.get_logger(__name__)

AHEAD_DAYS = 7


def make_days() -> None:
    """Where another holds a table, the next hour is soon enough: rows lie in the default partition
    until then."""
    today = timezone.now().date()
    with connection.cursor() as cursor:
        unannounced = partitions.days_in_default(cursor, today)
    ahead = (today, today + timedelta(days=AHEAD_DAYS))
    for first, last in (ahead, *((day, day) for day in unannounced)):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                partitions.ensure(cursor, first, last)
        except OperationalError as error:
            log.warning("partitions not made", first=str(first), last=str(last), error=str(error))
