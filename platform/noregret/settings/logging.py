"""Logs: one JSON object a line on stderr, so that any collector can read them; how long and how
many: noregret.log_lines."""

import structlog

from noregret.log_lines import cap
from serving.request_lines import add_request_id

from .core import ENVIRONMENT

_SHARED: list[structlog.typing.Processor] = [
    add_request_id,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "structlog.stdlib.ProcessorFormatter",
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                cap,
                structlog.processors.JSONRenderer(),
            ],
            "foreign_pre_chain": [*_SHARED, structlog.stdlib.ExtraAdder(allow=["suppressed"])],
        }
    },
    "filters": {
        "traceback": {"()": "django.utils.log.CallbackFilter", "callback": lambda record: bool(record.exc_info)}
    },
    "handlers": {"stderr": {"class": "noregret.log_lines.LimitedStream", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": ENVIRONMENT.log_level},
    "loggers": {
        # Django has a handler of its own there, which writes no JSON and knows no limit.
        "django": {"handlers": [], "propagate": True},
        # A request that was answered with 500 or more has a line already (serving.request_lines):
        # only tracebacks are missing there.
        "django.request": {"level": "ERROR", "filters": ["traceback"]},
        "celery": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "matplotlib": {"level": "WARNING"},
    },
}

structlog.configure(
    processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
