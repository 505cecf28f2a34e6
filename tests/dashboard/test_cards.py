"""An endpoint's card on the first page: what it says of each strategy and in each state, and that
it says so of nothing that is not shown."""

import html
import random
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from noregret.dashboard.words import limits_told
from noregret.experiments.document import Guardrail, Reward
from noregret.experiments.models import Arm, Baseline, Endpoint, Experiment
from noregret.learning.health import sign_of_life
from noregret.learning.models import ArmInterval, ArmStatistics, BaselineInterval, ShadowStatistics
from noregret.learning.shown.phrases import counts_told
from noregret.redis_client import client, keys
from noregret.rollout.arms import set_enabled
from noregret.rollout.transitions import move
from noregret.steering.round import learn

from serving.learner_sign import Lag
from tests.conftest import Api, endpoint_of, static_model
from tests.dashboard.test_dashboard import page
from tests.dashboard.test_experiment_page import started
from tests.learning.past_traffic import WINDOW, begin_earlier, decide, fill, reward

Start = Callable[..., Experiment]
BY_HAND = {"promotion": {"auto": False, "min_rewards": 10}}


def card(client: Client) -> str:
    """The one card, as its reader sees it: text without tags, each run of blanks one."""
    (shown,) = re.findall(r"<article.*?</article>", client.get("/admin/").content.decode(), re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", shown)).split())


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max": 0.02}, "at most 0.02"),
        ({"min": 0.1, "max": 5}, "at most 5 and at least 0.1"),
        ({"max": 0.02, "versus": "control"}, "at most 0.02 above the control's"),
        ({"min": -0.05, "versus": "control"}, "at most 0.05 below the control's"),
        ({"min": 0.05, "versus": "control"}, "at least 0.05 above the control's"),
        ({"max": -0.05, "versus": "control"}, "at least 0.05 below the control's"),
        ({"max": 0, "versus": "control"}, "at most the control's"),
    ],
)
def test_limits__on_a_difference__say_that_they_are(limits: dict[str, Any], said: str) -> None:
    assert limits_told(Guardrail("cost", "pause", **limits), Reward()) == said


def test_card__guardrails__say_which_are_on_the_difference_to_the_control(admin: Client, two_arms: Start) -> None:
    two_arms(
        strategy="canary",
        arms=[{"name": "new", "model": "page@b"}],
        guardrails=[{"metric": "cost", "max": 2, "versus": "control", "action": "pause"}],
    )
    shown = card(admin)
    assert "cost at most 2 above the control's, or pause" in shown
    # The one that a canary has by itself is told too.
    assert re.search(r"error_rate at most [\d.]+ points above the control's, or roll back", shown)


def test_card__control_by_that_name__is_named_once(admin: Client, platform: None) -> None:
    started("canary")
    assert "Highest mean reward so far: new 6.0%, the control 5.5%." in card(admin)


def test_card__of_a_winner__says_who_it_is_and_who_is_waited_for(
    permissions: None, admin: Client, two_arms: Start
) -> None:
    experiment = two_arms(**WINDOW, **BY_HAND)
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    shown = card(admin)
    assert "is shown to be best" not in shown
    learn(experiment.endpoint_id)
    shown = card(admin)
    assert "winner: b" in shown
    assert "b is shown to be best: mean reward 86.7%, the control a 20.0%; evidence" in shown
    assert "It waits for somebody to promote b." in shown
    move(experiment, "pause", actor="root", reason="lunch")
    shown = card(admin)
    assert re.search(r"Paused by root at \d\d:\d\d UTC \(lunch\): the champion answers every request\. Day 1", shown)
    assert "Nothing is promoted while it is paused." in shown
    assert "waits for somebody" not in shown
    anna = User.objects.create_user("anna", is_staff=True)
    seen = ("view_endpoint", "view_experiment")
    anna.user_permissions.set(Permission.objects.filter(codename__in=seen))
    reader = Client()
    reader.force_login(anna)
    assert "Paused: the champion answers" in card(reader), "the trail is for those who may see it"


