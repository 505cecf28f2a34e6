"""Programs that some tests need, where this machine has them."""

import shutil

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
NODE = shutil.which("node")
