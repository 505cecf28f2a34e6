"""The JavaScript client: in Node and in a browser, against a real platform."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from noregret.embedded.running import RunningPlatform
from noregret_client import Client
from sklearn.linear_model import LinearRegression

from tests.clients.conftest import served_by
from tests.clients.faulty_proxy import FaultyProxy
from tests.programs import BROWSER, NODE

FOLDER = Path(__file__).resolve().parents[2] / "clients" / "javascript"
needs_node = pytest.mark.skipif(NODE is None, reason="NO NODE: the JavaScript client is not tested in it")

PAGE = b"""<!doctype html><link rel="icon" href="data:,"><script type="module">
import { NoregretClient } from "/dist/index.js";
const { url = "", key } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const options = { url, batching: { wait: 60_000 }, ...(key && { key }) };
const client = new NoregretClient(options);
const beacon = navigator.sendBeacon.bind(navigator);
navigator.sendBeacon = (...given) => {
  sessionStorage.setItem("beacons", Number(sessionStorage.getItem("beacons")) + 1);
  return beacon(...given);
};
const choice = await client.decide("pages", { unit: "browser" });
client.feedbackLater(choice.decision_id, 1);
window.decided = choice;
</script>"""


def texts(folder: Path) -> dict[str, str]:
    """Of every file, by its path within the folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


SITE = {f"/dist/{path.name}": ("text/javascript", path.read_bytes()) for path in (FOLDER / "dist").glob("*.js")} | {
    "/page": ("text/html", PAGE),
    "/next": ("text/html", b'<link rel="icon" href="data:,">left'),
}


@needs_node
def test_dist__is_what_the_source_builds(tmp_path: Path) -> None:
    compiler = FOLDER / "node_modules" / "typescript" / "bin" / "tsc"
    if not compiler.exists():
        pytest.skip("NO TYPESCRIPT: whether dist is up to date is not tested (npm ci in clients/javascript)")
    subprocess.run([str(NODE), str(compiler), "--outDir", str(tmp_path)], cwd=FOLDER, check=True, timeout=120)
    assert texts(FOLDER / "dist") == texts(tmp_path)


def test_lock__names_no_address() -> None:
    assert '"resolved"' not in (FOLDER / "package-lock.json").read_text()
    assert '"dependencies"' not in (FOLDER / "package.json").read_text()


@needs_node
def test_suite__in_node(proxy: FaultyProxy, client: Client, key: str, pages: str) -> None:
    client.register(LinearRegression().fit([[1.0, 2.0], [3.0, 5.0]], [1.0, 2.0]), name="rows", version="1")
    client.create_endpoint("rows", champion="rows@1")
    served_by(client, "rows", None)
    found = subprocess.run(
        [str(NODE), "--test", "tests/"],
        cwd=FOLDER,
        env=os.environ | {"NOREGRET_PROXY": proxy.url, "NOREGRET_KEY": key},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "# skipped 0" in found.stdout


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("NO BROWSER: chromium was not found, the client is not tested in one (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=arguments)
        yield started
        started.close()


@pytest.mark.parametrize("has_key", [True, False])
def test_page__that_is_left__sends_its_feedback_first(
    browser: Any, running: RunningPlatform, client: Client, key: str, pages: str, has_key: bool
) -> None:
    """By a fetch that outlives the page, with its key; where a proxy adds the key, by a beacon."""
    with FaultyProxy(running.url, key=None if has_key else key) as proxy:
        proxy.files = SITE
        tab = browser.new_page()
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(f"{proxy.url}/page" + (f"#key={key}" if has_key else ""))
        decided = tab.wait_for_function("window.decided").json_value()
        assert not any("feedback" in path for _, path, _ in proxy.requests)
        tab.goto(f"{proxy.url}/next")
        for _ in range(100):
            if any("feedback" in path for _, path, _ in proxy.requests):
                break
            tab.wait_for_timeout(50)
        sent = [item["decision_id"] for body in proxy.bodies() for item in body.get("feedback", [])]
        assert sent == [decided["decision_id"]]
        assert tab.evaluate("sessionStorage.getItem('beacons')") == (None if has_key else "1")
        assert errors == []
        tab.close()
        assert client.feedback(decided["decision_id"], 1) == "duplicate"


def test_page__of_a_listed_origin__calls_the_platform_itself(
    browser: Any, running: RunningPlatform, client: Client, key: str, pages: str, page_port: int
) -> None:
    with FaultyProxy(running.url, port=page_port) as site:
        site.files = SITE
        tab = browser.new_page()
        tab.goto(f"{site.url}/page#url={running.url}&key={key}")
        decided = tab.wait_for_function("window.decided").json_value()
        tab.goto(f"{site.url}/next")
        for _ in range(100):
            told = [
                item["reward"] for item in lines_of(client, "pages-1") if item["decision_id"] == decided["decision_id"]
            ]
            if told == [1.0]:
                break
            tab.wait_for_timeout(100)
        assert told == [1.0]
        assert site.requests == []
        tab.close()


def lines_of(client: Client, experiment: str) -> list[Any]:
    """The lines of an experiment's ledger."""
    with httpx.stream(
        "GET",
        f"{client._settings.address.url}/api/v1/experiments/{experiment}/decisions.ndjson",
        headers=client._settings.headers,
        timeout=20.0,
    ) as answer:
        return [msgspec.json.decode(line) for line in answer.iter_lines() if line]
