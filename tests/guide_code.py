"""The code of a page of docs/, as a reader would copy it: every block, one after another."""

import re
from pathlib import Path

_DOCS = Path(__file__).resolve().parents[1] / "docs"


def code_of(page: str, language: str = "python", **instead: str) -> list[str]:
    """The blocks of a language, with what a reader fills in for himself. Raises AssertionError for
    words that the page does not have.
    """
    blocks = re.findall(rf"```{language}\n(.*?)```", (_DOCS / page).read_text(), re.DOTALL)
    assert blocks
    for words, value in instead.items():
        assert any(words in block for block in blocks), words
        blocks = [block.replace(words, value) for block in blocks]
    return blocks
