"""What the demo prints: within 80 columns, in the strategy's own terms, with figures that agree
with each other."""

import io
from typing import Any

import msgspec
import pytest
from noregret.demo import report
from noregret.demo.ledger_check import LedgerCheck
from noregret.demo.scenes import Ending, Side
from noregret.demo.traffic import Tally
from noregret.learning.shown.results import Comparison, Results
from rich.console import Console

LEDGER = LedgerCheck(10, 10, 10, 10, 0, 0, 0, 0)


def arm(name: str, **changes: Any) -> dict[str, Any]:
    """As the API tells an arm."""
    return {
        "name": name,
        "model": "digits@1",
        "enabled": True,
        "is_control": False,
        "rewards": 1_234_567,
        "mean_basis": "served",
        "interval_method": "jeffreys",
        "watched_interval": None,
        "answered": None,
        "propensity": 0.5,
        "expected_loss": None,
        "error_rate": 0.0,
        "latency_ms": {"p50": 1.0, "p99": 2.0},
        "mean_absolute_difference": None,
        "decisions": 1_234_567,
        "share": 0.5,
        "mean": 0.9563,
        "interval": [0.9551, 0.9571],
        "probability_best": 0.99999,
        "agreement": None,
        "shadow": None,
        "cached": None,
    } | changes


def results(strategy: str, arms: list[dict[str, Any]], **changes: Any) -> Results:
    told = {
        "experiment": "digits-demo",
        "strategy": strategy,
        "status": "running",
        "decisions": 2_469_134,
        "rewards": 2_469_134,
        "arms": arms,
        "as_of": "2026-11-23T10:00:00Z",
        "policy_version": 17,
        "comparison": {
            "sample_ratio_p": 0.5,
            "answers_p": None,
            "saved_against_even_split": None,
            "saved_interval": None,
        },
        "evidence": {"leader": None, "value": None, "needed": None, "matured": 0},
        "canary": None,
        "guardrails": [],
        "holdout": None,
        "apprentice": None,
        "activation": None,
        "beside": 0,
        "learner": {"ok": True, "seconds_since_round": 1.0, "behind_seconds": 0.0, "why": None, "set_aside": 0},
        "recommendation": {"action": "continue", "arm": None, "reason": "so far"},
        "segments": None,
        "coefficients": None,
        "evaluation": None,
        "forecast": None,
    }
    return msgspec.convert(told | changes, Results)


def printed(*sides: tuple[Results, Tally]) -> str:
    console = Console(file=io.StringIO(), width=80)
    ended = Ending([Side(found, {"name": "digits-demo"}, LEDGER, tally) for found, tally in sides], [], 40.0, None)
    report.ending(console, ended)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    return text


def test_ending__shadow__shows_every_figure_of_four_challengers() -> None:
    shadow = {
        "predictions": 1_234_567,
        "errors": 2593,
        "agreement": 0.6123,
        "mean_absolute_difference": None,
        "error_rate": 0.0021,
        "latency_ms": {"p50": 1.0, "p99": 123.456},
        "champion_latency_ms": {"p50": 1.0, "p99": 2.0},
        "histogram": [],
        "examples": [],
        "outcomes": {
            "count": 1_234_567,
            "accuracy": 0.9563,
            "champion_accuracy": 0.6234,
            "mean_absolute_error": None,
            "champion_mean_absolute_error": None,
        },
    }
    challengers = [arm(f"v{i}", decisions=0, shadow=shadow) for i in range(4)]
    text = printed((results("shadow", [arm("control", is_control=True), *challengers]), Tally()))
    for figure in ("61.2%", "95.6%", "62.3%", "123.456", "0.2%"):
        assert text.count(figure) == 4, figure
    assert "The champion answered all 1,234,567 requests." in text
    assert "P(best)" not in text


def test_ending__canary__tells_nothing_of_an_even_split() -> None:
    reason = "the experiment was rolled back by the learner: control beats new: evidence far beyond the 20 needed"
    done = {"action": "rollback", "arm": None, "reason": reason}
    arms = [arm("control"), arm("new", probability_best=1e-9)]
    found = results("canary", arms, status="completed", recommendation=done)
    text = printed((found, Tally()))
    assert "even split" not in text
    assert "over 99.9%" in text
    assert "under 0.1%" in text
    assert reason in " ".join(text.split())


def test_ending__drift__ends_in_two_rows_and_their_difference() -> None:
    found = results("bandit", [arm("upright"), arm("inverted")])
    text = printed(
        (found, Tally(inverted=2000, inverted_right=1725)), (found, Tally(inverted=2000, inverted_right=925))
    )
    assert "The same 2,000 scans" in text
    assert [number in text for number in ("1,725", "86.2%", "925", "46.2%", "+800", "+40.0 points")] == [True] * 6
    assert "even split" not in text


@pytest.mark.parametrize(
    ("amount", "interval", "said"),
    [
        (None, None, "not known"),
        (41.0, None, "41 more scans"),
        (-131.0, None, "131 fewer scans"),
        (41.0, (10.0, 72.0), "than by an even split of the traffic\n  (95 % interval +10 to +72)"),
        (41.0, (-10.0, 92.0), "can't be shown yet: +41 scans read rightly\n  (95 % interval -10 to +92)"),
    ],
)
def test_saved__says_more_fewer_or_that_nothing_is_shown(
    amount: float | None, interval: tuple[float, float] | None, said: str
) -> None:
    assert said in report.saved(Comparison(None, None, amount, interval))
