"""A unit that is forgotten is named nowhere, whatever was on its way; and every sum still follows
from the ledger."""

import threading
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning import drain, kept_intervals
from noregret.learning.rebuild import rebuild
from noregret.redis_client import client, decision_log, keys
from noregret.retention.forget import forget
from noregret.steering.round import learn
from noregret.trail.models import AuditEntry

from serving.ledger import events, ingest
from serving.ledger.spool import Spool
from serving.models import Decision, FirstVisit, QuarantinedEvent
from tests.conftest import Api
from tests.learning.past_traffic import begin_earlier, decide, reward

Start = Callable[..., Experiment]
UNIT = "user-42@example.com"
AGE = [{"name": "age", "type": "number", "min": 0, "max": 100}]

KINDS: dict[str, dict[str, Any]] = {
    "bandit": {},
    "ab": {"strategy": "ab"},
    "shadow": {"strategy": "shadow"},
    "forgetting": {"policy": {"name": "thompson", "params": {"discount": 0.99}}},
    "contextual": {"policy": {"name": "lin-thompson"}, "context": {"fields": AGE}},
    "holdout": {"holdout": 0.2},
    "sticky": {"sticky": True},
}


def named() -> list[str]:
    """Where the unit's letters stand: every text, document and body of the database, every key and
    value of Redis."""
    found = []
    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()")
        for (table,) in cursor.fetchall():
            for letters in (UNIT, UNIT.encode().hex()):
                cursor.execute(f'SELECT count(*) FROM "{table}" AS t WHERE position(%s IN t::text) > 0', [letters])  # noqa: S608
                found += [table] * cursor.fetchone()[0]
    for key in client().scan_iter(f"{settings.REDIS_PREFIX}*"):
        body = client().xrange(key) if client().type(key) == b"stream" else client().dump(key)
        if UNIT.encode() in key + repr(body).encode():
            found.append(key.decode())
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_forget__by_every_strategy__names_nobody_and_changes_no_sum(two_arms: Start, kind: str) -> None:
    experiment = two_arms(
        reward={"kind": "binary", "window_seconds": 1, "default": 0}, promotion={"auto": False}, **KINDS[kind]
    )
    begin_earlier(experiment)
    for i in range(24):
        unit = UNIT if i % 3 == 0 else f"user-{i % 5}"
        arm = "ab"[i % 2]
        context = {"age": i} | ({"email": UNIT} if unit == UNIT else {})
        identity = decide(experiment, arm, unit=unit, context=context, holdout=kind == "holdout" and i % 3 == 0)
        if i % 4:
            reward(experiment, arm, identity, float(i % 2))
    learn(experiment.endpoint_id)
    others = set(Decision.objects.exclude(unit=UNIT).values_list("unit", flat=True))
    assert "serving_decision" in named()
    assert forget(UNIT, actor="tests", dry_run=True)["decisions"] == 8
    assert "serving_decision" in named()

    found = forget(UNIT, actor="tests")
    assert (found["decisions"], found["decisions in streams"]) == (8, 0)
    assert found["first visits"] == (kind in ("ab", "sticky"))
    assert named() == []
    assert Decision.objects.count() == 24
    pseudonyms = set(Decision.objects.values_list("unit", flat=True)) - others
    assert len(pseudonyms) == 1
    kept = list(Decision.objects.filter(unit=pseudonyms.pop()).order_by("decided_at").values_list("context", flat=True))
    assert kept == ([{"age": i} for i in range(0, 24, 3)] if kind == "contextual" else [None] * 8)
    assert rebuild(experiment, write=False) == []
    learn(experiment.endpoint_id)
    assert forget(UNIT, actor="tests")["decisions"] == 0


def test_forget__contextual_models__follow_from_what_is_left(two_arms: Start) -> None:
    experiment = two_arms(
        reward={"kind": "binary", "window_seconds": 1, "default": 0}, promotion={"auto": False}, **KINDS["contextual"]
    )
    begin_earlier(experiment)
    for i in range(20):
        identity = decide(experiment, "ab"[i % 2], unit=UNIT, context={"age": 5 * i, "email": UNIT})
        reward(experiment, "ab"[i % 2], identity, float(i % 3 == 0))
    learn(experiment.endpoint_id)
    learned = Experiment.objects.get().evidence.learned
    forget(UNIT, actor="tests")
    assert named() == []
    assert rebuild(experiment, write=False) == []
    rebuild(experiment, write=True)
    assert Experiment.objects.get().evidence.learned == learned != {}


def test_forget__several_experiments__have_nothing_in_common(two_arms: Start) -> None:
    experiment = two_arms()
    for number in (experiment.pk, experiment.pk + 1000, 0):  # the last two are no experiments of ours
        Decision.objects.create(
            id=f"00000000-0000-4000-8000-{number:012d}",
            decided_at=timezone.now(),
            experiment_id=number,
            arm_id=1,
            propensities=[1.0],
            propensity=1.0,
            policy_version=1,
            unit=UNIT,
            request_id="r-1",
            latency_ms=1.0,
        )
    assert forget(UNIT, actor="tests")["decisions"] == 3
    rows = list(Decision.objects.values_list("unit", "request_id"))
    assert len({unit for unit, _ in rows}) == 3
    assert all(unit.startswith("forgotten:") and request is None for unit, request in rows)


