"""What another policy would have earned: from the ledger, from its file, over HTTP and on the
command line."""

import json
import random
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning.shown import evaluation
from noregret.steering.round import learn
from past_traffic import begin_earlier, decide, reward

from serving.models import Reward
from tests.conftest import Api
from tests.learning.told import evaluated as ledger_evaluation

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
FIELDS = [{"name": "age", "type": "number", "min": 0, "max": 100}]


def logged(two_arms: Start, n: int = 600, share: float = 0.5) -> Experiment:
    """A uniform log in which the young like a and the old like b: the best arm earns 0.5, the best
    choice by age 0.9."""
    experiment = two_arms(
        policy={"name": "uniform", "burn_in": 0, "floor": 0.0},
        reward={"kind": "binary", "window_seconds": 1},
        promotion={"auto": False},
        context={"fields": FIELDS},
    )
    begin_earlier(experiment)
    rng = random.Random(1)
    begun = timezone.now() - timedelta(seconds=200)
    for i in range(n):
        age = rng.choice([10, 90])
        arm = "a" if rng.random() < share else "b"
        chance = 0.9 if (arm == "a") == (age == 10) else 0.1
        propensity = share if arm == "a" else 1 - share
        identity = decide(
            experiment, arm, at=begun + timedelta(seconds=0.1 * i), share=propensity, context={"age": age}
        )
        reward(experiment, arm, identity, float(rng.random() < chance))
    learn(experiment.endpoint_id)
    return experiment


def test_evaluate__policy_that_learns_from_features__earns_what_it_would(two_arms: Start) -> None:
    experiment = logged(two_arms)
    plain = ledger_evaluation(experiment, "thompson", {})
    by_age = ledger_evaluation(experiment, "lin-ucb", {"alpha": 0.2})
    assert plain["logged"]["value"] == pytest.approx(0.5, abs=0.07)
    for name in ("ips", "snips", "dr", "switch_dr"):
        assert abs(plain["estimates"][name]["value"] - 0.5) < 4 * plain["estimates"][name]["standard_error"] + 0.02
        estimate = by_age["estimates"][name]
        low, high = estimate["interval"]
        assert 0.75 < estimate["value"] < 0.95
        assert low < 0.89 < high + 0.03
        assert low > plain["logged"]["interval"][1]
    # The reward model explains most of the noise: its interval is the narrower one.
    assert by_age["estimates"]["dr"]["standard_error"] < by_age["estimates"]["ips"]["standard_error"]
    assert sum(by_age["shares"].values()) == pytest.approx(1.0)


def test_evaluate__of_the_experiments_file__is_the_ledgers(two_arms: Start, alice: Api, tmp_path: Path) -> None:
    experiment = logged(two_arms, 300)
    file = tmp_path / "decisions.ndjson"
    file.write_bytes(alice.get(f"/api/v1/experiments/{experiment.name}/decisions.ndjson").content)
    (tmp_path / "context.json").write_text(json.dumps({"fields": FIELDS}))
    out = StringIO()
    call_command(
        "evaluate",
        "--file",
        str(file),
        "--context",
        str(tmp_path / "context.json"),
        "--policy",
        "lin-thompson",
        "--json",
        stdout=out,
    )
    of_file = json.loads(out.getvalue())
    ledger = ledger_evaluation(experiment, "lin-thompson", {})
    assert of_file["decisions"] == ledger["decisions"] == 300
    for name in ("ips", "snips", "dr", "switch_dr"):
        assert of_file["estimates"][name]["value"] == pytest.approx(ledger["estimates"][name]["value"], abs=1e-6)


def test_evaluate__target_that_the_log_can_not_show__is_refused(two_arms: Start) -> None:
    experiment = logged(two_arms, 100, share=1.0)
    found = ledger_evaluation(experiment, "uniform", {})
    assert "could not have chosen" in found["refused"] or "never shows" in found["refused"]
    assert found["estimates"] == {}
    with pytest.raises(CommandError, match=r"log (says nothing|never shows)"):
        call_command("evaluate", "--experiment", "e", "--policy", "uniform", stdout=StringIO())


def test_evaluate__over_http__answers_or_names_the_field(two_arms: Start, alice: Api) -> None:
    logged(two_arms, 200)
    path = "/api/v1/experiments/e/results"
    assert alice.get(path).body["evaluation"] is None
    found = alice.get(f"{path}?evaluate=lin-ucb&params=%7B%22alpha%22%3A0.2%7D").body["evaluation"]
    assert found["policy"] == "lin-ucb"
    assert found["params"] == {"alpha": 0.2}
    assert set(found["estimates"]) == {"ips", "snips", "dr", "switch_dr"}
    wrong = [
        ("?evaluate=magic", "evaluate"),
        ("?evaluate=thompson&params=%7B%22colour%22%3A1%7D", "params"),
        ("?evaluate=thompson&params=1", "params"),
    ]
    for query, field in wrong:
        answer = alice.get(path + query)
        assert (answer.status, answer.fields()) == (400, [field])
    assert alice.get(path + "?policy=thompson").status == 400


