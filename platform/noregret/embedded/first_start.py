"""What the first start of a data directory makes before anything runs: a secret key."""

import os
import secrets
from pathlib import Path

from noregret.env import secret_key_file


def ensure_secret_key(data_dir: Path) -> None:
    """Write a secret key if there is none; readable by its owner alone, and never half written."""
    path = secret_key_file(data_dir)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(48))
    try:
        os.link(temporary, path)  # fails if another process was first, whose key then counts
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
