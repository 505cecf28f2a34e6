"""What devices tell: each decision once, under the bundle that gave it, and nothing that no bundle
gave."""

import json
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from django.utils import timezone
from noregret.access.keys import create_key
from noregret.experiments.models import Experiment
from noregret.learning.from_devices import any_to_take
from noregret.learning.models import ArmStatistics
from noregret.learning.rebuild import rebuild
from noregret.retention import ages
from noregret.retention.forget import forget
from noregret.steering import pending

from serving.ledger.edge_decisions import BESIDE
from serving.models import Decision, EdgeDecision, FirstVisit, QuarantinedEvent, Reward
from serving.process import process
from tests.conftest import ACTOR, Api, endpoint_of, start_experiment, static_model
from tests.edge.conftest import BUNDLE, EVENTS, decision, drained, reward, served, tell, why
from tests.learning.told import results

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
BINARY = {"kind": "binary", "window_seconds": 600}
UNIFORM = {"policy": {"name": "uniform"}, "reward": BINARY}


def bundle_of(device: Api) -> dict[str, Any]:
    served()
    answer = device.get(BUNDLE)
    assert answer.status == 200, answer.body
    return dict(answer.body)


def learned(experiment: Experiment) -> dict[str, Any]:
    experiment = drained(experiment)
    assert rebuild(experiment, write=False) == []
    return results(experiment)


def test_decisions_and_rewards__twice_and_out_of_order__are_in_the_ledger_once(device: Api, two_arms: Start) -> None:
    experiment = two_arms(**UNIFORM)
    bundle = bundle_of(device)
    decisions = [decision(bundle, i % 2, unit=f"u{i}", context={"x": i}, request_id=f"r{i}") for i in range(40)]
    rewards = [reward(one, i % 3 == 0) for i, one in enumerate(decisions)]
    assert tell(device, bundle, *rewards[:2]) == ["unknown", "unknown"]
    assert any_to_take(timezone.now() + timedelta(hours=1)) is False
    events = decisions[:20] + rewards[:20]
    random.Random(1).shuffle(events)
    assert tell(device, bundle, *events, *events) == ["recorded"] * 40 + ["duplicate"] * 40
    assert any_to_take(timezone.now() + timedelta(hours=1))
    assert experiment.endpoint_id in pending.find().learn
    drained(experiment)
    events = decisions + rewards[::-1]
    random.Random(2).shuffle(events)
    assert sorted(tell(device, bundle, *events)) == ["duplicate"] * 40 + ["recorded"] * 40
    assert tell(device, bundle, reward(decisions[0], 0)) == ["conflict"]  # 1 was told
    told = learned(experiment)
    assert (told["decisions"], told["rewards"]) == (40, 40)
    assert [arm["latency_ms"] for arm in told["arms"]] == [{"p50": None, "p99": None}] * 2
    assert Decision.objects.filter(edge_decided_at__isnull=False, trial=True, propensity=0.5).count() == 40
    row = Decision.objects.get(request_id="r7")
    assert (row.unit, row.context, row.propensities) == ("u7", {"x": 7}, [0.5, 0.5])
    assert timezone.now() - timedelta(minutes=1) < row.edge_decided_at < row.decided_at
    assert EdgeDecision.objects.filter(event=None, unit=None).count() == 40
    assert not QuarantinedEvent.objects.exists()


