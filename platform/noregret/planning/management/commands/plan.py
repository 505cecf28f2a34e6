"""`manage.py plan`: how many days each policy would need to promote, and what that would cost,
before anyone starts an experiment."""

import argparse
import dataclasses
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from bandits.simulation import Plan, plan
from noregret.experiments.models import Endpoint
from noregret.learning.baseline_figures import present_figures
from noregret.learning.health import not_learned_yet
from noregret.planning.arguments import names, natural, numbers, parameters, positive, traffic

DEFAULT_POLICIES = ["thompson", "top-two-thompson", "uniform"]
MOST_DECISIONS = 20_000_000


class Command(BaseCommand):
    help = "Tells from simulation how many days each policy would need to promote the best arm, and what it would cost."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--arms", type=numbers, help="each arm's supposed mean reward, as 0.05,0.06")
        parser.add_argument("--traffic", type=traffic, help="decisions, as 1000/day or 20/second")
        parser.add_argument(
            "--endpoint", help="take traffic and the control's mean from what this endpoint's champion has shown"
        )
        parser.add_argument(
            "--lift",
            type=numbers,
            help="with --endpoint, what the challengers' means are more than the champion's, as 0.1 for 10 %%",
        )
        parser.add_argument(
            "--policies", type=names, default=DEFAULT_POLICIES, help=f"default {','.join(DEFAULT_POLICIES)}"
        )
        parser.add_argument("--params", type=parameters, default={}, help="parameters of every policy, as JSON")
        parser.add_argument("--days", type=positive, default=90, help="how long you would wait (default 90)")
        parser.add_argument("--alpha", type=float, default=0.05, help="the promotion rule's (default 0.05)")
        parser.add_argument(
            "--floor", type=float, help="the least share of every arm (default: as an experiment's that names none)"
        )
        parser.add_argument(
            "--burn-in", type=natural, default=100, help="rewards of each arm from an even split first (default 100)"
        )
        parser.add_argument(
            "--min-rewards", type=natural, default=100, help="rewards of each arm before a promotion (default 100)"
        )
        parser.add_argument("--runs", type=positive, default=200, help="simulated experiments a policy (default 200)")
        parser.add_argument("--seed", type=natural, default=1, help="the same seed gives the same numbers (default 1)")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        self._complete(options)
        per_day = options["traffic"]
        horizon = int(per_day * options["days"])
        if not 10 <= horizon <= MOST_DECISIONS:
            raise CommandError(
                f"{horizon:,} decisions in {options['days']} days: from 10 to {MOST_DECISIONS:,} can be planned; change --days"
            )
        try:
            plans = [
                plan(
                    name,
                    options["arms"],
                    horizon,
                    runs=options["runs"],
                    seed=options["seed"],
                    params=options["params"],
                    alpha=options["alpha"],
                    floor=options["floor"],
                    burn_in=options["burn_in"],
                    min_rewards=options["min_rewards"],
                )
                for name in options["policies"]
            ]
        except ValueError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"per_day": per_day, "plans": [_document(one, per_day) for one in plans]}))
            return
        self._tell(plans, options, per_day)

    def _complete(self, options: dict[str, Any]) -> None:
        """Traffic and means that were not given come from the endpoint's baseline. Raises
        CommandError."""
        name = options["endpoint"]
        if name is None:
            if options["lift"] is not None:
                raise CommandError("--lift is on what an endpoint's champion has shown: give --endpoint too")
            if options["arms"] is None or options["traffic"] is None:
                raise CommandError("give --arms and --traffic, or --endpoint and --lift")
            return
        if options["arms"] is None and options["lift"] is None:
            raise CommandError("give --lift, as 0.1 for a challenger that is 10 % better, or --arms")
        if options["arms"] is not None and options["lift"] is not None:
            raise CommandError("give --lift or --arms: each says what the arms' means are")
        endpoint = Endpoint.objects.filter(name=name).first()
        if endpoint is None:
            raise CommandError(f"there is no endpoint {name}")
        shown, waits = present_figures(endpoint), not_learned_yet(name)
        if waits:
            self.stderr.write(f"Not all that came to {name} is learned, and its figures are without it: {waits}.")
        if options["traffic"] is None:
            if waits and (shown is None or not shown.decisions_per_day):
                raise CommandError(
                    f"no traffic of {name} is learned yet: give --traffic, or ask again once the learner has caught up"
                )
            if shown is None or not shown.decisions_per_day:
                raise CommandError(
                    f"{name} has shown no traffic in hours without an experiment yet: give --traffic, or ask again in the next hour"
                )
            options["traffic"] = shown.decisions_per_day
        if options["arms"] is None:
            if waits and (shown is None or shown.mean is None):
                raise CommandError(
                    f"no rewards of {name} are learned yet: give --arms, or ask again once the learner has caught up"
                )
            if shown is None or shown.mean is None:
                raise CommandError(f"{name} has no rewards without an experiment yet: give --arms")
            if shown.kind != "binary":
                raise CommandError(
                    f"a plan is for rewards of 0 and 1, and {name}'s reward is {shown.kind}: give --arms"
                )
            options["arms"] = [shown.mean, *(shown.mean * (1.0 + lift) for lift in options["lift"])]

    def _tell(self, plans: list[Plan], options: dict[str, Any], per_day: float) -> None:
        arms = ", ".join(f"{mean:g}" for mean in options["arms"])
        table = Table(
            title=f"Arms {arms} at {per_day:,.0f} decisions a day, at most {options['days']} days, {options['runs']} simulated runs",
            title_justify="left",
        )
        table.add_column("policy")
        for heading in (
            "promotes",
            "the best arm",
            "median days (95 %)",
            "80 % of runs, days",
            "cost in rewards (95 %)",
        ):
            table.add_column(heading, justify="right")
        for one in plans:
            table.add_row(
                one.policy,
                f"{one.promoted:.0%}",
                f"{one.correct:.0%}",
                self._days(one, per_day),
                f"{_day(one.usual[0], per_day)} – {_day(one.usual[1], per_day)}",
                f"{one.cost:,.1f} ({one.cost_interval[0]:,.1f} – {one.cost_interval[1]:,.1f})",
            )
        console = Console(width=130)
        with console.capture() as written:
            console.print(table)
            console.print(
                "Cost: reward lost against always serving the best arm, until promotion or the last day. `thompson` earns while it "
                "learns and decides late; `top-two-thompson` and `uniform` pay for deciding soon.",
            )
        self.stdout.write(written.get(), ending="")

    def _days(self, one: Plan, per_day: float) -> str:
        if one.pulls is None:
            return f"over {one.horizon / per_day:,.0f}"
        low, high = one.median_interval
        return f"{_day(one.pulls, per_day)} ({_day(low, per_day)} – {_day(high, per_day)})"


def _day(decisions: float | None, per_day: float) -> str:
    return "later" if decisions is None else f"{decisions / per_day:,.1f}"


def _document(one: Plan, per_day: float) -> dict[str, Any]:
    days = None if one.pulls is None else one.pulls / per_day
    return {**dataclasses.asdict(one), "days": days}
