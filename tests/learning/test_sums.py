"""Sums over the ledger that results are told from: the same as all its rows give, whatever came in
which order, and however often anew."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning import resumming, shadows, summing
from noregret.learning.drain import drain
from noregret.learning.finishing import FINAL_AFTER, finish
from noregret.learning.fold import fold
from noregret.learning.kept import rows_from, spans_of
from noregret.learning.models import ExperimentEvidence, LedgerSums, UnitBase, UnitOutcomes
from noregret.learning.parts import Alone
from noregret.learning.rebuild import rebuild
from noregret.learning.served import unfit
from noregret.redis_client import client, keys
from noregret.steering.round import learn

from bandits.inference.even_split import EvenSplit, saved
from bandits.inference.intervals import interval
from bandits.inference.units import UnitSums, of_units
from bandits.reward import RewardModel
from serving.models import Decision, Reward
from tests.learning.past_traffic import begin_earlier, decide, decided_at, reward
from tests.learning.told import results

Start = Callable[..., Experiment]

BINARY: dict[str, Any] = {"kind": "binary", "window_seconds": 1}
REWARDS: dict[str, dict[str, Any]] = {
    "silence means nothing": BINARY,
    "default": BINARY | {"default": 0},
    "exposure": BINARY | {"default": 0, "pending": "exposure"},
}
KINDS: dict[str, dict[str, Any]] = {
    "ab": {"strategy": "ab"},
    "canary": {
        "strategy": "canary",
        "arms": [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@b"}],
        "canary": {"auto": False},
    },
    "sticky": {"sticky": True, "policy": {"name": "uniform"}},
    "holdout": {"holdout": 0.3, "policy": {"name": "uniform"}},
    "bandit": {"policy": {"name": "uniform"}},
}


def differences(experiment: Experiment) -> list[str]:
    parts = resumming.parts(experiment, spans_of(experiment, None, rows_from(experiment)), 1)
    return list(resumming.differences(experiment, list(Alone()(experiment, parts))))


def again(experiment: Experiment) -> Experiment:
    return Experiment.objects.select_related("endpoint").get(pk=experiment.pk)


class Traffic:
    """Twenty units with means of their own, that come again and again; some requests have none."""

    def __init__(self, experiment: Experiment, seed: int, offset: float = 0.0) -> None:
        self._experiment, self._rng, self._offset = experiment, random.Random(seed), offset
        self._means = [self._rng.random() for _ in range(20)]

    def come(self, count: int, *, seconds_ago: float = 60.0, shares: tuple[float, float] = (0.5, 0.5)) -> list[bytes]:
        """Decisions with rewards, or most of them; their ids."""
        made = []
        experiment, rng = self._experiment, self._rng
        keeps = experiment.sticky or experiment.strategy in ("ab", "canary")
        for _ in range(count):
            unit = rng.randrange(20) if rng.random() < 0.9 else None
            held_out = experiment.holdout > 0 and unit is not None and unit % 4 == 0
            drawn = int(rng.random() >= shares[0]) if unit is None or not keeps else unit % 2
            arm = 0 if held_out else drawn
            failed = rng.random() < 0.05
            identity = decide(
                experiment, "ab"[arm], seconds_ago=seconds_ago - rng.random(), share=shares[arm], shares=list(shares),
                unit=None if unit is None else f"u{unit}", holdout=held_out, failed=failed,
            )  # fmt: skip
            made.append(identity)
            mean = 0.5 if unit is None else self._means[unit]
            if not failed and rng.random() < 0.8:
                reward(experiment, "ab"[arm], identity, self._offset + float(rng.random() < mean))
        return made


def learned_rows(experiment: Experiment) -> list[tuple[Reward, Decision]]:
    """What may be shown: learned rewards beside their decisions, of closed buckets where silence
    means something."""
    closed = ExperimentEvidence.objects.get(experiment=experiment).closed_until
    until = datetime.max.replace(tzinfo=UTC) if experiment.reward["default"] is None else closed
    decisions = {row.id: row for row in Decision.objects.filter(experiment_id=experiment.pk)}
    rewards = Reward.objects.filter(experiment_id=experiment.pk, metric="reward", folded=True, late=False)
    return [
        (row, decisions[row.decision_id])
        for row in rewards
        if row.decision_id in decisions and until is not None and row.decided_at < until
    ]


def of_parts(parts: list[dict[Any, list[float]]]) -> tuple[UnitSums, np.ndarray]:
    """Sums over the units of each part, {unit: values}, and the parts' means; computed from values
    less their mean."""
    sums, means = [], []
    for units in parts:
        values = [value for one in units.values() for value in one]
        means.append(float(np.mean(values)) if values else 0.0)
        count = np.array([len(one) for one in units.values()], dtype=float)
        residual = np.array([sum(value - means[-1] for value in one) for one in units.values()])
        sums.append((count.sum(), np.square(count).sum(), np.square(residual).sum()))
    return UnitSums(*np.array(sums).T), np.array(means)


def grouped(rows: list[tuple[Reward, Decision]], part: Callable[[Decision], Any]) -> dict[Any, dict[Any, list[float]]]:
    found: dict[Any, dict[Any, list[float]]] = {}
    for held, decision in rows:
        unit = decision.unit or decision.id
        found.setdefault(part(decision), {}).setdefault(unit, []).append(held.value)
    return found


def assert_told_as_the_ledger_says(experiment: Experiment) -> dict[str, Any]:
    """Every figure that comes from sums is what a reader of all rows finds."""
    experiment = again(experiment)
    shown = results(experiment)
    rows = learned_rows(experiment)
    arms = list(experiment.arms.order_by("position"))
    model = RewardModel("binary")
    if experiment.sticky or experiment.holdout or experiment.strategy != "bandit":
        by_arm = grouped(rows, lambda decision: decision.arm_id)
        sums, _ = of_parts([by_arm.get(arm.pk, {}) for arm in arms])
        # Around the mean that stands beside it: of all learned rewards, those whose decisions are
        # still to come too.
        means = np.array([arm["mean"] or 0.0 for arm in shown["arms"]])
        low, high = interval(of_units(sums, means), model, 0.05)
        for i, arm in enumerate(shown["arms"]):
            if arm["interval"] is not None:
                assert arm["interval"] == pytest.approx([low[i], high[i]], rel=1e-7)
                assert arm["interval_method"] == "by_unit"
    if experiment.holdout:
        by_side = grouped(rows, lambda decision: decision.holdout)
        sums, means = of_parts([by_side.get(side, {}) for side in (False, True)])
        low, high = interval(of_units(sums, means), model, 0.05)
        for i, name in enumerate(("bandit", "holdout")):
            units = by_side.get(bool(i), {})
            assert shown["holdout"][name] == {
                "decisions": Decision.objects.filter(holdout=bool(i)).count(),
                "rewards": sum(map(len, units.values())),
                "units": len(units),
                "mean": pytest.approx(means[i]) if units else None,
                "interval": pytest.approx([low[i], high[i]], rel=1e-7) if len(units) > 1 else None,
            }
    if experiment.strategy == "bandit":
        assert_saved(experiment, shown, rows)
    return shown


def assert_saved(experiment: Experiment, shown: dict[str, Any], rows: list[tuple[Reward, Decision]]) -> None:
    seats = {arm.pk: arm.position for arm in experiment.arms.all()}
    drawn = [(r, d) for r, d in rows if d.fallback_reason is None and not d.holdout]
    if not drawn:
        assert shown["comparison"]["saved_interval"] is None
        return
    arm = np.array([seats[d.arm_id] for _, d in drawn])
    split = EvenSplit.of(arm, np.array([r.value for r, _ in drawn]), np.array([d.propensities for _, d in drawn]))
    means = None
    if experiment.sticky or experiment.holdout:
        sums = []
        for seat in range(len(seats)):
            units: dict[Any, list[float]] = {}
            for (held, d), here in zip(drawn, arm, strict=True):
                if here == seat:
                    weight = 1 / (sum(p > 0 for p in d.propensities) * d.propensity)
                    one = units.setdefault(d.unit or d.id, [0.0, 0.0])
                    one[0] += weight
                    one[1] += weight * (held.value - split.moments.mean[1][seat])
            pairs = np.array(list(units.values())).reshape(-1, 2)
            sums.append((pairs[:, 0].sum(), np.square(pairs[:, 0]).sum(), np.square(pairs[:, 1]).sum()))
        means = of_units(UnitSums(*np.array(sums).T), split.moments.mean[1])
    draws = None
    if experiment.sticky:  # each unit's arm was drawn once
        came = np.array([*Counter((seats[r.arm_id], d.unit or d.id) for r, d in drawn).values()], dtype=float)
        draws = came.sum() ** 2 / np.square(came).sum()
    expected = saved(split, RewardModel("binary"), 0.05, means, draws)
    if expected is None:
        assert shown["comparison"]["saved_against_even_split"] is None
        return
    assert shown["comparison"]["saved_against_even_split"] == pytest.approx(expected.value, abs=1e-7)
    assert shown["comparison"]["saved_interval"] == pytest.approx([expected.low, expected.high], abs=1e-6)


def withhold(experiment: Experiment) -> list[dict[bytes, bytes]]:
    """Take what lies in the stream out of it, as a web process that spools keeps it."""
    stream = keys().decisions(experiment.endpoint.name)
    entries = client().xrange(stream)
    client().xdel(stream, *[entry for entry, _ in entries])
    return [fields for _, fields in entries]


def ship(experiment: Experiment, entries: list[dict[bytes, bytes]]) -> None:
    for fields in entries:
        client().xadd(keys().decisions(experiment.endpoint.name), fields)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("ab", "silence means nothing"),
        ("ab", "default"),
        ("canary", "silence means nothing"),
        ("sticky", "default"),
        ("sticky", "exposure"),
        ("holdout", "silence means nothing"),
        ("holdout", "exposure"),
        ("bandit", "default"),
    ],
)
def test_figures__units_return_rewards_dawdle_and_decisions_come_late__are_those_of_all_rows(
    two_arms: Start, kind: str, given: str
) -> None:
    """Three rounds under changed weights, each with decisions that come after their rewards, and a
    late reward; one without news."""
    experiment = two_arms(promotion={"auto": False}, reward=REWARDS[given], **KINDS[kind])
    begin_earlier(experiment)
    assert_told_as_the_ledger_says(experiment)
    traffic = Traffic(experiment, 81)
    spooled: list[dict[bytes, bytes]] = []
    for round_, shares in enumerate(((0.5, 0.5), (0.2, 0.8), (0.9, 0.1), (0.9, 0.1))):
        if round_ < 3:
            traffic.come(30, seconds_ago=100 - 30 * round_, shares=shares)
            late = withhold(experiment)
            identity = traffic.come(60, seconds_ago=100 - 30 * round_, shares=shares)[0]
            Reward.objects.filter(decision_id=UUID(bytes=identity)).update(late=True)
        ship(experiment, spooled)
        spooled, late = late, []
        learn(experiment.endpoint_id)
        assert_told_as_the_ledger_says(experiment)
        assert rebuild(again(experiment), write=False) == []
    assert Decision.objects.count() == 270
    shown = assert_told_as_the_ledger_says(experiment)
    rebuild(again(experiment), write=True)
    anew = assert_told_as_the_ledger_says(experiment)
    assert rebuild(again(experiment), write=False) == []
    for name in ("interval", "watched_interval"):
        for before, after in zip(shown["arms"], anew["arms"], strict=True):
            assert after[name] == (None if before[name] is None else pytest.approx(before[name], rel=1e-9))


def test_exposure__open_buckets__are_not_shown_and_enter_when_they_close(two_arms: Start) -> None:
    experiment = two_arms(
        strategy="ab",
        promotion={"auto": False},
        reward={"kind": "binary", "window_seconds": 600, "default": 0, "pending": "exposure"},
    )
    begin_earlier(experiment)
    for i in range(20):
        reward(experiment, "a", decide(experiment, "a", seconds_ago=30, unit=f"u{i % 5}"), 1.0)
    learn(experiment.endpoint_id)
    assert Reward.objects.filter(folded=True).count() == 20
    assert not UnitOutcomes.objects.exists()
    Experiment.objects.update(reward=again(experiment).reward | {"window_seconds": 1})
    learn(experiment.endpoint_id)
    assert UnitOutcomes.objects.count() == 5
    assert assert_told_as_the_ledger_says(experiment)["arms"][0]["interval"] is not None


def test_sums__steps_of_two_learners_at_once__lose_and_double_nothing(two_arms: Start) -> None:
    """Two that drain and two that fold, without the endpoint's lock: rewards and decisions meet in
    every order."""
    experiment = two_arms(sticky=True, promotion={"auto": False}, reward=BINARY, policy={"name": "uniform"})
    begin_earlier(experiment)
    traffic = Traffic(experiment, 82)
    endpoint = Endpoint.objects.get()
    stop = threading.Event()
    failures: list[BaseException] = []

    def go_on(step: Callable[[], object]) -> None:
        try:
            while not stop.is_set():
                step()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    steps = [lambda: drain(endpoint), lambda: fold(again(experiment))] * 2
    threads = [threading.Thread(target=go_on, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for _ in range(40):
        traffic.come(10)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert failures == []
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 400
    assert_told_as_the_ledger_says(experiment)
    assert rebuild(again(experiment), write=False) == []


@pytest.mark.parametrize("offset", [1e9, -1e9])
def test_intervals__rewards_far_from_0__lose_nothing(two_arms: Start, offset: float) -> None:
    """The same traffic far from 0 has the same residuals by unit; the mean's own last digits are a
    millionth here."""
    experiment = two_arms(
        strategy="ab",
        promotion={"auto": False},
        reward={"kind": "continuous", "window_seconds": 1, "minimum": offset, "maximum": offset + 1},
    )
    begin_earlier(experiment)
    traffic = Traffic(experiment, 83, offset)
    for _ in range(3):
        traffic.come(80)
        learn(experiment.endpoint_id)
    by_arm = grouped(learned_rows(experiment), lambda decision: decision.arm_id)
    arms = list(experiment.arms.order_by("position"))
    expected, _ = of_parts(
        [{unit: [value - offset for value in values] for unit, values in by_arm[arm.pk].items()} for arm in arms]
    )
    held = summing.sums_of(experiment)
    assert held is not None
    found = held.of_units([arm.pk for arm in arms])
    assert found.squared_residual == pytest.approx(expected.squared_residual, rel=1e-9)
    assert found.squared_count.tolist() == expected.squared_count.tolist()
    assert rebuild(again(experiment), write=False) == []


def test_sums__not_made_yet__are_told_as_unknown_until_the_next_round(two_arms: Start) -> None:
    """As after an upgrade: nothing is told rather than something wrong, and the learner makes them,
    for an ended experiment too."""
    experiment = two_arms(holdout=0.3, promotion={"auto": False}, reward=BINARY, policy={"name": "uniform"})
    begin_earlier(experiment)
    traffic = Traffic(experiment, 84)
    traffic.come(120)
    learn(experiment.endpoint_id)
    before = assert_told_as_the_ledger_says(experiment)
    LedgerSums.objects.all().delete()
    UnitOutcomes.objects.all().delete()
    shown = results(again(experiment))
    assert (shown["holdout"], shown["comparison"]["saved_interval"], shown["arms"][0]["interval"]) == (None, None, None)
    assert rebuild(again(experiment), write=False) == ["sums over the ledger: there are none"]
    Experiment.objects.update(
        status="completed",
        outcome="stopped",
        ended_at=timezone.now() - timedelta(days=1),
        started_at=timezone.now() - timedelta(days=2),
    )
    ExperimentEvidence.objects.update(closed_until=timezone.now() - timedelta(seconds=30))
    learn(experiment.endpoint_id)
    assert rebuild(again(experiment), write=False) == []
    assert assert_told_as_the_ledger_says(experiment)["holdout"] == before["holdout"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: UnitOutcomes.objects.filter(unit="u3", part__gt=0).update(total=99.0), "those of 1 units differ"),
        (lambda: UnitOutcomes.objects.filter(unit="u3", part__gt=0).delete(), "those of 1 units differ"),
        (lambda: LedgerSums.objects.update(state={}), "those of a differ"),
    ],
    ids=["total", "unit", "sums"],
)
def test_check__sums_or_units_altered__is_told_and_mended(
    two_arms: Start, change: Callable[[], object], said: str
) -> None:
    experiment = two_arms(strategy="ab", promotion={"auto": False}, reward=BINARY)
    begin_earlier(experiment)
    Traffic(experiment, 85).come(60)
    learn(experiment.endpoint_id)
    before = assert_told_as_the_ledger_says(experiment)["arms"]
    change()
    assert said in "\n".join(rebuild(again(experiment), write=False))
    rebuild(again(experiment), write=True)
    assert rebuild(again(experiment), write=False) == []
    assert assert_told_as_the_ledger_says(experiment)["arms"] == before


@pytest.mark.parametrize("kind", ["sticky", "holdout"])
def test_base__days_that_the_ledger_lost__are_in_every_later_sum(two_arms: Start, kind: str) -> None:
    """Units of the lost day come again: their sums of squares need what they had."""
    experiment = two_arms(promotion={"auto": False}, reward=BINARY, **KINDS[kind])
    begin_earlier(experiment, 3 * 86_400)
    traffic = Traffic(experiment, 86)
    traffic.come(80, seconds_ago=2 * 86_400)
    traffic.come(80)
    learn(experiment.endpoint_id)
    assert_told_as_the_ledger_says(experiment)
    first = Decision.objects.earliest("decided_at").decided_at.replace(hour=0, minute=0, second=0, microsecond=0)
    with transaction.atomic():
        assert resumming.set_aside(again(experiment), first, first + timedelta(days=1))
        Decision.objects.filter(decided_at__lt=first + timedelta(days=1)).delete()
        Reward.objects.filter(decided_at__lt=first + timedelta(days=1)).delete()
    assert Decision.objects.count() == 80
    assert UnitBase.objects.exists()
    with transaction.atomic():
        assert differences(again(experiment)) == []
    Traffic(experiment, 86).come(80)
    learn(experiment.endpoint_id)
    shown = results(again(experiment))
    with transaction.atomic():
        assert differences(again(experiment)) == []
        resumming.make(again(experiment))
    anew = results(again(experiment))
    assert anew["holdout"] == shown["holdout"]
    for before, after in zip(shown["arms"], anew["arms"], strict=True):
        assert before["interval"] is not None
        assert after["interval"] == pytest.approx(before["interval"], rel=1e-9)


class Choices:
    """An apprentice of two arms: a serves and says 0, b would have said 1."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._arms = {arm.name: arm.pk for arm in experiment.arms.all()}

    def decide(self, choice: str, seconds_ago: float) -> bytes:
        chosen = self._arms[choice]
        return decide(self._experiment, "a", seconds_ago=seconds_ago, share=1.0, shares=[1.0, 0.0], proposed=chosen)

    def tell(self, identity: bytes, truth: float, *, late: bool = False) -> None:
        Reward.objects.create(
            decision_id=UUID(bytes=identity), decided_at=decided_at(identity), metric="outcome", value=truth, late=late,
            experiment_id=self._experiment.pk, arm_id=self._arms["a"], recorded_at=timezone.now(), folded=True,
        )  # fmt: skip

    def predict(self, *identities: bytes) -> None:
        """As the worker of shadows keeps them."""
        shadows._store(
            self._experiment,
            [
                (
                    UUID(bytes=one),
                    decided_at(one),
                    self._experiment.pk,
                    self._arms["b"],
                    1.0,
                    1.0,
                    False,
                    None,
                    False,
                    1.0,
                    "[1]",
                    "[0]",
                )
                for one in identities
            ],
        )


