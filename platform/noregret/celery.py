"""The Celery application: `celery -A noregret.celery worker` and `... beat`."""

import os
import warnings
from typing import Any

from celery import Celery
from celery.exceptions import SecurityWarning
from django.conf import settings
from django.utils.log import configure_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
if settings.ENVIRONMENT.role == "beat":
    # Beat sends names of tasks: it needs neither the tasks nor Django's applications, and all that
    # they load.
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
    app = Celery("noregret", fixups=[])
    app.config_from_object("django.conf:settings", namespace="CELERY")
else:
    app = Celery("noregret")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks(
        [
            "noregret.learning",
            "noregret.steering",
            "noregret.notify",
            "noregret.mlflow",
            "noregret.registry",
            "noregret.retention",
        ]
    )
# `up` and `doctor` say where root runs what it should not; Celery's page of text about it says no
# more.
for words in ("You're running the worker with superuser", "An entry for the specified gid or egid was not found"):
    warnings.filterwarnings("ignore", words, SecurityWarning)
TELL_SECONDS = 2.0


def tell(task: str, arguments: tuple[Any, ...], **options: Any) -> None:
    """Tell a worker of a task, or raise within moments: KombuError, redis.RedisError or OSError.
    For who has somebody waiting; `options` are send_task's."""
    # On a connection of its own, for the broker's usual ones wait for it as long as it takes.
    bounded = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, "max_retries": 1, "socket_timeout": TELL_SECONDS}
    with app.connection_for_write(settings.CELERY_BROKER_URL, transport_options=bounded) as connection:
        app.send_task(task, arguments, connection=connection, retry=False, **options)


app.conf.beat_schedule = {
    "learn": {
        "task": "noregret.steering.tasks.tick",
        "schedule": settings.LEARN_SECONDS,
        "options": {"expires": settings.LEARN_EXPIRES_SECONDS},
    },
    # Workers of the version before know this name, and listen to the queue `celery` alone: beside a
    # beat of this version they learn on. Ours take it too, and find nothing more to do.
    "learn-with-workers-of-before": {
        "task": "noregret.learning.tasks.tick",
        "schedule": max(5.0, 3 * settings.LEARN_SECONDS),
        "options": {"queue": "celery", "expires": settings.LEARN_EXPIRES_SECONDS},
    },
    "shadows": {
        "task": "noregret.learning.tasks.mirror_shadows",
        "schedule": settings.LEARN_SECONDS,
        "options": {"expires": settings.LEARN_EXPIRES_SECONDS},
    },
    "deliver": {
        "task": "noregret.notify.tasks.deliver",
        "schedule": 2.0,
        "options": {"expires": 10.0},
    },
    "aliases": {
        "task": "noregret.mlflow.tasks.move_aliases",
        "schedule": 5.0,
        "options": {"expires": 10.0},
    },
    "registrations": {
        "task": "noregret.registry.tasks.tend",
        "schedule": 10.0,
        "options": {"expires": 20.0},
    },
    "housekeeping": {
        "task": "noregret.retention.tasks.housekeeping",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
    # Once a day does something, for a day grows old once a day; each hour, for what was in the way
    # may be gone.
    "retain": {
        "task": "noregret.retention.tasks.retain",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
}
