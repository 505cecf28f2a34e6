"""From measured costs to a million decisions a second: what each part of a plan has to do, by a
simulation of its queues.

python -m benchmarks.scaling [--seed 1]

Prints the two tables of docs/scaling.md. Nothing is loaded: costs are constants that were measured
elsewhere (COSTS), and the simulation says what follows from them where requests come at random.

Web processes and shards of Redis each serve in turn what comes to them, by Poisson arrivals. A
learner looks at its endpoints once a second, one after another, and takes in what waits. Then
PostgreSQL is away for a minute, and what waits meanwhile is looked at.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

REWARDED = 0.5
"""So many of the decisions get a reward."""
BATCH = 100
DAY = 86_400
SECONDS = 20.0
AWAY_SECONDS = 60
LONGEST_SECONDS = 3600
MOST_BUSY = 0.7
"""Past this a part has no room for bursts, or for what waited while another was away."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one core, and bytes."""

    predict: float = 1 / 2966
    """docs/performance.md: predict, web process alone on its core."""
    feedback: float = 1 / 1376
    """docs/performance.md: one reward a request, all of it on one core."""
    batch: float = 1 / 166
    """docs/performance.md: BATCH rewards a request."""
    append: float = 11.5e-6
    """Of Redis, for a decision that is appended by itself."""
    ingest: float = 1 / 50_765
    """docs/performance.md: a decision from its stream into PostgreSQL, learner and servers."""
    fold: float = 1 / 34_091
    """python -m benchmarks.ledger_parts: a reward into the sums."""
    mature: float = 1 / 48_622
    """The same: a reward whose bucket is closed."""
    rebuild: float = 1 / 248_959
    """docs/performance.md: a row of the ledger."""
    waiting_bytes: float = 112
    """Redis, a decision of three arms in its stream."""
    decision_bytes: float = 296
    """PostgreSQL, a decision's row with its indexes."""
    reward_bytes: float = 200

    @property
    def learn(self) -> float:
        """Of the learner and PostgreSQL, for a decision and what is told of it."""
        return self.ingest + REWARDED * (self.fold + self.mature)

    @property
    def ledger_bytes(self) -> float:
        return self.decision_bytes + REWARDED * self.reward_bytes


COSTS = Costs()


class Plan(NamedTuple):
    """What stands there. A cell is a platform of its own, with its own PostgreSQL; figures are of
    all cells together, `streams` are endpoints, evenly asked, and `batched`: clients send feedback
    in batches."""

    decisions: int
    cells: int
    web: int
    shards: int
    streams: int
    learners: int
    batched: bool


PLANS = (
    Plan(100, 1, 1, 1, 1, 1, batched=False),
    Plan(1_000, 1, 2, 1, 1, 1, batched=False),
    Plan(10_000, 1, 7, 1, 1, 1, batched=True),
    Plan(100_000, 4, 60, 4, 8, 8, batched=True),
    Plan(1_000_000, 40, 600, 40, 80, 80, batched=True),
)


class Queue(NamedTuple):
    """One server: its share of busy time, and the 99th percentile of waiting, in ms."""

    busy: float
    p99_ms: float


def queue(rates: Sequence[float], services: Sequence[float], generator: np.random.Generator) -> Queue:
    """One server, in the order of arrival: kinds of requests by their rates (1/s) and their
    services (s), which vary as a gamma distribution of shape 2."""
    rate = float(sum(rates))
    count = max(int(rate * SECONDS), 2_000)
    between = generator.exponential(1 / rate, count)
    kind = generator.choice(len(rates), count, p=np.array(rates) / rate)
    service = np.array(services)[kind] * generator.gamma(2.0, 0.5, count)
    # Lindley: who comes waits for what was there, less the time since.
    change = np.concatenate([[0.0], np.cumsum(service[:-1] - between[1:])])
    waits: NDArray[np.float64] = change - np.minimum.accumulate(change)
    return Queue(float(service.sum() / between.sum()), float(np.quantile(waits, 0.99) * 1e3))


def web(plan: Plan, decisions: float, generator: np.random.Generator) -> Queue:
    rewards = REWARDED * decisions / plan.web
    feedback = (rewards / BATCH, COSTS.batch) if plan.batched else (rewards, COSTS.feedback)
    return queue((decisions / plan.web, feedback[0]), (COSTS.predict, feedback[1]), generator)


def redis(plan: Plan, decisions: float, generator: np.random.Generator) -> Queue:
    return queue((decisions / plan.shards,), (COSTS.append,), generator)


