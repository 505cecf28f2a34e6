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
    """A person's browser, logged in; each picture is of a whole page or of one part of it."""

    browser: Any
    url: str
    folder: Path
    taken: set[str] = field(default_factory=set)

    def take(
        self,
        name: str,
        *steps: str,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        part: str | None = None,
        whole: bool = True,
    ) -> None:
        """A picture, once. `steps`: addresses that are opened, and links or buttons that are
        clicked, from the first page on. `part`: a selector."""
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
        )
        try:
            tab = context.new_page()
            tab.goto(f"{self.url}/admin/")
            tab.fill("input[name=username]", USER)
            tab.fill("input[name=password]", PASSWORD)
            tab.click("button[type=submit]")
            tab.wait_for_url(f"{self.url}/admin/")
            for step in steps:
                if step.startswith("/"):
                    tab.goto(f"{self.url}{step}")
                else:
                    tab.get_by_role("link", name=step, exact=True).or_(
                        tab.get_by_role("button", name=step, exact=True)
                    ).first.click()
                    tab.wait_for_load_state("networkidle")
            tab.wait_for_timeout(600)  # what is drawn from data that the page asks for
            shot = tab.locator(part).first.screenshot() if part else tab.screenshot(full_page=whole)
        finally:
            context.close()
        picture = (
            Image.open(BytesIO(shot))
            .convert("RGB")
            .quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        )
        picture.save(self.folder / f"{name}.png", optimize=True)
        print(name, f"{(self.folder / f'{name}.png').stat().st_size / 1000:.0f} kB", flush=True)  # noqa: T201 - a command's output


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
        camera.take("bandit-promoted", "/admin/experiments/experiment/", EXPERIMENT)
        camera.take("home-phone", size=PHONE, whole=False)
        camera.take("playground", ENDPOINT, "Try it", "Decide")
        camera.take("endpoint", ENDPOINT)
        camera.take("model", "/admin/registry/modelversion/", "digits")
        camera.take("audit", "/admin/trail/auditentry/")
        camera.take("form", "/admin/experiments/experiment/add/")


def canary(browser: Any, folder: Path) -> None:
    """A model that was trained on permuted labels, and is rolled back."""

    def climbing(camera: Camera, results: Results) -> None:
        if results.decisions >= 300:
            camera.take("canary", EXPERIMENT)

    with played(browser, folder, "canary", climbing) as camera:
        camera.take("canary-rolled-back", "/admin/experiments/experiment/", EXPERIMENT)


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
