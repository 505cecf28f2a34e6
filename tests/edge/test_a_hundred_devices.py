"""A hundred devices, offline for a while, tell what they did twice and out of order."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from django.db import connections
from noregret.learning.rebuild import rebuild
from noregret_client.edge import EdgeClient
from noregret_client.edge.state import Passed

from serving.models import Decision, EdgeDecision, QuarantinedEvent, Reward
from tests.conftest import Api
from tests.edge.conftest import BUNDLE, EVENTS, X, Y, decision, drained, reward, served
from tests.learning.told import results

pytestmark = pytest.mark.django_db(transaction=True)

DEVICES, DECISIONS = 100, 6


def test_a_hundred_devices__offline_twice_and_out_of_order__are_in_the_ledger_once(
    client: Any, device: Api, irises: Any
) -> None:
    rng = random.Random(11)
    fleet = [client(f"device-{i}", "irises") for i in range(DEVICES)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(EdgeClient.refresh, fleet))
    # Offline: no call of these needs the platform.
    decided: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for i, edge in enumerate(fleet):
        for j in range(DECISIONS):
            row = rng.randrange(len(X))
            answer = edge.predict(X[row : row + 1], unit=f"person-{(i + 7 * j) % 150}" if j % 3 else None)
            value = int(answer.predictions[0] == Y[row])
            assert edge.feedback(answer.decision_id, value)
            decided[answer.arm] += 1
            right[answer.arm] += value
    assert set(decided) == {"linear", "tree"}

    # Each device's events in three parts, every part sent twice, in whatever order, beside others'.
    bodies: list[dict[str, Any]] = []
    for edge in fleet:
        batch = edge._state.batch(500, Passed())
        events = [event.body for event in batch.events]
        rng.shuffle(events)
        third = len(events) // 3 + 1
        for begin in range(0, len(events), third):
            bodies += [{"receipt": batch.receipt, "events": events[begin : begin + third]}] * 2
    rng.shuffle(bodies)
    bundle = device.get("/api/v1/endpoints/irises/edge").body
    forged = [
        decision(bundle, 1, propensity=0.99),
        decision(bundle, 1, excluded=["linear"], propensity=bundle["arms"][1]["propensity"]),
        decision(bundle, 0, decided_at="2026-01-01T00:00:00Z"),
        reward(decision(bundle)),
    ]
    bodies += [{"receipt": bundle["receipt"], "events": [one]} for one in forged]
    told: Counter[str] = Counter()

    def send(body: dict[str, Any]) -> list[str]:
        answer = device.post(EVENTS, msgspec.json.encode(body))
        connections.close_all()
        assert answer.status == 207, answer.body
        return [result["status"] for result in answer["results"]]

    with ThreadPoolExecutor(4) as pool:
        for statuses in pool.map(send, bodies):
            told.update(statuses)
    assert set(told) <= {"recorded", "duplicate", "unknown", "refused", "expired"}
    assert (told["refused"], told["expired"]) == (2, 1)
    for edge in fleet:  # what they still hold: they heard no answer
        uploaded = edge.upload()
        assert set(uploaded.told) <= {"recorded", "duplicate"}
        assert uploaded.waiting == 0
        told["recorded"] += uploaded.told.get("recorded", 0)
    assert told["recorded"] == 2 * DEVICES * DECISIONS

    experiment = drained(irises)
    assert rebuild(experiment, write=False) == []
    ids = dict(experiment.arms.values_list("pk", "name"))
    rows = Decision.objects.filter(experiment_id=experiment.pk, edge_decided_at__isnull=False)
    assert Counter(ids[arm] for arm in rows.values_list("arm_id", flat=True)) == decided
    assert EdgeDecision.objects.count() == Decision.objects.count() == DEVICES * DECISIONS
    given = Reward.objects.filter(folded=True, late=False)
    assert Counter(ids[arm] for arm in given.values_list("arm_id", flat=True)) == decided
    assert Counter(ids[one.arm_id] for one in given if one.value == 1) == right
    shown = {arm["name"]: arm for arm in results(experiment)["arms"]}
    for name, count in decided.items():
        assert (shown[name]["decisions"], shown[name]["rewards"]) == (count, count)
        assert shown[name]["mean"] == pytest.approx(right[name] / count)
    # Arms that no device can run were excluded, and the draws are weighed as such.
    assert all(row.excluded == [next(pk for pk, name in ids.items() if name == "code")] for row in rows)
    assert not QuarantinedEvent.objects.exists()
    served()
    assert device.get(BUNDLE).status == 404
