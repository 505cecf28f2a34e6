"""The three rules of evidence: what holds for all, and each against what is right for it."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from bandits.inference.conditional import ConditionalEvidence
from bandits.inference.counted import Counts
from bandits.inference.evidence import RULES, Bucket, Evidence, differences, empty, from_dict
from bandits.inference.hypergeometric import log_normaliser, pair_log_factors
from bandits.inference.log_factors import STEPS, pack, unpack
from bandits.inference.verdict import verdict

every_rule = pytest.mark.parametrize("rule", list(RULES))


def buckets(
    means: list[float], n: int, seed: int, size: int = 100, answered: list[float] | None = None, labels: int = 1
) -> Iterator[Bucket]:
    """Buckets of uniform draws between arms with these means; a new label every `labels`
    buckets."""
    generator = np.random.default_rng(seed)
    for number, _ in enumerate(range(0, n, size)):
        arm = generator.integers(len(means), size=size)
        outcome = (generator.random(size) < np.array(means)[arm]).astype(float)
        kept = generator.random(size) < np.array(answered or [1.0] * len(means))[arm]
        e = np.full((int(kept.sum()), len(means)), 1 / len(means))
        yield Bucket(arm[kept], outcome[kept], e, np.full(len(e), number // labels))


def after(evidence: Evidence, parts: Iterator[Bucket]) -> Evidence:
    for bucket in parts:
        evidence = evidence.observe(bucket)
    return evidence


def shuffled(bucket: Bucket, order: NDArray[np.int64]) -> Bucket:
    return Bucket(bucket.arm[order], bucket.outcome[order], bucket.propensities[order], bucket.allocation[order])


@every_rule
def test_every_rule__nothing_seen__says_nothing(rule: str) -> None:
    evidence = empty(rule, 3, 0.1)
    alike = evidence.noninferiority_e_values()
    assert (evidence.e_values() == 1.0).all()
    assert alike is not None
    assert (alike == 1.0).all()
    assert empty(rule, 3).noninferiority_e_values() is None
    no_rows = Bucket(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((0, 3)), np.zeros(0, dtype=np.int64))
    assert list(differences(evidence.observe(no_rows), evidence, 0.0)) == []


@every_rule
def test_every_rule__clear_winner__is_promoted_and_survives_json(rule: str) -> None:
    evidence = after(empty(rule, 3, 0.01), buckets([0.65, 0.84, 0.955], 3000, 1, 50))
    found = verdict(evidence, 0.05)
    assert (found.action, found.arm) == ("promote", 2)
    again = from_dict(json.loads(json.dumps(evidence.to_dict())))
    assert (again.rule, again.to_dict()) == (rule, evidence.to_dict())
    assert list(differences(again, evidence, 0.0)) == []
    assert (again.e_values() == evidence.e_values()).all()


@every_rule
def test_arm_that_was_taken_out__counts_in_what_is_needed_once_it_had_an_outcome(rule: str) -> None:
    left = np.array([True, True, False])
    assert verdict(empty(rule, 3), 0.05, left).needed == pytest.approx(40.0)
    assert verdict(empty(rule, 3), 0.05).needed == pytest.approx(60.0)
    seen = after(empty(rule, 3), buckets([0.4, 0.5, 0.6], 300, 1, 50))
    assert verdict(seen, 0.05, left).needed == pytest.approx(60.0)


def promoted_first(rule: str, means: list[float], n: int, seed: int, size: int) -> tuple[int | None, int]:
    """The promoted arm or None, and after how many decisions, looked at after each bucket."""
    evidence = empty(rule, len(means))
    for number, bucket in enumerate(buckets(means, n, seed, size), start=1):
        evidence = evidence.observe(bucket)
        found = verdict(evidence, 0.05)
        if found.action == "promote":
            return found.arm, number * size
    return None, n


@every_rule
def test_every_rule__equal_arms_watched_all_along__seldom_promotes(rule: str) -> None:
    runs = 100
    wrong = sum(promoted_first(rule, [0.05, 0.05], 4000, seed, 200)[0] is not None for seed in range(runs))
    assert wrong / runs <= 0.05 + 4 * (0.05 * 0.95 / runs) ** 0.5


@every_rule
def test_every_rule__clear_winner__is_promoted_soon(rule: str) -> None:
    found = [promoted_first(rule, [0.65, 0.84, 0.955], 4000, seed, 50) for seed in range(20)]
    assert [arm for arm, _ in found] == [2] * 20
    # Weighted outcomes vary more: that is what not knowing who asked costs.
    assert np.median([n for _, n in found]) <= (1300 if rule == "weighted" else 800)


@every_rule
def test_every_rule__state_read_between_buckets__goes_on_as_in_one_go(rule: str) -> None:
    whole, parts = empty(rule, 2, 0.05), empty(rule, 2, 0.05)
    for bucket in buckets([0.3, 0.4], 700, 2, 7, labels=3):
        whole = whole.observe(bucket)
        parts = from_dict(json.loads(json.dumps(parts.observe(bucket).to_dict())))
    assert whole.to_dict() == parts.to_dict()


@every_rule
@pytest.mark.parametrize(("n", "size", "labels"), [(2000, 7, 3), (6000, 300, 1), (4000, 2000, 1)])
def test_every_rule__many_buckets_at_once__give_the_same_numbers_as_one_by_one(
    rule: str, n: int, size: int, labels: int
) -> None:
    """To the last digit: a rebuild takes them at once, the learner as they close."""
    parts = [*buckets([0.3, 0.4, 0.02], n, 31, size, labels=labels)]
    one_by_one = empty(rule, 3, 0.05)
    for bucket in parts:
        one_by_one = one_by_one.observe(bucket)
    at_once = empty(rule, 3, 0.05).observe_all(parts[: len(parts) // 2]).observe_all(iter(parts[len(parts) // 2 :]))
    assert at_once.to_dict() == one_by_one.to_dict()


@pytest.mark.parametrize("labels", [1, 3])
def test_conditional__decisions_that_are_counted__give_the_same_numbers(labels: int) -> None:
    """To the last digit: the learner observes decisions, a rebuild what the database counted."""
    parts = [*buckets([0.3, 0.4, 0.02], 4000, 33, 60, labels=labels)]
    whole = Counts.of(parts, 3)
    keys = (whole.bucket, whole.vector, whole.allocation, whole.outcome, whole.arm)
    alike, place, rows = np.unique(np.stack(keys), axis=1, return_index=True, return_counts=True)
    of_kind = {f.name: getattr(whole, f.name)[place] for f in fields(whole) if f.name != "propensities"}
    counted = replace(whole, **{**of_kind, "rows": rows})
    assert alike.shape[1] < len(whole) / 3
    cut = int(np.searchsorted(counted.bucket, 7))
    halves = [
        replace(counted, **{f.name: getattr(counted, f.name)[of] for f in fields(counted) if f.name != "propensities"})
        for of in (slice(cut), slice(cut, None))
    ]
    evidence = ConditionalEvidence.empty(3, 0.05)
    assert evidence.observe_counts(counted).to_dict() == evidence.observe_all(parts).to_dict()
    in_parts = evidence.observe_counts(halves[0]).observe_counts(halves[1])
    assert in_parts.to_dict() == evidence.observe_all(parts).to_dict()


@every_rule
def test_every_rule__order_within_a_bucket__does_not_matter(rule: str) -> None:
    generator = np.random.default_rng(4)
    e = np.round(generator.dirichlet(np.ones(3), 500), 1) * 0.97 + 0.01
    e /= e.sum(axis=1, keepdims=True)
    arm = (generator.random((500, 1)) > e.cumsum(axis=1)).sum(axis=1).clip(max=2)
    bucket = Bucket(arm, generator.integers(2, size=500).astype(float), e, generator.integers(4, size=500))
    other = shuffled(bucket, generator.permutation(500))
    one, two = (empty(rule, 3, 0.01).observe(seen).observe(bucket) for seen in (bucket, other))
    assert list(differences(one, two, 1e-6)) == []


@every_rule
def test_every_rule__arm_added_later__begins_without_evidence(rule: str) -> None:
    evidence = after(empty(rule, 2), buckets([0.3, 0.5], 2000, 5)).with_arms(3)
    assert evidence.arms == 3
    assert (evidence.e_values()[2] == 1.0).all()
    assert (evidence.e_values()[:, 2] == 1.0).all()
    assert verdict(evidence, 0.05).action == "continue"
    # Decisions from before it came still mature: they say nothing of it.
    for bucket in buckets([0.3, 0.5], 600, 6, 10):
        evidence = evidence.observe(
            Bucket(bucket.arm, bucket.outcome, np.pad(bucket.propensities, ((0, 0), (0, 1))), bucket.allocation)
        )
    assert (evidence.e_values()[:, 2] == 1.0).all()
    assert evidence.e_values()[1, 0] > 1000.0


@every_rule
@pytest.mark.parametrize("added_after", [0, 3, 12])
def test_every_rule__whenever_an_arm_was_added__the_same_log_gives_the_same_evidence(
    rule: str, added_after: int
) -> None:
    """The third arm gets traffic from the 12th bucket on; a rebuild knows of it from the first."""
    early = [*buckets([0.3, 0.5], 1200, 21)]
    late = [*buckets([0.3, 0.5, 0.6], 1500, 22)]
    live, rebuilt = empty(rule, 2, 0.05), empty(rule, 3, 0.05)
    for number, bucket in enumerate([*early, *late]):
        propensities = np.pad(bucket.propensities, ((0, 0), (0, 3 - bucket.propensities.shape[1])))
        padded = Bucket(bucket.arm, bucket.outcome, propensities, bucket.allocation + 100 * (number >= len(early)))
        if number == added_after:
            live = live.with_arms(3)
        live = live.observe(bucket if number < added_after else padded)
        rebuilt = rebuilt.observe(padded)
    assert list(differences(live, rebuilt, 0.0)) == []
    assert rebuilt.e_values()[2, 0] > 1.0


def test_weighted__first_bucket_of_an_arm__is_bet_on_by_nobody() -> None:
    first, second = buckets([0.1, 0.9], 200, 23)
    assert (empty("weighted", 2).observe(first).e_values() == 1.0).all()
    assert empty("weighted", 2).observe(first).observe(second).e_values()[1, 0] > 1.0


@every_rule
def test_every_rule__impossible_rows__are_refused(rule: str) -> None:
    label = np.zeros(1, dtype=np.int64)
    arm = np.zeros(1, dtype=np.int64)
    for outcome in (1.5, np.nan):
        with pytest.raises(ValueError, match="outcomes"):
            empty(rule, 2).observe(Bucket(arm, np.array([outcome]), np.array([[0.5, 0.5]]), label))
    with pytest.raises(ValueError, match="propensity"):
        empty(rule, 2).observe(Bucket(arm, np.array([1.0]), np.array([[0.0, 1.0]]), label))
    with pytest.raises(ValueError, match="propensities"):
        empty(rule, 3).observe(Bucket(arm, np.array([1.0]), np.array([[0.5, 0.5]]), label))
    with pytest.raises(ValueError, match="indifference"):
        empty(rule, 2, 1.0)


def test_evidence__of_an_unknown_rule__is_refused() -> None:
    with pytest.raises(ValueError, match="conditional, design, weighted"):
        empty("p-value", 2)


def test_evidence__state_of_old__is_read_as_design_based() -> None:
    sums = np.random.default_rng(0).normal(size=(2, 2, 5)).tolist()
    matured = {"count": [3.0, 4.0], "mean": [0.5, 0.25], "m2": [0.1, 0.2]}
    old = {"indifference": 0.0, "superior": sums, "noninferior": None, "matured": matured, "scores": matured}
    evidence = from_dict(old)
    assert evidence.rule == "design"
    assert evidence.e_values()[0, 1] == pytest.approx(np.exp(sums[0][1]).mean())
    assert evidence.to_dict()["matured"] == matured


@every_rule
def test_every_rule__hundred_arms__take_less_than_half_a_megabyte(rule: str) -> None:
    evidence = after(empty(rule, 100), buckets([0.05] * 100, 5000, 7, 1000))
    assert len(json.dumps(evidence.to_dict())) < 500_000


def test_packed_sums__of_any_size__are_the_same_numbers() -> None:
    for shape in ((1, 1, 5), (3, 3, 5), (17, 17, 5)):
        units = np.random.default_rng(1).integers(-(2**38), 2**38, shape)
        sums = units.astype(np.float64) * 2.0**-24
        again = unpack(json.loads(json.dumps(pack(sums))))
        assert again is not None
        assert np.array_equal(again, sums)
    assert unpack(pack(None)) is None


def exact_log_normaliser(first: int, second: int, ones: int, log_odds: float) -> float:
    x = np.arange(max(0, ones - second), min(first, ones) + 1)
    cells = (x, first - x, ones - x, second - ones + x)
    return float(special.logsumexp(x * log_odds - sum(special.gammaln(cell + 1.0) for cell in cells)))


def test_log_normaliser__any_margins__is_the_whole_sum() -> None:
    generator = np.random.default_rng(8)
    log_odds = np.array([[0.0, 0.1, -0.1, 1.6, -1.6, 4.0, -4.0]])
    for _ in range(400):
        rows = int(10 ** generator.uniform(0.4, 5))
        first = int(generator.integers(1, rows))
        ones = int(np.clip(rows * 10 ** generator.uniform(-3, 0), 1, rows - 1))
        found = log_normaliser(np.array([first]), np.array([rows - first]), np.array([ones]), log_odds)[0]
        wanted = np.array([exact_log_normaliser(first, rows - first, ones, one) for one in log_odds[0]])
        assert np.abs((found - found[0]) - (wanted - wanted[0])).max() < 1e-8


def test_log_normaliser__million_rows__matches_the_mean_of_a_binomial_limit() -> None:
    # With second >> ones each success falls to the first with probability 1/4: Z(r) / Z(1) -> (1 +
    # (r - 1) / 4) ** ones.
    found = log_normaliser(np.array([250_000]), np.array([750_000]), np.array([7]), np.array([[0.0, 0.8]]))[0]
    assert found[1] - found[0] == pytest.approx(7 * np.log1p(np.expm1(0.8) / 4), abs=1e-4)


def test_conditional_factor__arms_alike__has_expectation_one() -> None:
    first, second, ones = 13, 7, 9
    x = np.arange(max(0, ones - second), min(first, ones) + 1)
    law = stats.hypergeom(first + second, first, ones).pmf(x)
    full = np.full_like(x, first), np.full_like(x, second)
    for_first, for_second = pair_log_factors(*full, x, ones - x)
    assert law @ np.exp(for_first) == pytest.approx(np.ones(len(STEPS)), abs=1e-12)
    assert law @ np.exp(for_second) == pytest.approx(np.ones(len(STEPS)), abs=1e-12)


def test_conditional_factor__worse_by_the_margin__has_expectation_one() -> None:
    first, second, ones, margin = 40, 60, 20, 0.7
    x = np.arange(max(0, ones - second), min(first, ones) + 1)
    full = np.full_like(x, first), np.full_like(x, second)
    for_first, for_second = pair_log_factors(*full, x, ones - x, np.full(len(x), margin))
    for log_odds, factors in ((-margin, for_first), (margin, for_second)):
        law = stats.nchypergeom_fisher(first + second, first, ones, np.exp(log_odds)).pmf(x)
        assert law @ np.exp(factors) == pytest.approx(np.ones(len(STEPS)), abs=1e-9)
    # And less where it is worse by more than the margin.
    law = stats.nchypergeom_fisher(first + second, first, ones, np.exp(-1.5 * margin)).pmf(x)
    assert (law @ np.exp(for_first) < 1.0).all()


def test_conditional__label_that_goes_on__is_one_stratum_across_buckets() -> None:
    rows = next(buckets([0.3, 0.6], 40, 9, 40))
    once = empty("conditional", 2).observe(rows)
    parts = empty("conditional", 2)
    for start in range(0, 40, 2):
        parts = parts.observe(shuffled(rows, np.arange(start, start + 2)))
        # Nothing is counted before the stratum is over, at 20 rows.
        assert (parts.e_values()[1, 0] == 1.0) == (start < 18)
    assert once.matured.count.sum() == parts.matured.count.sum() == 40
    halves = empty("conditional", 2)
    for start in (0, 20):
        halves = halves.observe(shuffled(rows, np.arange(start, start + 20)))
    assert list(differences(parts, halves, 1e-9)) == []


def test_conditional__label_out_of_use__counts_soon_and_the_open_ones_stay_few() -> None:
    evidence = empty("conditional", 2)
    for number in range(200):
        bucket = Bucket(
            np.array([0, 1, 1]), np.array([0.0, 1.0, 1.0]), np.full((3, 2), 0.5), np.full(3, number, dtype=np.int64)
        )
        evidence = evidence.observe(bucket)
        assert len(evidence.to_dict()["open"]) <= 8
    # Each three rows give w**2 / E[w**S_2] with S_2 of hypergeom(3, 2, 2): 1 (2/3) or 2 (1/3). All
    # but the open are in.
    counted = 200 - len(evidence.to_dict()["open"])
    w = np.exp(STEPS)
    factor = w**2 / (2 / 3 * w + 1 / 3 * w**2)
    assert evidence.e_values()[1, 0] == pytest.approx(float((factor**counted).mean()), rel=1e-4)


def test_conditional__propensities_that_differ_within_a_label__are_strata_of_their_own() -> None:
    # As a policy that counts its own pulls serves: the first arm while the mean is 0, then the
    # second while it is 1.
    arm = np.repeat([0, 1], 50)
    e = np.where(arm[:, None] == [0, 1], 0.99, 0.01)
    bucket = Bucket(arm, arm.astype(float), e, np.zeros(100, dtype=np.int64))
    evidence = after(empty("conditional", 2), iter([bucket] * 10))
    assert (evidence.e_values() == 1.0).all()


def test_conditional__outcomes_between__are_refused() -> None:
    with pytest.raises(ValueError, match="0 and 1"):
        empty("conditional", 2).observe(
            Bucket(np.array([0]), np.array([0.5]), np.array([[0.5, 0.5]]), np.zeros(1, dtype=np.int64))
        )


def test_conditional__equal_arms_answered_at_different_rates__are_not_promoted_where_the_design_promotes() -> None:
    runs, wrong = 25, {"conditional": 0, "design": 0}
    for rule, seed in product(wrong, range(runs)):
        generator = np.random.default_rng(seed)
        evidence = empty(rule, 2)
        for number in range(60):
            size = 100
            arm = generator.integers(2, size=size)
            outcome = (generator.random(size) < 0.2 + 0.5 * number / 60).astype(float)
            kept = generator.random(size) < np.array([0.9, 0.3])[arm]
            e = np.full((int(kept.sum()), 2), 0.5)
            evidence = evidence.observe(Bucket(arm[kept], outcome[kept], e, np.full(len(e), number)))
            if verdict(evidence, 0.05).action == "promote":
                wrong[rule] += 1
                break
    assert wrong["conditional"] / runs <= 0.05 + 4 * (0.05 * 0.95 / runs) ** 0.5
    assert wrong["design"] / runs >= 0.9


def test_weighted__arms_equal_on_average_but_not_by_request__are_not_promoted_where_the_design_promotes() -> None:
    """One arm .30 everywhere; the other .20, and .70 for a fifth of the requests, which get it
    nearly always."""
    runs, wrong = 40, {"weighted": 0, "design": 0}
    for rule, seed in product(wrong, range(runs)):
        generator = np.random.default_rng(seed)
        evidence = empty(rule, 2)
        for number in range(25):
            size = 400
            special_request = generator.random(size) < 0.2
            e = np.where(special_request[:, None], [0.03, 0.97], [0.5, 0.5])
            arm = (generator.random(size) > e[:, 0]).astype(np.int64)
            mean = np.where(arm == 0, 0.3, np.where(special_request, 0.7, 0.2))
            outcome = (generator.random(size) < mean).astype(float)
            evidence = evidence.observe(Bucket(arm, outcome, e, np.full(size, number)))
            if verdict(evidence, 0.05).action == "promote":
                wrong[rule] += 1
                break
    assert wrong["weighted"] / runs <= 0.05 + 4 * (0.05 * 0.95 / runs) ** 0.5
    assert wrong["design"] / runs >= 0.5


def test_weighted__policy_that_gives_nothing_where_an_arm_is_good__steers_no_comparison() -> None:
    """The second arm answers .9 for half of the requests, which always get it, and .1 for the
    others; the first .3 for all."""
    promoted = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        evidence = empty("weighted", 2)
        for number in range(20):
            good = generator.random(300) < 0.5
            e = np.where(good[:, None], [0.0, 1.0], [0.5, 0.5])
            arm = (generator.random(300) >= e[:, 0]).astype(np.int64)
            outcome = (generator.random(300) < np.where(arm == 0, 0.3, np.where(good, 0.9, 0.1))).astype(float)
            evidence = evidence.observe(Bucket(arm, outcome, e, np.full(300, number)))
        promoted.append(verdict(evidence, 0.05).action)
    assert promoted == ["continue"] * 20


def test_weighted__arm_switched_off_for_a_while__keeps_what_was_known_of_it() -> None:
    evidence = after(empty("weighted", 3), buckets([0.3, 0.5, 0.4], 3000, 11))
    before = evidence.e_values()
    for bucket in buckets([0.3, 0.5], 2000, 12):
        padded = np.pad(bucket.propensities, ((0, 0), (0, 1)))
        evidence = evidence.observe(Bucket(bucket.arm, bucket.outcome, padded, bucket.allocation))
    assert np.array_equal(evidence.e_values()[2], before[2])
    assert np.array_equal(evidence.e_values()[:, 2], before[:, 2])
    assert evidence.e_values()[1, 0] > before[1, 0]


def test_conditional__one_arm_never_answered__nobody_is_beaten() -> None:
    evidence = after(empty("conditional", 2), buckets([0.5, 0.5], 5000, 10, answered=[0.9, 0.0]))
    assert (evidence.e_values() == 1.0).all()
    assert verdict(evidence, 0.05).action == "continue"


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.95])
def test_every_rule__arms_worse_by_the_margin__are_seldom_called_alike(rule: str, rate: float) -> None:
    margin, runs, wrong = 0.04, 60, 0
    for seed in range(runs):
        evidence = empty(rule, 2, margin)
        for bucket in buckets([rate - margin / 2, rate + margin / 2], 5000, seed, 250):
            evidence = evidence.observe(bucket)
            alike = evidence.noninferiority_e_values()
            assert alike is not None
            if alike[0, 1] >= 20.0:
                wrong += 1
                break
    assert wrong / runs <= 0.05 + 4 * (0.05 * 0.95 / runs) ** 0.5


@every_rule
def test_every_rule__equal_arms_with_indifference__end_as_stop(rule: str) -> None:
    assert verdict(after(empty(rule, 2, 0.1), buckets([0.5, 0.5], 8000, 6)), 0.05).action == "stop"
    found = verdict(after(empty(rule, 2, 0.05), buckets([0.4, 0.6], 3000, 7)), 0.05)
    assert (found.action, found.arm) == ("promote", 1)