def test_apprentice__what_comes_before_and_after_its_bucket_closes__is_scored_once(two_arms: Start) -> None:
    """Outcome, copy and decision in every order; feedback that was too late, and what nobody told,
    is not scored."""
    experiment = two_arms(apprentice=True, reward=BINARY, promotion={"auto": False})
    begin_earlier(experiment)
    choices = Choices(experiment)

    def score() -> tuple[int, float | None, float]:
        assert rebuild(again(experiment), write=False) == []
        found = results(again(experiment))["apprentice"]["outcomes"]
        return found["count"], found["accuracy"], found["control_accuracy"]

    Experiment.objects.update(reward=experiment.reward | {"window_seconds": 600})
    experiment.refresh_from_db()
    right, wrong, silent = (choices.decide(choice, 60) for choice in "bab")
    for identity in (right, wrong):
        choices.tell(identity, 1.0)
    choices.predict(right, wrong, silent)
    learn(experiment.endpoint_id)
    assert score() == (2, 0.5, 0.0)  # the buckets are open still
    assert LedgerSums.objects.get().state["scored"] == [0, 0, 0, 0]
    Experiment.objects.update(reward=experiment.reward | {"window_seconds": 1})
    learn(experiment.endpoint_id)
    assert score() == (2, 0.5, 0.0)
    assert LedgerSums.objects.get().state["scored"] == [2, 2, 1, 0]
    choices.predict(right, silent)  # again, by a worker that was killed before it forgot its copies
    choices.tell(silent, 1.0, late=True)
    learn(experiment.endpoint_id)
    assert score() == (2, 0.5, 0.0)
    # A copy that is predicted on after its bucket was closed.
    dawdling = choices.decide("a", 50)
    choices.tell(dawdling, 0.0)
    learn(experiment.endpoint_id)
    assert score()[0] == 2
    choices.predict(dawdling)
    assert score() == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    # A decision that comes after its bucket was closed, its outcome and its copy.
    spooled = choices.decide("b", 40)
    entries = withhold(experiment)
    choices.tell(spooled, 1.0)
    choices.predict(spooled)
    learn(experiment.endpoint_id)
    assert score()[0] == 3
    ship(experiment, entries)
    learn(experiment.endpoint_id)
    assert score() == (4, 0.75, 0.25)
    shown = results(again(experiment))["apprentice"]
    assert (shown["decisions"], shown["shares"]) == (5, {"a": 0.4, "b": 0.6})
    rebuild(again(experiment), write=True)
    assert score() == (4, 0.75, 0.25)


