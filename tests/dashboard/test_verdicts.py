"""The sentence that an experiment has come to, of every strategy and in every state."""

import re
from datetime import timedelta
from itertools import product
from typing import Any

import msgspec
import pytest
from noregret.dashboard import arm_table
from noregret.dashboard.decision import against
from noregret.dashboard.verdicts import told, verdict
from noregret.dashboard.verdicts.setting import TakenOut
from noregret.dashboard.words import in_words, promotes_leader_at_end
from noregret.experiments.document import Canary
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning.health import LearnerState
from noregret.learning.shown.apprentice import Apprentice, ChoicesScored
from noregret.learning.shown.forecast import Forecast
from noregret.learning.shown.holdout import Holdout, HoldoutSide
from noregret.learning.shown.latencies import Latency
from noregret.learning.shown.results import CanaryState, Comparison
from noregret.learning.shown.shadow_comparison import Outcomes, ShadowComparison
from noregret.learning.watched.states import GuardedArm, GuardrailState
from noregret.registry.models import ModelVersion
from noregret.rollout.warnings import nothing_can_be_shown

from tests.dashboard.shown import NOW, arm, results, setting

V1 = arm("v1", mean=0.050, rewards=6000, decisions=6000, probability_best=0.03)
V2 = arm("v2", mean=0.061, rewards=6000, decisions=6000, probability_best=0.97)
LEADS = {"leader": "v2", "value": 62.0, "needed": 80.0, "matured": 12_000}
SOON = Forecast(12_000, 20_000, 40_000, 120_000, 0.9, "It may promote.")
CANARY = {"strategy": "canary", "canary": CanaryState(2, 4, 0.25, NOW - timedelta(minutes=5))}


def test_bandit__leader_clear__is_told_with_numbers_and_a_date() -> None:
    said = verdict(results(V1, V2, **LEADS), setting(forecast=SOON))
    assert said.headline == "v2 leads: 6.1% against 5.0% of v1, the control (P(best) 97.0%)."
    decided = "Decided between 28 November and 3 December at this traffic."
    by_whom = "Nothing is promoted by itself: once the evidence is enough it says so here, and a person promotes."
    assert said.details == ("Evidence 62 of 80.", decided, by_whom)
    alone = verdict(results(V1, V2, **LEADS), setting(forecast=SOON, auto=True))
    assert alone.details == ("Evidence 62 of 80.", decided)
    assert (said.do, said.tone) == ("Keep it running.", "wait")


@pytest.mark.parametrize(
    ("forecast", "per_day", "told_so"),
    [
        (None, 4000.0, "When it may be decided is not simulated yet."),
        (Forecast(12_000, None, None, None, None, "It forgets."), 4000.0, "No date can be told. It forgets."),
        (
            Forecast(12_000, None, None, 120_000, 0.04, ""),
            4000.0,
            "within 120,000 rewards in all, about 27 days at this traffic.",
        ),
        (SOON, None, "No date can be told: no answered decision came lately."),
        (SOON, 1.0, "At this traffic it is not decided within a year."),
        (Forecast(12_000, 12_100, None, 120_000, 0.6, ""), 4000.0, "Decided at 12:36 UTC or later at this traffic."),
        (Forecast(12_000, 12_001, 12_002, 120_000, 0.6, ""), 4000.0, "Decided today at this traffic."),
    ],
)
def test_date__is_told__or_why_none_can_be(forecast: Forecast | None, per_day: float | None, told_so: str) -> None:
    assert told_so in verdict(results(V1, V2, **LEADS), setting(forecast=forecast, per_day=per_day)).text


def test_date__of_other_numbers__says_where_to_look_instead() -> None:
    other = Forecast(0, None, None, None, None, "Forecasts are simulated for rewards of 0 and 1 alone.")
    said = verdict(results(V1, V2, **LEADS), setting(forecast=other, percent=False)).text
    assert "for rewards of 0 and 1 alone. How its evidence grows is drawn below." in said


