"""The JavaScript edge client in pages of another origin than the platform's, in a real browser."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from noregret.embedded.running import MANAGE, RunningPlatform
from noregret_client import Client
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

from tests.clients.conftest import served_by
from tests.clients.faulty_proxy import FaultyProxy
from tests.programs import BROWSER

DIST = Path(__file__).resolve().parents[2] / "clients" / "javascript" / "dist"
SITE = {f"/{path.relative_to(DIST)}": ("text/javascript", path.read_bytes()) for path in DIST.rglob("*.js")} | {
    "/page": ("text/html", b'<!doctype html><link rel="icon" href="data:,">')
}
# The page's own clock is so many milliseconds off.
CLOCK = """(() => {
  const Real = Date;
  globalThis.Date = class extends Real {
    constructor(...given) { given.length ? super(...given) : super(Real.now() + OFF); }
    static now() { return Real.now() + OFF; }
  };
})()"""
MADE = """async ([url, key, given]) => {
  const { EdgeClient } = await import("/edge/index.js");
  const made = (endpoint, more) => new EdgeClient({ endpoint, url, key, uploadAfter: null, timeout: 60000, ...more });
  const named = (work) => work.then((value) => value, (error) => `${error.name}: ${error.message}`);
  WORK
}"""
DECIDES = """
  const device = made("pages");
  const refreshed = [await device.refresh(), await device.refresh()];
  const { decision_id, learnable } = await device.decide();
  return { refreshed, decision_id, learnable, uploaded: await device.upload() };
"""
REWARDS = """
  const device = made("pages");
  const nothing = await device.upload();
  const isKnown = await device.feedback(given, 1);
  return { nothing, isKnown, uploaded: await device.upload(), refreshed: await device.refresh() };
"""
# A file that breaks off is gone on with, and answers that are no success are read as such.
FETCHES = """
  const ranges = [];
  const breaking = async (address, init) => {
    if (!address.includes("/artifacts/")) return fetch(address, init);
    ranges.push(init.headers.Range ?? null);
    const answer = await fetch(address, init);
    if (ranges.length > 1) return answer;
    const start = (await answer.arrayBuffer()).slice(0, 100);
    return new Response(start, { status: answer.status, headers: answer.headers });
  };
  const device = made("trees", { runtime: () => Promise.reject(new Error("none")), fetch: breaking });
  const fetched = await named(device.refresh());
  const { arms: [{ artifact }] } = await device.bundle();
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
  const asked = async (path, init) => {
    const answer = await fetch(url + path, { headers, ...init });
    return [answer.status, answer.headers.has("Date")];
  };
  const post = (body) => asked("/api/v1/edge/events", { method: "POST", body });
  return {
    fetched,
    ranges,
    wrong: await named(made("pages", { key: "nr_wrong" }).refresh()),
    absent: await named(made("absent").refresh()),
    answers: [
      await asked("/api/v1/edge/key", { headers: {} }),
      await asked(artifact.url, { headers: { ...headers, Range: "bytes=0-9" } }),
      await asked(artifact.url, { headers: { ...headers, Range: "bytes=999999999-" } }),
      await asked(`/api/v1/artifacts/${"0".repeat(64)}`, {}),
      await post("{"),
      await post('{"receipt": "x", "events": [{}]}'),
      await post("x".repeat(2 ** 21)),
      await asked("/api/v1/edge/events", {}),
    ],
  };
"""


# What both kinds of state remember.
STATES = """
  const { IndexedState, MemoryState } = await import("/edge/index.js");
  const HOUR = 3_600_000;
  const rules = (window_seconds) => ({ metric: "reward", kind: "binary", minimum: null, maximum: null, window_seconds });
  const seen = async (state) => {
    const windows = { hour: rules(3600), second: rules(1), week: rules(604_800), unknown: null };
    const ids = Object.keys(windows);
    for (const [i, id] of ids.entries()) {
      await state.addDecision({ id, receipt: `of-${id}`, decidedAt: 1000 + i, event: `"${id}"`, reward: windows[id] });
      await new Promise((resolve) => setTimeout(resolve, 5)); // places in the queue are times
    }
    const order = [];
    for (const without = new Set(); ; ) {
      const batch = await state.batch(10, without);
      if (batch === null) break;
      order.push(...batch.events);
      without.add(batch.receipt);
    }
    await state.forget(1000 * HOUR); // what waits stays
    const left = [await state.waiting()];
    await state.told(ids.map((id) => [id, null]));
    const known = async () => {
      const answers = [];
      for (const id of ids) answers.push(await state.addReward(id, "", "1"));
      await state.told(ids.map((id) => [id, ""]));
      return answers;
    };
    for (const hours of [0, 0.5, 2, 25, 200]) {
      await state.forget(1000 + hours * HOUR);
      left.push(await known());
    }
    return { order, left };
  };
  return [await seen(new MemoryState(10)), await seen(new IndexedState("states", 10))];
