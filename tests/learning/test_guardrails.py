"""Guardrails on values: what holds for skewed ones, beside the control, and for values that no sum
can hold."""

import random
import uuid
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.utils import timezone
from noregret.experiments.errors import Invalid
from noregret.experiments.models import Experiment
from noregret.learning import clock
from noregret.learning.watched import states
from noregret.learning.watched.guardrails import Judgement, judge
from noregret.learning.watched.watches import guardrails_of
from noregret.learning.watched.watching import keep_up
from noregret.steering import guardrails as acting
from noregret.trail.models import AuditEntry

from bandits.inference import betting
from bandits.inference.betting import Wagers
from serving.models import Decision, Reward

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]


def send(
    experiment: Experiment,
    metric: str,
    values: Iterable[tuple[str, float]],
    *,
    versions: Iterable[int] | None = None,
    units: Iterable[str | None] | None = None,
) -> None:
    """Decisions with a value each, (arm, value), a millisecond apart, straight into the ledger."""
    arms = {arm.name: arm.pk for arm in experiment.arms.all()}
    rows = list(values)
    begun = timezone.now() - timedelta(seconds=len(rows) / 1000 + 60)
    of = list(versions) if versions is not None else [1] * len(rows)
    who = list(units) if units is not None else [None] * len(rows)
    decisions, rewards = [], []
    known: set[str | None] = set()
    for i, (arm, value) in enumerate(rows):
        at, identity = begun + timedelta(milliseconds=i), uuid.uuid4()
        decisions.append(
            Decision(
                id=identity,
                decided_at=at,
                experiment_id=experiment.pk,
                arm_id=arms[arm],
                propensities=[0.5, 0.5],
                propensity=0.5,
                policy_version=of[i],
                unit=who[i],
                trial=who[i] is None or who[i] not in known,
                latency_ms=1.0,
            )
        )
        known.add(who[i])
        rewards.append(
            Reward(
                decision_id=identity,
                decided_at=at,
                metric=metric,
                experiment_id=experiment.pk,
                arm_id=arms[arm],
                value=value,
                recorded_at=at,
                folded=True,
            )
        )
    Decision.objects.bulk_create(decisions, batch_size=2000)
    Reward.objects.bulk_create(rewards, batch_size=2000)


def of(experiment: Experiment, arm: str = "b") -> Judgement:
    """How an arm stands to the first guardrail."""
    keep_up(experiment, clock.now())
    arms = list(experiment.arms.select_related("model", "experiment").order_by("position"))
    judged = judge(experiment, arms, guardrails_of(experiment)[0])
    return next(judgement for judgement in judged if judgement.arm.name == arm)


def guarded(two_arms: Start, **guardrail: Any) -> Experiment:
    return two_arms(strategy="ab", guardrails=[{"metric": "cost", "action": "disable_arm"} | guardrail])


def test_guardrail__rare_large_values_at_the_limit__are_no_breach_before_they_came(two_arms: Start) -> None:
    # One in a hundred is worth 100: the first 150 often hold one or none, and a mean far below the
    # limit of 1.
    experiment = guarded(two_arms, min=1.0)
    send(experiment, "cost", [("b", 0.0)] * 100)
    assert of(experiment).state == "unjudged"
    send(experiment, "cost", [("b", 100.0)] + [("b", 0.0)] * 99)
    judged = of(experiment)
    assert (judged.state, judged.mean) == ("beyond", 0.5)
    assert "the mean of cost for b is not shown to be less than 1" in judged.reason


def test_guardrail__declared_bounds__show_what_undeclared_ones_take_longer_for(two_arms: Start) -> None:
    experiment = guarded(two_arms, min=1.0, maximum=100.0)
    send(experiment, "cost", [("b", 0.0)] * 700)
    assert of(experiment).state == "passed"


def test_guardrail__value_of_1e160__silences_nothing(two_arms: Start) -> None:
    experiment = guarded(two_arms, max=3.0)
    rng = random.Random(1)
    send(experiment, "cost", [("b", rng.gauss(5, 0.5)) for _ in range(200)] + [("b", 1e160)])
    judged = of(experiment)
    assert judged.state == "passed"
    assert acting.act(experiment)
    assert not experiment.arms.get(name="b").enabled
    assert AuditEntry.objects.get(action="guardrail.acted").details["count"] == 200  # what no reward may be is none


def test_guardrail__values_at_both_ends_of_what_is_taken__are_judged_without_an_error(two_arms: Start) -> None:
    experiment = guarded(two_arms, max=3.0, min=-3.0)
    send(experiment, "cost", [("b", value) for value in (1e15, -1e15) * 40])
    assert of(experiment).state == "within"


def test_guardrail__nothing_but_values_that_nobody_may_send__has_heard_nothing(two_arms: Start) -> None:
    experiment = guarded(two_arms, max=3.0, min=-3.0)
    send(experiment, "cost", [("b", value) for value in (1e300, -1e300) * 40])
    assert of(experiment).state == "unheard"


def test_guardrail__kept_sums__equal_the_bets_on_all_values(two_arms: Start) -> None:
    experiment = guarded(two_arms, max=1.0)
    values = np.random.default_rng(3).lognormal(0.0, 1.0, 300)
    for part in (values[:120], values[120:]):  # each folded by itself
        send(experiment, "cost", [("b", value) for value in part.tolist()])
        judged = of(experiment)
    far = betting.reach(1.0, float(values.min()), float(values.max()))
    assert far == 6.0
    expected = Wagers.on(betting.gains_above(values, 1.0, 8.0))  # the next power of 2
    assert judged.evidence == pytest.approx(expected.evidence, rel=1e-9)
    assert (judged.count, judged.mean) == (300, pytest.approx(values.mean(), rel=1e-12))