def test_date__is_never_before_what_the_promotion_waits_for() -> None:
    waits = setting(forecast=SOON, not_before=NOW + timedelta(days=10))
    assert "Decided about 6 December at this traffic." in verdict(results(V1, V2, **LEADS), waits).text
    years = setting(forecast=SOON, not_before=NOW + timedelta(days=800))
    assert "not decided within a year" in verdict(results(V1, V2, **LEADS), years).text


def test_one_arm_left__is_not_told_to_run_on() -> None:
    gone = arm("v2", mean=0.061, rewards=6000, decisions=6000, enabled=False)
    said = verdict(results(V1, gone, **LEADS), setting(forecast=SOON))
    assert (said.headline, said.do) == ("One arm is left: nothing is compared.", "Put an arm back, or end it.")


@pytest.mark.parametrize(
    ("first", "second", "least", "why"),
    [
        ({"rewards": 6000}, {"rewards": 3}, 100, "v2 has 3 of the 100 rewards that are asked for"),
        ({"rewards": 6000}, {"rewards": 60, "error_rate": 0.57}, 0, "v2 can't win while it fails"),
        ({"decisions": 0, "rewards": 0}, {"rewards": 1, "decisions": 1}, 0, "v1 has no reward yet"),
        ({"rewards": 300}, {"rewards": 300}, 100, ""),
    ],
)
def test_who_leads__is_one_rule__in_headline_chip_and_what_speaks_against_an_act(
    first: dict[str, Any], second: dict[str, Any], least: int, why: str
) -> None:
    found = results(
        arm("v1", mean=0.05, probability_best=0.1, **first),
        arm("v2", mean=0.9, probability_best=0.9, **second),
        leader="v2", value=2.0, needed=40.0, matured=60,
    )  # fmt: skip
    how = setting(min_rewards=least)
    said = verdict(found, how)
    assert (said.headline == f"Nobody leads yet: {why}.") is bool(why)
    assert said.headline.startswith("v2 leads") is (not why)
    chips = [chip.text for chip in arm_table.chips(found.arms[1], found, how, "")]
    assert ("leads" in chips) is (not why)
    assert (against("disable", "v2", found, how) == "v2 leads.") is (not why)
    assert (against("promote", "v1", found, how) == "v2 leads, not v1.") is (not why)


def test_who_leads_by_few_rewards__is_told_with_their_number() -> None:
    few = arm("v2", mean=1.0, rewards=3, decisions=3, probability_best=0.99)
    said = verdict(results(V1, few, **LEADS), setting())
    assert said.headline == "v2 leads: 100.0% against 5.0% of v1, the control (P(best) 99.0%); v2 has 3 rewards so far."


def test_reward_without_bounds__says_what_to_do__and_promises_nothing() -> None:
    open_ended = {"leader": "v2", "value": None, "needed": None, "matured": 600}
    for auto, at_end in product((True, False), ("stop", "promote_leader")):
        how = setting(percent=False, auto=auto, at_end=at_end, ends_at=NOW + timedelta(days=7))
        said = verdict(results(V1, V2, **open_ended), how)
        assert said.do == "Give the reward a minimum and a maximum in a new experiment; or choose an arm by hand."
        assert said.details[0] == (
            "No evidence is counted, and nobody will be recommended: the reward has no minimum and maximum."
        )
    row = Experiment(
        strategy="bandit", status="running", endpoint=Endpoint(name="pages", champion=ModelVersion(name="page", version="a")),
        policy={"name": "thompson"}, promotion={"auto": False}, reward={"kind": "continuous", "maximum": 5.0},
    )  # fmt: skip
    words = " ".join(in_words(row, []))
    assert "none is recommended: the reward has no minimum and maximum" in words
    assert "An arm is recommended" not in words
    assert nothing_can_be_shown(row) == (
        "reward.minimum: without a minimum and a maximum no evidence is counted, so no arm is ever recommended: "
        "give both, or promote by hand"
    )
    row.reward = {"kind": "count", "maximum": 5}
    assert nothing_can_be_shown(row) is None