def test_forged__each_kind__is_refused_and_leaves_nothing(device: Api, two_arms: Start) -> None:
    experiment = two_arms(**UNIFORM | {"holdout": 0.5})
    static_model("other", "1")
    endpoint_of("others", "other@1")
    bundle = bundle_of(device)
    honest = decision(bundle)
    ago = (timezone.now() - timedelta(days=2)).isoformat()
    later = (timezone.now() + timedelta(minutes=20)).isoformat()
    in_holdout = next(u for u in map(str, range(99)) if _is_held_out(experiment, u))
    for changes, field in (
        ({"propensity": 0.9}, "propensity"),
        ({"arm": "c"}, "arm"),
        ({"arm": None}, "arm"),
        ({"excluded": ["a"]}, "arm"),
        ({"excluded": ["b"]}, "propensity"),
        ({"unit": in_holdout}, "holdout"),
        ({"unit": in_holdout, "holdout": True, "arm": "b", "propensity": 1.0}, "arm"),
        ({"holdout": True, "propensity": 0.5}, "propensity"),
        ({"kept": {"receipt": bundle["receipt"]}}, "kept"),
        ({"kept": {"receipt": "forged"}}, "kept.receipt"),
    ):
        assert why(device, bundle, honest | changes) == ("refused", field), changes
    for at in (ago, later):
        assert why(device, bundle, honest | {"decided_at": at}) == ("expired", "decided_at")
    for changes, field in (
        ({"propensity": 2}, "propensity"),
        ({"context": {"x": [1]}}, "context"),
        ({"unit": ""}, "unit"),
        ({"id": "7"}, "id"),
        ({"type": "other"}, "type"),
        ({"more": 1}, "more"),
        ({"decided_at": "yesterday"}, "decided_at"),
    ):
        assert why(device, bundle, honest | changes) == ("invalid", field)
    # Another's receipt, and what is none.
    for receipt in ("forged", bundle["receipt"][:-4] + "AAAA", "A" * 90):
        answer = device.post(EVENTS, {"receipt": receipt, "events": [honest]})
        assert (answer.status, answer.fields()) == (400, ["receipt"])
    others = Api(create_key(name="others", scopes=["edge"], endpoints=["others"], actor=ACTOR)[1])
    served()
    assert others.post(EVENTS, {"receipt": bundle["receipt"], "events": [honest]}).status == 404
    theirs = others.get("/api/v1/endpoints/others/edge").body
    assert why(device, theirs, honest) == ("refused", "arm")
    for scope in ("predict", "feedback"):
        caller = Api(create_key(name=scope, scopes=[scope], actor=ACTOR)[1])
        assert caller.post(EVENTS, {"receipt": bundle["receipt"], "events": [honest]}).status == 403
    assert Api(None).post(EVENTS, {"receipt": bundle["receipt"], "events": [honest]}).status == 401
    assert not EdgeDecision.objects.exists()
    # Once a decision: the same id with another arm, or at another time, is another's.
    assert tell(device, bundle, honest) == ["recorded"]
    assert tell(device, bundle, honest | {"arm": "b"}, honest) == ["conflict", "duplicate"]
    assert tell(device, theirs, reward(honest)) == ["unknown"]
    assert tell(device, bundle, honest | {"id": str(uuid4()), "arm": "b"}, reward(honest)) == ["recorded", "recorded"]
    drained(experiment)
    assert tell(device, bundle, honest | {"arm": "b"}) == ["conflict"]
    assert sorted(Decision.objects.values_list("arm_id", flat=True)) == sorted(a.pk for a in experiment.arms.all())
    assert Reward.objects.get().arm_id == experiment.arms.get(name="a").pk


def _is_held_out(experiment: Experiment, unit: str) -> bool:
    from noregret_client.edge.choosing import hashed

    return hashed(2**62 + experiment.pk, unit, [0.5, 0.5]) == 0