def test_final__long_after_the_end__keeps_the_sums_and_no_unit(two_arms: Start) -> None:
    """What still comes in then is learned by the arms alone; a rebuild leaves the sums as they
    stand."""
    experiment = two_arms(strategy="ab", promotion={"auto": False}, reward=BINARY)
    begin_earlier(experiment)
    Traffic(experiment, 87).come(60)
    learn(experiment.endpoint_id)
    now = timezone.now()
    Experiment.objects.update(status="completed", outcome="stopped", ended_at=now - FINAL_AFTER + timedelta(hours=1))
    ExperimentEvidence.objects.update(closed_until=now)
    assert finish() == 0
    Experiment.objects.update(ended_at=now - FINAL_AFTER - timedelta(hours=1))
    ExperimentEvidence.objects.update(closed_until=now - FINAL_AFTER - timedelta(hours=1))
    assert finish() == 0  # its last bucket is not closed
    ExperimentEvidence.objects.update(closed_until=now)
    waiting = decide(experiment, "a", unit="u1")
    reward(experiment, "a", waiting, 1.0)
    assert finish() == 0  # a reward waits
    learn(experiment.endpoint_id)
    shown = assert_told_as_the_ledger_says(experiment)
    assert UnitOutcomes.objects.exists()
    assert finish() == 1
    assert finish() == 0
    assert not UnitOutcomes.objects.exists()
    assert results(again(experiment))["arms"] == shown["arms"]
    reward(experiment, "a", decide(experiment, "a", unit="u1"), 1.0)
    learn(experiment.endpoint_id)
    assert results(again(experiment))["arms"][0]["rewards"] == shown["arms"][0]["rewards"] + 1
    assert not UnitOutcomes.objects.exists()
    assert rebuild(again(experiment), write=False) == []
    rebuild(again(experiment), write=True)
    assert rebuild(again(experiment), write=False) == []
    assert results(again(experiment))["arms"][1]["interval"] == shown["arms"][1]["interval"]