def test_arm_that_a_guardrail_took_out__is_told_with_what_was_measured() -> None:
    gone = arm("v2", mean=0.061, rewards=6000, decisions=6000, enabled=False)
    why = "the mean of complaints for v2 is shown to be more than 0.05: 0.12 of 300 values"
    acted = setting(taken_out=(TakenOut("v2", "complaints", "at 11:32 UTC", why),))
    said = verdict(results(V1, gone, **LEADS), acted)
    assert said.headline == "One arm is left, and nothing is compared: a guardrail took out v2."
    assert said.details == (f"The guardrail on complaints took out v2 at 11:32 UTC, for {why}.",)
    assert said.tone == "bad"
    for status in ("paused", "completed"):
        assert said.details[0] in verdict(results(V1, gone, status=status, **LEADS), acted).details
    third = arm("v3", mean=0.05, rewards=6000, probability_best=0.1)
    assert said.details[0] in verdict(results(V1, gone, third, **LEADS | {"leader": "v3"}), acted).details


def test_paused__has_no_date_because_it_is_paused() -> None:
    behind = LearnerState(False, 90.0, 90.0, "decisions wait to be written", 0)
    said = verdict(results(V1, V2, status="paused", learner=behind, **LEADS), setting(forecast=SOON)).text
    assert "No date can be told while it is paused." in said
    assert "while the learner is behind" not in said


def test_what_is_compared__shows_how_many_times_one_is_the_other() -> None:
    few = (arm("v1", mean=0.0013, probability_best=0.1), arm("v2", mean=0.0047, probability_best=0.9))
    assert "0.47% against 0.13% of v1" in verdict(results(*few, **LEADS), setting()).headline
    numbers = (arm("v1", mean=0.9, probability_best=0.1), arm("v2", mean=1.9, probability_best=0.9))
    assert "1.9 against 0.9 of v1" in verdict(results(*numbers, **LEADS), setting(percent=False)).headline
    assert told.values([0.4123, 0.0047], percent=True) == ["41.2%", "0.5%"]


def test_what_matures__is_named__where_a_unit_counts_once() -> None:
    early = {"leader": "v2", "value": 1.0, "needed": 60.0, "matured": 315}
    said = verdict(results(V1, V2, **early), setting(by_unit=True))
    assert "It counts each unit once, and 315 units so far." in said.details
    assert "unit" not in verdict(results(V1, V2, **early), setting()).text


def test_learner_behind__nothing_is_said_of_what_did_not_come() -> None:
    behind = LearnerState(False, 90.0, 90.0, "decisions wait to be written", 0)
    young = verdict(results(arm("a", decisions=0), arm("b", decisions=0), learner=behind), setting())
    assert young.headline == "No decision was learned yet."
    assert "Send requests" not in young.text
    # The learner is well, and decisions are on their way to it.
    waits = setting(not_learned="600 decisions wait to be learned")
    for strategy in ("ab", "bandit", "canary", "shadow"):
        fresh = verdict(results(arm("a", decisions=0), arm("b", decisions=0), strategy=strategy), waits)
        assert fresh.headline == "No decision was learned yet."
        assert "600 decisions wait to be learned." in fresh.text
        assert "Send requests" not in fresh.text
    undated = verdict(results(V1, V2, **LEADS), msgspec.structs.replace(waits, forecast=SOON, per_day=None))
    assert "No date can be told yet: 600 decisions wait to be learned." in undated.text
    late = verdict(results(V1, V2, learner=behind, **LEADS), setting(forecast=SOON, per_day=None))
    assert "No date can be told while the learner is behind." in late.text


def test_evidence_enough_for_a_rule_that_may_not_go_by_it__is_a_persons() -> None:
    ready = {"leader": "v2", "value": 4453.0, "needed": 40.0, "matured": 12_000}
    why = "v2 leads: evidence, but nothing is promoted while they differ: promote by hand, or give a default"
    said = verdict(results(V1, V2, reason=why, **ready), setting(percent=False, silent=True))
    assert (said.do, said.actions) == ("Promote v2 by hand where you trust it; or keep it running.", ("promote",))


def test_nothing_came_in__says_what_to_send() -> None:
    nothing = results(arm("a", decisions=0, rewards=0), arm("b", decisions=0, rewards=0))
    said = verdict(nothing, setting())
    assert said.headline == "No decision has come in yet."
    assert said.do == "Send requests to pages."
    draft = verdict(results(arm("a"), arm("b"), status="draft"), setting())
    assert draft.text == "Not started: all traffic of pages goes to its champion, page@a. Start it to learn anything."