def test_bundle_that_ended__events_of_its_lifetime__are_taken_within_the_grace(
    device: Api, two_arms: Start, settings: Any
) -> None:
    rules = settings.EDGE
    settings.EDGE = type(rules)(rules.seeds, 2.0, 3.0, rules.events_per_minute)
    two_arms(**UNIFORM)
    bundle = bundle_of(device)
    first, second = decision(bundle), decision(bundle)
    # A clock may be off, and by no more than a bundle is good for.
    issued = datetime.fromisoformat(bundle["issued_at"])
    for off, expected in ((0.5, ("recorded", "")), (2.5, ("expired", "decided_at"))):
        at = (issued - timedelta(seconds=off)).isoformat()
        assert why(device, bundle, decision(bundle, decided_at=at)) == expected
    while time.time() < _instant(bundle["expires_at"]) + 0.2:
        time.sleep(0.1)
    assert why(device, bundle, decision(bundle)) == ("expired", "decided_at")
    assert tell(device, bundle, first, reward(first)) == ["recorded", "recorded"]
    while time.time() < _instant(bundle["expires_at"]) + 3.2:
        time.sleep(0.1)
    assert why(device, bundle, second) == ("expired", "receipt")
    assert ages.prune(timezone.now() + timedelta(days=3))["ids of devices' decisions, after their bundle's grace"] == 0
    EdgeDecision.objects.update(event=None)
    assert ages.prune(timezone.now() + timedelta(days=3))["ids of devices' decisions, after their bundle's grace"] == 2


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "ab"},
        {"policy": {"name": "thompson", "burn_in": 20}, "sticky": True, "holdout": 0.3},
        {"policy": {"name": "ucb1"}},
        {
            "policy": {"name": "lin-thompson", "burn_in": 20, "floor": 0.1},
            "context": {"fields": [{"name": "age", "type": "number", "min": 0, "max": 100}]},
            "sticky": True,
        },
        {"strategy": "canary", "arms": [{"name": "b", "model": "page@b"}], "canary": {"steps": [0.5, 1.0]}},
        {"strategy": "shadow", "arms": [{"name": "b", "model": "page@b"}]},
        {"apprentice": True},
        {"reward": {"kind": "continuous", "minimum": -1e9, "maximum": 1e9, "window_seconds": 600}},
    ],
    ids=["ab", "sticky, holdout", "ucb1", "lin-thompson", "canary", "shadow", "apprentice", "continuous"],
)
def test_devices__every_strategy__the_ledger_adds_up(client: Any, two_arms: Start, changes: dict[str, Any]) -> None:
    experiment = two_arms(**{"reward": BINARY, "edge_exclusions": True, **changes})
    served()
    edge = client()
    assert edge.refresh()
    kept: dict[str, str | None] = {}
    for i in range(120):
        unit = f"u{i % 40}" if i % 3 else None
        told = edge.decide(
            unit=unit, context={"age": i % 90}, exclude=["a"] if i % 10 == 7 and "b" in _drawn(edge) else []
        )
        if edge.bundle.sticky and unit is not None and i % 10 != 7:
            assert kept.setdefault(unit, told.arm) == told.arm
        assert edge.feedback(told.decision_id, i % 2)
    uploaded = edge.upload()
    assert (uploaded.told, uploaded.waiting) == ({"recorded": 240}, 0)
    told = learned(experiment)
    assert (told["decisions"], told["rewards"]) == (120, 120)
    assert told["comparison"]["sample_ratio_p"] is None or told["comparison"]["sample_ratio_p"] > 0.001
    if experiment.sticky or experiment.strategy in ("ab", "canary"):
        trials = Decision.objects.filter(trial=True, unit__isnull=False)
        assert trials.count() == FirstVisit.objects.count() > 10


def _drawn(edge: Any) -> list[str | None]:
    """The arms that the policy may draw."""
    return [arm.name for arm in edge.bundle.arms if arm.propensity != 0.0]


def test_left_out_of_evidence__the_ledger_has_them__and_no_sum(device: Api, alice: Api, two_arms: Start) -> None:
    silent = {"kind": "binary", "window_seconds": 1, "default": 0}
    experiment = two_arms(policy={"name": "thompson", "burn_in": 5}, reward=silent, edge_evidence=False)
    assert alice.get("/api/v1/experiments/e")["edge_evidence"] is False
    bundle = bundle_of(device)
    decisions = [decision(bundle, i % 2, unit=f"u{i}") for i in range(30)]
    assert set(tell(device, bundle, *decisions, *(reward(one) for one in decisions))) == {"recorded"}
    made_up = [decision(bundle, 0, unit="u0", fallback_reason="error") for _ in range(5)]
    assert set(tell(device, bundle, *made_up)) == {"recorded"}
    shown = alice.post("/api/v1/endpoints/pages/decide", {"unit": "here"}).body
    assert alice.post("/api/v1/feedback", {"decision_id": shown["decision_id"], "value": 1}).status == 202
    time.sleep(4.2)  # the window, the grace, and a bucket: silence would be a reward by now
    told = learned(experiment)
    assert (told["decisions"], told["rewards"]) == (1, 1)
    assert sum(ArmStatistics.objects.values_list("rewards", flat=True)) == 1
    assert sum(ArmStatistics.objects.values_list("failures", flat=True)) == 0  # no guardrail is moved
    beside = Decision.objects.filter(experiment_id=BESIDE + experiment.pk)
    assert beside.filter(edge_decided_at__isnull=False).count() == 35
    assert Reward.objects.filter(experiment_id=BESIDE + experiment.pk, folded=True).count() == 30
    assert alice.get("/api/v1/experiments/e/results")["beside"] == 35
    lines = alice.get("/api/v1/experiments/e/decisions.ndjson?beside=true").content.splitlines()
    told_lines = [one for one in map(json.loads, lines) if one["fallback_reason"] is None]
    assert {line["unit"] for line in told_lines} == {f"u{i}" for i in range(30)}
    assert {(line["reward"], line["arm"] in ("a", "b"), bool(line["edge_decided_at"])) for line in told_lines} == {
        (1.0, True, True)
    }
    assert len(alice.get("/api/v1/experiments/e/decisions.ndjson?beside=false").content.splitlines()) == 1
    assert alice.get("/api/v1/experiments/e/decisions.ndjson?beside=2").fields() == ["beside"]
    # By such an id nothing comes into the evidence either.
    again = {"decision_id": told_lines[0]["decision_id"], "value": 0}
    assert alice.post("/api/v1/feedback", again).status == 409
    assert learned(experiment)["rewards"] == 1
    assert forget("u3", actor=ACTOR)["decisions"] == 1
    assert not Decision.objects.filter(unit="u3").exists()