@pytest.mark.parametrize("kind", ["ab", "sticky", "holdout", "bandit"])
def test_results__of_every_figure__read_no_row_of_the_ledger(two_arms: Start, kind: str) -> None:
    """What a look costs does not grow with what lies there."""
    experiment = two_arms(promotion={"auto": False}, reward=BINARY, **KINDS[kind])
    begin_earlier(experiment)
    Traffic(experiment, 88).come(60)
    learn(experiment.endpoint_id)
    with CaptureQueriesContext(connection) as asked:
        shown = results(again(experiment))
    assert shown["arms"][0]["interval"] is not None
    grown = ("serving_decision", "serving_reward", "serving_shadowprediction", "unitoutcomes")
    assert [query["sql"] for query in asked if any(table in query["sql"] for table in grown)] == []


def test_unfit__an_arm_that_was_taken_out_long_ago__is_judged_by_its_newest_decisions(two_arms: Start) -> None:
    """Decisions of the other arm lie on top of it, and are not looked through. A straggler is no
    newer than it was made."""
    experiment = two_arms(reward=BINARY, promotion={"auto": False})
    begin_earlier(experiment)
    b = experiment.arms.get(name="b")
    for i in range(60):
        decide(experiment, "b", seconds_ago=500 - i, failed=i >= 54)
    learn(experiment.endpoint_id)
    for _ in range(20):
        decide(experiment, "b", seconds_ago=1000)
        decide(experiment, "a", seconds_ago=10)
    learn(experiment.endpoint_id)
    with CaptureQueriesContext(connection) as asked:
        assert unfit(again(experiment), b) == "b failed in 6 of its last 10 decisions"
    assert [query["sql"] for query in asked if "serving_" in query["sql"]] == []
    assert rebuild(again(experiment), write=False) == []


def test_sums__a_probability_that_no_weight_can_be_made_of__stops_nothing(two_arms: Start) -> None:
    experiment = two_arms(sticky=True, reward=BINARY, promotion={"auto": False}, policy={"name": "uniform"})
    begin_earlier(experiment)
    Traffic(experiment, 89).come(60)
    learn(experiment.endpoint_id)
    before = assert_told_as_the_ledger_says(experiment)["comparison"]
    reward(experiment, "a", decide(experiment, "a", unit="u0", share=1e-200, shares=[1e-200, 1.0]), 1.0)
    learn(experiment.endpoint_id)
    shown = results(again(experiment))
    assert Reward.objects.filter(folded=False).count() == 0
    assert shown["comparison"]["saved_against_even_split"] == before["saved_against_even_split"]
    assert rebuild(again(experiment), write=False) == []
