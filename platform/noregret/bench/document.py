"""docs/performance.md: what was measured, on what, how, and what came out. Nobody writes it by
hand."""

import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from . import peers
from .figures import FIGURES, Value, verdict
from .measuring import PLOT_SHARES, Report
from .report import loads, mark, spread, told
from .rounds import ROUNDS

_HOW = """\
# Performance

`manage.py bench --peers --profile --plot docs/performance.png --write docs/performance.md` made this
page; nobody writes it by hand. The figures are of one run on one machine: only ratios can be compared with another's.

## How it is measured
- The service runs as `manage.py up` starts it: PostgreSQL, Redis, one web process, the workers and
  beat. A decision is recorded before predict answers, and feedback is committed.
- {cores}.
- Each load runs in {rounds} rounds, one after another within each round, so that what else the
  machine does falls on all of them alike. A ratio is taken within a round; the median is told, and
  beside it the lowest and the highest round.
- Loads keep {connections} connections busy, each with one request under way. Loads at a fixed rate
  send when a request is due, whether or not earlier ones were answered, and a latency counts from
  then.
- The models are a StandardScaler and a LogisticRegression on irises, {arms} arms of a bandit. A
  request has one row.
- `noop` is a Django view that answers fixed JSON, with the middleware of the service's own views,
  behind the service's own web server. The peer "a bare Django view, Granian" has no middleware.
  `wsgi` is the data plane's own route with fixed JSON, `GET /api/v1/ping`.
"""


def render(report: Report, plot: str | None = None) -> str:
    """The page. `plot`: the file name of the picture beside it."""
    return "\n".join(_lines(report, plot)) + "\n"


def _lines(report: Report, plot: str | None) -> Iterator[str]:
    settings = report.settings
    yield _HOW.format(
        cores=report.cores[:1].upper() + report.cores[1:],
        rounds=ROUNDS,
        connections=settings.connections,
        arms=settings.arms,
    )
    yield f"- {settings.seconds:g} s for each load over all rounds, on {datetime.now(UTC):%Y-%m-%d}."
    yield f"- {_machine()}."
    yield ""
    yield "## Figures"
    yield "| figure | measured | rounds | bar | aim | reaches |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for figure in FIGURES:
        value = report.values.get(figure.name, Value(note="not measured"))
        title = f"{figure.title} ({value.note})" if value.note else figure.title
        cells = [title, told(figure, value), spread(figure, value), mark(figure, figure.bar)]
        yield f"| {' | '.join([*cells, mark(figure, figure.aim), verdict(figure, value)])} |"
    yield ""
    yield "What each is:"
    for figure in FIGURES:
        yield f"- {figure.title}: {figure.how}."
    yield ""
    yield "## Loads"
    yield "| load | requests/s | p50 in ms | p99 in ms | to noop |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for title, rate, p50, p99, ratio in loads(report):
        to_noop = "" if ratio is None else f"{ratio:.2f}"
        yield f"| {title} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {to_noop} |"
    yield from _peers(report)
    yield from _plot(report, plot)
    yield from _parts(report)


def _machine() -> str:
    names = ("django", "falcon", "uvicorn", "httptools", "uvloop", "onnxruntime", "redis")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, {packages}"
    )


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "an unnamed processor"
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else "an unnamed processor"


def _peers(report: Report) -> Iterator[str]:
    if not report.peers:
        return
    yield ""
    yield "## Peers"
    yield "The same model in other servers, on the service's core, in the same rounds. None of them records"
    yield "what it answered. Their sources are in `platform/noregret/bench/peer_sources/`."
    yield "| peer | version | requests/s | p99 in ms | predict to it |"
    yield "| --- | --- | ---: | ---: | ---: |"
    rounds = report.rounds
    predict = Value(rounds.per_second("predict")).median or 0.0
    for name, became in report.peers.items():
        title, rate = peers.BY_NAME[name].title, Value(rounds.per_second(name)).median
        if rate is None:
            yield f"| {title} | {became} | | | |"
        else:
            p99 = Value(rounds.p99_ms(name)).median or 0.0
            yield f"| {title} | {became} | {rate:,.0f} | {p99:.2f} | {predict / rate:.2f} |"


def _plot(report: Report, plot: str | None) -> Iterator[str]:
    if not report.plot:
        return
    yield ""
    yield "## Latency against load"
    if plot is not None:
        yield f"![p50 and p99 of predict and of the no-op view against requests a second]({plot})"
        yield ""
    yield f"At {', '.join(f'{share:.0%}' for share in PLOT_SHARES)} of what each reached at most, at a fixed rate."
    yield "| load | share of capacity | requests/s asked for | p50 in ms | p99 in ms |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, points in report.plot.items():
        for share, rate, p50, p99 in points:
            yield f"| {name} | {share:.0%} | {rate:,.0f} | {p50:.2f} | {p99:.2f} |"


def _parts(report: Report) -> Iterator[str]:
    if not report.parts:
        return
    yield ""
    yield "## Where the time of a predict goes"
    yield "In one thread, by `python -m benchmarks.predict_parts`; the whole is the application without its"
    yield "server."
    yield "| part | ms | % |"
    yield "| --- | ---: | ---: |"
    for name, milliseconds in report.parts.items():
        yield f"| {name} | {milliseconds:.4f} | {100 * milliseconds / report.parts['whole']:.1f} |"