def test_one_arm_never_answered__is_told_of_that_arm_alone() -> None:
    said = verdict(results(V1, arm("v2", decisions=312, rewards=0), **LEADS), setting())
    assert said.headline == "v2 has no reward yet: none of 312 decisions is answered."
    assert said.tone == "bad"
    assert "leads" not in said.text
    fails = verdict(results(V1, arm("v2", decisions=312, rewards=0, error_rate=1.0), **LEADS), setting())
    assert "feedback" not in fails.text, "what is refused for a failure does not get lost"
    silent = verdict(results(arm("a", rewards=0), arm("b", rewards=0)), setting())
    assert silent.headline == "No reward has come in yet for 2,000 decisions."
    assert "1 h after it was made" in silent.text


def test_equal_arms__stop__and_look_alike() -> None:
    alike = "no arm is better than another by 1.0% of the reward's range or more"
    said = verdict(results(V1, V2, action="stop", reason=alike, **LEADS), setting())
    assert said.headline == f"The arms are alike: {alike}."
    assert said.do == "Stop it, and keep the champion."
    same = [arm(name, mean=0.05, probability_best=0.5) for name in ("a", "b")]
    even = verdict(results(*same, leader="b", value=1.0, needed=40.0, matured=5000), setting(forecast=SOON))
    assert even.headline.startswith("b leads narrowly: 5.0%, as a, the control")
    assert "No evidence yet of the 40 that are needed." in even.details


def test_enough_evidence__promotes__or_says_what_is_in_the_way() -> None:
    ready = {**LEADS, "value": 95.0}
    said = verdict(results(V1, V2, action="promote", to="v2", **ready), setting())
    assert said.headline == "v2 leads: 6.1% against 5.0% of v1, the control, and is shown to be best."
    assert said.do == "Promote v2."
    assert "by itself" in verdict(results(V1, V2, action="promote", to="v2", **ready), setting(auto=True)).do
    held_up = "v2 leads with evidence 95 (80 needed), but v1 has 12 of 100 matured rewards: take it out or wait"
    waits = verdict(results(V1, V2, reason=held_up, **ready), setting())
    assert "v1 has 12 of 100 matured rewards: take it out or wait." in waits.details


def test_who_is_named__is_who_the_table_shows__or_the_verdict_says_why() -> None:
    """The leader by evidence and the arm with the greatest P(best) may differ: never in silence."""
    one = results(arm("v1", mean=0.05, probability_best=0.999), arm("v2", mean=0.06, probability_best=0.001), **LEADS)
    said = verdict(one, setting(forgets=True))
    assert "P(best) is greatest for v1 (99.9%): P(best) is by what the policy remembers" in said.text
    worse = results(arm("v1", mean=0.06, probability_best=0.1), arm("v2", mean=0.05, probability_best=0.9), **LEADS)
    assert (
        "v2 leads by what the policy remembers, though its mean so far is 5.0%"
        in verdict(worse, setting(forgets=True)).text
    )
    ended = results(V2, arm("v1", mean=0.05, probability_best=0.03), status="completed", action="promote", to="v1",
                    reason="v1 was promoted by anna: cheaper", leader="v1")  # fmt: skip
    assert "P(best) is greatest for v2 (97.0%)." in verdict(ended, setting(ended_at=NOW)).text, "nobody knows why"


def test_paused_and_completed__say_by_whom_and_why() -> None:
    paused = verdict(results(V1, V2, status="paused", **LEADS), setting(paused=" by anna on 25 November: lunch"))
    assert paused.headline.startswith("Paused by anna on 25 November: lunch: all traffic of pages goes")
    assert "v2 leads: 6.1% against 5.0% of v1, the control (P(best) 97.0%)." in paused.details
    assert paused.do == "Resume it, or end it."
    over = results(
        V1, V2, status="completed", action="promote", to="v2", leader="v2",
        reason="v2 was promoted by the learner: it beats v1",
    )  # fmt: skip
    said = verdict(over, setting(ended_at=NOW - timedelta(days=2)))
    assert said.headline == "v2 was promoted by the learner: it beats v1."
    assert said.details == ("It ended on 24 November.", "Mean reward: v2 6.1%, v1, the control 5.0%.")
    stopped = results(V1, V2, status="completed", action="stop", reason="the experiment was stopped by bob: too dear")
    assert verdict(stopped, setting(ended_at=NOW)).headline == "The experiment was stopped by bob: too dear."


