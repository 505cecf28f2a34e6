"""What the demo shows a person: progress while it runs, and a table at its end. It computes nothing of its own."""

from typing import Any

from rich.console import Console
from rich.table import Table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _interval(value: list[float] | None) -> str:
    return "–" if value is None else f"{value[0]:.3f} – {value[1]:.3f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def arms_table(results: dict[str, Any], title: str) -> Table:
    """The arms of an experiment, as its results describe them."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("arm")
    for heading in ("decisions", "share", "mean reward", "95 % interval", "P(best)"):
        table.add_column(heading, justify="right")
    for arm in results["arms"]:
        table.add_row(
            arm["name"],
            f"{arm['decisions']:,}",
            _percent(arm["share"]),
            _number(arm["mean"]),
            _interval(arm["interval"]),
            _number(arm["probability_best"]),
        )
    return table


def shadow_table(results: dict[str, Any]) -> Table:
    """Shadow challengers against the champion, on the same scans."""
    table = Table(title="Challengers against the champion, on the same scans", title_justify="left", title_style="bold")
    table.add_column("challenger")
    for heading in ("predictions", "agreement", "right", "champion right", "p99 in ms", "errors"):
        table.add_column(heading, justify="right")
    for arm in results["arms"]:
        shadow = arm["shadow"]
        if shadow:
            outcomes = shadow["outcomes"] or {}
            table.add_row(
                arm["name"],
                f"{shadow['predictions']:,}",
                _percent(shadow["agreement"]),
                _percent(outcomes.get("accuracy")),
                _percent(outcomes.get("champion_accuracy")),
                _number(shadow["latency_ms"]["p99"]),
                _percent(shadow["error_rate"]),
            )
    return table


def progress(results: dict[str, Any], seconds: float) -> Table:
    """The table while the demo runs, with what the platform says about it."""
    table = arms_table(
        results,
        f"{results['experiment']}: {results['decisions']:,} decisions, {results['rewards']:,} rewards, {seconds:.0f} s",
    )
    table.caption = results["recommendation"]["reason"]
    table.caption_justify = "left"
    return table


def progress_line(results: dict[str, Any], seconds: float) -> str:
    """The same in one line, for a terminal that can't redraw."""
    arms = "  ".join(f"{arm['name']} {_percent(arm['share'])}" for arm in results["arms"])
    return f"{seconds:4.0f} s  {results['decisions']:6,} decisions  {arms}  {results['recommendation']['reason']}"


def ending(console: Console, results: dict[str, Any], promoted: str | None) -> None:
    """The closing table and what the bandit saved."""
    console.print()
    console.print(arms_table(results, f"{results['experiment']} on real held-out scans"))
    if any(arm["shadow"] for arm in results["arms"]):
        console.print(shadow_table(results))
    if results["status"] == "completed":
        console.print(f"[bold]{results['recommendation']['reason']}[/bold]")
    if len([arm for arm in results["arms"] if arm["decisions"]]) < 2 or results["canary"]:
        return
    saved = results["comparison"]["saved_against_even_split"]
    if saved is not None:
        console.print(
            f"Against an even split of the same traffic, the bandit answered {saved:,.0f} more scans rightly."
        )
