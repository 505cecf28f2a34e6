"""The tables of docs/tables/interval-coverage.md, at the sizes that they claim: intervals hold what
they say."""

import pytest

from bandits.simulation import simulate_intervals
from benchmarks.interval_coverage import ARMS, Setting, saved_runs

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


@pytest.mark.parametrize("setting", ARMS, ids=lambda setting: f"{setting.says} {setting.policy} {setting.floor:g}")
def test_intervals__every_row__covers__and_watched_ones_are_seldom_missed(setting: Setting) -> None:
    found = simulate_intervals(
        setting.policy,
        setting.environment,
        setting.pulls,
        max(int(1000 * setting.part), 2),
        5,
        floor=setting.floor,
        params=setting.params or None,
    )
    assert (found.covered.mean(axis=0) >= 0.92).all()
    assert (found.ever_missed.mean(axis=0) <= 0.05).all()


@pytest.mark.parametrize("means", [[0.05] * 5, [0.3] * 5, [0.05] * 2, [0.05, 0.06]])
def test_saved__interval__covers(means: list[float]) -> None:
    covered, gain, _ = saved_runs(means, 5000, 500, 6)
    assert covered >= 0.92 - 2 * (0.92 * 0.08 / 500) ** 0.5
    if len(set(means)) == 1:
        assert gain <= 0.05
