"""`python -m tests.screenshots FOLDER [STORY ...]`: pictures of the admin's pages while the demo's
scenes are played, for README and docs. Takes Chromium, and about eight minutes."""

import os
import sys
from pathlib import Path

import django


def main(folder: Path, chosen: list[str]) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "noregret.settings",
        "NOREGRET_SECRET_KEY": "only-for-pictures-" + "0" * 32,
    }
    django.setup()
    from playwright.sync_api import sync_playwright

    from tests.dashboard.conftest import BROWSER
    from tests.screenshots.stories import STORIES

    if BROWSER is None:
        raise SystemExit("Chromium was not found: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        for story in chosen or STORIES:
            STORIES[story](browser, folder)
        browser.close()


main(Path(sys.argv[1]), sys.argv[2:])
