"""The digits page in a real browser: models in WebAssembly, a strict policy, and no network for a
while."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from noregret.demo import digits_world, onnxruntime_web
from noregret.embedded.running import MANAGE, RunningPlatform
from noregret_client import Client

from tests.client_environments import onnxruntime_web_files
from tests.clients.test_javascript_client import BROWSER, browser, lines_of

__all__ = ["browser"]
pytestmark = pytest.mark.skipif(BROWSER is None, reason="NO BROWSER: the digits page is not opened in one")
WAIT = 60_000
"""Milliseconds, for what may take long on a busy machine."""

# In a page's first moments: what it may not do is an error, and what it sends at its end is
# counted.
WATCH = """
addEventListener("securitypolicyviolation", (event) => console.error("refused", event.violatedDirective, event.blockedURI));
if (location.protocol === "http:") {
  const beacon = navigator.sendBeacon.bind(navigator);
  navigator.sendBeacon = (...given) => {
    localStorage.setItem("beacons", Number(localStorage.getItem("beacons")) + 1);
    return beacon(...given);
  };
}
"""
SEVEN = [(0.2, 0.2), (0.8, 0.2), (0.45, 0.85)]
ONE = [(0.5, 0.15), (0.5, 0.85)]


@pytest.fixture(scope="module")
def address(running: RunningPlatform) -> str:
    """The page's, as the command prints it."""
    files = onnxruntime_web_files()
    shutil.copytree(files, running.data_dir / onnxruntime_web.FOLDER, dirs_exist_ok=True)
    words = ["digits-page", "--url", running.url, "--data-dir", str(running.data_dir)]
    for _ in range(2):  # again, it makes nothing twice
        ran = subprocess.run(
            [sys.executable, str(MANAGE), *words], env=running.environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout.strip()


class Visit:
    """A tab with the page, and what was wrong with it."""

    def __init__(self, browser: Any, address: str) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.context.add_init_script(WATCH)
        self.wrong: list[str] = []
        self.hosts: set[str] = set()
        self.address = address
        self.tab = self.opened()

    def opened(self) -> Any:
        tab = self.context.new_page()
        tab.set_default_timeout(WAIT)
        tab.on("console", lambda said: self.note(said.text) if said.type in {"error", "warning"} else None)
        tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        tab.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.answer = tab.goto(self.address)
        tab.wait_for_selector("#arms tr:nth-child(3)")
        return tab

    def note(self, text: str) -> None:
        if "ERR_INTERNET_DISCONNECTED" not in text:  # the browser tells, too, what could not be fetched
            self.wrong.append(text)

    def draw(self, points: list[tuple[float, float]]) -> None:
        box = self.tab.locator("#paper").bounding_box()
        for i, (x, y) in enumerate(points):
            self.tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
            if i == 0:
                self.tab.mouse.down()
        self.tab.mouse.up()

    def read(self, points: list[tuple[float, float]]) -> dict[str, Any]:
        """Draw and read: the answer, as the page tells it."""
        before = self.tab.get_attribute("#answer", "data-decision")
        self.draw(points)
        self.tab.click("#read")
        # The page's policy forbids what Playwright's waiting for a function does.
        self.tab.wait_for_selector(f'#answer[data-decision]:not([data-decision="{before}"])')
        told = self.tab.evaluate(
            """({arm: document.querySelector('#answer').dataset.arm,
                 digit: Number(document.querySelector('#digit').textContent),
                 row: JSON.parse(document.querySelector('#seen').dataset.row)})"""
        )
        assert isinstance(told, dict)
        return told


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    made = Visit(browser, address)
    yield made
    made.context.close()


def events(client: Client, until: Callable[[list[Any]], bool]) -> list[Any]:
    """The experiment's decisions of devices, when they are as they should be."""
    for _ in range(300):
        told = [one for one in lines_of(client, digits_world.EXPERIMENT) if one["edge_decided_at"] is not None]
        if until(told):
            return told
        time.sleep(0.2)
    raise AssertionError(told)


def test_page__reads_by_every_model__offline_too__and_tells_the_ledger(
    visit: Visit, client: Client, running: RunningPlatform
) -> None:
    tab = visit.tab
    policy = visit.answer.headers["content-security-policy"]
    assert "script-src 'self' 'wasm-unsafe-eval';" in policy
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy
    assert "key" not in tab.url  # nor does it stay in the address bar
    tab.get_by_text("Works offline.").wait_for()

    # Every model answers as on the server, and its arm, propensity and reward come to the ledger.
    names = {"v1", "v2", "v3"}
    decided: list[tuple[str, float | None]] = []
    for i in range(60):
        told = visit.read(SEVEN if i % 2 else ONE)
        if told["arm"] not in {arm for arm, _ in decided}:
            there = client.predict(digits_world.ENDPOINT, [told["row"]], exclude=sorted(names - {told["arm"]}))
            assert (there.arm, there.predictions[0]) == (told["arm"], told["digit"])
        is_right = told["digit"] == (7 if i % 2 else 1)
        tab.click("#right" if is_right else "#wrong")
        decided.append((told["arm"], float(is_right)))
        if {arm for arm, _ in decided} == names:
            break
    assert {arm for arm, _ in decided} == names
    ledger = events(client, lambda told: sum(one["reward"] is not None for one in told) == len(decided))
    assert sorted((one["arm"], one["reward"]) for one in ledger) == sorted(decided)
    assert all(0 < one["propensity"] <= 1 for one in ledger)
    tab.get_by_text("0 events wait to be sent.").wait_for()

    # No network: the page opens and reads.
    visit.context.set_offline(True)
    tab.reload()
    tab.get_by_text("Offline", exact=True).wait_for()
    assert tab.evaluate("fetch('/healthz').then(() => 'there', () => 'away')") == "away"
    for points in (SEVEN, ONE):
        decided.append((visit.read(points)["arm"], 1.0))
        tab.click("#right")
    tab.get_by_text("4 events wait to be sent.").wait_for()
    assert len(events(client, lambda told: True)) == len(decided) - 2
    visit.context.set_offline(False)
    ledger = events(client, lambda told: sum(one["reward"] is not None for one in told) == len(decided))
    assert sorted((one["arm"], one["reward"]) for one in ledger) == sorted(decided)
    tab.get_by_text("0 events wait to be sent.").wait_for()
    tab.get_by_text("Online", exact=True).wait_for()

    # A page that is left tells what it knows.
    beacons = int(tab.evaluate("localStorage.getItem('beacons') ?? 0"))
    arm = visit.read(ONE)["arm"]
    tab.click("#wrong")
    tab.goto("about:blank")
    decided.append((arm, 0.0))
    ledger = events(client, lambda told: sum(one["reward"] is not None for one in told) == len(decided))
    assert sorted((one["arm"], one["reward"]) for one in ledger) == sorted(decided)
    tab = visit.opened()
    assert int(tab.evaluate("localStorage.getItem('beacons')")) > beacons

    for width in (390, 1280):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert visit.wrong == []
    assert visit.hosts <= {running.url.split("/")[2], ""}


def test_page__without_a_key__says_what_to_run(browser: Any, address: str) -> None:
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(address.split("#")[0])
    tab.get_by_text("Run manage.py digits-page on the server").wait_for()
    tab.goto(address.split("#")[0] + "#key=nr_wrong")
    tab.reload()
    tab.get_by_text("The key of this page is not taken").wait_for()
    context.close()