def test_failing_arm_and_guardrail__come_first() -> None:
    failing = arm("v2", mean=0.061, error_rate=0.87, probability_best=0.97)
    limit = GuardrailState(
        "error_rate", "rollback", "limit", 0.05, None,
        [GuardedArm("v2", "passed", 100, 0.87, 900.0, 20.0, None, "v2 failed in 87 of 100 decisions, where 5% may")],
    )  # fmt: skip
    said = verdict(results(V1, failing, guardrails=[limit], **LEADS), setting())
    assert said.tone == "bad"
    assert said.details[0] == "v2 fails: 87% of its 1,000 decisions were answered by the champion instead."
    assert said.details[1].endswith("where 5% may; the experiment is rolled back.")
    split = verdict(results(V1, V2, comparison=Comparison(1e-5, None, None, None), **LEADS), setting())
    assert "not split as logged" in split.text


def test_canary__tells_step_bake_and_what_is_in_the_way() -> None:
    control = arm("control", error_rate=0.002, mean=0.9)
    new = arm("new", error_rate=0.0035, mean=0.91, decisions=400)
    ten = setting(canary=Canary([0.05, 0.25, 0.5, 1.0], bake_seconds=600.0))
    baking = verdict(results(control, new, reason="step 2 of 4; it bakes for another 300 s", **CANARY), ten)
    assert baking.headline == "Step 2 of 4: new gets 25% of the units."
    assert baking.details[0] == (
        "Failed: new in 0.35% of 400 decisions and control in 0.20% of 1,000 decisions. "
        "Mean reward: new 91.0%, control 90.0%."
    )
    assert baking.details[1] == "The step bakes until 12:05 UTC."
    assert baking.do == "Wait; then it goes on by itself unless something speaks against it."
    last = {"strategy": "canary", "canary": CanaryState(4, 4, 1.0, NOW - timedelta(minutes=5))}
    by_itself = setting(canary=Canary(bake_seconds=600.0, auto=False), auto=True)
    assert "then it is promoted by itself unless" in verdict(results(control, new, **last), by_itself).do
    assert "then a person promotes it" in verdict(results(control, new, **last), ten).do
    past = GuardrailState(
        "error_rate", "rollback", "limit", 0.003, None, [GuardedArm("new", "beyond", 400, 0.0035, 1.2, 20.0, 900, "")]
    )
    slow = setting(canary=Canary(bake_seconds=60.0, auto=False))
    waits = "step 2 of 4, 25% of the traffic; waits for traffic: new has served 4 of the 20"
    baked = verdict(results(control, new, guardrails=[past], reason=waits, **CANARY), slow)
    assert "error_rate of new is past its limit, and that is not shown yet; about 900 more values would" in baked.text
    assert "time is over, and it does not go on yet: waits for traffic: new has served 4 of the 20" in baked.text
    due = verdict(results(control, new, reason="step 2 of 4, baked, and nothing speaks against new", **CANARY), slow)
    assert due.do == "Advance it."
    back = verdict(results(control, new, action="rollback", reason="control beats new", **CANARY), slow)
    assert (back.do, back.tone, back.actions) == ("It is rolled back by itself in a moment.", "bad", ())


def shadow(**changed: Any) -> ShadowComparison:
    known: dict[str, Any] = {
        "predictions": 12_000, "errors": 24, "error_rate": 0.002, "agreement": 0.971, "mean_absolute_difference": 0.02,
        "latency_ms": Latency(1.0, 4.0), "champion_latency_ms": Latency(1.0, 3.0), "histogram": [], "examples": [],
        "outcomes": Outcomes(600, 0.912, 0.901, None, None),
    }  # fmt: skip
    return ShadowComparison(**(known | changed))


