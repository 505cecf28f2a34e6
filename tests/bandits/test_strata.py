"""Two arms in strata, as a state that goes on: the same bets however the rows come in, made with
what was known before."""

import itertools
import math

import numpy as np
import pytest

from bandits.inference.betting import FAR, STAKES, failure_wagers
from bandits.inference.strata import FailureStrata, Sides, ValueStrata

SIDES = Sides(above=0.1, below=-0.2)


def by_hand(own: np.ndarray, values: np.ndarray, strata: list[slice], limit: float, sign: float) -> np.ndarray:
    """What each stake has won, a stratum after the other, by the formulas of the docstring."""
    logs, seen = np.zeros(len(STAKES)), np.zeros(0)
    middle = math.nan
    for stratum in strata:
        mine, here = own[stratum], sign * values[stratum]
        if len(seen) and seen.min() < seen.max():
            far = FAR * max(middle - seen.min(), seen.max() - middle)
            share = mine.mean()
            counted = np.where(mine, 1 - share, -share) * (np.clip(here, middle - far, middle + far) - middle)
            worst = max(1 - share, share) * far + share * (1 - share) * max(limit, 0.0)
            if 0 < share < 1:
                gains = np.maximum((counted - share * (1 - share) * limit) / worst, -1.0)
                logs += np.log1p(STAKES[:, None] * gains).sum(axis=1)
        seen, middle = np.concatenate((seen, here)), float(here.mean())
    return logs


def test_values__in_pieces__equal_the_formulas_and_the_whole() -> None:
    rng = np.random.default_rng(4)
    group = np.sort(rng.integers(0, 40, 400))
    own, values = rng.random(400) < 0.4, rng.lognormal(0.0, 1.0, 400)
    ends, size = [0], 0
    for count in np.bincount(group, minlength=40).tolist():
        size += count
        if size - ends[-1] >= 20:
            ends.append(size)
    strata = [slice(*pair) for pair in itertools.pairwise(ends)]
    whole = ValueStrata().observe(own, values, group, SIDES)
    assert whole.above.logs == pytest.approx(by_hand(own, values, strata, 0.1, 1.0), rel=1e-9)
    assert whole.below.logs == pytest.approx(by_hand(own, values, strata, 0.2, -1.0), rel=1e-9)
    assert whole.own + whole.control + len(whole.waiting) == 400
    pieces = ValueStrata()
    for cut in (slice(0, 10), slice(10, 25), slice(25, 40)):
        mask = (group >= cut.start) & (group < cut.stop)
        pieces = ValueStrata.from_dict(pieces.to_dict()).observe(own[mask], values[mask], group[mask], SIDES)
    assert pieces.above.logs == pytest.approx(whole.above.logs, rel=1e-9)
    assert pieces.difference == pytest.approx(whole.difference, rel=1e-9)
    assert pieces.waiting == whole.waiting


def test_values__one_allocation_for_long__is_cut_in_order_of_time() -> None:
    rng = np.random.default_rng(5)
    own, values = rng.random(250) < 0.5, rng.normal(0.0, 1.0, 250)
    found = ValueStrata().observe(own, values, np.zeros(250, dtype=np.int64), SIDES)
    strata = [slice(0, 100), slice(100, 200), slice(200, 250)]
    assert found.above.logs == pytest.approx(by_hand(own, values, strata, 0.1, 1.0), rel=1e-9)


def test_values__difference__is_that_within_strata_and_not_of_the_plain_means() -> None:
    # The world is worth 1, then 3; the arm is 0.5 more at both times, and has most of its values in
    # the second.
    own = np.array(([True] * 2 + [False] * 18) * 5 + ([True] * 18 + [False] * 2) * 5)
    values = np.repeat([1.0, 3.0], 100) + 0.5 * own
    found = ValueStrata().observe(own, values, np.arange(200) // 20, SIDES)
    assert found.difference == pytest.approx(0.5, rel=1e-12)
    assert values[own].mean() - values[~own].mean() > 1.5


def test_values__first_stratum_and_values_that_never_varied__are_no_evidence() -> None:
    own, group = np.arange(60) % 2 == 0, np.arange(60) // 20
    first = ValueStrata().observe(own[:20], np.where(own[:20], 9.0, 1.0), group[:20], SIDES)
    assert first.above.logs.tolist() == [0.0] * len(STAKES)
    same = ValueStrata().observe(own, np.full(60, 7.0), group, SIDES)
    assert same.above.logs.tolist() == [0.0] * len(STAKES)
    assert (same.difference, same.middle) == (0.0, 7.0)


def test_values__open_stratum__is_counted_by_a_look_and_kept_for_the_next_piece() -> None:
    own, values = np.arange(30) % 2 == 0, np.arange(30.0)
    state = ValueStrata().observe(own, values, np.arange(30) // 10, SIDES)
    assert (state.own + state.control, len(state.waiting)) == (20, 10)
    looked = state.observe(own[:0], values[:0], np.zeros(0, dtype=np.int64), SIDES, last=True)
    assert (looked.own + looked.control, len(looked.waiting)) == (30, 0)


def test_values__at_the_ends_of_what_is_taken__are_finite() -> None:
    own, values = np.arange(200) % 2 == 0, np.where(np.arange(200) % 4 < 2, 1e15, -1e15)
    found = ValueStrata().observe(own, values, np.arange(200) // 20, Sides(above=1e15, below=-1e15))
    assert np.isfinite(found.above.logs).all()
    assert np.isfinite(found.below.logs).all()


def test_failures__in_pieces__equal_the_counts_of_strata_that_reach_over_no_change_of_the_split() -> None:
    counts = np.array([[1.0, 20, 0, 20], [0, 5, 1, 5], [2, 40, 0, 0], [0, 3, 0, 4], [1, 30, 1, 30]])
    parts = ["a", "a", "b", "b", "b"]
    whole = FailureStrata().observe(counts, parts, 0.01, last=True)
    # 50 decisions after two; the split changes; 47; and 60 of the rest, since the third alone is
    # not enough.
    strata = np.array([[1.0, 25, 1, 25], [3, 73, 1, 34]])
    assert whole.wagers.logs == pytest.approx(failure_wagers(*strata.T, 0.01).logs, rel=1e-12)
    assert (whole.control_failed, whole.control, whole.alone) == (2.0, 59.0, (0.0, 0.0))
    pieces = FailureStrata().observe(counts[:3], parts[:3], 0.01)
    pieces = FailureStrata.from_dict(pieces.to_dict()).observe(counts[3:], parts[3:], 0.01, last=True)
    assert pieces.wagers.logs == pytest.approx(whole.wagers.logs, rel=1e-12)


def test_failures__arm_alone_after_the_last_step__is_told_apart() -> None:
    counts = np.array([[0.0, 5, 1, 50], [3.0, 60, 0, 0]])
    found = FailureStrata().observe(counts, ["a", "b"], 0.0)
    assert (found.alone, found.control_failed, found.control) == ((3.0, 60.0), 1.0, 50.0)
