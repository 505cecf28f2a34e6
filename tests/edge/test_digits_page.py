"""The digits page in a real browser: models in WebAssembly, a strict policy, and no network for a
while."""

import os
import threading
import time
from collections.abc import Iterator
from functools import cache
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from noregret.access.keys import create_key, revoke_key
from noregret.access.models import ApiKey
from noregret.access.publish import publish_access
from noregret.demo import digits, digits_world
from noregret.demo.client import Client
from noregret.experiments.models import Experiment
from noregret.registry.frameworks.protocol import Examined
from noregret.registry.frameworks.sklearn import SklearnFramework
from noregret.registry.models import ModelVersion

from serving.artifacts import supplied
from serving.models import Decision, Reward
from tests.client_environments import KEPT, onnxruntime_web_files
from tests.conftest import ACTOR, Api
from tests.edge.conftest import drained, served
from tests.programs import BROWSER

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(BROWSER is None, reason="NO BROWSER: the digits page is not opened in one"),
]
WAIT = 60_000
"""Milliseconds, for what may take long on a busy machine."""

# In a page's first moments: what it may not do is an error, and what it sends at its end is
# counted. Where its uploads are held, as on a slow network, they stay under way: only what is sent
# at its end arrives.
WATCH = """
addEventListener("securitypolicyviolation", (event) => console.error("refused", event.violatedDirective, event.blockedURI));
if (location.protocol === "http:") {
  const beacon = navigator.sendBeacon.bind(navigator);
  navigator.sendBeacon = (...given) => {
    localStorage.setItem("beacons", Number(localStorage.getItem("beacons")) + 1);
    return beacon(...given);
  };
  const fetching = window.fetch.bind(window);
  window.fetch = (address, ...given) =>
    window.areUploadsHeld && String(address).endsWith("/edge/events") ? new Promise(() => {}) : fetching(address, ...given);
}
"""
SEVEN = [(0.2, 0.2), (0.8, 0.2), (0.45, 0.85)]
ONE = [(0.5, 0.15), (0.5, 0.85)]


@cache
def examined() -> list[tuple[digits.Candidate, Examined]]:
    """The page's models. Looked at in this process: a confined one takes seconds to start."""
    candidates = digits.load(0).candidates
    asked: dict[str, Any] = {"trusted": [], "sample": digits.load(0).images[:20].tolist()}
    return [(one, SklearnFramework().inspect(one.artifact, asked)) for one in candidates]