def test_evaluate__while_somebody_waits__reads_the_newest__and_says_so(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = logged(two_arms, 200)
    whole = evaluation.of_experiment(experiment, "thompson", {}, seconds=60.0)
    assert (whole.decisions, whole.warnings) == (200, [])
    monkeypatch.setattr(evaluation, "EVALUATED_DECISIONS", 50)
    monkeypatch.setattr(evaluation, "COUNTED_TIMES", 2)
    newest = evaluation.of_experiment(experiment, "thompson", {}, seconds=60.0)
    assert newest.decisions == 50
    assert any("of the newest 50 decisions with a reward" in said for said in newest.warnings)
    assert evaluation.of_experiment(experiment, "thompson", {}).decisions == 200
    # Of a policy that learns from features there are the fewer, the more arms and features.
    monkeypatch.setattr(evaluation, "LEAST_EVALUATED", 20)
    monkeypatch.setattr(evaluation, "EVALUATED_CELLS", 30 * 2 * 2)
    assert evaluation.of_experiment(experiment, "lin-ucb", {}, seconds=60.0).decisions == 30


def test_evaluate__ledger_of_which_little_is_answered__counts_among_the_newest(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = logged(two_arms, 200)
    Reward.objects.filter(value=1.0).delete()
    found = evaluation.of_experiment(experiment, "uniform", {}, seconds=60.0)
    silent = found.left_out["unanswered"]
    assert found.decisions + silent == 200
    assert not [said for said in found.warnings if "counted among" in said]
    monkeypatch.setattr(evaluation, "EVALUATED_DECISIONS", 150)
    monkeypatch.setattr(evaluation, "COUNTED_TIMES", 1)
    found = evaluation.of_experiment(experiment, "uniform", {}, seconds=60.0)
    assert found.decisions == 200 - silent
    assert 0 < found.left_out["unanswered"] < silent
    assert "what was left out is counted among the newest 150 decisions" in found.warnings


def test_evaluate__that_takes_too_long__is_ended_and_says_so(
    two_arms: Start, alice: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged(two_arms, 200)
    monkeypatch.setattr("noregret.learning.api.results.EVALUATED_SECONDS", 0.0)
    answer = alice.get("/api/v1/experiments/e/results?evaluate=lin-ucb")
    assert answer.status == 200
    found = answer.body["evaluation"]
    assert "to replay lin-ucb on 200 decisions of 2 arms takes longer than the 0 s" in found["refused"]
    assert (found["logged"], found["estimates"]) == (None, {})


def test_evaluate__on_the_command_line__is_a_table(two_arms: Start) -> None:
    logged(two_arms, 200)
    out = StringIO()
    call_command("evaluate", "--experiment", "e", "--policy", "lin-ucb", stdout=out)
    said = out.getvalue()
    assert "lin-ucb on 200 logged decisions" in said
    assert "doubly robust" in said
    assert "It would have chosen" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1"),
        ('{"arm": "a", "propensity": 0, "reward": 1}', "propensity"),
        ('{"arm": "a", "propensity": 0.5, "reward": null}', "no line has an arm and a reward"),
    ],
)
def test_evaluate__file_that_is_wrong__says_where(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "decisions.ndjson"
    file.write_text(line)
    arguments: list[Any] = ["evaluate", "--file", str(file), "--policy", "thompson"]
    with pytest.raises(CommandError, match=said):
        call_command(*arguments)
    with pytest.raises(CommandError, match="No such file"):
        call_command("evaluate", "--file", str(tmp_path / "none"), "--policy", "thompson")


WINDOW = 600.0


def silent_means_zero(two_arms: Start, *, default: float | None = 0.0) -> Experiment:
    """An experiment that began three windows ago, with a uniform log to come."""
    experiment = two_arms(
        policy={"name": "uniform", "burn_in": 0, "floor": 0.0},
        reward={"kind": "binary", "window_seconds": WINDOW, "default": default},
        promotion={"auto": False},
    )
    begin_earlier(experiment, 3 * WINDOW)
    return experiment


def fill_two_windows(experiment: Experiment, n: int = 600) -> None:
    """Every tenth decision earns a 1 at once and the others nothing: half of them are open still,
    and those with a reward all ones."""
    begun = timezone.now() - timedelta(seconds=2 * WINDOW + 20)
    for i in range(n):
        arm = "ab"[i % 2]
        at = begun + timedelta(seconds=2 * WINDOW * i / n)
        identity = decide(experiment, arm, at=at)
        if i % 20 in {0, 11}:
            reward(experiment, arm, identity, 1.0, delay=0.5)
    learn(experiment.endpoint_id)


def test_evaluate__open_windows_where_silence_means_zero__are_left_out(two_arms: Start) -> None:
    experiment = silent_means_zero(two_arms)
    fill_two_windows(experiment)
    found = ledger_evaluation(experiment, "uniform", {})
    assert found["logged"]["value"] == pytest.approx(0.1, abs=0.005)
    for estimate in found["estimates"].values():
        assert estimate["value"] == pytest.approx(0.1, abs=0.005)
        assert estimate["interval"][0] < 0.1 < estimate["interval"][1]
    assert found["decisions"] + found["left_out"]["open"] == 600
    assert 300 <= found["decisions"] <= 400
    assert found["matured_until"] is not None


def test_evaluate__nothing_matured__is_refused_with_how_many_are_open(two_arms: Start) -> None:
    experiment = silent_means_zero(two_arms)
    for i in range(20):
        identity = decide(experiment, "ab"[i % 2], seconds_ago=5)
        reward(experiment, "ab"[i % 2], identity, 1.0)
    learn(experiment.endpoint_id)
    found = ledger_evaluation(experiment, "uniform", {})
    assert found["estimates"] == {}
    assert "20 whose window is open" in found["refused"]


def test_evaluate__file_with_open_windows__is_the_ledgers(two_arms: Start, alice: Api, tmp_path: Path) -> None:
    experiment = silent_means_zero(two_arms)
    fill_two_windows(experiment)
    ledger = ledger_evaluation(experiment, "uniform", {})
    file = tmp_path / "decisions.ndjson"
    file.write_bytes(alice.get(f"/api/v1/experiments/{experiment.name}/decisions.ndjson").content)
    told = ["--window", str(WINDOW), "--default", "0"]
    for terms in (told, ["--experiment", "e"]):
        out = StringIO()
        call_command("evaluate", "--file", str(file), "--policy", "uniform", "--json", *terms, stdout=out)
        found = json.loads(out.getvalue())
        # The file was made at the latest time in it; the ledger closes whole buckets, a little
        # later.
        assert abs(found["decisions"] - ledger["decisions"]) <= 30
        assert found["decisions"] + found["left_out"]["open"] == 600
        assert found["estimates"]["snips"]["value"] == pytest.approx(0.1, abs=0.005)
    out = StringIO()
    call_command("evaluate", "--file", str(file), "--policy", "uniform", *told, stdout=out)
    assert "whose window is open" in out.getvalue()
    with pytest.raises(CommandError, match=r"lines have no reward.*--window"):
        call_command("evaluate", "--file", str(file), "--policy", "uniform", stdout=StringIO())
    with pytest.raises(CommandError, match="--window is for --file"):
        call_command("evaluate", "--experiment", "e", "--policy", "uniform", *told, stdout=StringIO())


def test_evaluate__held_out_and_failed_decisions__are_left_out(two_arms: Start, alice: Api, tmp_path: Path) -> None:
    experiment = two_arms(
        policy={"name": "uniform", "burn_in": 0, "floor": 0.0},
        reward={"kind": "binary", "window_seconds": 1},
        promotion={"auto": False},
        holdout=0.2,
    )
    begin_earlier(experiment)
    for i in range(300):
        arm, held, failed = "ab"[i % 2], i % 10 == 0, i % 10 == 1
        arm = "a" if held else arm
        # 1 where it counts, 0 where it does not: any row that is wrongly read shows.
        at = timezone.now() - timedelta(seconds=100 - 0.1 * i)
        identity = decide(experiment, arm, at=at, shares=[0.5, 0.5], holdout=held, failed=failed)
        reward(experiment, arm, identity, 0.0 if held or failed else 1.0)
    learn(experiment.endpoint_id)
    file = tmp_path / "decisions.ndjson"
    file.write_bytes(alice.get(f"/api/v1/experiments/{experiment.name}/decisions.ndjson").content)
    out = StringIO()
    call_command("evaluate", "--file", str(file), "--policy", "uniform", "--json", stdout=out)
    for found in (ledger_evaluation(experiment, "uniform", {}), json.loads(out.getvalue())):
        assert found["decisions"] == 240
        assert (found["left_out"]["holdout"], found["left_out"]["fallback"]) == (30, 30)
        assert found["logged"]["value"] == 1.0


def test_evaluate__units_that_return__errors_are_of_units(two_arms: Start) -> None:
    """30 units of ten decisions, each of which always earns or never does: as much is known as from
    30 numbers."""
    experiment = two_arms(
        policy={"name": "uniform", "burn_in": 0, "floor": 0.0},
        reward={"kind": "binary", "window_seconds": 1},
        promotion={"auto": False},
    )
    begin_earlier(experiment)
    for i in range(300):
        unit = i % 30
        arm = "ab"[unit % 2]
        at = timezone.now() - timedelta(seconds=100 - 0.1 * i)
        identity = decide(experiment, arm, at=at, unit=f"u{unit}")
        reward(experiment, arm, identity, float(unit % 3 == 0))
    learn(experiment.endpoint_id)
    found = ledger_evaluation(experiment, "uniform", {})
    assert found["decisions"] == 300
    assert found["logged"]["standard_error"] == pytest.approx((1 / 3 * 2 / 3 / 29) ** 0.5, rel=0.01)
    assert found["logged"]["effective_sample_size"] == pytest.approx(30.0)


def test_evaluate__arms_that_are_answered_at_different_rates__are_told(two_arms: Start) -> None:
    experiment = silent_means_zero(two_arms, default=None)
    begun = timezone.now() - timedelta(seconds=WINDOW + 100)
    for i in range(400):
        arm = "ab"[i % 2]
        identity = decide(experiment, arm, at=begun + timedelta(seconds=0.05 * i))
        if arm == "a" or i % 4 == 1:
            reward(experiment, arm, identity, float(i % 3 == 0))
    learn(experiment.endpoint_id)
    found = ledger_evaluation(experiment, "thompson", {})
    assert found["left_out"]["unanswered"] == 100
    assert any("a 100.0%, b 50.0%" in said for said in found["warnings"])


def line(**part: Any) -> str:
    return json.dumps({"arm": "a", "propensity": 0.5, "reward": 1, "decided_at": "2026-11-23T10:00:00Z"} | part)


def evaluated(tmp_path: Path, lines: list[str], *options: str) -> Any:
    file = tmp_path / "lines.ndjson"
    file.write_text("\n".join(lines))
    out = StringIO()
    call_command("evaluate", "--file", str(file), "--policy", "uniform", "--json", *options, stdout=out)
    return json.loads(out.getvalue())


def test_evaluate__file__feedback_after_the_window__is_the_default(tmp_path: Path) -> None:
    both = [line(arm=arm) for arm in ("a", "b")] * 10
    late = [line(arm=arm, rewarded_at="2026-11-23T12:00:00Z") for arm in ("a", "b")] * 10
    silent = [line(arm=arm, reward=None) for arm in ("a", "b")] * 10
    at = ("--as-of", "2026-11-23T13:00:00Z", "--window", "60")
    with_default = evaluated(tmp_path, [*both, *late, *silent], *at, "--default", "0")
    assert (with_default["decisions"], with_default["logged"]["value"]) == (60, pytest.approx(1 / 3))
    without = evaluated(tmp_path, [*both, *late, *silent], *at)
    assert (without["decisions"], without["left_out"]["unanswered"]) == (20, 40)
    with pytest.raises(CommandError, match="no decision in the file has matured: 20"):
        evaluated(tmp_path, both, "--window", "60")
    with pytest.raises(CommandError, match="line 1: decided_at"):
        evaluated(tmp_path, [line(decided_at=None)], "--window", "60")
    assert evaluated(tmp_path, [*both, line(learnable=False, reward=0)])["left_out"]["not_learnable"] == 1
    # The ends of the calendar are times like others.
    ends = [line(decided_at="9999-12-31T23:59:59Z"), line(decided_at="0001-01-01T00:00:00+23:59")]
    assert evaluated(tmp_path, [*both, *ends], "--window", "60")["decisions"] == 21
    with pytest.raises(CommandError, match="no decision in the file has matured: 22"):
        evaluated(tmp_path, [*both, *ends], *at[:2], "--window", "1e12")


def test_evaluate__file__what_had_no_chance__is_refused(tmp_path: Path) -> None:
    certain = [line(arm="ab"[i % 2], propensity=1.0) for i in range(100)]
    with pytest.raises(CommandError, match=r"50\.0% of what the target policy would choose"):
        evaluated(tmp_path, certain)
    # With every arm's propensities it is known that c never had a chance in every second decision.
    fair, without_c = {"a": 0.25, "b": 0.25, "c": 0.5}, {"a": 0.5, "b": 0.5, "c": 0.0}
    never = [line(arm="ab"[i % 2], propensities=without_c) for i in range(60)]
    never += [line(arm="abcc"[i % 4], propensity=fair["abcc"[i % 4]], propensities=fair) for i in range(60)]
    with pytest.raises(CommandError, match=r"16\.7% of what"):
        evaluated(tmp_path, never)
    with pytest.raises(CommandError, match="line 1: propensities of every arm"):
        evaluated(tmp_path, [line(propensities={"a": 0.9, "b": 0.1})])
