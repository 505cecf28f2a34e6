"""`python -m noregret.embedded.prepare_database`: migrations, the first admin, and a look at what
`up` will need.

`up` runs it as a child before anything serves, and says what it wrote when it fails: one sentence
on stdout. The admin's password, shown once, goes to the stderr that the child inherits, never to a
file.
"""

import secrets
import sys

import django
import redis
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import Error, IntegrityError

from noregret import env, variables
from serving import redis_clients

from .services import TOLD

ADMIN = "admin"


def main() -> int:
    env.name_settings()
    django.setup()
    from django.conf import settings

    named = settings.ENVIRONMENT
    from noregret.registry.storage_deadlines import artifact_storage

    try:
        artifact_storage()
    except ImproperlyConfigured as error:
        print(_first_line(error))  # noqa: T201 - its parent says it
        return TOLD
    try:
        call_command("migrate", verbosity=0, interactive=False)
        from noregret.retention.days_ahead import make_days

        make_days()  # before there is traffic: after a long rest today has no partition yet
        password = ensure_admin()
    except Error as error:
        whose = (
            "the embedded PostgreSQL"
            if named.embedded_database
            else f"the database that {variables.DATABASE_URL} names"
        )
        print(f"{whose} can't be used: {_first_line(error)}")  # noqa: T201 - its parent says it
        return TOLD
    if password is not None:
        _say(f"The admin's user name is {ADMIN}, the password {password}; it is not shown again.")
    from noregret.redis_client import client

    try:
        client().ping()
    except redis.RedisError as error:
        print(f"the Redis that {variables.REDIS_URL} names can't be used: {_first_line(error)}")  # noqa: T201 - as above
        return TOLD
    if named.broker_url != named.redis_url:
        broker = redis_clients.client(named.broker_url, redis_clients.CONTROL)
        try:
            broker.ping()
        except redis.RedisError as error:
            print(f"the Redis that {variables.BROKER_URL} names can't be used: {_first_line(error)}")  # noqa: T201 - as above
            return TOLD
        finally:
            broker.close()
    from noregret.registry.inspection import confinement

    missing = confinement().missing
    if missing:
        _say(f"Warning: uploaded artefacts are inspected without {', '.join(missing)}; `doctor` tells what is there.")
    return 0


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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201 - to whoever started `up`


if __name__ == "__main__":
    sys.exit(main())
