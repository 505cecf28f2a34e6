"""What the demo shows a person: progress while it runs, and tables at its end, each strategy in its
own terms, within 80 columns.

It computes nothing of its own but differences of counts that stand beside them.
"""

from rich.console import Console
from rich.table import Table

from noregret.learning.shown.phrases import counts_told, probability_told
from noregret.learning.shown.results import Comparison, Results
from noregret.learning.shown.shadow_comparison import Outcomes

from .scenes import Ending, Side
from .traffic import Tally

_UNTOLD = Outcomes(0, None, None, None, None)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _interval(value: tuple[float, float] | None) -> str:
    return "–" if value is None else f"{value[0]:.3f} – {value[1]:.3f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _table(title: str, first: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def arms_table(results: Results, title: str) -> Table:
    """The arms of an experiment, as its results describe them."""
    table = _table(title, "arm", "decisions", "share", "mean reward", "95 % interval", "P(best)")
    for arm in results.arms:
        best = arm.probability_best
        table.add_row(
            arm.name,
            f"{arm.decisions:,}",
            _percent(arm.share),
            _number(arm.mean),
            _interval(arm.interval),
            "–" if best is None else probability_told(best),
        )
    return table


def shadow_table(results: Results, title: str) -> Table:
    """Challengers against the champion on the same scans, a column a challenger: with a row each it
    would not fit into a terminal."""
    compared = [(arm.name, arm.shadow) for arm in results.arms if arm.shadow]
    table = _table(title, "challenger", *(name for name, _ in compared))
    shadows = [shadow for _, shadow in compared]
    outcomes = [shadow.outcomes or _UNTOLD for shadow in shadows]
    table.add_row("predictions", *(f"{shadow.predictions:,}" for shadow in shadows))
    table.add_row("agrees with the champion", *(_percent(shadow.agreement) for shadow in shadows))
    table.add_row("scans whose truth was told", *(f"{found.count:,}" for found in outcomes))
    table.add_row("  right", *(_percent(found.accuracy) for found in outcomes))
    table.add_row("  the champion, on the same", *(_percent(found.champion_accuracy) for found in outcomes))
    table.add_row("p99 in ms", *(_number(shadow.latency_ms.p99) for shadow in shadows))
    table.add_row("errors", *(_percent(shadow.error_rate) for shadow in shadows))
    return table


def progress(results: Results, seconds: float) -> Table:
    """The table while the demo runs, with what the platform says about it."""
    title = f"{results.experiment}: {counts_told(results.decisions, results.rewards)}, {seconds:.0f} s"
    shadowed = any(arm.shadow for arm in results.arms)
    table = shadow_table(results, title) if shadowed else arms_table(results, title)
    table.caption = results.recommendation.reason
    table.caption_justify = "left"
    return table


def progress_line(results: Results, seconds: float) -> str:
    """The same in one line, for a terminal that can't redraw."""
    if results.strategy == "shadow":
        arms = "  ".join(f"{arm.name} agrees {_percent(arm.agreement)}" for arm in results.arms if not arm.is_control)
    else:
        arms = "  ".join(f"{arm.name} {_percent(arm.share)}" for arm in results.arms)
    return f"{seconds:4.0f} s  {results.decisions:6,} decisions  {arms}  {results.recommendation.reason}"


def ending(console: Console, ended: Ending) -> None:
    """The closing tables, and what they amount to in a sentence."""
    results = ended.side.results
    console.print()
    if results.strategy == "shadow":
        console.print(shadow_table(results, f"{results.experiment} on copies of real scans"))
        champion = next(arm for arm in results.arms if arm.is_control)
        console.print(f"The champion answered all {champion.decisions:,} requests.")
    else:
        console.print(arms_table(results, f"{results.experiment} on real held-out scans"))
    if results.status == "completed":
        console.print(f"[bold]{results.recommendation.reason}[/bold]", highlight=False)
    if len(ended.sides) > 1:
        after_the_change(console, ended.sides)
    elif results.strategy == "bandit":
        console.print(saved(results.comparison))


def saved(comparison: Comparison) -> str:
    """What the bandit saved, as the results know it."""
    amount, interval = comparison.saved_against_even_split, comparison.saved_interval
    if amount is None:
        return "What was saved against an even split is not known."
    between = "" if interval is None else f"\n  (95 % interval {interval[0]:+,.0f} to {interval[1]:+,.0f})"
    if interval is not None and interval[0] <= 0.0 <= interval[1]:
        return f"A gain over an even split can't be shown yet: {amount:+,.0f} scans read rightly{between}."
    more = "more" if amount >= 0 else "fewer"
    return f"{abs(amount):,.0f} {more} scans were read rightly than by an even split of the traffic{between}."


def after_the_change(console: Console, sides: list[Side]) -> None:
    """The same policy with and without forgetting, on the very scans that came after the world had
    changed."""
    forgets, remembers = (side.tally for side in sides)
    table = _table(f"The same {forgets.inverted:,} scans, after all came inverted", "policy", "right", "share")

    def row(name: str, tally: Tally) -> None:
        table.add_row(
            name,
            f"{tally.inverted_right:,}",
            _percent(tally.inverted_right / tally.inverted if tally.inverted else None),
        )

    row("thompson, discount 0.998: forgets", forgets)
    row("thompson: remembers all", remembers)
    gain = forgets.inverted_right - remembers.inverted_right
    points = 100.0 * gain / forgets.inverted if forgets.inverted else 0.0
    table.add_row("what forgetting gained", f"{gain:+,}", f"{points:+.1f} points", style="bold")
    console.print(table)
