"""The contract of every router and strategy: between arms that are alike nothing is promoted,
rolled back or alarmed of.

A few runs of each setting, which see a rule that is wrong and not one that is a little off; `python
-m benchmarks.crossings` makes the table of many.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from benchmarks.crossings import ALPHA, Row, Run, Setting, by_probabilities, measure, settings
from serving.routing import (
    ApprenticeRouter,
    ContextualRouter,
    CountingRouter,
    DrawnRouter,
    HashedRouter,
    HoldoutRouter,
    router,
)

RUNS = 10
SETTINGS = {setting.name: setting for setting in settings()}


@cache
def measured(name: str) -> Row:
    # Where each request is weighed anew a run takes a second.
    return measure(SETTINGS[name], 4 if SETTINGS[name].contextual else RUNS)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_every_setting__arms_alike__ends_in_nothing_nearly_always(name: str) -> None:
    row = measured(name)
    # Four or more of ten at 5 % happen once in a thousand; an alarm at 0.1 % once in a hundred.
    assert row.promoted <= 3
    assert row.rolled_back <= 3
    assert row.alarmed <= 1
    assert row.trials > 0


def test_all_settings_together__arms_alike__keep_within_alpha() -> None:
    rows = [measured(name) for name in SETTINGS]
    runs = sum(row.runs for row in rows)
    for wrong, bound in ((sum(row.decided for row in rows), ALPHA), (sum(row.alarmed for row in rows), 0.005)):
        assert wrong / runs <= bound + 4 * (bound * (1 - bound) / runs) ** 0.5


def test_settings__between_them__go_through_every_router() -> None:
    enabled = np.ones(3, dtype=np.bool_)
    kinds = set()
    for setting in SETTINGS.values():
        served = router(Run(setting, 0)._snapshot(0, enabled[: setting.arms]))
        kinds.add(type(served))
    wanted = {ApprenticeRouter, ContextualRouter, CountingRouter, DrawnRouter, HashedRouter, HoldoutRouter}
    assert kinds == wanted


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("ab, 50 units return", 50),
        ("canary of four steps, 50 units return", 50),
        ("canary of ten steps, 200 units return", 200),
        ("thompson, sticky, 200 units return", 200),
    ],
)
def test_units_that_keep_their_arm__each__count_once(name: str, most: int) -> None:
    assert Run(SETTINGS[name], 3).end().trials <= most


def test_holdout__units_held_out__enter_no_evidence() -> None:
    setting = SETTINGS["thompson, holdout 0.2, 200 units return"]
    share = Run(setting, 5).end().trials / (setting.batches * setting.batch)
    # 200 units, 20 % of them held out, each with its own number of requests.
    assert abs(share - 0.8) <= 4 * (0.2 * 0.8 / 200) ** 0.5


@pytest.mark.parametrize("name", ["thompson, apprentice", "thompson, second arm fails"])
def test_arm_without_an_outcome__however_long__is_neither_better_nor_beaten(name: str) -> None:
    run = Run(SETTINGS[name], 7)
    run.end()
    assert (run.evidence.e_values() == 1.0).all()


@dataclass(frozen=True, slots=True)
class CountedEachTime(Setting):
    """As if each decision of a unit that keeps its arm were a trial."""

    @property
    def units_count_once(self) -> bool:
        return False


def test_suite__units_of_a_canary_counted_each_time__is_seen_to_be_wrong() -> None:
    right = SETTINGS["canary of four steps, 50 units return"]
    wrong = CountedEachTime(right.name, strategy="canary", steps=right.steps, returning=50)
    assert measure(wrong, RUNS).alarmed > 1


def test_labels_by_probabilities__the_same_split__has_the_same_label() -> None:
    split = np.array([[0.5, 0.5], [0.9, 0.1], [0.5, 0.5]])
    found = by_probabilities(SETTINGS["ab"], 0, split)
    assert found[0] == found[2] != found[1]
    assert found[0] == by_probabilities(SETTINGS["ab"], 9, split[:1])[0]
