"""What exists is documented: every endpoint, problem and decision record."""

import re
from pathlib import Path

from django.urls import URLPattern, URLResolver, get_resolver

from serving.web.routes import ROUTES

ROOT = Path(__file__).resolve().parents[1]


def addresses(patterns: list[URLPattern | URLResolver], before: str = "/") -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        text = before + re.sub(r"<\w+:(\w+)>", r"{\1}", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            if not text.startswith("/admin/"):
                found += addresses(pattern.url_patterns, text)
        else:
            found.append(text)
    return found


def test_api__every_address__is_documented() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    for address in [*addresses(get_resolver().url_patterns), *(route.template for route in ROUTES)]:
        if address == "/favicon.ico":
            continue
        short = "`/" + address.rpartition("/")[2] + "`"
        assert f"{address}`" in page or f"`{address}" in page or short in page, address


def test_problems__every_type__is_documented() -> None:
    page = (ROOT / "docs" / "problems.md").read_text()
    for path in (ROOT / "serving" / "problems.py", ROOT / "platform" / "noregret" / "rest" / "problems.py"):
        for name in re.findall(r"Problem\(\s*(?:\d+|error\.status_code),\s*\"([a-z-]+)\"", path.read_text()):
            assert f"`/problems/{name}`" in page, name


def test_decision_records__are_numbered_and_short() -> None:
    for number, path in enumerate(sorted((ROOT / "docs" / "adr").glob("*.md")), start=1):
        assert path.name.startswith(f"{number:04d}-")
        paragraphs = [part for part in path.read_text().split("\n\n") if not part.startswith("#")]
        assert len(paragraphs) == 2, path.name


def test_readme__links__lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
