"""What the first start of a data directory makes: a secret key, and an admin whose password is shown once."""

import os
import secrets
from pathlib import Path

from django.contrib.auth import get_user_model
from django.db import IntegrityError

from noregret.env import secret_key_file

ADMIN = "admin"


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


def ensure_admin() -> str | None:
    """Make the user `admin` if there is no superuser; its password, or None."""
    users = get_user_model()
    if users.objects.filter(is_superuser=True).exists():
        return None
    password = secrets.token_urlsafe(12)
    try:
        users.objects.create_superuser(username=ADMIN, email="", password=password)
    except IntegrityError:
        return None
    return password
