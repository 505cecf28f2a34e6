"""Django on an empty PostgreSQL and Redis of its own, for the time of a benchmark."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def own_platform(name: str) -> Iterator[None]:
    """Once a process: Django is set up in it. Nothing of ours that needs Django may be imported
    before."""
    folder = Path(tempfile.mkdtemp(prefix=f"noregret-{name}-"))
    for variable in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(variable, None)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "noregret.settings",
        "NOREGRET_DATA_DIR": str(folder),
        "NOREGRET_SECRET_KEY": "only-for-a-benchmark-" + "0" * 32,
        "NOREGRET_LOG_LEVEL": "ERROR",
    }
    import django

    django.setup()
    from django.db import connections
    from noregret.embedded.engines import running_engines

    try:
        with running_engines(folder):
            yield
            connections.close_all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
