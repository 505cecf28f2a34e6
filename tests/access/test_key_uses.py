"""A key's last use is known on both planes, survives Redis, and costs a call no look anywhere."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from noregret.access.keys import create_key
from noregret.access.models import ApiKey
from noregret.access.uses import keep_uses
from noregret.redis_client import client, keys

from serving.key_uses import USES, KeyUses
from serving.process import process
from tests.conftest import Api, endpoint_of, static_model


def last_used(name: str) -> datetime | None:
    USES.tell(client(), keys())
    keep_uses()
    return ApiKey.objects.get(name=name).last_used_at


def test_use__on_either_plane__is_known_to_the_page(alice: Api, bob: Api) -> None:
    static_model("page", "a")
    endpoint_of("pages", "page@a")
    process().store.refresh(20.0)
    before = timezone.now() - timedelta(seconds=2)
    assert alice.get("/api/v1/models").status == 200
    assert bob.post("/api/v1/endpoints/pages/decide").status == 200
    for name in ("alice", "bob"):
        at = last_used(name)
        assert at is not None
        assert before <= at <= timezone.now()
    _, text = create_key(name="idle", scopes=["predict"], actor="t")
    process().store.refresh(20.0)
    assert Api(text).post("/api/v1/feedback").status == 403  # refused is no use
    assert last_used("idle") is None

    admin = Client()
    admin.force_login(User.objects.create_superuser("root"))
    shown = admin.get("/admin/access/apikey/").content.decode()
    assert "no use was noted" in shown
    assert f"{timezone.now():%Y-%m-%d}" in shown


def test_use__older_than_what_is_kept__changes_nothing__and_redis_emptied_neither(alice: Api) -> None:
    key = ApiKey.objects.get(name="alice")
    late = datetime(2026, 11, 20, tzinfo=UTC)
    client().hset(keys().key_uses, key.digest, int(late.timestamp()))
    assert keep_uses() == 1
    client().hset(keys().key_uses, key.digest, int(late.timestamp()) - 60)
    assert keep_uses() == 0
    client().delete(keys().key_uses)
    assert keep_uses() == 0
    key.refresh_from_db()
    assert key.last_used_at == late


def test_uses__redis_away__are_told_the_next_time(platform: None) -> None:
    class Away:
        def hset(self, *args: Any, **kwargs: Any) -> None:
            raise redis.ConnectionError

    uses = KeyUses()
    uses.note("a")
    with pytest.raises(redis.RedisError):
        uses.tell(Away(), keys())  # type: ignore[arg-type]  # as much of a client as is called
    uses.note("b")
    uses.tell(client(), keys())
    assert set(client().hgetall(keys().key_uses)) == {b"a", b"b"}