def test_silence__of_devices__is_the_default_reward(device: Api, two_arms: Start) -> None:
    experiment = two_arms(policy={"name": "uniform"}, reward={"kind": "binary", "window_seconds": 1, "default": 0})
    bundle = bundle_of(device)
    earlier = (timezone.now() - timedelta(seconds=60)).isoformat()
    decisions = [decision(bundle, i % 2, decided_at=earlier) for i in range(10)]
    rewards = [reward(one, occurred_at=earlier) for one in decisions[:4]]
    assert tell(device, bundle, *decisions, *rewards) == ["recorded"] * 14
    # By the device's clock it came after the window.
    assert tell(device, bundle, reward(decisions[5])) == ["late"]
    time.sleep(4.2)
    told = learned(experiment)
    assert (told["decisions"], told["rewards"]) == (10, 10)
    assert Reward.objects.filter(late=False, value=1).count() == 4
    assert Reward.objects.filter(late=False, value=0, defaulted=True).count() == 6


def test_rewards__wrong_values_and_metrics__are_told_each(device: Api, two_arms: Start) -> None:
    experiment = two_arms(**UNIFORM)
    bundle = bundle_of(device)
    one, failed = decision(bundle), decision(bundle, 1, fallback_reason="error")
    assert tell(device, bundle, one, failed) == ["recorded", "recorded"]
    early = (timezone.now() - timedelta(hours=1)).isoformat()
    for event, expected in (
        (reward(one, 7), ("invalid", "value")),
        (reward(one, 1e300, metric="seconds"), ("invalid", "value")),
        (reward(one, occurred_at=early), ("invalid", "occurred_at")),
        (reward(failed), ("not_learnable", "decision_id")),
        (reward(one, 2.5, metric="seconds"), ("recorded", "")),
        (reward(one, True), ("recorded", "")),
    ):
        assert why(device, bundle, event) == expected
    told = learned(experiment)
    assert [arm["error_rate"] for arm in told["arms"]] == [0.0, 1.0]
    assert told["rewards"] == 1


def test_single_deployment__devices__make_its_baseline(client: Any, two_arms: Start, alice: Api) -> None:
    experiment = two_arms()
    assert alice.post("/api/v1/experiments/e/stop").status == 200
    served()
    edge = client()
    edge.refresh()
    told = edge.decide(unit="u")
    assert (told.arm, told.strategy, told.propensity, told.payload) == (None, "single", 1.0, {"text": "A"})
    assert edge.feedback(told.decision_id, 1)
    assert edge.upload().told == {"recorded": 2}
    drained(experiment)
    (figures,) = alice.get("/api/v1/endpoints/pages/baselines")["items"]
    assert figures["decisions"] == 1
    assert alice("PATCH", "/api/v1/endpoints/pages", {"record": 0.0}).status == 200
    served()
    assert edge.refresh()
    assert not edge.decide(unit="v").learnable
    assert edge.waiting == 0


