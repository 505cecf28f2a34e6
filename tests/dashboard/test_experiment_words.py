"""What the page of an experiment says in words and units: of arms that can't be served, of silence,
of every kind of reward, and what to do beside the buttons that do it."""

import random
import re
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any

import msgspec
import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from noregret.dashboard import arm_table, chart_documents, mirrored, sections
from noregret.dashboard.chart_documents import Series
from noregret.dashboard.decision import offers
from noregret.dashboard.drawn import axis
from noregret.dashboard.figures import cells
from noregret.dashboard.verdicts import verdict
from noregret.experiments.document import Canary, Reward
from noregret.experiments.models import Arm, Experiment
from noregret.learning.models import ArmInterval, ArmStatistics
from noregret.learning.shown import numbers
from noregret.learning.shown.apprentice import Apprentice, ChoicesScored
from noregret.learning.shown.feedback import feedback
from noregret.learning.shown.holdout import Holdout, HoldoutSide
from noregret.learning.shown.latencies import Latency
from noregret.learning.shown.results import CanaryState, Comparison
from noregret.learning.shown.shadow_comparison import Bin, Outcomes, ShadowComparison
from noregret.learning.watched.states import GuardedArm, GuardrailState
from noregret.steering.round import learn

from tests.conftest import static_model
from tests.dashboard.shown import NOW, arm, results, setting
from tests.dashboard.test_dashboard import page
from tests.learning.past_traffic import begin_earlier, decide, fill, reward
from tests.learning.told import results as told

Start = Callable[..., Experiment]
V1 = arm("v1", mean=0.05, interval=(0.045, 0.056), probability_best=0.03)
V2 = arm("v2", mean=0.061, interval=(0.055, 0.068), probability_best=0.97)
SILENT = {"reward": {"kind": "binary", "window_seconds": 1, "default": 0}}


