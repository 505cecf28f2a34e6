"""How many metrics a decision takes: those that its experiment names, and sixteen more."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from noregret.experiments.models import Experiment

from serving.ledger.rewards import MOST_OTHER_METRICS
from serving.models import Reward
from tests.conftest import Api

Start = Callable[..., Experiment]
DECIDE = "/api/v1/endpoints/pages/decide"
FEEDBACK = "/api/v1/feedback"


@pytest.fixture
def decision(alice: Api, two_arms: Start) -> str:
    two_arms(guardrails=[{"metric": "complaints", "max": 1.0, "action": "pause", "min_decisions": 50}])
    answer = alice.post(DECIDE, {})
    assert answer["learnable"]
    return str(answer["decision_id"])


def names() -> list[str]:
    return sorted(Reward.objects.values_list("metric", flat=True))


def test_metrics__invented_one_after_another__are_taken_up_to_the_bound(alice: Api, decision: str) -> None:
    for i in range(MOST_OTHER_METRICS):
        assert alice.post(FEEDBACK, {"decision_id": decision, "metric": f"m{i}", "value": i}).status == 202
    refused = alice.post(FEEDBACK, {"decision_id": decision, "metric": "one-more", "value": 1})
    assert (refused.status, refused.fields()) == (400, ["metric"])
    assert "16 metrics" in refused["errors"][0]["message"]
    # What is there already is told as before, and what the experiment names is never refused.
    assert alice.post(FEEDBACK, {"decision_id": decision, "metric": "m3", "value": 3}).status == 200
    assert alice.post(FEEDBACK, {"decision_id": decision, "metric": "m3", "value": 4}).status == 409
    assert alice.post(FEEDBACK, {"decision_id": decision, "metric": "complaints", "value": 1}).status == 202
    assert alice.post(FEEDBACK, {"decision_id": decision, "value": 1}).status == 202
    assert names() == sorted([*(f"m{i}" for i in range(MOST_OTHER_METRICS)), "complaints", "reward"])


def test_metrics__named_ones_first__take_no_place_of_the_others(alice: Api, decision: str) -> None:
    assert alice.post(FEEDBACK, {"decision_id": decision, "metric": "complaints", "value": 1}).status == 202
    assert alice.post(FEEDBACK, {"decision_id": decision, "value": 1}).status == 202
    batch = [{"decision_id": decision, "metric": f"m{i}", "value": i} for i in range(MOST_OTHER_METRICS)]
    results = alice.post(FEEDBACK, {"feedback": batch})["results"]
    assert [result["status"] for result in results] == ["recorded"] * MOST_OTHER_METRICS


def test_metrics__a_batch_with_too_many__takes_the_first_and_every_other_decisions(alice: Api, decision: str) -> None:
    other = alice.post(DECIDE, {})["decision_id"]
    batch = [{"decision_id": decision, "metric": f"m{i}", "value": i} for i in range(30)]
    batch.insert(20, {"decision_id": other, "metric": "m20", "value": 1})
    batch.append({"decision_id": decision, "value": 1})
    answer = alice.post(FEEDBACK, {"feedback": batch})
    statuses = [result["status"] for result in answer["results"]]
    assert answer.status == 207
    assert statuses == ["recorded"] * 16 + ["invalid"] * 4 + ["recorded"] + ["invalid"] * 10 + ["recorded"]
    assert answer["results"][16]["error"]["field"] == "metric"
    assert Reward.objects.count() == 18


def test_metrics__eight_callers_at_once__get_no_more_between_them(alice: Api, decision: str) -> None:
    def send(caller: int) -> list[str]:
        try:
            batch = [{"decision_id": decision, "metric": f"c{caller}-{i}", "value": 1} for i in range(5)]
            results = alice.post(FEEDBACK, {"feedback": batch})["results"]
            return [result["status"] for result in results]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        statuses = [status for answer in pool.map(send, range(8)) for status in answer]
    assert (statuses.count("recorded"), statuses.count("invalid")) == (16, 24)
    assert Reward.objects.count() == 16


def test_metrics__of_an_experiment_that_left_the_snapshot__are_bounded_too(alice: Api, decision: str) -> None:
    from noregret.rollout.publish import publish_endpoint_on_commit

    from serving.process import process

    experiment = Experiment.objects.select_related("endpoint").get()
    assert alice.post("/api/v1/experiments/e/stop", {}).status == 200
    Experiment.objects.update(ended_at="2026-01-01T00:00:00Z")
    from django.db import transaction

    with transaction.atomic():
        publish_endpoint_on_commit(experiment.endpoint_id)
    process().store.refresh()
    assert process().store.reward(experiment.pk) is None
    batch = [{"decision_id": decision, "metric": f"m{i}", "value": i} for i in range(20)]
    statuses = [result["status"] for result in alice.post(FEEDBACK, {"feedback": batch})["results"]]
    assert statuses == ["late"] * 16 + ["invalid"] * 4
