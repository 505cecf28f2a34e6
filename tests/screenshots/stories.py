"""What is played for the pictures, and which pictures are taken of it.

Each story has a platform of its own, with models, traffic and rewards as `manage.py demo` has them.
Colours of a picture are reduced to 256: a page has fewer, and the file is a third as large.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from noregret.demo import digits, scenes
from noregret.demo.scenes import ENDPOINT, EXPERIMENT
from noregret.embedded.running import MANAGE, RunningPlatform
from noregret.learning.shown.results import Results
from PIL import Image

from tests.dashboard.conftest import PASSWORD

DESKTOP, PHONE = (1280, 800), (390, 844)
MIDDLE = 1800
"""A bandit is looked at after so many decisions: it leans to an arm, and has not decided."""
USER = "ada"


@dataclass
class Camera:
    """A person's browser, logged in once; pictures are of whole pages or of one window of them."""

    browser: Any
    url: str
    folder: Path
    taken: set[str] = field(default_factory=set)
    login: Any = None
    """The cookies of the person, once logged in."""
    addresses: dict[str, str] = field(default_factory=dict)
    """By the name of an experiment or an endpoint, where its page is."""

    def take(
        self,
        name: str,
        *steps: str,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        whole: bool = True,
        before: Callable[[Any], None] | None = None,
    ) -> None:
        """A picture, once, of the page at the end of `steps`, from the first page on: addresses,
        experiments and endpoints by their names, links and buttons by theirs. `before`: what else
        a person does there."""
        if name in self.taken:
            return
        self.taken.add(name)
        width, height = size
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
            storage_state=self.login,
        )
        try:
            tab = context.new_page()
            tab.goto(f"{self.url}/admin/")
            if self.login is None:
                tab.fill("input[name=username]", USER)
                tab.fill("input[name=password]", PASSWORD)
                tab.click("button[type=submit]")
                tab.wait_for_url(f"{self.url}/admin/")
                self.login = context.storage_state()
            for step in steps:
                self._go(tab, step)
            if before is not None:
                before(tab)
            tab.wait_for_load_state("networkidle")
            tab.wait_for_timeout(500)  # what is drawn from data that the page asks for
            shot = tab.screenshot(full_page=whole)
        finally:
            context.close()
        picture = Image.open(BytesIO(shot)).convert("RGB")
        file = self.folder / f"{name}.png"
        picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, optimize=True)
        print(name, f"{file.stat().st_size / 1000:.0f} kB", flush=True)  # noqa: T201 - a command's output

    def _go(self, tab: Any, step: str) -> None:
        if step.startswith("/") or step in self.addresses:
            tab.goto(self.addresses.get(step, f"{self.url}{step}"))
            return
        if step in (EXPERIMENT, ENDPOINT):
            tab.goto(f"{self.url}/admin/experiments/{'experiment' if step == EXPERIMENT else 'endpoint'}/")
        link, button = (tab.get_by_role(role, name=step, exact=True) for role in ("link", "button"))
        link.or_(button).first.click()
        if step in (EXPERIMENT, ENDPOINT):
            tab.wait_for_url("**/change/**")
            self.addresses[step] = tab.url


@contextmanager
def played(browser: Any, folder: Path, scene: str, show: Callable[[Camera, Results], None]) -> Iterator[Camera]:
    """A camera on a platform on which a scene has ended; `show` is called while it is played."""
    with tempfile.TemporaryDirectory(prefix="noregret-pictures-") as data, RunningPlatform(Path(data)) as platform:
        key = _manage(platform, "apikey", "web-shop", "--scopes", "predict,feedback,manage")
        _manage(platform, "createsuperuser", "--noinput", "--username", USER, "--email", "ada@example.com")
        camera = Camera(browser, platform.url, folder)
        ending = scenes.run(
            scenes.SCENES[scene](),
            url=platform.url,
            key=key,
            digits=digits.load(0),
            seed=0,
            show=lambda results, _: show(camera, results),
        )
        if ending.problem:
            raise SystemExit(f"{scene}: {ending.problem}")
        yield camera


def _manage(platform: RunningPlatform, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(MANAGE), *words, "--data-dir", str(platform.data_dir)],
        env=platform.environment | {"DJANGO_SUPERUSER_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip()


def bandit(browser: Any, folder: Path) -> None:
    """Three models of digits, the best of which is promoted."""

    def half_way(camera: Camera, results: Results) -> None:
        if results.decisions >= MIDDLE:
            camera.take("home", whole=False)
            camera.take("bandit", EXPERIMENT)
            camera.take("bandit-phone", EXPERIMENT, size=PHONE, whole=False)
            camera.take("bandit-dark", EXPERIMENT, dark=True, whole=False)

    with played(browser, folder, "bandit", half_way) as camera:
        camera.take("bandit-promoted", EXPERIMENT)
        camera.take("home-phone", size=PHONE, whole=False)
        camera.take("playground", ENDPOINT, "Try it", "Decide")
        camera.take("endpoint", ENDPOINT)
        camera.take("model", "/admin/registry/modelversion/", "digits")
        camera.take("audit", "/admin/trail/auditentry/")
        camera.take("form", "/admin/experiments/experiment/add/", before=lambda tab: _fill(tab, to="Strategy"))
        camera.take(
            "form-careful", "/admin/experiments/experiment/add/", before=lambda tab: _fill(tab, to="How careful")
        )
        camera.take("form-review", "/admin/experiments/experiment/add/", before=lambda tab: _fill(tab, to="Review"))


def _fill(tab: Any, *, to: str) -> None:
    """The form of an experiment, up to a step."""
    tab.fill("input[name=name]", "digits-next")
    tab.fill("input[name=endpoint]", ENDPOINT)
    tab.check("input[name=strategy][value=bandit]")
    while not tab.locator(f"[aria-current=step]:has-text('{to}')").count():
        onward = tab.locator("button:has-text('Next:')")
        title = onward.inner_text().partition(": ")[2]
        onward.click()
        tab.locator(f"[aria-current=step]:has-text('{title}')").wait_for()
        if title == "Arms":
            tab.fill("[name='arms[0].name']", "v2")
            tab.fill("[name='arms[0].model']", "digits@2")


def canary(browser: Any, folder: Path) -> None:
    """A model that was trained on permuted labels, and is rolled back."""

    def climbing(camera: Camera, results: Results) -> None:
        if results.decisions >= 300:
            camera.take("canary", EXPERIMENT)

    with played(browser, folder, "canary", climbing) as camera:
        camera.take("canary-rolled-back", EXPERIMENT)


def shadow(browser: Any, folder: Path) -> None:
    """Two challengers that see copies of the traffic."""

    def scored(camera: Camera, results: Results) -> None:
        if results.decisions >= 500:
            camera.take("shadow", EXPERIMENT)

    with played(browser, folder, "shadow", scored):
        pass


def drift(browser: Any, folder: Path) -> None:
    """A world that changes half-way, and a policy that forgets."""
    with played(browser, folder, "drift", lambda camera, results: None) as camera:
        camera.take("drift", EXPERIMENT)


STORIES = {"bandit": bandit, "canary": canary, "shadow": shadow, "drift": drift}