def test_guardrail__versus_control__arms_alike_in_every_version_though_not_in_their_means(two_arms: Start) -> None:
    # The world is worth 1, then 3; the policy gives b little of the first and most of the second.
    experiment = two_arms(guardrails=[{"metric": "cost", "max": 0.2, "versus": "control", "action": "disable_arm"}])
    rng = random.Random(6)
    sent = []
    for version in range(1, 41):
        level, share = (1.0, 0.1) if version <= 20 else (3.0, 0.9)
        sent += [("b" if rng.random() < share else "a", rng.gauss(level, 0.3), version) for _ in range(50)]
    send(experiment, "cost", [row[:2] for row in sent], versions=[row[2] for row in sent])
    judged = of(experiment)
    assert judged.state in ("within", "beyond")
    assert abs(judged.figures["difference"]) < 0.3  # the plain means differ by more than 1
    assert judged.mean is not None
    assert judged.mean - judged.figures["control_mean"] > 1.0


def test_guardrail__versus_control__really_worse_under_the_same_drift__is_shown(two_arms: Start) -> None:
    experiment = two_arms(guardrails=[{"metric": "cost", "max": 0.2, "versus": "control", "action": "disable_arm"}])
    rng = random.Random(6)
    sent = []
    for version in range(1, 41):
        level, share = (3.0, 0.1) if version <= 20 else (1.0, 0.9)  # against b: its raw mean is the lower one
        for _ in range(50):
            arm = "b" if rng.random() < share else "a"
            sent.append((arm, rng.gauss(level + 0.6 * (arm == "b"), 0.3), version))
    send(experiment, "cost", [row[:2] for row in sent], versions=[row[2] for row in sent])
    assert of(experiment).state == "passed"


def test_guardrail__versus_control__units_that_return_count_once(two_arms: Start) -> None:
    # Forty units of each arm differ among each other; a hundred values of each are not a hundred
    # units.
    experiment = guarded(two_arms, max=0.0, versus="control", min_decisions=30)
    rng = random.Random(2)
    means = {f"u{i}": rng.gauss(5.0 + 0.2 * (i % 2), 1.0) for i in range(80)}
    sent = [
        (unit, "ab"[int(unit[1:]) % 2], mean + rng.gauss(0, 0.1)) for _ in range(50) for unit, mean in means.items()
    ]
    send(experiment, "cost", [row[1:] for row in sent], units=[row[0] for row in sent])
    judged = of(experiment)
    assert judged.count == 80
    assert judged.state != "passed"


def test_guardrail__versus_control_under_a_contextual_policy__is_refused(two_arms: Start) -> None:
    with pytest.raises(Invalid) as refused:
        two_arms(
            policy={"name": "lin-thompson"},
            context={"fields": [{"name": "age", "type": "number", "min": 0, "max": 120}]},
            guardrails=[
                {"metric": "cost", "max": 1, "action": "pause"},
                {"metric": "cost", "max": 1, "versus": "control", "action": "disable_arm"},
            ],
        )
    assert refused.value.field == "guardrails[1].versus"


@pytest.mark.parametrize(
    ("guardrail", "field"),
    [
        ({"metric": "error_rate", "max": 0.1, "maximum": 1}, "guardrails[0].maximum"),
        ({"metric": "cost", "max": 5, "minimum": 4, "maximum": 4}, "guardrails[0].maximum"),
        ({"metric": "cost", "max": 5, "maximum": 4}, "guardrails[0].max"),
        ({"metric": "cost", "min": 1, "minimum": 2}, "guardrails[0].min"),
    ],
)
def test_guardrail__bounds_that_can_t_be__are_refused(two_arms: Start, guardrail: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        two_arms(strategy="ab", guardrails=[{"action": "pause"} | guardrail])
    assert refused.value.field == field


def test_guardrail__reward_metric__has_the_reward_s_bounds(two_arms: Start) -> None:
    experiment = two_arms(
        strategy="ab",
        reward={"kind": "binary"},
        guardrails=[{"metric": "reward", "min": 0.1, "action": "disable_arm"}],
    )
    send(experiment, "reward", [("b", 0.0)] * 60)
    assert of(experiment).state == "passed"


def test_guardrail__look_that_took_long__rests_and_keeps_no_other_from_being_looked_at(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = guarded(two_arms, max=1.0)
    send(experiment, "cost", [("b", 0.1)] * 60)
    keep_up(experiment, clock.now())
    monkeypatch.setattr(acting, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(acting, "REST", 1e6)  # however fast the look was
    monkeypatch.setattr(acting, "_resting", {})
    assert not acting.act(experiment)
    assert list(acting._resting) == [(experiment.pk, 0)]
    send(experiment, "cost", [("b", 9.0)] * 200)
    keep_up(experiment, clock.now())
    assert not acting.act(experiment)  # it rests
    acting._resting.clear()
    assert acting.act(experiment)


def test_guardrail__state_that_took_long__is_shown_again_as_it_was(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = guarded(two_arms, max=1.0)
    arms = list(experiment.arms.select_related("model", "experiment").order_by("position"))
    monkeypatch.setattr(states, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(states, "REST", 1e6)
    monkeypatch.setattr(states, "_shown", {})
    keep_up(experiment, clock.now())
    first = states.states(experiment, arms)
    assert [arm.state for arm in first[0].arms] == ["unheard"]
    send(experiment, "cost", [("b", 0.1)] * 60)
    keep_up(experiment, clock.now())
    assert states.states(experiment, arms) == first
    states._shown.clear()
    assert states.states(experiment, arms) != first
