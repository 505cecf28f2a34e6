"""Strict JSON: whatever the bytes, a value or InvalidJSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.strict_json import InvalidJSON, check_decoded, loads

keys = st.text(st.characters(codec="ascii", exclude_characters="\x00"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(values)
def test_loads__any_json__is_the_same_value(value: Any) -> None:
    assert loads(json.dumps(value).encode()) == value
    assert loads(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200))
def test_loads__any_bytes__never_raises_another_error(body: bytes) -> None:
    try:
        loads(body)
    except InvalidJSON:
        return


@given(st.binary(max_size=60), st.sampled_from([b'{"a": %b}', b'["%b"]', b'{"%b": 1, "a": 1}']))
def test_loads__bytes_within_json__never_raise_another_error(body: bytes, around: bytes) -> None:
    try:
        loads(around % body)
    except InvalidJSON:
        return


@pytest.mark.parametrize(
    "body",
    [b'{"a": 1, "a": 1}', b'{"a": {"b": 1, "\\u0062": 2}}', b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b'"\\ud800"', b'"\\u0000"',
     b"[" * 33 + b"]" * 33, b"[" * 100_000, b'{"a":' * 100_000, b"\xef\xbb\xbf1", b"1 2", b"", b"\xff", b'"\t"'],
)  # fmt: skip
def test_loads__not_strict__is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJSON):
        loads(body)


def test_loads__just_deep_enough_and_brackets_in_strings__are_taken() -> None:
    assert loads(b"[" * 32 + b"]" * 32) is not None
    assert loads(json.dumps(["[" * 100, '\\"[{']).encode()) == ["[" * 100, '\\"[{']


def test_check_decoded__colons_in_strings__are_no_duplicates() -> None:
    check_decoded(b'{"a": "x:y:z"}', 1)
    with pytest.raises(InvalidJSON, match="duplicate"):
        check_decoded(b'{"a": 1, "a": 2}', 1)
