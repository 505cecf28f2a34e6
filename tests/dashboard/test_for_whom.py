"""Which arm for whom: coefficients by arm and field, and who gets what, of a contextual policy."""

import csv
import io
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from django.test import Client
from noregret.experiments.models import Experiment
from noregret.learning.shown import asked
from noregret.learning.shown.asked import Told
from noregret.learning.shown.coefficients import MOST_PARTS, Coefficients, of_experiment
from noregret.rest.encoding import encoded
from noregret.steering.round import learn

from tests.conftest import Api
from tests.dashboard.test_dashboard import page
from tests.learning.past_traffic import begin_earlier, decide, reward

Start = Callable[..., Experiment]
Context = dict[str, Any]
COUNTRY = {"name": "country", "type": "category", "values": ["KR", "US"]}
AGE = {"name": "age", "type": "number", "min": 0, "max": 100}


def seen(experiment: Experiment, value: Callable[[str, Context], float], contexts: list[Context]) -> None:
    """Decisions by an even split, each with its reward, learned."""
    begin_earlier(experiment)
    for i, context in enumerate(contexts):
        arm = "ab"[i % 2]
        identity = decide(experiment, arm, seconds_ago=600.0 - 0.1 * i, context=context)
        learned = value(arm, context)
        reward(experiment, arm, identity, learned, delay=0.1)
    for _ in range(3):
        learn(experiment.endpoint_id)


def contextual(two_arms: Start, *fields: dict[str, Any], policy: str = "lin-thompson", **changes: Any) -> Experiment:
    body = {"reward": {"kind": "binary", "window_seconds": 1}, "context": {"fields": list(fields)}}
    return two_arms(policy={"name": policy}, **(body | changes))


def effects(found: Coefficients | None) -> dict[tuple[str, str, str], tuple[float, float, float]]:
    """(value, low, high) by (field, part, arm)."""
    assert found is not None
    return {
        (part.field, part.part, one.arm): (one.value, *one.interval)
        for part in found.parts
        for one in part.effects
        if one.value is not None and one.interval is not None
    }


def liked(rng: random.Random) -> Callable[[str, Context], float]:
    """Korea likes a, the United States b: 0.8 against 0.2; age means nothing."""
    return lambda arm, context: float(rng.random() < (0.8 if (arm == "a") == (context["country"] == "KR") else 0.2))


def people(rng: random.Random, count: int = 240) -> list[Context]:
    return [{"country": rng.choice(["KR", "US"]), "age": rng.uniform(20, 80)} for _ in range(count)]


def test_page__contextual__says_which_arm_is_for_whom__with_tables_and_csv(
    admin: Client, alice: Api, two_arms: Start
) -> None:
    experiment = contextual(two_arms, COUNTRY, AGE)
    rng = random.Random(1)
    before = admin.get(page(experiment)).content.decode()
    assert "being computed" in before
    seen(experiment, liked(rng), people(rng))
    asked.make(experiment.pk, asked.SEGMENTS)
    shown = admin.get(page(experiment)).content.decode()
    for text in ("Who gets what", "What each field changes at each arm", "country: KR", "age: from 0 to 100"):
        assert text in shown
    assert "other or unknown" not in shown  # nobody was
    found = effects(of_experiment(experiment))
    for (field, part, arm), (value, low, high) in found.items():
        if field == "age":
            assert low < 0.0 < high
            continue
        truth = 0.3 if (arm == "a") == (part == "KR") else -0.3
        assert low < truth < high, (part, arm)
        assert value * truth > 0
        assert low * high > 0
    rows = list(csv.DictReader(io.StringIO(_csv(admin, experiment, "coefficients"))))
    assert {row["unit"] for row in rows} == {"reward"}
    assert float(rows[0]["effect"]) == found[rows[0]["field"], rows[0]["part"], rows[0]["arm"]][0]
    assert rows[0]["field"] == "country"  # where arms differ most surely
    shares = list(csv.DictReader(io.StringIO(_csv(admin, experiment, "for-whom"))))
    by_part: dict[str, float] = {}
    for row in shares:
        by_part[row["part"]] = by_part.get(row["part"], 0.0) + float(row["share"])
    assert set(by_part) == {"KR", "US", "below 50", "50 or more"}
    assert all(total == pytest.approx(1.0) for total in by_part.values())
    told = alice.get("/api/v1/experiments/e/results").body
    assert len(told["coefficients"]["parts"]) == 3


