"""docs/scaling.md says what `python -m benchmarks.scaling` prints, and the simulation what is known
of queues."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import scaling

DOCS = Path(__file__).parents[2] / "docs"


def test_doc__both_tables__are_those_that_the_command_prints() -> None:
    text = (DOCS / "scaling.md").read_text()
    for table in scaling.tables().split("\n\n"):
        assert table in text, "python -m benchmarks.scaling"


def test_doc__costs__are_those_of_the_simulation() -> None:
    text = (DOCS / "scaling.md").read_text()
    costs = scaling.COSTS
    for said in (
        f"| {1 / costs.predict:,.0f}/s |",
        f"| {1 / costs.feedback:,.0f}/s |",
        f"| {scaling.BATCH / costs.batch:,.0f} rewards/s |",
        f"| {costs.append * 1e6:.1f} µs",
        f"| {costs.waiting_bytes} bytes |",
        f"| {1 / costs.ingest:,.0f}/s |",
        f"| {1 / costs.fold:,.0f}/s |",
        f"| {1 / costs.mature:,.0f}/s |",
        f"| {costs.decision_bytes} bytes |",
        f"| {costs.reward_bytes} bytes |",
        f"| {1 / costs.rebuild:,.0f}/s |",
        f"{costs.ledger_bytes:.0f} bytes of disk",
        f"{costs.learn * 1e3:.3f} ms of a learner",
    ):
        assert said in text, said


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_queue__one_kind_of_request__waits_as_known_of_such_queues(busy: float) -> None:
    """M/G/1: the mean wait is the busy share, times the mean square of services by twice their mean
    (Pollaczek and Khinchine), of what is left. Here with the 99th percentile of M/Ek/1, which lies
    near that of an exponential tail."""
    service = 0.01
    waited = [scaling.queue((busy / service,), (service,), np.random.default_rng(seed)) for seed in range(40)]
    mean = busy / (1 - busy) * service * 1.5 / 2
    tail = mean / busy * np.log(busy / 0.01) * 1e3
    assert np.mean([one.busy for one in waited]) == pytest.approx(busy, rel=0.05)
    assert np.mean([one.p99_ms for one in waited]) == pytest.approx(tail, rel=0.25)


def test_learning__less_than_a_learner_can__catches_up_and_more_never_does() -> None:
    plan = scaling.PLANS[2]
    most = 1 / scaling.COSTS.learn
    generator = np.random.default_rng(1)
    fine, full = (scaling.learning(plan, share * most, generator) for share in (0.5, 1.2))
    # What waited for a minute is taken in beside what comes: half of the time is left for it.
    assert fine.caught_up == pytest.approx(scaling.AWAY_SECONDS, rel=0.15)
    assert fine.behind < 3.0
    assert full.caught_up is None
    assert full.busy == pytest.approx(1.2)


def test_plans__each_decade__leave_room_and_are_outgrown_by_ten() -> None:
    for plan in scaling.PLANS:
        generator = np.random.default_rng(3)
        of_web, of_redis = (part(plan, plan.decisions, generator) for part in (scaling.web, scaling.redis))
        assert (
            max(of_web.busy, of_redis.busy, scaling.learning(plan, plan.decisions, generator).busy) < scaling.MOST_BUSY
        )
    assert len(re.findall(r"\*\*[\d,]+ a second", (DOCS / "scaling.md").read_text())) >= len(scaling.PLANS)
