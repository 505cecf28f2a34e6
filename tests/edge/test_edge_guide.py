"""The code of docs/edge.md, as a reader would copy it."""

from pathlib import Path
from typing import Any

import pytest

from serving.models import EdgeDecision, Reward
from tests.guide_code import code_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_guide__its_code__does_what_it_says(
    url: str, device_key: str, irises: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    instead = {"https://noregret.example.com": url, "nr_the-devices-key": device_key}
    for block in code_of("edge.md", **instead):
        exec(compile(block, "docs/edge.md", "exec"), known)  # noqa: S102 - the page's own code
    known["device"].close()
    assert (known["told"].told, known["told"].waiting) == ({"recorded": 2}, 0)
    assert EdgeDecision.objects.count() == Reward.objects.count() == 1
