"""The JavaScript client takes of a request and of a reward what the Python rules take, and no
other: the platform has the same."""

import json
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from noregret_client.edge.bundle import Reward
from noregret_client.edge.rewards import check_reward
from noregret_client.event_fields import (
    LONGEST_CONTEXT,
    MOST_EXCLUDED,
    check_context,
    check_exclude,
    check_text,
)

from tests.edge.odd_requests import ODD, ODD_METRICS, ODD_VALUES
from tests.programs import NODE

SCRIPT = Path(__file__).with_name("javascript_fields.mjs")
DIST = Path(__file__).resolve().parents[2] / "clients" / "javascript" / "dist"

TEXTS: list[Any] = [
    *("u", "x" * 256, "x" * 257, "\U0001f600" * 256, "\U0001f600" * 257, "\u00e9" * 256, "a\nb", "\x7f", " ", ""),
    *("a\0", "\ud800", "\udc00\ud800", "\ud83d\ude00", "a\udfff", None, 0, True, [], ["u"], {}, {"length": 3}),
]
NUMBERS: list[Any] = [
    *(0, -0.0, 1.5, -1, 5e-324, 1.7976931348623157e308, 1e-7, 1e20, 1e21, -1e21, 10**30, 123456789012345680000.0),
    *(2**53, 2**53 + 1, 2**63 - 1024, 2**63 - 1, 2**63, -(2**63) + 1024, -(2**63), -(2**63) - 2048, 2**64),
]
ROOM = LONGEST_CONTEXT - len('{"a": ""}')
CONTEXTS: list[Any] = [
    *(None, {}, [], [1], "text", "", 5, True, {"": ""}, {"__proto__": 1, "constructor": "x", "toJSON": "y"}),
    *({"a": value} for value in [*NUMBERS, None, True, "", "\u2028", "\0", "\udfff", [], {}, [1], {"b": 1}]),
    *({name: 1} for name in ("\0", "\ud800", "\u00fc", "x" * 5000)),
    *({"a": "x" * count} for count in (ROOM, ROOM + 1)),
    # Each character counts as ASCII JSON tells it: as 2, 6 or 12.
    *(
        {"a": text * (ROOM // size) + "x" * (ROOM % size + more)}
        for text, size in (
            ('"', 2),
            ("\n", 2),
            ("\x01", 6),
            ("\x7f", 6),
            ("\u00e9", 6),
            ("\u2028", 6),
            ("\U0001f600", 12),
        )
        for more in (0, 1)
    ),
    *({f"{i:05}": None for i in range(count)} for count in (LONGEST_CONTEXT // 15, LONGEST_CONTEXT // 15 + 1)),
]
EXCLUDES: list[Any] = [
    *(None, [], ["a"], ["a", "a"], ["0._-"], ["x" * 63], ["a"] * MOST_EXCLUDED, "a", "", 5, True, {}, {"a": 1}),
    *([name] for name in ("x" * 64, "", "A", "a b", "-a", "a\n", "\u00e9", None, 1, ["a"])),
    ["a"] * (MOST_EXCLUDED + 1),
]
RULES = [
    None,
    Reward("reward", "binary"),
    Reward("reward", "count"),
    Reward("reward", "count", 0.0, 5.0),
    Reward("reward", "continuous"),
    Reward("reward", "continuous", -1.0, 0.5),
    Reward("reward", "continuous", declared=False),
    Reward("reward", "count", declared=False),
]
VALUES = [
    *(True, False, 0, -0.0, 1, 1.0, 2, 5, 6, -1, -1.5, 0.5, 0.75, 1e15, -1e15, 1e15 + 1, 1e16, 1e308),
    *("1", "", None, [], [1], {}, *ODD_VALUES),
]
METRICS = [None, "reward", "seconds", "0._-", "x" * 63, "x" * 64, "Seconds", "-a", "a\n", True, [], *ODD_METRICS]


def refused(check: Callable[..., Any], *given: Any) -> str | None:
    """The field that is told to be wrong, None where none is."""
    try:
        check(*given)
    except ValueError as error:
        return str(error).partition(":")[0].partition(".")[0]
    return None


def is_json(value: Any) -> bool:
    """Can JSON say it to JavaScript as it is?"""
    members = value if isinstance(value, dict) else {"": value}
    numbers = [one for one in members.values() if isinstance(one, int | float)]
    return all(isinstance(name, str) for name in members) and all(abs(one) < 2**1024 for one in numbers)


def wanted(name: str, value: Any) -> str | None:
    if name == "context":
        return refused(check_context, value)
    return refused(check_exclude, value) if name == "exclude" else refused(check_text, name, value)


@pytest.mark.skipif(NODE is None, reason="NO NODE: the JavaScript client's rules are not held against Python's")
def test_odd_field_or_reward__is_taken_in_javascript__where_python_takes_it() -> None:
    fields = [
        *((name, value) for name in ("unit", "request_id") for value in TEXTS),
        *(("context", value) for value in CONTEXTS),
        *(("exclude", value) for value in EXCLUDES),
        *((name, value) for request, _ in ODD for name, value in request.items() if is_json(value)),
    ]
    rewards = [one for one in product(VALUES, METRICS, RULES) if is_json(one[0])]
    rules = [None if of is None else {name: getattr(of, name) for name in of.__struct_fields__} for *_, of in rewards]
    asked = {"fields": fields, "rewards": [[*one[:2], rule] for one, rule in zip(rewards, rules, strict=True)]}
    node = subprocess.run(
        [str(NODE), str(SCRIPT), str(DIST)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert node.returncode == 0, node.stderr[-3000:]
    seen = json.loads(node.stdout)
    # JavaScript has doubles alone, and writes some whole ones by digits: what counts is what it
    # would send.
    for (name, value), (both, sent) in zip(fields, seen["told"], strict=True):
        assert both == [wanted(name, json.loads(sent))] * 2, (name, str(value)[:80], sent[:80])
    for (value, metric, of), field in zip(rewards, seen["taken"], strict=True):
        assert field == refused(check_reward, value, metric, of), (value, metric, of)
    verdicts = [both[0] for both, _ in seen["told"]]
    assert {"unit", "request_id", "context", "exclude", None} == set(verdicts)
    assert {"value", "metric", None} == set(seen["taken"])
