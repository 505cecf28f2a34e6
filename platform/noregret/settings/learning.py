"""Celery: queues carry only wake-ups; what is to be done is read from the ledger."""

from kombu import Exchange, Queue

from .core import ENVIRONMENT

CELERY_BROKER_URL = ENVIRONMENT.broker_url.replace("unix://", "redis+socket://", 1)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": f"{ENVIRONMENT.redis_prefix}celery:",
    "visibility_timeout": 600,
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = 600
CELERY_TASK_SOFT_TIME_LIMIT = 570
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"

# A worker that is not told its queues listens to these: learning, what may take long and is never
# urgent, and the one queue of the version before, whose beat and workers may be at work beside ours
# for a while.
CELERY_TASK_QUEUES = [Queue(name, Exchange(name), routing_key=name) for name in ("learn", "upkeep", "celery")]
CELERY_TASK_DEFAULT_QUEUE = "learn"
# What leaves the house or runs what others wrote has a worker of its own: what that does to it is
# nobody else's trouble.
CELERY_TASK_ROUTES = {
    "noregret.steering.tasks.*": {"queue": "learn"},
    "noregret.retention.tasks.*": {"queue": "upkeep"},
    "noregret.learning.tasks.mirror_shadows": {"queue": "shadow"},
    # No worker listens to it unless it is told to: a rebuild takes no process from learning.
    "noregret.learning.tasks.compute_part": {"queue": "rebuild"},
    # Somebody waits for it, and learning must not.
    "noregret.learning.tasks.tell": {"queue": "upkeep"},
    "noregret.notify.tasks.deliver": {"queue": "deliver"},
    "noregret.mlflow.tasks.*": {"queue": "deliver"},
    "noregret.registry.tasks.*": {"queue": "inspect"},
}
# A worker process that a challenger made grow past this is replaced.
SHADOW_MEMORY_BYTES = 700 * 2**20

LEDGER_DAYS = ENVIRONMENT.ledger_days
LEARN_SECONDS = ENVIRONMENT.learn_seconds
# A wake-up that waited longer than this is dropped: the next one reads the same ledger.
LEARN_EXPIRES_SECONDS = max(5.0, 3 * LEARN_SECONDS)
# A learner that has given no sign for this long turns readiness and the dashboard red.
LEARNER_DEAD_SECONDS = 45.0
