"""What was set aside goes back once or goes for good, by whoever may; the trail is narrowed, and is
taken away as a table that no spreadsheet runs."""

import csv
import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from noregret.experiments.errors import Conflict
from noregret.learning.drain import drain
from noregret.redis_client import client as redis
from noregret.redis_client import keys
from noregret.rollout.quarantined import discard, replay
from noregret.trail import audit
from noregret.trail.models import AuditEntry

from serving.models import Decision, QuarantinedEvent
from tests.conftest import endpoint_of, static_model
from tests.learning.past_traffic import decide

ROWS = "/admin/serving/quarantinedevent"


@pytest.fixture
def admin(platform: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def in_stream(endpoint: str) -> list[bytes]:
    return [fields[b"d"] for _, fields in redis().xrange(keys().decisions(endpoint))]


def set_aside(stream: str, entry: str, body: bytes, problem: str = "no event") -> QuarantinedEvent:
    return QuarantinedEvent.objects.create(stream=stream, entry_id=entry, problem=problem, body=body)


def test_replay__a_decision__enters_the_ledger_once__what_is_unreadable_comes_back(
    admin: Client, two_arms: Any
) -> None:
    experiment = two_arms()
    decide(experiment, "a")
    (good,) = in_stream("pages")
    redis().delete(keys().decisions("pages"))
    stream = keys().decisions("pages")
    row, bad = set_aside(stream, "1-0", good, "too old a program"), set_aside(stream, "2-0", b"\xc1")
    for event in (row, bad):
        assert b"/do/replay" not in admin.get(f"{ROWS}/").content
        assert b"../do/replay" in admin.get(f"{ROWS}/{event.pk}/change/").content
        told = admin.post(f"{ROWS}/{event.pk}/do/replay", {"reason": "mended"}, follow=True)
        assert b"1 event was put back" in told.content
    assert in_stream("pages") == [good, b"\xc1"]
    with pytest.raises(Conflict):
        replay(row, actor="late")  # somebody else was first
    drain(experiment.endpoint)
    assert Decision.objects.count() == 1
    (back,) = QuarantinedEvent.objects.all()
    assert bytes(back.body) == b"\xc1"
    entry = AuditEntry.objects.filter(action="quarantine.replayed").earliest("pk")
    assert (entry.actor, entry.endpoint, entry.reason) == ("root", "pages", "mended")
    assert entry.details["entries"] == ["1-0"]


def test_replay__redis_away__leaves_it__and_rows_of_the_ledger_are_not_offered(admin: Client, two_arms: Any) -> None:
    experiment = two_arms()
    row = set_aside("rewards of e", "d-1", b"x")
    assert b"do/replay" not in admin.get(f"{ROWS}/{row.pk}/change/").content
    assert b"is no stream" in admin.post(f"{ROWS}/{row.pk}/do/replay", {}, follow=True).content
    # A key of another type takes no entry: Redis refuses.
    stream = keys().decisions(experiment.endpoint.name)
    redis().set(stream, "x")
    kept = set_aside(stream, "1-0", b"x")
    with pytest.raises(Conflict, match="stays in quarantine"):
        replay(kept, actor="t")
    assert QuarantinedEvent.objects.count() == 2
    assert not AuditEntry.objects.filter(action__startswith="quarantine.").exists()


def test_discard__needs_a_reason__and_takes_all_that_are_alike(admin: Client) -> None:
    endpoint_of("pages", static_model("page", "a"))
    stream = keys().decisions("pages")
    first = set_aside(stream, "1-0", b"secret-unit")
    for i in range(2, 5):
        set_aside(stream, f"{i}-0", b"x")
    other = set_aside(stream, "9-0", b"x", "another problem")
    assert b"3 others of this stream" in admin.get(f"{ROWS}/{first.pk}/change/").content
    assert admin.post(f"{ROWS}/{first.pk}/do/discard", {"all_alike": "on"}).status_code == 400
    assert QuarantinedEvent.objects.count() == 5
    for unseen in ("\u200b", "\u3164"):
        for action in ("discard", "replay"):
            refused = admin.post(f"{ROWS}/{first.pk}/do/{action}", {"reason": unseen})
            assert refused.status_code == 400
            assert b"Nothing in it can be read: say why" in refused.content
    assert QuarantinedEvent.objects.count() == 5
    told = admin.post(f"{ROWS}/{first.pk}/do/discard", {"all_alike": "on", "reason": "a broken client"}, follow=True)
    assert b"4 events were discarded" in told.content
    assert list(QuarantinedEvent.objects.all()) == [other]
    entry = AuditEntry.objects.get(action="quarantine.discarded")
    assert entry.details["count"] == 4
    assert "secret-unit" not in str(entry.details)
    discard(other, actor="t", reason="r")
    with pytest.raises(Conflict):
        discard(other, actor="t", reason="r")


def entries(**values: str) -> None:
    with transaction.atomic():
        audit.record(**{"actor": "ann", "action": "experiment.paused"} | values)  # type: ignore[arg-type]


def test_trail__filters_and_csv__are_of_the_same_rows(admin: Client) -> None:
    entries(experiment="e1", reason="=HYPERLINK(1)")
    entries(experiment="e2", reason="two\nlines, and 서울")
    entries(actor="bob", action="experiment.stopped", experiment="e1")
    url = "/admin/trail/auditentry/"
    page = admin.get(url + "?experiment=e1&actor=ann").content.decode()
    assert "audit.csv?experiment=e1&amp;actor=ann" in page
    assert "two" not in page
    rows = list(csv.DictReader(io.StringIO(admin.get(url + "audit.csv?experiment=e1&actor=ann").content.decode())))
    assert [(row["actor"], row["reason"]) for row in rows] == [("ann", "'=HYPERLINK(1)")]
    everything = list(csv.DictReader(io.StringIO(admin.get(url + "audit.csv").content.decode())))
    assert [row["action"] for row in everything[:3]] == ["experiment.stopped", "experiment.paused", "experiment.paused"]
    assert everything[1]["reason"] == "two\nlines, and 서울"
    assert len(list(csv.reader(io.StringIO(admin.get(url + "audit.csv?q=bob").content.decode())))) == 2
    nobody = Client()
    nobody.force_login(User.objects.create_user("nobody", is_staff=True))
    assert nobody.get(url + "audit.csv").status_code == 403