def test_card__without_a_winner__names_none(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(**WINDOW, **BY_HAND)
    begin_earlier(experiment)
    fill(experiment, {"a": (60, 60), "b": (62, 58)})
    learn(experiment.endpoint_id)
    shown = card(admin)
    assert "Highest mean reward so far: b 51.7%, the control a 50.0%; no evidence yet (40 needed)." in shown
    assert "winner" not in shown
    # Why the interval grows while nothing gets worse.
    told = admin.get(page(experiment)).content.decode()
    assert "The interval against an even split widens as an arm's share falls to its floor" in told


def test_card__rewards_ahead_of_their_decisions__says_which_are_late(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    ArmStatistics.objects.filter(arm__experiment=experiment).update(decisions=1100, rewards=1150, mean=0.1)
    assert "2,300 rewards, and 2,200 of the decisions they are for: the others are being written." in card(admin)
    assert counts_told(5, 5) == "5 decisions, 5 rewards"
    table = admin.get(page(experiment)).content.decode()
    assert table.count("1,100 so far") == 2


def test_card__failing_arms_and_those_taken_out__are_told(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    b = experiment.arms.get(name="b")
    assert "b fail" not in card(admin)
    ArmStatistics.objects.filter(arm=b).update(decisions=300, failures=90)
    assert "b fails: 30% of its 300 decisions were answered by the champion instead." in card(admin)
    held = ArmStatistics.objects.filter(arm__experiment=experiment)
    held.filter(arm__name="a").update(decisions=300, rewards=300, mean=0.5)
    held.filter(arm=b).update(rewards=210, mean=0.9)
    shown = card(admin)
    assert "so far: a 50.0%, b 90.0%" in shown, "who fails can't win"
    held.filter(arm=b).update(failures=0, rewards=3)
    shown = card(admin)
    assert "so far: b 90.0%, the control a 50.0% (of 3 rewards)" in shown
    held.update(rewards=0)
    # It is well on the whole, and not lately.
    ArmStatistics.objects.filter(arm=b).update(decisions=30_000, failures=90)
    assert "b fail" not in card(admin)
    ArmInterval.objects.create(arm=b, start=timezone.now(), decisions=60, failures=30)
    assert "b failed in 30 of its last 60 decisions." in card(admin)
    set_enabled(Arm.objects.select_related("experiment", "model").get(pk=b.pk), False, actor="t", reason="errors")
    shown = card(admin)
    assert "b is taken out and gets no traffic." in shown
    assert "b failed" not in shown


def test_card__shadow_that_fails_on_copies__is_told(admin: Client, platform: None) -> None:
    experiment = started("shadow")
    assert "new agrees with the champion in 50.0% of 20 copies" in card(admin)
    row = ShadowStatistics.objects.get(arm__experiment=experiment)
    ShadowStatistics.objects.filter(pk=row.pk).update(sums=row.sums | {"predictions": 100, "errors": 40})
    assert "new fails: it has no answer to 40% of 100 copies." in card(admin)


def test_card__contextual__tells_what_the_policy_earned(admin: Client, two_arms: Start) -> None:
    fields = [{"name": "country", "type": "category", "values": ["KR", "US"]}]
    experiment = two_arms(
        **WINDOW, policy={"name": "lin-thompson", "burn_in": 0}, context={"fields": fields}, holdout=0
    )
    begin_earlier(experiment)
    rng = random.Random(5)
    for i in range(240):
        country = rng.choice(["KR", "US"])
        best = "a" if country == "KR" else "b"
        arm = best if rng.random() < 0.9 else {"a": "b", "b": "a"}[best]
        shares = [0.9, 0.1] if best == "a" else [0.1, 0.9]
        identity = decide(
            experiment, arm, seconds_ago=120 - 0.1 * i, share=0.9 if arm == best else 0.1, shares=shares,
            context={"country": country},
        )  # fmt: skip
        reward(experiment, arm, identity, float(rng.random() < (0.9 if arm == best else 0.1)))
    ArmStatistics.objects.filter(arm__experiment=experiment).update(decisions=10, rewards=5)
    assert "what it earned beyond an even split is not known yet" in card(admin)
    ArmStatistics.objects.filter(arm__experiment=experiment).update(decisions=0, rewards=0)
    learn(experiment.endpoint_id)
    shown = card(admin)
    gain = re.search(r"The policy earns more than an even split: \+([\d.]+) rewards \(95%: \+", shown)
    assert gain is not None, shown
    assert "earns more" in shown
    assert "Highest mean" not in shown, "arms serve different requests"


def test_card__single_deployment__says_how_the_last_experiment_ended(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    move(experiment, "rollback", actor="guardrail", reason="b is slow")
    shown = card(admin)
    assert "No experiment runs: the champion answers every request" in shown
    assert re.search(
        r"The last one, e , ended at \d\d:\d\d UTC\. The experiment was rolled back by a guardrail: b is slow\.", shown
    )
    Experiment.objects.update(ended_at=timezone.now() - timedelta(days=400))
    assert re.search(r"ended on \d+ \w+ 20\d\d\. The experiment", card(admin))


def test_mean__without_a_reward_of_its_own__is_a_rate_as_in_the_last_experiment(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "metric": "clicked", "window_seconds": 60})
    now = timezone.now()
    Endpoint.objects.update(created_at=now - timedelta(hours=6))
    Experiment.objects.update(started_at=now - timedelta(hours=5))
    arm = experiment.arms.get(name="a")
    for i in (2, 3, 4):
        sums = {"decisions": 100, "rewards": 100, "reward_total": 6.0}
        ArmInterval.objects.create(arm=arm, start=now - timedelta(hours=i), **sums)
    in_per_cent = r"Mean clicked since \d+ \w+, \d\d:\d\d UTC: from 6\.00% to 6\.00%"
    assert re.search(in_per_cent, admin.get("/admin/").content.decode())
    move(experiment, "stop", actor="ann")
    assert re.search(in_per_cent, admin.get("/admin/").content.decode())
    # What the endpoint itself names goes before what has ended.
    Endpoint.objects.update(reward={"kind": "continuous", "metric": "clicked", "window_seconds": 60})
    assert "from 0.060 to 0.060" in admin.get("/admin/").content.decode()
    Endpoint.objects.update(reward=None)
    baseline = Baseline.objects.latest("pk")
    hour = now.replace(minute=0, second=0, microsecond=0)
    sums = {"decisions": 50, "rewards": 50, "reward_m2": 2.0}
    kept = BaselineInterval.objects.create(baseline=baseline, start=hour, reward_total=6.0, **sums)
    page_of = f"/admin/experiments/endpoint/{experiment.endpoint_id}/change/"
    Experiment.objects.update(reward={"kind": "binary", "metric": "reward", "window_seconds": 60})
    assert re.search(r"12\.\d*% \(", admin.get(page_of).content.decode())
    # Nobody said what feedback is without an experiment: a mean of 3 is no rate.
    BaselineInterval.objects.filter(pk=kept.pk).update(reward_total=150.0)
    assert re.search(r"3\.\d+ \(", admin.get(page_of).content.decode())


def test_card__learner_behind__says_that_its_figures_are_old(admin: Client, two_arms: Start) -> None:
    two_arms()
    sign_of_life({"pages": Lag(45.0, "decisions wait")})
    assert "The learner is 45 s behind here, and so are these figures." in card(admin)
    sign_of_life()
    assert "behind here" not in card(admin)


def test_card__new_endpoint__says_what_is_missing(admin: Client, platform: None) -> None:
    static_model("page", "a", "A")
    endpoint_of("pages", "page@a")
    shown = card(admin)
    assert "No decision was recorded in the last 48 hours." in shown
    assert "The last one" not in shown


def test_card__decisions_that_wait__are_not_told_as_no_traffic(admin: Client, alice: Api) -> None:
    static_model("page", "a", "A")
    endpoint = endpoint_of("pages", "page@a")
    for i in range(3):
        assert alice.post("/api/v1/endpoints/pages/decide", {"unit": f"u{i}"}).status == 200
    of_endpoint = f"/admin/experiments/endpoint/{endpoint.pk}/change/"
    waits = "Not all that came is in these figures: 3 decisions wait to be learned"
    for sign, why in ((False, ", and the learner gives no sign."), (True, ".")):
        if sign:
            sign_of_life()
        shown = card(admin)
        assert f"{waits}{why}" in shown
        assert "No decision of the last 48 hours is learned yet." in shown
        assert "No reward is learned yet." in shown
        assert f"{waits}{why}" in admin.get(of_endpoint).content.decode()
    learn(endpoint.pk)
    assert "wait to be learned" not in card(admin)
    assert "wait to be learned" not in admin.get(of_endpoint).content.decode()
    # Beside figures that are there, what has just come is on its way; without a learner it is not.
    assert alice.post("/api/v1/endpoints/pages/decide", {"unit": "later"}).status == 200
    assert "to be learned" not in card(admin)
    client().delete(keys().learner)
    assert "1 decision waits to be learned, and the learner gives no sign." in card(admin)


@pytest.mark.parametrize(
    "changed",
    [
        {"strategy": "ab"},
        {"strategy": "bandit"},
        {"strategy": "canary", "arms": [{"name": "new", "model": "page@b"}]},
        {"strategy": "shadow"},
        {"strategy": "bandit", "apprentice": True},
    ],
)
def test_experiment__decisions_that_wait__are_not_told_as_no_traffic(
    admin: Client, alice: Api, two_arms: Start, changed: dict[str, Any]
) -> None:
    experiment = two_arms(**changed)
    sign_of_life()
    for i in range(3):
        assert alice.post("/api/v1/endpoints/pages/decide", {"unit": f"u{i}"}).status == 200
    shown = admin.get(page(experiment)).content.decode()
    assert "No decision was learned yet." in shown
    assert "3 decisions wait to be learned." in shown
    for untrue in ("No decision has come in yet", "no decision yet", "requests name no unit"):
        assert untrue not in shown
    assert "come in" not in card(admin)
    assert "has come" not in card(admin)


def test_card__of_a_new_experiment__says_that_nothing_came(admin: Client, two_arms: Start) -> None:
    two_arms()
    assert "Day 1: no decision has come in yet. No guardrail watches it." in card(admin)
