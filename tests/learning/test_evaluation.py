"""What another policy would have earned: from the ledger, from its file, over HTTP and on the command line."""

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
from noregret.learning.evaluation import of_experiment
from noregret.learning.round import learn
from past_traffic import begin_earlier, decide, reward

from tests.conftest import Api

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
FIELDS = [{"name": "age", "type": "number", "min": 0, "max": 100}]


def logged(two_arms: Start, n: int = 600, share: float = 0.5) -> Experiment:
    """A uniform log in which the young like a and the old like b: the best arm earns 0.5, the best choice by age 0.9."""
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
    plain = of_experiment(experiment, "thompson", {})
    by_age = of_experiment(experiment, "lin-ucb", {"alpha": 0.2})
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
    ledger = of_experiment(experiment, "lin-thompson", {})
    assert of_file["decisions"] == ledger["decisions"] == 300
    for name in ("ips", "snips", "dr", "switch_dr"):
        assert of_file["estimates"][name]["value"] == pytest.approx(ledger["estimates"][name]["value"], abs=1e-6)


def test_evaluate__target_that_the_log_can_not_show__is_refused(two_arms: Start) -> None:
    experiment = logged(two_arms, 100, share=1.0)
    found = of_experiment(experiment, "uniform", {})
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