def test_experiment_that_ended__its_devices__go_on_while_windows_are_open(
    device: Api, alice: Api, two_arms: Start
) -> None:
    experiment = two_arms(**UNIFORM)
    bundle = bundle_of(device)
    one = decision(bundle)
    assert alice.post("/api/v1/experiments/e/stop").status == 200
    served()
    assert tell(device, bundle, one, reward(one)) == ["recorded", "recorded"]
    assert learned(experiment)["rewards"] == 1


def test_unit_forgotten__before_its_device_tells__comes_in_without_its_name(device: Api, two_arms: Start) -> None:
    experiment = two_arms(**UNIFORM)
    bundle = bundle_of(device)
    told, untold = decision(bundle, unit="somebody", request_id="r"), decision(bundle, unit="somebody")
    assert tell(device, bundle, told) == ["recorded"]
    assert forget("somebody", actor=ACTOR, dry_run=True)["decisions of devices that are not drained"] == 1
    time.sleep(0.01)
    forget("somebody", actor=ACTOR)
    row = EdgeDecision.objects.get()
    assert b"somebody" not in bytes(row.event or b"")
    assert tell(device, bundle, told, untold, reward(told)) == ["duplicate", "recorded", "recorded"]
    assert learned(experiment)["decisions"] == 2
    assert all(str(one.unit).startswith("forgotten:") for one in Decision.objects.all())


def test_key__that_sends_too_much__waits_for_the_next_minute(device: Api, two_arms: Start, settings: Any) -> None:
    from serving import process as processes

    rules = settings.EDGE
    settings.EDGE = type(rules)(rules.seeds, rules.bundle_seconds, rules.grace_seconds, 15)
    processes.reset()
    two_arms(**UNIFORM)
    bundle = bundle_of(device)
    while time.time() % 60 > 50:  # the minute must not end meanwhile
        time.sleep(0.5)
    assert len(tell(device, bundle, *(decision(bundle) for _ in range(10)))) == 10
    answer = device.post(EVENTS, {"receipt": bundle["receipt"], "events": [decision(bundle) for _ in range(6)]})
    assert (answer.status, answer["type"]) == (429, "/problems/too-many-requests")
    assert 1 <= int(answer.response["Retry-After"]) <= 60
    assert len(tell(device, bundle, *(decision(bundle) for _ in range(5)))) == 5
    other = Api(create_key(name="other", scopes=["edge"], actor=ACTOR)[1])
    assert len(tell(other, bundle, *(decision(bundle) for _ in range(10)))) == 10
    assert process().edge.allowance.take("somebody", 15, time.time()) is None


def test_body__too_many_or_none_or_with_the_key_in_it__is_told(device_key: str, device: Api, two_arms: Start) -> None:
    two_arms(**UNIFORM)
    bundle = bundle_of(device)
    for wrong, field in (
        ({"receipt": bundle["receipt"], "events": []}, "events"),
        ({"receipt": bundle["receipt"]}, "events"),
        ({"events": [decision(bundle)]}, "receipt"),
        ({"receipt": bundle["receipt"], "events": [{}] * 1001}, "events"),
    ):
        assert device.post(EVENTS, wrong).fields() == [field]
    body = {"receipt": bundle["receipt"], "events": [decision(bundle)]}
    assert Api(None).post(EVENTS, body | {"key": device_key}).status == 207
    assert Api(None).post(EVENTS, body | {"key": "nr_wrong"}).status == 401