def test_forget__what_is_on_its_way__comes_in_without_the_name(two_arms: Start, tmp_path: Path) -> None:
    experiment = two_arms(strategy="ab", promotion={"auto": False})
    begin_earlier(experiment)
    decide(experiment, "a", unit=UNIT, seconds_ago=50)
    learn(experiment.endpoint_id)
    key = keys().decisions("pages")
    decide(experiment, "a", unit=UNIT, seconds_ago=40, context={"email": UNIT})
    decide(experiment, "b", unit="another", seconds_ago=40)
    read_before = ingest.read(decision_log(), "pages", 100, timezone.now())  # a drain that is under way
    decide(experiment, "b", unit=UNIT, seconds_ago=39)
    spooled = client().xrange(key)[-1]  # type: ignore[index]  # the client decodes nothing
    client().xdel(key, spooled[0])
    spool = Spool(settings.SPOOL_DIR, 10_000)
    spool.add("pages", spooled[1][b"d"])
    found = forget(UNIT, actor="tests")
    assert found["decisions in streams"] == 1
    assert found["decisions in this machine's spool, which come in without the name"] == 1
    assert named() == []
    drain.store(read_before, key)
    assert spool.ship(lambda _, bodies: [client().xadd(key, {b"d": body}) for body in bodies]) == 1  # type: ignore[arg-type, return-value]
    learn(experiment.endpoint_id)
    assert named() == []
    assert Decision.objects.count() == 4
    assert Decision.objects.filter(unit="another").count() == 1
    assert rebuild(experiment, write=False) == []
    # Somebody of that name who comes after is somebody new.
    decide(experiment, "a", unit=UNIT, at=timezone.now() + timedelta(seconds=1))
    learn(experiment.endpoint_id)
    assert Decision.objects.filter(unit=UNIT).count() == FirstVisit.objects.filter(unit=UNIT).count() == 1
    assert rebuild(experiment, write=False) == []


def test_forget__sticky_assignment__is_gone(two_arms: Start, alice: Api) -> None:
    two_arms(sticky=True)
    assert alice.post("/api/v1/endpoints/pages/decide", {"unit": UNIT}).status == 200
    assert any("sticky" in place for place in named())
    found = forget(UNIT, actor="tests")
    assert found["sticky assignments"] == 1
    assert named() == []


def test_forget__quarantined__bodies_of_the_unit_alone(platform: None) -> None:
    event = events.DecisionEvent(events.VERSION, b"\x01" * 16, 1, 1, [1.0], 1.0, 1, UNIT, None, None, 1.0, None)
    other = events.DecisionEvent(
        events.VERSION, b"\x02" * 16, 1, 1, [1.0], 1.0, 1, "another", {"friend": UNIT}, None, 1.0, None
    )
    for i, body in enumerate((events.encode(event), events.encode(other), b"\xff" + UNIT.encode())):
        QuarantinedEvent.objects.create(stream="s", entry_id=f"{i}-0", problem=f"for {UNIT}", body=body)
    assert forget(UNIT, actor="tests")["quarantined events"] == 2
    assert [bytes(row.body) for row in QuarantinedEvent.objects.order_by("pk")] == [b"", events.encode(other), b""]


def test_forget__while_a_rebuild_computes__it_starts_over(two_arms: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums by unit that were computed before would bring the name back."""
    experiment = two_arms(promotion={"auto": False})
    begin_earlier(experiment)
    decide(experiment, "a", unit=UNIT)
    learn(experiment.endpoint_id)
    mend = kept_intervals.mend
    computed: list[int] = []

    def interrupted(*args: Any) -> None:
        mend(*args)
        computed.append(1)
        if len(computed) == 1:
            worker = threading.Thread(target=lambda: (forget(UNIT, actor="tests"), connection.close()))
            worker.start()
            worker.join(timeout=30)

    monkeypatch.setattr(kept_intervals, "mend", interrupted)
    assert rebuild(experiment, write=True) == []
    assert len(computed) == 2
    assert named() == []


def test_forget__command__counts_and_tells_that_somebody_was_forgotten(two_arms: Start) -> None:
    experiment = two_arms(promotion={"auto": False})
    decide(experiment, "a", unit=UNIT)
    learn(experiment.endpoint_id)
    said = StringIO()
    call_command("forget", UNIT, "--dry-run", stdout=said)
    assert "1 decisions\n" in said.getvalue()
    assert said.getvalue().endswith("nothing was changed\n")
    assert not AuditEntry.objects.filter(action="unit.forgotten").exists()
    call_command("forget", UNIT, stdout=said)
    assert said.getvalue().endswith("forgotten\n")
    entry = AuditEntry.objects.get(action="unit.forgotten")
    assert (entry.actor, entry.details["rows"]["decisions"]) == ("command:forget", 1)
    assert named() == []
    for wrong in ("", "x" * 257):
        with pytest.raises(CommandError, match="a unit of 1 to 256 characters"):
            call_command("forget", wrong)
