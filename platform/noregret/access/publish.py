"""The API keys in force, from the database to the snapshot that the hot path checks them
against."""

import redis
import structlog
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from noregret.redis_client import client, keys
from serving import publication, snapshot

from .models import ApiKey

log = structlog.get_logger(__name__)


def build() -> snapshot.Access:
    """Every key in force, with a version that grows with each build and whose order is that of the
    contents."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            # One builder at a time: the later version then holds the later contents.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('noregret.access.publish'))")
            cursor.execute("SELECT nextval('access_snapshot_version')")
            version = int(cursor.fetchone()[0])
        live = ApiKey.objects.filter(revoked_at__isnull=True).filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now())
        )
        return snapshot.Access(
            version=version,
            keys={
                key.digest: snapshot.Key(
                    name=key.name,
                    scopes=frozenset(key.scopes),
                    endpoints=None if key.endpoints is None else frozenset(key.endpoints),
                    expires_at=None if key.expires_at is None else key.expires_at.timestamp(),
                )
                for key in live
            },
        )


def publish_access() -> bool:
    """Publish the keys; False when Redis is away, and then the learner does it when Redis is
    back."""
    document = build()
    try:
        publication.publish(client(), keys(), document)
    except redis.RedisError as error:
        log.warning("keys not published", error=str(error))
        return False
    return True
