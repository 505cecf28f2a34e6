"""What `/readyz` finds is told in sentences: what is wrong, with whom, and what to do."""

from typing import Any

import pytest
from noregret import operations
from noregret.embedded.troubles import sentences

WELL = {"ok": True, "serves": True}
LOST = "page@a: ArtifactMissing: file 45b1 is neither here nor in the artefact store"


def test_champions_and_challengers__are_told_one_by_one__and_champions_first() -> None:
    told = sentences(
        {
            "learner": {"ok": False, "serves": False, "lagging": {}, "seconds_since_round": None},
            "challengers": {"ok": False, "serves": False, "not_loaded": {"shelf/new": "m@2: ModelError: no"}},
            "snapshots": WELL,
            "champions": {"ok": False, "serves": True, "not_loaded": {"pages": LOST, "cards": "m@1: ModelError: no"}},
        }
    )
    assert list(told) == ["champions pages", "champions cards", "learner ", "challengers shelf/new"]
    assert LOST in told["champions pages"]
    assert "once its file is back" in told["champions pages"]
    assert "PATCH /api/v1/endpoints/pages" in told["champions pages"]
    assert "its file" not in told["champions cards"]
    assert "has not been heard of yet" in told["learner "]


@pytest.mark.parametrize("name", [*operations._CHECKS, "replica"])
def test_check_that_ended_with_a_problem__is_told_in_words(name: str) -> None:
    said = sentences({name: {"ok": False, "serves": True, "problem": "no route to host"}})[name]
    assert said.endswith(": no route to host.")
    assert " " in said.removesuffix(": no route to host.")


def test_one_cause_of_several_checks__is_told_once_by_what_can_not_be_served() -> None:
    raised: dict[str, Any] = {"ok": False, "problem": "no such storage"}
    told = sentences(
        {
            "database": raised | {"serves": False},
            "snapshots": raised | {"serves": True},
            "champions": raised | {"serves": True},
        }
    )
    assert list(told.values()) == ["Nothing can be served: no such storage."]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("migrations", {"missing": 2}),
        ("redis", {"servers": 3, "slots_without_server": 5461}),
        ("snapshots", {"endpoints": 0}),
        ("learner", {"seconds_since_round": 1.0, "lagging": {"pages": {"seconds": 70.0, "why": "decisions wait"}}}),
        ("added later", {"missing": 1}),
    ],
)
def test_each_check__has_a_sentence(name: str, found: dict[str, Any]) -> None:
    (said,) = sentences({name: {"ok": False, "serves": False} | found}).values()
    assert said.endswith(".")
