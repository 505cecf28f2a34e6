"""What is told of an experiment is told in its strategy's own terms: results, the page's facts and
words, segments and forecasts."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from noregret.dashboard.figures import facts, figures
from noregret.dashboard.words import in_words, sentence
from noregret.experiments.models import Experiment
from noregret.learning.shown import forecast, segments
from noregret.learning.shown.phrases import evidence_told, listed, probability_told
from noregret.learning.shown.results import results
from noregret.steering.round import learn
from past_traffic import WINDOW, begin_earlier, decide, fill, reward

from tests.conftest import Api
from tests.learning.told import document

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
FIELDS = [
    {"name": "country", "type": "category", "values": ["KR", "US"]},
    {"name": "age", "type": "number", "min": 0, "max": 120},
]


def words(experiment: Experiment) -> str:
    return " ".join(in_words(experiment, list(experiment.arms.order_by("position"))))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "no evidence yet (20 needed)"),
        (1.0, "no evidence yet (20 needed)"),
        (3.24, "evidence 3.2 of the 20 needed"),
        (17.6, "evidence 18 of the 20 needed"),
        (1234.0, "evidence 1,234 (20 needed)"),
        (4.6e20, "evidence far beyond the 20 needed"),
    ],
)
def test_evidence_told__is_readable_at_every_size(value: float, said: str) -> None:
    assert evidence_told(value, 20.0) == said


def test_phrases__probabilities_are_never_certain__and_names_are_listed() -> None:
    assert [probability_told(p) for p in (0.0, 1e-9, 0.027, 0.9991, 1.0)] == [
        "under 0.1%",
        "under 0.1%",
        "2.7%",
        "over 99.9%",
        "over 99.9%",
    ]
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert sentence("shadows answer nobody") == "Shadows answer nobody."
    assert sentence("shadows leads, P(best) 60.0%", ["shadows", "x"]) == "shadows leads, P(best) 60.0%."


def test_canary__tells_its_step_and_both_arms__and_nothing_of_an_even_split(two_arms: Start) -> None:
    experiment = two_arms(
        strategy="canary",
        arms=[{"name": "new", "model": "page@b"}],
        canary={"steps": [0.25, 1.0], "bake_seconds": 600},
        **WINDOW,
    )
    begin_earlier(experiment)
    for i in range(60):
        failed = i % 20 == 0
        identity = decide(experiment, "new", share=0.25, failed=failed)
        if not failed:
            reward(experiment, "new", identity, float(i % 3 > 0))
    fill(experiment, {"control": (40, 20)})
    learn(experiment.endpoint_id)
    shown = results(experiment)
    assert shown.comparison.saved_against_even_split is None
    told = facts(shown)
    assert told["step"].startswith("1 of 2: 25% of the units since ")
    assert told["failures"] == "new 5.00%, control 0.00%"
    assert told["means"] == "new 66.7%, control 66.7%"
    assert told["evidence"] in ("none that the control is better", "for control: no evidence yet (20 needed)")
    assert "saved" not in told
    assert "0.0 of" not in str(told)
    assert figures(experiment).progress is None


def test_canary__beaten_beyond_doubt__is_told_in_words(two_arms: Start) -> None:
    experiment = two_arms(strategy="canary", arms=[{"name": "new", "model": "page@b"}], **WINDOW)
    begin_earlier(experiment)
    fill(experiment, {"control": (190, 10), "new": (10, 190)})
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    shown = results(experiment)
    assert "control beats new: evidence far beyond the 20 needed" in shown.recommendation.reason
    assert "by the learner" in shown.recommendation.reason
    assert shown.evidence.leader == "control"
    assert facts(shown)["evidence"] == "for control: evidence far beyond the 20 needed"


def test_shadow__tells_agreement__and_nothing_of_who_is_best(two_arms: Start) -> None:
    experiment = two_arms(strategy="shadow", arms=[{"name": "new", "model": "page@b"}], **WINDOW)
    begin_earlier(experiment)
    fill(experiment, {"control": (40, 20)})
    learn(experiment.endpoint_id)
    shown = results(experiment)
    assert [arm.probability_best for arm in shown.arms] == [None, None]
    assert shown.evidence.leader is None
    assert set(facts(shown)) == {
        "decisions", "rewards", "copies", "agreement", "reason", "policy_version", "as_of",
    }  # fmt: skip
    assert "the champion, page@a, answers every request" in words(experiment)


def test_split__tells_evidence_and_no_saving(two_arms: Start) -> None:
    experiment = two_arms(strategy="ab", **WINDOW)
    begin_earlier(experiment)
    fill(experiment, {"a": (60, 60), "b": (72, 48)})
    learn(experiment.endpoint_id)
    shown = results(experiment)
    assert shown.comparison.saved_against_even_split is None
    told = facts(shown)
    assert told["evidence"].startswith("for b: ")
    assert "saved" not in told
    assert "more rewards" not in told["reason"]
    assert "every arm has 100 matured rewards" in words(experiment)


def test_prospect__arms_alike__says_that_there_may_be_no_difference(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW, policy={"name": "uniform"})
    begin_earlier(experiment)
    fill(experiment, {"a": (500, 510), "b": (503, 507)})
    learn(experiment.endpoint_id)
    said = results(experiment).recommendation.reason
    assert (
        "no difference is shown yet: there may be none, or too few rewards so far, "
        "and only an indifference would end it by itself" in said
    )


def test_forecast__tells_a_range__or_why_not__where_it_is_asked_for(two_arms: Start, alice: Api) -> None:
    experiment = two_arms(**WINDOW, strategy="ab")
    path = "/api/v1/experiments/e/results"
    assert alice.get(path)["forecast"] is None
    assert "before a and b have a reward" in alice.get(f"{path}?forecast=true")["forecast"]["said"]
    assert alice.get(f"{path}?forecast=soon").fields() == ["forecast"]
    begin_earlier(experiment)
    fill(experiment, {"a": (100, 300), "b": (124, 276)})
    learn(experiment.endpoint_id)
    told = forecast.forecast(experiment)
    assert told.matured == 800
    assert told.low is not None
    assert told.low > 800
    assert told.high is None or told.high > told.low
    assert told.ended is not None
    assert told.ended > 0.5
    assert "It may promote after" in told.said
    assert forecast.forecast(experiment) == told  # the same state, the same figures


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategy": "canary", "arms": [{"name": "new", "model": "page@b"}]}, "not a matter of evidence alone"),
        ({"policy": {"name": "kl-ucb"}}, "manage.py plan"),
        ({"policy": {"name": "thompson", "params": {"discount": 0.99}}}, "No arm is promoted by itself here"),
        ({"policy": {"name": "lin-ucb"}, "context": {"fields": FIELDS}}, "No arm is promoted by itself here"),
        ({"reward": {"kind": "count", "maximum": 5, "default": 0}}, "rewards of 0 and 1 alone"),
    ],
)
def test_forecast__where_nothing_can_be_told__says_why(two_arms: Start, changes: dict[str, Any], said: str) -> None:
    told = forecast.forecast(two_arms(**changes))
    assert (told.low, told.high, told.ended) == (None, None, None)
    assert said in told.said


def test_contextual__tells_what_each_segment_would_lose__and_names_no_arm_the_best(two_arms: Start, alice: Api) -> None:
    """a has .30 everywhere, b .20, and .80 in KR, a fifth of the traffic: on average they are
    nearly alike."""
    experiment = two_arms(
        policy={"name": "lin-thompson"}, context={"fields": FIELDS}, reward=WINDOW["reward"] | {"default": 0}
    )
    assert experiment.promotion is not None
    assert experiment.promotion["auto"] is False
    begin_earlier(experiment)
    rng = random.Random(5)
    for i in range(1500):
        korea = i % 5 == 0
        b = 0.85 if korea else 0.15
        arm = "b" if rng.random() < b else "a"
        mean = 0.3 if arm == "a" else 0.8 if korea else 0.2
        identity = decide(
            experiment, arm, shares=[1 - b, b], share=b if arm == "b" else 1 - b,
            context={"country": "KR" if korea else "US", "age": rng.randint(18, 90)},
        )  # fmt: skip
        reward(experiment, arm, identity, float(rng.random() < mean))
    learn(experiment.endpoint_id)
    told = document(segments.segments(experiment))
    assert told is not None
    assert told["decisions"] == 1500
    parts = {(part["field"], part["segment"]): part for part in told["segments"]}
    assert set(parts) == {("country", "KR"), ("country", "US"), ("age", "below 60"), ("age", "60 or more")}
    korea, states = parts[("country", "KR")], parts[("country", "US")]
    assert (korea["decisions"], states["decisions"]) == (300, 1200)
    # KR: .85 * .8 + .15 * .3 - .3 = .425 a decision lost by a for all; US: .85 * .3 + .15 * .2 - .2
    # = .085 by b for all.
    for part, arm, truth in ((korea, 0, 0.425), (states, 1, 0.085)):
        low, high = part["losses"][arm]["interval"] or (None, None)
        if low is not None:
            assert low < truth < high
        assert part["losses"][arm]["loss"] == pytest.approx(truth, abs=0.15)
    shown = alice.get("/api/v1/experiments/e/results").body
    assert shown["segments"]["best_arm"] == told["best_arm"]
    assert [arm["probability_best"] for arm in shown["arms"]] == [None, None]
    assert shown["evidence"]["leader"] is None
    assert (shown["recommendation"]["action"], shown["recommendation"]["arm"]) == ("continue", None)
    assert "the policy is what earns, not an arm" in shown["recommendation"]["reason"]
    assert "Which arm is best depends on the request." in words(experiment)
    # The policy: .2 * .725 + .8 * .285 = .373; the best arm alone: .2 * .8 + .8 * .2 = .32.
    assert told["policy"] == pytest.approx(0.373, abs=0.05)
    assert told["said"].startswith("The policy, not an arm, is what earns: ")


def test_segments__nothing_matured_or_no_features__are_none(two_arms: Start) -> None:
    assert segments.of_experiment(two_arms(policy={"name": "lin-ucb"}, context={"fields": FIELDS})) is None


def test_segments__policy_without_features__are_none(two_arms: Start) -> None:
    assert segments.of_experiment(two_arms()) is None