"""


@pytest.fixture(scope="module")
def edge_key(running: RunningPlatform) -> str:
    words = ["apikey", "page", "--scopes", "edge", "--data-dir", str(running.data_dir)]
    made = subprocess.run(
        [sys.executable, str(MANAGE), *words], env=running.environment, capture_output=True, text=True, check=True
    )
    return made.stdout.strip()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("NO BROWSER: chromium was not found, the edge client is not tested in one")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=arguments)
        yield started
        started.close()


@pytest.fixture
def site(running: RunningPlatform, page_port: int) -> Iterator[FaultyProxy]:
    """Serves the page alone, itself and no route of a test's: a page that did not come from this
    machine may not call it."""
    with FaultyProxy(running.url, port=page_port) as made:
        made.files = SITE
        yield made


def ran(context: Any, site: FaultyProxy, work: str, *given: Any) -> Any:
    """What comes of this in a new page."""
    tab = context.new_page()
    tab.goto(f"{site.url}/page")
    value = tab.evaluate(MADE.replace("WORK", work), list(given))
    tab.close()
    return value


@pytest.mark.parametrize("days", [0, 2, -2])
def test_page__whose_clock_is_off__is_rewarded_in_a_later_page(
    browser: Any, running: RunningPlatform, site: FaultyProxy, pages: str, edge_key: str, days: int
) -> None:
    context = browser.new_context()
    context.add_init_script(CLOCK.replace("OFF", str(days * 86_400_000)))
    told = ran(context, site, DECIDES, running.url, edge_key, None)
    assert told["refreshed"] == [True, False]
    assert told["learnable"]
    assert told["uploaded"] == {"told": {"recorded": 1}, "waiting": 0}
    told = ran(context, site, REWARDS, running.url, edge_key, told["decision_id"])
    assert told["nothing"] == {"told": {}, "waiting": 0}
    assert told["isKnown"]
    assert told["uploaded"] == {"told": {"recorded": 1}, "waiting": 0}
    assert told["refreshed"] is False
    assert site.requests == []
    context.close()


def test_states__forget_each_decision_after_its_own_window(browser: Any, site: FaultyProxy) -> None:
    context = browser.new_context()
    for state in ran(context, site, STATES, "", ""):
        assert state["order"] == ['"hour"', '"second"', '"week"', '"unknown"']
        assert state["left"] == [
            4,
            [True, True, True, True],
            [True, False, True, True],
            [False, False, True, True],
            [False, False, True, False],
            [False, False, False, False],
        ]
    context.close()


def test_page__reads_every_answer_of_the_platform(
    browser: Any, running: RunningPlatform, site: FaultyProxy, client: Client, pages: str, edge_key: str
) -> None:
    rows, classes = load_iris(return_X_y=True)
    client.register(DecisionTreeClassifier(random_state=0).fit(rows, classes), name="trees", version="1")
    client.create_endpoint("trees", champion="trees@1")
    served_by(client, "trees", None)
    context = browser.new_context()
    told = ran(context, site, FETCHES, running.url, edge_key, None)
    assert told["fetched"] is True
    assert told["ranges"] == [None, "bytes=100-"]
    assert told["wrong"].startswith("NotAuthorized: 401")
    assert told["absent"].startswith("NotFound: 404")
    statuses = [200, 206, 416, 404, 400, 400, 413, 405]
    assert told["answers"] == [[status, True] for status in statuses]
    context.close()
