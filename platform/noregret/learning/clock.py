"""The one clock of learning: the database's, which also judges whether feedback is late. Workers'
own clocks may differ."""

from datetime import UTC, datetime, timedelta

from django.db import connection

from noregret.experiments.models import Experiment

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
FOREVER = datetime.max.replace(tzinfo=UTC)


def now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        at: datetime = cursor.fetchone()[0]
    return at


def earliest_decision(experiment: Experiment) -> datetime:
    """No decision of the experiment is older, by any machine's clock: days before are not looked
    into."""
    return (experiment.started_at or experiment.created_at) - timedelta(days=1)