def test_shadow__tells_agreement_and_who_was_right() -> None:
    told_so = verdict(results(arm("a"), arm("new", decisions=0, shadow=shadow()), strategy="shadow"), setting())
    assert told_so.headline == (
        "new agrees with the champion on 97.1% of 12,000 requests; they differ by 0.020 on average; "
        "right in 91.2%, the champion in 90.1%, of 600 that were told; it failed on 0.20%."
    )
    unscored = results(arm("a"), arm("new", decisions=0, shadow=shadow(outcomes=None)), strategy="shadow")
    assert "no feedback on the metric outcome" in verdict(unscored, setting()).text
    for own, sign in ((0.70, "less"), (0.98, "more")):
        apart = shadow(outcomes=Outcomes(1138, own, 0.85, None, None))
        found = verdict(results(arm("a"), arm("new", decisions=0, shadow=apart), strategy="shadow"), setting())
        assert f"new is shown to be right {sign} often than the champion." in found.details
        assert found.do.startswith(
            "Promote none of them" if sign == "less" else "Look at where they disagree, and promote"
        )
    none = verdict(results(arm("a"), arm("new", decisions=0), strategy="shadow"), setting())
    assert none.headline == "No challenger has answered a copy yet."


def test_split__tells_its_planned_end() -> None:
    ends = setting(forecast=SOON, ends_at=NOW + timedelta(days=7), at_end="promote_leader")
    said = verdict(results(V1, V2, strategy="ab", **LEADS), ends)
    then = "Its planned end is 3 December; then the leader is promoted, whatever the evidence."
    assert then in said.details
    none = results(arm("v1", decisions=0, rewards=0), arm("v2", decisions=0, rewards=0), strategy="ab")
    assert then in verdict(none, ends).details, "also where nothing came in"


@pytest.mark.parametrize(
    ("auto", "at_end", "strategy", "status"),
    list(product((True, False), ("stop", "promote_leader"), ("ab", "bandit", "canary"), ("running", "paused"))),
)
def test_what_a_person_does_and_what_its_planned_end_does__never_contradict_each_other(
    auto: bool, at_end: str, strategy: str, status: str
) -> None:
    """Whoever reads that nobody is promoted by itself reads until when; the same on each page."""
    ladder = Canary([0.5, 1.0], bake_seconds=600.0, auto=auto)
    promotes = at_end == "promote_leader"
    ends = setting(
        auto=auto, ends_at=NOW + timedelta(days=7), at_end=at_end, forecast=SOON,
        canary=ladder if strategy == "canary" else None,
    )  # fmt: skip
    at = CanaryState(2, 2, 1.0, NOW - timedelta(minutes=5)) if strategy == "canary" else None
    said = verdict(results(V1, V2, strategy=strategy, status=status, canary=at, **LEADS), ends)
    assert said.details[-1].endswith("the leader is promoted, whatever the evidence." if promotes else "it stops.")
    by_itself = re.findall(r"Nothing is promoted by itself[^:]*", said.text)
    assert all(one.endswith("before its planned end") == promotes for one in by_itself)
    due = verdict(
        results(V1, V2, strategy=strategy, status=status, canary=at, action="promote", to="v2", **LEADS), ends
    )
    if status == "paused" and "nothing is done by itself" in due.text:
        assert ("and its planned end is not reached" in due.text) == promotes
    row = Experiment(
        strategy=strategy, status=status, endpoint=Endpoint(name="pages", champion=ModelVersion(name="page", version="a")),
        policy={"name": "thompson"} if strategy == "bandit" else None, promotion={"auto": auto}, reward={},
        schedule={"max_seconds": 7 * 86_400, "at_end": at_end},
        canary={"auto": auto} if strategy == "canary" else None,
    )  # fmt: skip
    words = " ".join(in_words(row, []))
    assert f"After 7 days {'its leader is promoted, whatever the evidence' if promotes else 'it is stopped'}." in words
    assert ("Before its planned end nobody is promoted automatically" in words) == (promotes and not auto)
    assert ("Nobody is promoted automatically" in words) == (not promotes and not auto)


