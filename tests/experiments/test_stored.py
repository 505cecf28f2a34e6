"""Documents as rows keep them: decoded into values that are never older than the row, and whole
where the row is of before."""

import msgspec
import pytest
from noregret.experiments import document
from noregret.experiments.models import Experiment
from noregret.experiments.stored import Policy


def test_part__row_of_before__has_todays_defaults() -> None:
    experiment = Experiment(
        strategy="canary",
        reward={"metric": "clicks", "window_seconds": 60},
        promotion={"rule": "anytime", "alpha": 0.1},
        canary={"steps": [0.5, 1.0], "bake_seconds": 5, "auto": True},
        policy={"name": "ucb1", "params": {}, "floor": 0.02, "burn_in": 10},
    )
    assert (experiment.reward_.kind, experiment.reward_.pending, experiment.reward_.default) == (
        "binary",
        "ignore",
        None,
    )
    assert (experiment.promotion_.auto, experiment.promotion_.cooldown_seconds) == (False, 0.0)
    assert experiment.canary_ is not None
    assert experiment.canary_.min_decisions == 20
    assert experiment.policy_ is not None
    assert not experiment.policy_.floor_scales
    assert (experiment.context_.fields, experiment.guardrails_, experiment.schedule_.at_end) == ([], [], "stop")
    assert experiment.shadow_ is None


def test_part__column_changed__is_decoded_anew__in_place_too() -> None:
    experiment = Experiment(reward={"window_seconds": 60})
    first = experiment.reward_
    assert experiment.reward_ is first
    experiment.reward["window_seconds"] = 90
    assert experiment.reward_.window_seconds == 90.0
    experiment.reward = {"window_seconds": 120}
    assert experiment.reward_.window_seconds == 120.0
    assert first.window_seconds == 60.0


def test_part__value__can_not_be_changed() -> None:
    experiment = Experiment(reward={})
    with pytest.raises(AttributeError, match="immutable"):
        experiment.reward_.default = 1.0  # type: ignore[misc]  # that is what must not be


def test_part__row_of_a_later_version__is_read_without_what_is_not_known() -> None:
    experiment = Experiment(
        reward={"metric": "clicks", "colour": "red"},
        context={"fields": [{"name": "age", "type": "number", "min": 0, "max": 9, "unit": "years"}]},
        guardrails=[{"metric": "error_rate", "action": "pause", "max": 0.1, "since": 3}],
    )
    assert experiment.reward_.metric == "clicks"
    assert [(field.name, field.max) for field in experiment.context_.fields] == [("age", 9.0)]
    assert [guardrail.max for guardrail in experiment.guardrails_] == [0.1]


def test_part__number_beyond_64_bits__is_read() -> None:
    """PostgreSQL gives 1e30 back as a whole number."""
    assert Experiment(reward={"kind": "continuous", "maximum": 10**30}).reward_.maximum == 1e30


def test_part__damaged_row__is_told_as_such() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Expected `float`.*window_seconds"):
        _ = Experiment(reward={"window_seconds": "a while"}).reward_


def test_policy__floor_not_given__follows_the_number_of_arms__and_one_that_was_stays() -> None:
    scaling, fixed = Policy.complete(document.Policy(), 4), Policy.complete(document.Policy(floor=0.05), 4)
    assert (scaling.floor, scaling.floor_scales, scaling.for_arms(20).floor) == (0.01, True, 0.005)
    assert (fixed.floor, fixed.floor_scales, fixed.for_arms(20).floor) == (0.05, False, 0.05)
    assert Experiment(policy=msgspec.to_builtins(scaling)).policy_ == scaling
    assert "floor_scales" not in msgspec.to_builtins(scaling.document)