def text_of(answer: Any) -> str:
    """What a person reads."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", answer.content.decode(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


@pytest.fixture
def three_arms(two_arms: Start) -> Start:
    """The third of them fails whenever it is asked."""

    def start(**changes: Any) -> Experiment:
        static_model("page", "c", {"text": "C"})
        names = [{"name": name, "model": f"page@{name}"} for name in "abc"]
        experiment = two_arms(arms=names, **changes)
        begin_earlier(experiment)
        choose = random.Random(3)
        for i in range(240):
            name = "abc"[i % 3]
            identity = decide(
                experiment, name, share=1 / 3, shares=[1 / 3] * 3, failed=name == "c", unit=f"u{i}",
                holdout=name == "a" and i % 2 == 0,
            )  # fmt: skip
            if name != "c":
                reward(experiment, name, identity, float(choose.random() < (0.8 if name == "b" else 0.5)))
        learn(experiment.endpoint_id)
        return experiment

    return start


def test_arm_that_only_fails__is_no_candidate__and_is_not_waited_for(admin: Client, three_arms: Start) -> None:
    experiment = three_arms(reward={"kind": "binary", "window_seconds": 1})
    shown = told(experiment)
    assert shown["arms"][2]["probability_best"] is None
    assert shown["arms"][0]["probability_best"] + shown["arms"][1]["probability_best"] == pytest.approx(1.0)
    assert shown["evidence"]["leader"] == "b"
    assert shown["evidence"]["needed"] == pytest.approx(60.0), "it may be mended, and is in the comparison until then"
    assert shown["comparison"]["saved_against_even_split"] is not None, "an even split of those that can serve"
    text = text_of(admin.get(page(experiment)))
    assert "Can't win: it has no reward, and the champion answers for it." in text.replace("&#x27;", "'")
    assert "An even split of the arms that can be served: c can&#x27;t" in text
    assert "every arm needs a reward" not in text
    Arm.objects.filter(experiment=experiment, name="c").update(enabled=False)
    assert told(experiment)["evidence"]["needed"] == pytest.approx(40.0)


def test_arm_that_was_taken_out__says_of_when_its_figures_are__and_why_it_counts(
    admin: Client, two_arms: Start
) -> None:
    static_model("page", "c", {"text": "C"})
    experiment = two_arms(arms=[{"name": name, "model": f"page@{name}"} for name in "abc"], **SILENT)
    begin_earlier(experiment)
    for i in range(90):
        name = "abc"[i % 3]
        reward(experiment, name, decide(experiment, name, share=1 / 3, shares=[1 / 3] * 3), float(i % 2))
    learn(experiment.endpoint_id)
    Arm.objects.filter(experiment=experiment, name="c").update(enabled=False)
    text = text_of(admin.get(page(experiment))).replace("&#x27;", "'")
    assert "Can't win: its figures are of when it was served." in text
    assert "c counts in the 60 though taken out: who is left was chosen after outcomes were seen." in text


def test_gain_beside_an_arm_that_fails__says_what_is_not_in_it() -> None:
    side = HoldoutSide(100, 100, 50, 0.05, (0.02, 0.08))
    held = Holdout(0.1, side, side, 0.008, (-0.0000001, 0.014))
    fails = arm("v2", mean=0.06, error_rate=0.4, rewards=600)
    gain = sections.earned(results(V1, fails, holdout=held), setting())[1]
    assert "What v2 could not serve the champion answered" in gain.note
    assert "-0.0 " not in gain.rows[0].text
    assert sections.earned(results(V1, V2, holdout=held), setting())[1].note == ""


def test_silence__is_no_answer(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 3600, "default": 0})
    begin_earlier(experiment, 3 * 3600.0)
    for i in range(60):
        identity = decide(experiment, "ab"[i % 2], seconds_ago=2 * 3600.0)
        if i < 12:
            reward(experiment, "ab"[i % 2], identity, 1.0, delay=5.0)
    for i in range(10):
        identity = decide(experiment, "ab"[i % 2], seconds_ago=60.0)
        if i < 3:
            reward(experiment, "ab"[i % 2], identity, 1.0)
    decide(experiment, "b", seconds_ago=60.0, failed=True)
    learn(experiment.endpoint_id)
    counted = feedback(experiment)
    assert (counted.answered, counted.defaulted, counted.open, counted.failed) == (12, 48, 10, 1)
    text = text_of(admin.get(page(experiment)))
    assert "Answered 12 (17%)" in text
    assert "No answer in 1 h 48 (count as 0)" in text
    assert "Window open 10" in text
    assert "Failed 1 (the champion answered; no reward)" in text
    assert "Not compared: a decision without an answer counts as 0" in text


@pytest.mark.parametrize("strategy", ["bandit", "ab", "canary"])
def test_rewards_about_a_billion__have_one_unit__everywhere(admin: Client, two_arms: Start, strategy: str) -> None:
    bounds = {
        "kind": "continuous",
        "minimum": -1e9,
        "maximum": 5e9,
        "window_seconds": 1,
        "default": 0,
        "metric": "reward",
    }
    challenger = {"arms": [{"name": "b", "model": "page@b"}]} if strategy == "canary" else {}
    experiment = two_arms(strategy=strategy, reward=bounds, **challenger)
    begin_earlier(experiment)
    choose = random.Random(1)
    names = [one.name for one in experiment.arms.order_by("position")]
    for i in range(200):
        value = 1.2e9 + choose.gauss(0.0, 2e8) + (2e8 if i % 2 else 0.0)
        reward(experiment, names[i % 2], decide(experiment, names[i % 2], unit=f"u{i}"), value)
    learn(experiment.endpoint_id)
    text = text_of(admin.get(page(experiment)))
    assert re.search(r"\d[.\d]* bn", text)
    assert not re.search(r"\de[+-]?\d", re.sub(r"[0-9a-f-]{36}", "", text)), "no exponents"
    assert "from -1 bn to 5 bn" in text
    figures = admin.get(f"/admin/experiments/experiment/{experiment.pk}/figures.json").json()
    for row in figures["cells"].values():
        assert row["mean"].endswith(" bn")
        assert row["interval"].count(" bn") == 2


def test_rates_of_a_fifth_of_a_per_cent__are_told_apart(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(strategy="ab", reward={"kind": "binary", "window_seconds": 1})
    begin_earlier(experiment)
    for name, good in (("a", 100), ("b", 115)):
        n, mean = 50_000, good / 50_000
        ArmStatistics.objects.filter(arm__experiment=experiment, arm__name=name).update(
            decisions=n, rewards=n, mean=mean, m2=n * mean * (1 - mean)
        )
    cells = admin.get(f"/admin/experiments/experiment/{experiment.pk}/figures.json").json()["cells"]
    assert (cells["a"]["mean"], cells["b"]["mean"]) == ("0.20%", "0.23%")
    assert cells["a"]["loss"].endswith(" points")


def test_browser__axes_of_charts__have_the_unit_of_the_table(
    browser: Any, live_server: Any, admin: Client, two_arms: Start
) -> None:
    bounds = {"kind": "continuous", "minimum": 0, "maximum": 2e9, "window_seconds": 1}
    experiment = two_arms(reward=bounds)
    begin_earlier(experiment, 3600.0 * 3)
    for arm_, mean in zip(experiment.arms.order_by("position"), (9.98e8, 1.004e9), strict=True):
        for hour in range(1, 4):
            ArmInterval.objects.create(
                arm=arm_, start=timezone.now() - timedelta(hours=hour), decisions=1000, rewards=1000,
                reward_total=1000 * mean, reward_m2=1e19,
            )  # fmt: skip
        ArmStatistics.objects.filter(arm=arm_).update(decisions=3000, rewards=3000, mean=mean, m2=3e19)
    session = admin.cookies[settings.SESSION_COOKIE_NAME].value
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=live_server.url)
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    tab = context.new_page()
    tab.goto(page(experiment))
    tab.locator("canvas:visible").last.wait_for()
    drawn = "[...document.querySelectorAll('canvas')].map(one => Chart.getChart(one)).filter(one => one)"
    axes = tab.evaluate(f"{drawn}.map(one => one.scales.y.ticks.map(tick => tick.label))")
    mean = admin.get(f"/admin/experiments/experiment/{experiment.pk}/figures.json").json()["cells"]["a"]["mean"]
    unit = mean.rpartition(" ")[2]
    assert unit in ("M", "bn")
    of_means = [labels for labels in axes if not labels[0].endswith("%")]
    assert len(of_means) == 2
    assert all(label.endswith(f" {unit}") for labels in of_means for label in labels), of_means
    context.close()


@pytest.mark.parametrize(
    ("middle", "half", "unit"),
    [
        (1.0029e9, 1.5e6, " M"),
        (1.003e9, 2e7, " bn"),
        (1e9, 3.0, ""),
        (9.98e8, 4e6, " bn"),
        (1.2e6, 5e4, " M"),
        (12.34, 0.02, ""),
        (3.1e-5, 2e-6, "e-5"),
        (1e-4, 3e-6, ""),
    ],
)
def test_what_is_compared__has_one_unit__and_is_told_apart(middle: float, half: float, unit: str) -> None:
    """In the table, on its axis, in the sentence above it and in the charts below."""
    v1 = arm("v1", mean=middle, interval=(middle - half, middle + half))
    v2 = arm("v2", mean=middle + half / 2, interval=(middle - half / 2, middle + half * 3 / 2), probability_best=0.97)
    found = results(v1, v2, leader="v2", value=3.0, needed=20.0, matured=900)
    set_up = setting(percent=False)
    own, other = found.arms[1], found.arms[0]
    shown = cells(found, percent=False)
    texts = {name: [row["mean"], *row["interval"].split(" to ")] for name, row in shown.items()}
    assert len({*texts["v1"], *texts["v2"]}) == 6, "each mean and end looks different"
    drawn = arm_table._axis([other, own], found, set_up)
    assert drawn is not None
    ticks = [text for _, text, _ in drawn.ticks]
    assert len(set(ticks)) == len(ticks)
    said = re.search(r"leads: (\S+?(?: \w+)?) against (\S+?(?: \w+)?) of", verdict(found, set_up).headline)
    assert said is not None
    assert said[1] != said[2]
    over = chart_documents._form([Series("v1", 0, [middle, middle + half / 3], [None, None])], found, set_up)
    assert over is not None
    for text in (*texts["v1"], *texts["v2"], *ticks, said[1], said[2], over.text(middle)):
        assert re.sub(r"^[\d,.]+", "", text) == unit, text


def test_measured__is_told_in_the_unit_of_its_limit() -> None:
    assert [numbers.against(value, 1e9) for value in (1.003e9, 9.997e8, 1e9 + 3, 1e9)] == [
        *("1.003 bn", "0.9997 bn", "1.000000003 bn", "1 bn")
    ]
    assert [numbers.against(value, 0.5) for value in (0.123456, 0.50001)] == ["0.1235", "0.50001"]
    judged = [GuardedArm("new", "beyond", 400, 9.997e8, 95.0, 20.0, None, "")]
    rail = GuardrailState("spend", "rollback", "limit", 1e9, None, judged)
    row = sections.guarded(results(arm("control"), arm("new"), guardrails=[rail]), Reward())[0]
    assert (row.measured, row.limit) == ("1.00 bn of 400", "at most 1 bn")


def test_differences_of_one_table__have_one_unit() -> None:
    shown = sections.differences(
        results(
            arm("control", mean=1e9, interval=(9.9e8, 1.01e9)),
            arm("b", mean=1.3e9, interval=(1.29e9, 1.31e9)),
            arm("c", mean=3e9, interval=(2.9e9, 3.1e9)),
        ),
        setting(percent=False),
    )
    assert shown.axis is not None
    assert {*re.findall(r"\d (\w+)", shown.rows[0].text + shown.rows[1].text)} == {"bn"}
    assert all(text.endswith(" bn") for _, text, _ in shown.axis.ticks)


def test_column__has_one_form__and_nothing_that_is_not_0_is_told_as_0() -> None:
    loss = numbers.form([0.33, 0.089, 1e-9], percent=True)
    assert [loss.at_least(value) for value in (0.33, 1e-9, 0.0)] == ["33.0%", "under 0.1%", "0.0%"]
    assert numbers.difference(0.0, (-1e-17, 1e-17), percent=True) == "0.0 points (95%: 0.0 to 0.0)"
    assert numbers.difference(0.01, (0.0001, 0.02), percent=True) == "+1.00 points (95%: +0.01 to +2.00)"
    assert numbers.amount(2e9, (-3e8, 4e9), "of revenue") == "+2.0 bn of revenue (95%: -0.3 bn to +4.0 bn)"
    assert [numbers.plain(value) for value in (-1e9, 0.02, 1500.0)] == ["-1 bn", "0.02", "1,500"]


def test_guardrails__are_in_their_metrics_unit__beside_the_control() -> None:
    def rail(metric: str, limit: float, mean: float) -> GuardrailState:
        judged = GuardedArm("new", "passed", 400, mean, 95.0, 20.0, None, "")
        return GuardrailState(metric, "rollback", "limit", limit, None, [judged])

    control = arm("control", error_rate=0.01, latency_ms=Latency(1.0, 40.0))
    new = arm("new", error_rate=0.0637, latency_ms=Latency(1.0, 61.25))
    rails = [rail("error_rate", 0.05, 0.06373), rail("latency_p99_ms", 50.0, 0.064), rail("spend", 2e9, 3.1e9)]
    failing, slow, dear = sections.guarded(results(control, new, guardrails=rails), Reward())
    assert (failing.measured, failing.limit, failing.control) == ("6.4% of 400", "at most 5%", "1.0%")
    assert (slow.measured, slow.limit, slow.control) == ("61.25 ms; 6.4% of 400 slower", "at most 50 ms", "40.00 ms")
    assert (dear.measured, dear.limit) == ("3.1 bn of 400", "at most 2 bn")
    assert failing.state == "shown past it (evidence 20 needed, 95)"


def test_more_than_is_needed__reads_as_no_fault(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(strategy="canary", arms=[{"name": "new", "model": "page@b"}], canary={"bake_seconds": 600})
    begin_earlier(experiment)
    Experiment.objects.filter(pk=experiment.pk).update(canary_since=timezone.now() - timedelta(seconds=200))
    for i in range(25):
        decide(experiment, "new", unit=f"u{i}")
    learn(experiment.endpoint_id)
    assert "20 decisions needed, 25 served" in text_of(admin.get(page(experiment)))
    shown = verdict(
        results(V1, V2, leader="v2", value=3041.0, needed=40.0, matured=9, action="promote", to="v2"), setting()
    )
    assert "Evidence 3,041; 40 are needed." in shown.details


def test_winner_whose_interval_overlaps__is_explained() -> None:
    wide = [
        msgspec.structs.replace(one, watched_interval=ends) for one, ends in ((V1, (0.03, 0.07)), (V2, (0.04, 0.08)))
    ]
    won = {"leader": "v2", "value": 95.0, "needed": 80.0, "matured": 9, "action": "promote", "to": "v2"}
    assert "overlaps that of v1, and both are true" in verdict(results(*wide, **won), setting()).text
    assert "both are true" not in verdict(results(V1, V2, **won), setting()).text


def shadow(**changed: Any) -> ShadowComparison:
    known: dict[str, Any] = {
        "predictions": 12_000, "errors": 0, "error_rate": 0.0, "agreement": 0.971, "mean_absolute_difference": 0.02,
        "latency_ms": Latency(1.0, 34.5), "champion_latency_ms": Latency(1.0, 2.3), "examples": [],
        "histogram": [Bin(0.0, 0.5, 1180), Bin(0.5, 1.0, 20)], "outcomes": Outcomes(600, 0.962, 0.901, None, None),
    }  # fmt: skip
    return ShadowComparison(**(known | changed))


def test_shadow__says_what_would_decide_it__and_counts_stand_at_its_histogram() -> None:
    copied = results(arm("a"), arm("new", decisions=0, shadow=shadow()), strategy="shadow")
    (challenger,) = mirrored.challengers(Experiment(), copied)
    assert challenger.counts == ["1,180", "0"]
    assert (challenger.bars[0].label, challenger.most) == ("0.0 to 0.5", "1.0")
    assert [reason.tone for reason in challenger.reasons] == ["good", "good", "wait", "wait"]
    assert challenger.reasons[0].text.startswith("Right in 96.2%, the champion in 90.1%, of 600 outcomes: +6.1 points")
    few = mirrored.challengers(
        Experiment(),
        results(arm("a"), arm("new", shadow=shadow(outcomes=Outcomes(20, 0.9, 0.8, None, None))), strategy="shadow"),
    )
    assert few[0].reasons[0].text == "Not known yet: 20 of 100 outcomes were told."


@pytest.mark.parametrize(("strategy", "label"), [("ab", "Units matured"), ("bandit", "Decisions matured")])
def test_headings__name_the_metric_and_what_matures(admin: Client, two_arms: Start, strategy: str, label: str) -> None:
    experiment = two_arms(strategy=strategy, reward={"kind": "binary", "metric": "clicks", "window_seconds": 3600})
    begin_earlier(experiment)
    fill(experiment, {"a": (10, 10), "b": (10, 10)})
    learn(experiment.endpoint_id)
    text = text_of(admin.get(page(experiment)))
    assert label in text
    assert "Mean clicks, 95%, at any time" in text
    assert "Mean reward" not in text
    assert "3600 s" not in text
    assert "counts 1 h after" in told(experiment)["recommendation"]["reason"]


@pytest.mark.parametrize(
    ("own", "champion", "said"),
    [
        (None, None, "the models' answers are no numbers"),
        (0.2, None, "the champion's answers are no numbers"),
        (None, 0.2, "its answers are no numbers"),
    ],
)
def test_outcomes_that_can_not_be_scored__say_what_is_no_number(
    own: float | None, champion: float | None, said: str
) -> None:
    scored = shadow(outcomes=Outcomes(300, None, None, own, champion))
    found = results(arm("a"), arm("new", shadow=scored), strategy="shadow")
    assert mirrored._of_challenger(found.arms[1].shadow)[0].text == f"Not known: {said}, and an outcome is one."


def test_apprentice__says_when_to_trust_it() -> None:
    better = Apprentice(1200, {"v1": 0.38, "v2": 0.62}, ChoicesScored(2000, 0.86, 0.78))
    assert [one.tone for one in mirrored.trusted(results(V1, V2, apprentice=better))] == ["good", "wait"]
    alike = Apprentice(1200, {"v1": 0.38, "v2": 0.62}, ChoicesScored(200, 0.81, 0.78))
    assert "not told apart from nothing" in mirrored.trusted(results(V1, V2, apprentice=alike))[0].text


def test_units_of_a_holdout_that_keep_no_arm__are_not_said_to(admin: Client, three_arms: Start) -> None:
    experiment = three_arms(sticky=False, holdout=0.1, reward={"kind": "binary", "window_seconds": 1})
    text = text_of(admin.get(page(experiment)))
    assert "No band is drawn: units that are held out stay so" in text
    assert "units keep their arm" not in text
    assert "It need not: " in text


def test_difference_of_a_canary__stands_with_its_interval(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(
        strategy="canary", arms=[{"name": "new", "model": "page@b"}], reward={"kind": "binary", "window_seconds": 1}
    )
    begin_earlier(experiment)
    fill(experiment, {"control": (40, 20), "new": (10, 10)})
    learn(experiment.endpoint_id)
    text = text_of(admin.get(page(experiment)))
    assert "Difference to the control" in text
    assert re.search(r"new beside control: -\d+ points \(95%: -\d+ to \+\d+\)", text)


STATES = ("running", "paused")
RECOMMENDED: tuple[dict[str, Any], ...] = (
    {"action": "continue"},
    {"action": "promote", "to": "v2"},
    {"action": "stop", "reason": "no arm is better"},
    {"action": "rollback", "reason": "v1 beats v2"},
)
_SAID = {
    "promote": ("Promote v2",),
    "stop": ("Stop it", "or stop it"),
    "rollback": ("Roll it back", "or roll it back"),
    "resume": ("Resume it",),
    "advance": ("Advance it",),
}


@pytest.mark.parametrize(
    ("strategy", "status", "recommended", "auto", "fails"),
    list(product(("ab", "bandit", "canary"), STATES, RECOMMENDED, (False, True), (False, True))),
)
def test_advice_and_buttons__agree__in_every_state(
    strategy: str, status: str, recommended: dict[str, Any], auto: bool, fails: bool
) -> None:
    second = msgspec.structs.replace(V2, error_rate=0.4 if fails else 0.0)
    evidence = {"leader": "v2", "value": 95.0, "needed": 80.0, "matured": 9}
    state = {"canary": CanaryState(2, 4, 0.25, NOW - timedelta(minutes=5))} if strategy == "canary" else {}
    found = results(V1, second, strategy=strategy, status=status, **recommended, **evidence, **state)
    how = setting(auto=auto, canary=Canary(bake_seconds=60.0, auto=auto) if strategy == "canary" else None)
    said = verdict(found, how)
    buttons = ["advance", "pause" if status == "running" else "resume", "stop", "promote", "rollback"]
    primary = {offer.action for offer in offers(buttons, "e", found, how, said) if offer.advised}
    assert primary == set(said.actions)
    for action, phrases in _SAID.items():
        assert (action in primary) == any(phrase in said.do for phrase in phrases), (action, said.do)
    if "by itself in a moment" in said.do:
        assert not primary
        assert status == "running"


def test_split_that_was_not_as_logged__is_acted_on_by_nobody() -> None:
    wrong = Comparison(1e-6, None, None, None)
    found = results(
        V1, V2, comparison=wrong, leader="v2", value=95.0, needed=80.0, matured=9, action="promote", to="v2"
    )
    said = verdict(found, setting())
    assert said.do.startswith("Find out what routes otherwise")
    assert said.actions == ()


def test_path_to_a_page__names_things_as_they_are(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(name="my-test")
    for address in (page(experiment), f"/admin/experiments/endpoint/{experiment.endpoint_id}/change/"):
        body = admin.get(address).content.decode()
        path = re.findall(r"<(?:a|span)[^>]*tracking-tight[^>]*>([^<]*)<", body)
        kind = "Experiments" if "experiment/" in address.removeprefix("/admin/experiments/") else "Endpoints"
        name = "my-test" if kind == "Experiments" else "pages"
        assert [part.strip() for part in path] == [kind, name]


def test_axis__of_long_numbers__has_fewer_of_them() -> None:
    short, long = axis([0.6, 0.95], percent=True), axis([1.002e9, 1.004e9], percent=False)
    assert short is not None
    assert long is not None
    assert [text for _, text, _ in short.ticks] == ["60%", "70%", "80%", "90%"]
    assert len(long.ticks) < 4


def test_arm_that_fails_often__has_no_chance_beside_its_figures() -> None:
    failing = arm("v2", mean=0.06, error_rate=0.4, rewards=600, probability_best=0.698, expected_loss=0.001)
    told_of = cells(results(V1, failing), percent=True)["v2"]
    assert (told_of["best"], told_of["loss"], told_of["mean"]) == ("–", "–", "6.0%")
    said = verdict(results(V1, failing, leader="v1", value=2.0, needed=40.0, matured=9), setting())
    assert said.do == "Mend the model behind v2, or take it out."