@pytest.fixture(autouse=True)
def every_call_admitted(platform: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser asks for many files at once, which wait for their turn in our own server; under
    another one those past a bound are told to come again."""
    from noregret import wsgi

    monkeypatch.setattr(wsgi, "_admitted", threading.BoundedSemaphore(64))


@pytest.fixture
def address(url: str, settings: Any) -> str:
    """The page's, as the command prints it."""
    onnxruntime_web_files()
    settings.DATA_DIR = KEPT
    for candidate, found in examined():
        assert found.compiled is not None
        ModelVersion.objects.create(
            name=digits_world.ENDPOINT,
            version=candidate.version,
            framework="sklearn",
            runtime="onnx",
            sha256=supplied().put(candidate.artifact),
            compiled_sha256=supplied().put(found.compiled),
            signature=found.signature.to_dict(),
        )
    client = Client(url, create_key(name="setup", scopes=["manage"], actor=ACTOR)[1])
    digits_world.make(client)
    client.close()
    served()
    said, warned = StringIO(), StringIO()
    call_command("digits-page", url=url, stdout=said, stderr=warned)  # again, it makes nothing twice
    assert warned.getvalue() == ""
    return said.getvalue().strip()


@pytest.fixture
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    # Playwright runs an event loop in this thread, where Django would otherwise refuse the
    # database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=arguments)
        yield started
        started.close()
        connection.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


class Visit:
    """A tab with the page, and what was wrong with it."""

    def __init__(self, browser: Any, address: str, script: str = "") -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.context.add_init_script(script or WATCH)
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


def told(of: list[tuple[str, float]]) -> None:
    """Wait until the ledger has these decisions of devices with their rewards, and no others."""
    experiment = Experiment.objects.get(name=digits_world.EXPERIMENT)
    names = {arm.pk: arm.name for arm in experiment.arms.all()}
    for _ in range(300):
        drained(experiment)
        values = {reward.decision_id: reward.value for reward in Reward.objects.all()}
        rows = Decision.objects.filter(edge_decided_at__isnull=False)
        ledger = sorted((names[row.arm_id], values.get(row.id)) for row in rows)
        if ledger == sorted(of):
            return
        time.sleep(0.2)
    raise AssertionError(ledger)


def test_page__reads_by_every_model__offline_too__and_tells_the_ledger(visit: Visit, alice: Api, url: str) -> None:
    tab = visit.tab
    policy = visit.answer.headers["content-security-policy"]
    assert "script-src 'self' 'wasm-unsafe-eval';" in policy
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy
    assert "key" not in tab.url  # nor does it stay in the address bar
    tab.get_by_text("Works offline.").wait_for()

    # Every model answers as on the server, and its arm, propensity and reward come to the ledger.
    names = {"v1", "v2", "v3"}
    decided: list[tuple[str, float]] = []
    for i in range(60):
        answer = visit.read(SEVEN if i % 2 else ONE)
        if answer["arm"] not in {arm for arm, _ in decided}:
            body = {"inputs": [answer["row"]], "exclude": sorted(names - {answer["arm"]})}
            there = alice.post(f"/api/v1/endpoints/{digits_world.ENDPOINT}/predict", body).body
            assert (there["arm"], there["outputs"]["predict"]) == (answer["arm"], [answer["digit"]])
        is_right = answer["digit"] == (7 if i % 2 else 1)
        tab.click("#right" if is_right else "#wrong")
        decided.append((answer["arm"], float(is_right)))
        if {arm for arm, _ in decided} == names:
            break
    assert {arm for arm, _ in decided} == names
    told(decided)
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
    told(decided[:-2])
    visit.context.set_offline(False)
    told(decided)
    tab.get_by_text("0 events wait to be sent.").wait_for()
    tab.get_by_text("Online", exact=True).wait_for()

    # A page that is left tells what it knows, and nobody else can have told it: however long this
    # machine takes to leave it, the upload by time has not arrived.
    beacons = int(tab.evaluate("localStorage.getItem('beacons') ?? 0"))
    tab.evaluate("window.areUploadsHeld = true")
    arm = visit.read(ONE)["arm"]
    tab.click("#wrong")
    tab.get_by_text("Noted: wrong.").wait_for()  # it is kept
    # To a page of the same site: the browser ends another's process after half a second, whatever
    # it was still to send.
    tab.goto(f"{url}/healthz")
    decided.append((arm, 0.0))
    told(decided)
    tab = visit.opened()
    assert int(tab.evaluate("localStorage.getItem('beacons')")) > beacons

    for width in (390, 1280):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert visit.wrong == []
    assert visit.hosts <= {url.split("/")[2], ""}


def test_page__clicked_quickly__notes_the_first_and_says_so(visit: Visit) -> None:
    tab = visit.tab
    tab.get_by_text("Works offline.").wait_for()
    arm = visit.read(ONE)["arm"]
    tab.evaluate(
        """(() => {
          const [right, wrong] = ["#right", "#wrong"].map((name) => document.querySelector(name));
          for (const button of [right, right, wrong]) button.click();
        })()"""
    )
    tab.get_by_text("Noted: right.").wait_for()
    told([(arm, 1.0)])
    tab.get_by_text("0 events wait to be sent.").wait_for()
    assert tab.locator(f'tr[data-arm="{arm}"] td[data-title="Right"]').text_content() == "1"
    assert tab.is_disabled("#right")
    # No space is left: the answer is given, nothing is noted, and both are said.
    tab.evaluate(
        "void (IDBObjectStore.prototype.add = () => { throw new DOMException('no space', 'QuotaExceededError'); })"
    )
    visit.read(SEVEN)
    tab.click("#right")
    tab.get_by_text("Not noted: nothing is learned of this answer.").wait_for()
    assert tab.locator("#waiting").text_content() == "0 events wait to be sent."
    assert visit.wrong == []


REFUSED = {
    "IndexedDB, later": """indexedDB.open = () => {
      const request = {};
      setTimeout(() => {
        request.error = new DOMException("denied", "UnknownError");
        request.onerror?.({ target: request });
      });
      return request;
    }""",
    "IndexedDB, at once": """indexedDB.open = () => { throw new DOMException("denied", "SecurityError"); };""",
    "all": """for (const name of ["localStorage", "indexedDB", "caches"]) {
      Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });
    }
    Object.defineProperty(Navigator.prototype, "serviceWorker", { value: {
      register: () => Promise.reject(new DOMException("denied", "SecurityError")) } });""",
    "localStorage": """Object.defineProperty(window, "localStorage", {
      get() { throw new DOMException("denied", "SecurityError"); } });""",
}


def test_page__whose_storage_is_refused__reads_for_this_visit_and_says_so(browser: Any, address: str) -> None:
    decided: list[tuple[str, float]] = []
    for what, script in REFUSED.items():
        visit = Visit(browser, address, script)
        said = "refuses to keep this page's " + ("key" if what == "localStorage" else "data")
        visit.tab.get_by_text(said).wait_for()
        kept = "Not kept for later visits: denied" if what == "all" else "Works offline for this visit only."
        visit.tab.get_by_text(kept).wait_for()
        decided.append((visit.read(ONE)["arm"], 1.0))
        visit.tab.click("#right")
        visit.tab.get_by_text("Noted: right.").wait_for()
        visit.tab.get_by_text("1 recorded").or_(visit.tab.get_by_text("2 recorded")).wait_for()
        visit.tab.reload()  # the key, which nothing keeps, stands in the address still
        visit.tab.wait_for_selector("#arms tr:nth-child(3)")
        assert visit.wrong == []
        visit.context.close()
    told(decided)


def test_page__whose_world_changed_while_it_was_away__says_so_and_loses_nothing(
    visit: Visit, alice: Api, url: str
) -> None:
    tab = visit.tab
    tab.get_by_text("Works offline.").wait_for()
    visit.context.set_offline(True)
    decided = [(visit.read(ONE)["arm"], 1.0)]
    tab.click("#right")
    tab.get_by_text("2 events wait to be sent.").wait_for()
    # Its key is revoked: what waits stays, and it reads on.
    key = ApiKey.objects.get(name="digits-page")
    assert revoke_key(key, actor=ACTOR)
    served()
    visit.context.set_offline(False)
    tab.get_by_text("The key of this page is not taken").wait_for()
    decided.append((visit.read(SEVEN)["arm"], 0.0))
    tab.click("#wrong")
    tab.get_by_text("4 events wait to be sent.").wait_for()
    # The key is taken again, and the experiment is stopped: what was decided under it is told.
    visit.context.set_offline(True)
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=None)
    publish_access()
    assert alice.post(f"/api/v1/experiments/{digits_world.EXPERIMENT}/stop", {"reason": "test"}).status == 200
    served()
    visit.context.set_offline(False)
    tab.get_by_text("no experiment, so nothing is learned").wait_for()
    tab.get_by_text("0 events wait to be sent.").wait_for()
    told(decided)
    visit.read(SEVEN)
    assert "the champion" in tab.locator("#by").text_content()
    tab.click("#right")
    tab.get_by_text("Draw the next one.").wait_for()
    assert [line for line in visit.wrong if "401" not in line] == []


def test_page__without_a_key__says_what_to_run(browser: Any, url: str) -> None:
    context = browser.new_context()
    tab = context.new_page()
    tab.set_default_timeout(WAIT)
    tab.goto(f"{url}/demo/digits")
    tab.get_by_text("Run manage.py digits-page on the server").wait_for()
    tab.goto(f"{url}/demo/digits#key=nr_wrong")
    tab.reload()
    tab.get_by_text("The key of this page is not taken").wait_for()
    context.close()