def test_body__one_event_that_can_be_nothing__spoils_no_other(device: Api, two_arms: Start) -> None:
    experiment = two_arms(**UNIFORM)
    bundle = bundle_of(device)
    good = decision(bundle, unit="good", context={"a": "x:y", "b": "\\u0000"}, request_id="r:1")
    deep: Any = 1
    for _ in range(40):
        deep = {"a": deep}
    ends_of_time = ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59")
    odd = [
        (decision(bundle, unit="a\0b"), "unit"),
        (decision(bundle, request_id="\0"), "request_id"),
        (decision(bundle, context={"a\0": 1}), "context"),
        (decision(bundle, context={"a": 10**400}), "context"),
        (decision(bundle, context={"a": 10**30}), "context"),
        (decision(bundle, context=deep), "context"),
        (reward(good, metric="a\0b"), "metric"),
        (reward(good, 10**400), "value"),
        *((decision(bundle, decided_at=at), "decided_at") for at in ends_of_time),
        *((reward(good, occurred_at=at), "occurred_at") for at in ends_of_time),
    ]
    events = [msgspec.json.encode(event) for event, _ in odd]
    # As bytes that no encoder writes: a member twice, and half a character.
    twice = msgspec.json.encode(decision(bundle))[:-1] + b',"arm":"b"}'
    events += [twice, msgspec.json.encode(decision(bundle, unit="\xff")).replace("\xff".encode(), b"\xff")]
    events[3:3] = [msgspec.json.encode(good), msgspec.json.encode(reward(good))]
    body = b'{"receipt":"%b","events":[%b]}' % (bundle["receipt"].encode(), b",".join(events))
    answer = device.post(EVENTS, body)
    assert answer.status == 207, answer.body
    told = [(one["status"], (one["error"] or {}).get("field")) for one in answer["results"]]
    assert told[3:5] == [("recorded", None)] * 2
    assert [one for one in told if one[0] != "recorded"] == [
        *(("invalid", field) for _, field in odd),
        *[("invalid", "")] * 2,
    ]
    assert learned(experiment)["rewards"] == 1
    # What is wrong beside the events is the body's own.
    for wrong in (body[:-1] + b',"receipt":"x"}', body[:-1] + b',"key":"\\u0000"}', body[:-1], b"\xef\xbb\xbf" + body):
        assert device.post(EVENTS, wrong).status == 400


def test_id_told_again__with_another_unit_context_or_request__is_a_conflict(device: Api, two_arms: Start) -> None:
    experiment = two_arms(**UNIFORM)
    bundle = bundle_of(device)
    one = decision(bundle, unit="u", context={"a": 1, "b": "x"}, request_id="r")
    assert tell(device, bundle, one) == ["recorded"]
    others: list[dict[str, Any]] = [
        {"unit": "v"},
        {"unit": None},
        {"context": {"a": 2, "b": "x"}},
        {"context": None},
        {"request_id": "s"},
    ]
    again = one | {"context": {"b": "x", "a": 1}}
    for _ in range(2):  # while it waits, and in the ledger
        assert tell(device, bundle, *(one | other for other in others), again) == ["conflict"] * 5 + ["duplicate"]
        drained(experiment)
    row = EdgeDecision.objects.get()
    EdgeDecision.objects.update(digest=bytes(row.digest)[:16])  # as an older version kept it
    assert tell(device, bundle, again) == ["duplicate"]


def test_excluded__by_which_anybody_could_choose_the_arm__is_evidence_where_the_experiment_says_so(
    device: Api, alice: Api, two_arms: Start
) -> None:
    experiment = two_arms(strategy="ab", reward=BINARY)
    bundle = bundle_of(device)
    forged = [decision(bundle, i % 2, unit=f"f{i}", propensity=1.0, excluded=["ba"[i % 2]]) for i in range(40)]
    unknown_name = decision(bundle, excluded=["of-another-experiment"])
    assert set(tell(device, bundle, *forged, *(reward(one, i % 2) for i, one in enumerate(forged)))) == {"recorded"}
    assert tell(device, bundle, unknown_name, reward(unknown_name)) == ["recorded", "recorded"]
    told = learned(experiment)
    assert (told["decisions"], told["rewards"], told["beside"]) == (1, 1, 40)
    assert alice.post("/api/v1/experiments/e/stop").status == 200
    arms = [{"name": name, "model": f"page@{name}"} for name in ("a", "b")]
    allowed = start_experiment(
        {"name": "f", "endpoint": "pages", "strategy": "ab", "reward": BINARY, "arms": arms, "edge_exclusions": True}
    )
    assert alice.get("/api/v1/experiments/f")["edge_exclusions"] is True
    bundle = bundle_of(device)
    one = decision(bundle, 1, unit="u", propensity=1.0, excluded=["a"])
    assert tell(device, bundle, one, reward(one)) == ["recorded", "recorded"]
    told = learned(allowed)
    assert (told["decisions"], told["rewards"], told["beside"]) == (1, 1, 0)
