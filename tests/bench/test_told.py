"""What a run found is told alike in the table, the JSON object and the page."""

import io

import pytest
from noregret.bench import document, report
from noregret.bench.figures import BY_NAME, FIGURES, Value, verdict
from noregret.bench.load import Measured
from noregret.bench.measuring import Report, Settings
from noregret.bench.rounds import ROUNDS, Rounds, ratios
from rich.console import Console

CONTRACT = {
    "noop_rps",
    "predict_rps",
    "decide_rps",
    "feedback_rps",
    "predict_to_noop",
    "ingest_rows_per_s",
    "rebuild_rows_per_s",
    "predict_100_arms_to_3_arms",
    "predict_1000_endpoints_to_1",
    "predict_to_wsgi",
}


def measured(rate: float) -> list[Measured]:
    """Rounds of a second with so many answers of 2 ms."""
    return [Measured(1.0, [0.002] * int(rate)) for _ in range(ROUNDS)]


@pytest.fixture
def found() -> Report:
    rates = {"noop": 1000, "predict": 650, "decide": 900, "feedback": 200, "fastapi": 300}
    rounds = Rounds({name: measured(rate) for name, rate in rates.items()})
    values = {
        "predict_to_noop": Value([0.65] * ROUNDS),
        "feedback_to_noop": Value([0.2, 0.2, 0.21, 0.9, 0.2]),
        "ingest_rows_per_s": Value([120_000.0]),
        "predict_with_history_to_empty": Value([0.97], "1,000,000 rows"),
        "predict_to_fastapi": Value(note="run with --peers fastapi"),
    }
    return Report(Settings(), "on cores", rounds, values, 210.0, {"fastapi": "0.1", "mlflow": "not measured: no"})


@pytest.mark.parametrize(
    ("name", "value", "reaches"),
    [
        ("predict_to_noop", 0.80, "aim"),
        ("predict_to_noop", 0.60, "bar"),
        ("predict_to_noop", 0.59, "below bar"),
        ("web_1000_endpoints_mb", 250.0, "aim"),
        ("web_1000_endpoints_mb", 401.0, "above bar"),
        ("predict_to_wsgi", 0.5, "-"),
    ],
)
def test_verdict__of_a_value__is_the_highest_mark_that_it_reaches(name: str, value: float, reaches: str) -> None:
    assert verdict(BY_NAME[name], Value([value])) == reaches


def test_verdict__of_nothing__is_none() -> None:
    assert verdict(BY_NAME["predict_to_noop"], Value(note="why")) == "-"


def test_ratios__are_taken_within_a_round__so_that_a_slow_round_is_one_of_both() -> None:
    assert ratios([10.0, 1.0, 12.0], [20.0, 2.0, 20.0]) == [0.5, 0.5, 0.6]
    assert ratios([], [1.0]) == []


def test_rounds__of_two_loads__alternate__and_the_warm_up_is_not_counted() -> None:
    order: list[str] = []

    def load(name: str, seconds: float, rounds: Rounds) -> Measured:
        order.append(name)
        return Measured(seconds, [float(len(order))])

    rounds = Rounds()
    loads = {name: lambda seconds, rounds, name=name: load(name, seconds, rounds) for name in ("a", "b")}
    rounds.run(loads, 5.0, lambda line: None)
    assert order == ["a", "b"] * (ROUNDS + 1)
    assert [kept.latencies[0] for kept in rounds.measured["a"]] == [3.0, 5.0, 7.0, 9.0, 11.0]


def test_json__has_the_contracts_names__and_null_for_what_was_not_measured(found: Report) -> None:
    answer = report.as_json(found)
    assert set(answer) >= CONTRACT
    assert answer["predict_rps"] == 650.0
    assert answer["predict_to_noop"] == 0.65
    assert answer["feedback_to_noop"] == 0.2  # the median: one disturbed round says nothing
    assert answer["predict_to_fastapi"] is None
    assert answer["notes"]["predict_to_fastapi"] == "run with --peers fastapi"


def test_table_and_page__tell_every_figure_with_its_bar(found: Report) -> None:
    told = io.StringIO()
    report.show(found, Console(file=told, width=160))
    page = document.render(found, "latency.png")
    for figure in FIGURES:
        assert figure.title in told.getvalue()
        assert figure.how in page
    row = next(line for line in page.splitlines() if line.startswith("| committed feedback"))
    assert row == "| committed feedback to it | 0.20 | 0.20 to 0.90 | 0.3 | 0.45 | below bar |"
    assert "| ingest, one core | 120,000 |  | 50,000 | 120,000 | aim |" in page
    assert "| MLflow, scikit-learn | not measured: no | | | |" in page
    assert "| FastAPI, scikit-learn | 0.1 | 300 | 2.00 | 2.17 |" in page