def test_planned_end_where_nobody_leads__stops_it() -> None:
    ends = setting(ends_at=NOW + timedelta(days=7), at_end="promote_leader", auto=False)
    gone = arm("v2", mean=0.061, enabled=False)
    assert verdict(results(V1, gone, **LEADS), ends).details[-1] == "Its planned end is 3 December; then it stops."
    for changed in ({"strategy": "shadow", "shadow": {}}, {"apprentice": True}, {"policy": {"name": "lin-thompson"}}):
        row = Experiment(**({"strategy": "bandit", "policy": {"name": "thompson"}, "reward": {}} | changed))
        row.schedule = {"max_seconds": 60, "at_end": "promote_leader"}
        assert not promotes_leader_at_end(row), changed


def test_apprentice__tells_what_it_would_have_chosen_and_its_score() -> None:
    choices = Apprentice(1200, {"v1": 0.38, "v2": 0.62}, ChoicesScored(600, 0.81, 0.78))
    said = verdict(results(V1, V2, apprentice=choices), setting(apprentice=True))
    assert said.headline == "The policy serves nobody; of 1,200 decisions it would have given v1 38.0%, v2 62.0%."
    assert said.details == (
        "Its choices would have been right in 81.0%, the control's in 78.0%, of 600 that were told.",
    )
    early = verdict(results(V1, V2, apprentice=None), setting(apprentice=True))
    assert "serves nobody" in early.headline


def test_contextual__judges_the_policy__never_an_arm() -> None:
    gain = Comparison(0.5, None, 120.0, (20.0, 220.0))
    said = verdict(results(V1, V2, comparison=gain), setting(contextual=True))
    assert said.headline == "The policy earns more than an even split: +120 rewards (95%: +20 to +220)."
    assert "can't be compared" in said.text
    assert "leads" not in said.text
    less = verdict(results(V1, V2, comparison=gain), setting(contextual=True, minimize=True))
    assert less.tone == "bad"


def test_holdout__is_told_with_its_interval() -> None:
    side = HoldoutSide(100, 100, 50, 0.05, (0.02, 0.08))
    held = Holdout(0.1, side, side, 0.008, (0.002, 0.014))
    said = verdict(results(V1, V2, holdout=held, **LEADS), setting())
    assert "Against the 10% of units that are held out: +0.8 points (95%: +0.2 to +1.4) a decision." in said.details


@pytest.mark.parametrize(
    ("numbers", "percent", "texts"),
    [
        ([0.0021, 0.0018], True, ["0.21%", "0.18%"]),
        ([0.002], True, ["0.20%"]),
        ([1_000_000_003.2, 1_000_000_001.1], False, ["1,000,000,003", "1,000,000,001"]),
        ([1e9 + 0.25, 1e9], False, ["1,000,000,000.2", "1,000,000,000.0"]),
        ([0.061, 0.05], True, ["6.1%", "5.0%"]),
        ([3.14159, 3.2], False, ["3.14", "3.20"]),
        ([3e-7], False, ["3.0e-7"]),
        ([2e-7, 3.5e-8], False, ["2.0e-7", "0.4e-7"]),
        ([12.0, 0.3], False, ["12.0", "0.3"]),
        ([1.02e9, 9.5e8], False, ["1.02 bn", "0.95 bn"]),
        ([-1e9], False, ["-1.00 bn"]),
        ([1_250_000.0], False, ["1.2 M"]),
        ([0.0], True, ["0.0%"]),
        ([3e-12], True, ["under 0.0001%"]),
        ([], True, []),
    ],
)
def test_values__are_told_apart__at_every_size(numbers: list[float], percent: bool, texts: list[str]) -> None:
    assert told.values(numbers, percent=percent) == texts


def test_reward_that_is_minimized__leads_by_less() -> None:
    slow, fast = arm("v1", mean=310.0, probability_best=0.02), arm("v2", mean=295.5, probability_best=0.98)
    said = verdict(results(slow, fast, **LEADS), setting(percent=False, minimize=True))
    assert said.headline.startswith("v2 leads: 296 against 310 of v1, the control (less is better)")