class Learning(NamedTuple):
    """`busy` may pass 1. `behind`: seconds from a decision to when it is learned, at most, in an
    hour without a fault; `waiting`: decisions of a shard after PostgreSQL was away; `caught_up`:
    seconds until they are learned, None where they never are."""

    busy: float
    behind: float
    waiting: float
    caught_up: float | None


def learning(plan: Plan, decisions: float, generator: np.random.Generator) -> Learning:
    """One learner with its streams, round by round."""
    streams = plan.streams / plan.learners
    rate = decisions / plan.streams
    busy = streams * rate * COSTS.learn
    behind, _ = _rounds(streams, rate, 0.0, 120.0, generator)
    waiting = decisions / plan.shards * AWAY_SECONDS
    _, caught_up = _rounds(streams, rate, rate * AWAY_SECONDS, LONGEST_SECONDS, generator)
    return Learning(busy, behind, waiting, caught_up)


def _rounds(
    streams: float, rate: float, waiting: float, seconds: float, generator: np.random.Generator
) -> tuple[float, float | None]:
    """The longest that a decision waited, from the second ten on; and when for the first time no
    more waited than what comes in two seconds."""
    now = longest = 0.0
    caught_up: float | None = None if waiting else 0.0
    while now < seconds:
        took = max(streams * waiting * COSTS.learn, 0.0)
        # The round takes what waited when it began; meanwhile, and until the next, others come.
        until = max(now + took, np.floor(now) + 1.0)
        waiting = float(generator.poisson(rate * (until - now)))
        if now >= 10.0 and caught_up == 0.0:
            longest = max(longest, until - now + streams * waiting * COSTS.learn)
        now = until
        if caught_up is None and waiting <= 2.0 * rate:
            caught_up = now
            break
    return longest, caught_up


def planned(seed: int) -> Iterator[str]:
    """The table of plans."""
    yield (
        "| decisions/s | cells | web cores | Redis shards | endpoints, learners | web busy | p99 wait, ms | Redis busy | "
        "learner busy | learned after, s | ledger a day | minute without PostgreSQL: MB a shard | caught up after, s |"
    )
    yield "| ---: " * 13 + "|"
    for i, plan in enumerate(PLANS):
        generator = np.random.default_rng([seed, i])
        of_web, of_redis = (part(plan, plan.decisions, generator) for part in (web, redis))
        learned = learning(plan, plan.decisions, generator)
        cells = [
            f"{plan.decisions:,}",
            f"{plan.cells}",
            f"{plan.web}",
            f"{plan.shards}",
            f"{plan.streams}, {plan.learners}",
            f"{of_web.busy:.0%}",
            f"{of_web.p99_ms:.1f}",
            f"{of_redis.busy:.1%}",
            f"{learned.busy:.1%}",
            f"{learned.behind:.1f}",
            _bytes(plan.decisions * COSTS.ledger_bytes * DAY),
            f"{learned.waiting * COSTS.waiting_bytes / 1e6:,.0f}",
            "never" if learned.caught_up is None else f"{learned.caught_up:.0f}",
        ]
        yield f"| {' | '.join(cells)} |"


def outgrown(seed: int) -> Iterator[str]:
    """The table of what breaks where a plan is asked for ten times as much."""
    yield "| plan of | asked for | web busy | Redis busy | learner busy | a day's rebuild, one core | breaks first |"
    yield "| ---: " * 6 + "| --- |"
    for i, plan in enumerate(PLANS):
        generator = np.random.default_rng([seed, 100 + i])
        asked = 10 * plan.decisions
        busy = {
            "web": web(plan, asked, generator).busy,
            "Redis": redis(plan, asked, generator).busy,
            "learner": learning(plan, asked, generator).busy,
        }
        rows = asked * (1 + REWARDED) * DAY / plan.cells
        busiest = max(busy, key=lambda part: busy[part])
        cells = [
            f"{plan.decisions:,}",
            f"{asked:,}",
            *(f"{share:.0%}" for share in busy.values()),
            _hours(rows * COSTS.rebuild),
            busiest if busy[busiest] > MOST_BUSY else "nothing",
        ]
        yield f"| {' | '.join(cells)} |"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h"


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count < 1e12 else f"{count / 1e12:,.1f} TB"


def tables(seed: int = 1) -> str:
    return "\n".join([*planned(seed), "", *outgrown(seed)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    sys.stdout.write(tables(parser.parse_args().seed) + "\n")


if __name__ == "__main__":
    main()
