"""What a run found, as tables for people and as one JSON object."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from . import peers
from .figures import FIGURES, Figure, Value, verdict
from .measuring import Report

LOADS = {
    "noop": "noop: a Django view",
    "wsgi": "wsgi: the data plane's fixed JSON",
    "predict": "predict",
    "decide": "decide",
    "feedback": "feedback",
    "feedback_batch": "feedback, batches of 100",
    "predict_100_arms": "predict, 100 arms",
    "predict_alone": "predict, web alone on its core",
    "predict_with_results": "predict, beside 8 results calls",
    "predict_half": "predict at half of capacity",
    "noop_half": "noop at half of capacity",
    **{peer.name: peer.title for peer in peers.PEERS},
}
"""Every load of the main rounds and how it is called."""


def number(figure: Figure, value: float) -> str:
    """A value as it is shown: ratios with two digits, amounts whole."""
    return f"{value:,.0f}" if figure.unit else f"{value:.2f}"


def mark(figure: Figure, value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if figure.unit else f"{value:g}"


def told(figure: Figure, value: Value) -> str:
    median = value.median
    return "-" if median is None else number(figure, median)


def spread(figure: Figure, value: Value) -> str:
    """The lowest and the highest round."""
    if len(value.rounds) < 2:
        return ""
    return f"{number(figure, min(value.rounds))} to {number(figure, max(value.rounds))}"


def loads(report: Report) -> Iterator[tuple[str, float, float, float, float | None]]:
    """Of each load that was measured: its title, requests/s, p50 and p99 in ms, and the ratio to
    noop; medians of the rounds."""
    rounds = report.rounds
    noop = Value(rounds.per_second("noop")).median
    for name, title in LOADS.items():
        rate = Value(rounds.per_second(name)).median
        if rate is None:
            continue
        p50, p99 = Value(rounds.p50_ms(name)).median, Value(rounds.p99_ms(name)).median
        yield title, rate, p50 or 0.0, p99 or 0.0, rate / noop if noop else None


def show(report: Report, console: Console) -> None:
    console.print(_loads(report))
    console.print(_figures(report))
    for figure in FIGURES:
        if note := report.values.get(figure.name, Value()).note:
            console.print(f"{figure.title}: {note}", highlight=False, soft_wrap=True)
    if report.parts:
        console.print(_parts(report))
    for name, became in report.peers.items():
        console.print(f"{peers.BY_NAME[name].title}: {became}", highlight=False)
    console.print(f"Memory of the web process after the first rounds: {report.memory_mb:.0f} MB", highlight=False)
    console.print(f"Pinned: {report.cores}.", highlight=False)


def _loads(report: Report) -> Table:
    settings = report.settings
    table = Table(title=f"{settings.connections} connections, {settings.arms} arms, one web process")
    table.add_column("load")
    for heading in ("requests/s", "p50 in ms", "p99 in ms", "to noop"):
        table.add_column(heading, justify="right")
    for title, rate, p50, p99, ratio in loads(report):
        table.add_row(title, f"{rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}", "" if ratio is None else f"{ratio:.2f}")
    return table


def _figures(report: Report) -> Table:
    table = Table(title="Figures: medians of the rounds, with their bars and aims")
    table.add_column("figure")
    for heading in ("measured", "rounds", "bar", "aim"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("reaches", no_wrap=True)
    for figure in FIGURES:
        value = report.values.get(figure.name, Value(note="not measured"))
        table.add_row(
            figure.title,
            told(figure, value),
            spread(figure, value),
            mark(figure, figure.bar),
            mark(figure, figure.aim),
            verdict(figure, value),
        )
    return table


def _parts(report: Report) -> Table:
    table = Table(title="Where the time of a predict goes, in one thread")
    table.add_column("part")
    table.add_column("ms", justify="right")
    table.add_column("%", justify="right")
    whole = report.parts["whole"]
    for name, milliseconds in report.parts.items():
        table.add_row(name, f"{milliseconds:.4f}", f"{100 * milliseconds / whole:.1f}")
    return table


def as_json(report: Report) -> dict[str, Any]:
    """Every figure and every load by name; None for what was not measured."""
    rounds = report.rounds
    answer: dict[str, Any] = {}
    noop = Value(rounds.per_second("noop")).median
    for name in LOADS:
        rate = Value(rounds.per_second(name)).median
        if rate is None:
            continue
        stem = name.replace("-", "_")
        answer[f"{stem}_rps"] = round(rate, 1)
        answer[f"{stem}_p50_ms"] = round(Value(rounds.p50_ms(name)).median or 0.0, 3)
        answer[f"{stem}_p99_ms"] = round(Value(rounds.p99_ms(name)).median or 0.0, 3)
        answer[f"{stem}_to_noop"] = None if not noop else round(rate / noop, 3)
    for figure in FIGURES:
        median = report.values.get(figure.name, Value()).median
        answer[figure.name] = None if median is None else round(median, 1 if figure.unit else 3)
    answer["web_rss_mb"] = round(report.memory_mb, 1)
    answer["pinned"] = report.cores
    answer["notes"] = {name: value.note for name, value in report.values.items() if value.note}
    answer["peers"] = report.peers
    if report.parts:
        answer["predict_parts_ms"] = {name: round(milliseconds, 5) for name, milliseconds in report.parts.items()}
    return answer