def _csv(admin: Client, experiment: Experiment, name: str) -> str:
    answer = admin.get(f"/admin/experiments/experiment/{experiment.pk}/charts/{name}.csv")
    assert answer.status_code == 200
    return answer.content.decode()


def test_coefficients__forty_fields_and_rewards_around_1e9__are_bounded_and_right(two_arms: Start) -> None:
    base = 1e9
    fields = [{"name": f"n{i}", "type": "number", "min": base, "max": base + 10} for i in range(30)]
    fields += [{"name": f"c{i}", "type": "category", "values": ["<b>", "가"]} for i in range(10)]
    experiment = contextual(
        two_arms, *fields, reward={"kind": "continuous", "window_seconds": 1, "minimum": None, "maximum": None}
    )
    rng = random.Random(2)

    def context() -> Context:
        numbers = {f"n{i}": base + rng.uniform(0, 10) for i in range(30)}
        return numbers | {f"c{i}": rng.choice(["<b>", "가"]) for i in range(10)}

    def value(arm: str, given: Context) -> float:
        return base + rng.gauss(0, 1) + (given["n3"] - base) * (0.8 if arm == "a" else -0.8)

    seen(experiment, value, [context() for _ in range(600)])
    found = of_experiment(experiment)
    assert found is not None
    assert (len(found.parts), found.parts_in_all) == (MOST_PARTS, 50)
    assert found.parts[0].part == "from 1000000000 to 1000000010"
    first = effects(found)
    for arm, truth in (("a", 8.0), ("b", -8.0)):
        value_, low, high = first["n3", found.parts[0].part, arm]
        assert found.parts[0].field == "n3"
        assert value_ == pytest.approx(truth, rel=0.25)  # a ridge draws it towards 0
        assert high - low < 8.0


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_coefficients__logistic__are_log_odds_of_what_is_good(two_arms: Start, direction: str) -> None:
    goal = {"kind": "binary", "window_seconds": 1, "direction": direction}
    experiment = contextual(two_arms, COUNTRY, AGE, policy="logistic-thompson", reward=goal)
    rng = random.Random(3)
    seen(experiment, liked(rng), people(rng))
    found = of_experiment(experiment)
    assert found is not None
    assert found.unit == "log_odds"
    value, low, high = effects(found)["country", "KR", "a"]
    good = 1.0 if direction == "maximize" else -1.0
    assert good * value > 0.5
    assert low * high > 0


def test_coefficients__minimize__are_of_the_reward_itself(two_arms: Start) -> None:
    goal = {"kind": "binary", "window_seconds": 1, "direction": "minimize"}
    experiment = contextual(two_arms, COUNTRY, reward=goal)
    rng = random.Random(4)
    seen(experiment, liked(rng), people(rng))
    value, low, high = effects(of_experiment(experiment))["country", "KR", "a"]
    assert low < 0.3 < high
    assert value > 0.15


def test_coefficients__nothing_known__say_why__and_of_no_features_are_none(admin: Client, two_arms: Start) -> None:
    experiment = contextual(two_arms, COUNTRY)
    found = of_experiment(experiment)
    assert found is not None
    assert (found.parts, found.missing) == ([], "Not known before decisions with a reward have matured.")
    asked.make(experiment.pk, asked.SEGMENTS)
    shown = admin.get(page(experiment)).content.decode()
    assert shown.count("Not known before decisions with a reward have matured.") == 1
    Experiment.objects.update(policy={"name": "thompson"})
    assert of_experiment(Experiment.objects.get()) is None


def test_told__as_kept__is_read_again(two_arms: Start) -> None:
    experiment = contextual(two_arms, COUNTRY, AGE)
    rng = random.Random(5)
    seen(experiment, liked(rng), people(rng, 60))
    told = Told(1.5, None, of_experiment(experiment))
    assert msgspec.json.decode(encoded(told), type=Told) == told
    asked.make(experiment.pk, asked.SEGMENTS)
    known = asked.look(experiment, asked.SEGMENTS)
    assert known.told is not None
    assert not known.is_made  # it is fresh
    asked.make(10**9, asked.SEGMENTS)  # of one that is gone: nothing
    assert asked.look(experiment, asked.evaluation_by("uniform")).is_made
    asked.make(experiment.pk, asked.evaluation_by("uniform"))
    evaluated = asked.look(experiment, asked.evaluation_by("uniform")).told
    assert evaluated is not None
    assert evaluated.evaluation is not None
    assert evaluated.evaluation.decisions == 60
