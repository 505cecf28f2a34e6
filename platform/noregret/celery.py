"""The Celery application: `celery -A noregret.celery worker` and `... beat`."""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
app = Celery("noregret")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["noregret.learning", "noregret.notify", "noregret.retention"])
app.conf.beat_schedule = {
    "learn": {
        "task": "noregret.learning.tasks.tick",
        "schedule": settings.LEARN_SECONDS,
        "options": {"expires": settings.LEARN_EXPIRES_SECONDS},
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
    "housekeeping": {
        "task": "noregret.learning.tasks.housekeeping",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
    # Once a day does something, for a day grows old once a day; each hour, for what was in the way may be gone.
    "retain": {
        "task": "noregret.retention.tasks.retain",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
}
