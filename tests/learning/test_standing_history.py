"""How an experiment stood over time is noted as it goes on: seldom, once, and whatever it is."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning.models import ExperimentEvidence
from noregret.learning.standing_history import LEAST_SECONDS, PARTS, history, note
from noregret.steering.round import learn
from past_traffic import WINDOW, begin_earlier, fill

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Experiment]


def test_history__rounds_go_on__points_lie_further_apart_the_older_it_is(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW, policy={"name": "thompson", "burn_in": 0})
    begin_earlier(experiment)
    fill(experiment, {"a": (20, 80), "b": (60, 40)})
    learn(experiment.endpoint_id)
    learn(experiment.endpoint_id)
    (point,) = history(experiment)
    assert point.matured == 200
    assert sum(point.shares.values()) == pytest.approx(1.0)
    assert point.shares["b"] > 0.8
    assert point.evidence["b"] > 1.0 > point.evidence["a"]
    # An hour old: the next point is due after a fiftieth of that, and where something matured.
    soon, due = (point.at + timedelta(seconds=seconds) for seconds in (LEAST_SECONDS, 3700.0 / PARTS))
    assert not note(experiment, soon)
    assert not note(experiment, due)
    ExperimentEvidence.objects.update(matured=210)
    assert not note(experiment, soon)
    assert note(experiment, due)
    assert not note(experiment, due)
    assert [told.matured for told in history(experiment)] == [200, 210]


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "shadow", "arms": [{"name": "new", "model": "page@b"}]},
        {"apprentice": True},
    ],
)
def test_history__what_serves_nobody__has_none(two_arms: Start, changes: dict[str, Any]) -> None:
    experiment = two_arms(**WINDOW, **changes)
    assert not note(experiment)
    assert history(experiment) == []


def test_history__features_choose_the_arm__has_evidence_or_nothing__and_no_shares(two_arms: Start) -> None:
    fields = [{"name": "x", "type": "number", "min": 0, "max": 1}]
    experiment = two_arms(**WINDOW, policy={"name": "lin-ucb"}, context={"fields": fields})
    assert note(experiment, timezone.now() + timedelta(seconds=60))
    (point,) = history(experiment)
    assert point.shares == {}


def test_history__paused__stands_still(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW)
    Experiment.objects.filter(pk=experiment.pk).update(status="paused")
    experiment.refresh_from_db()
    assert not note(experiment)
