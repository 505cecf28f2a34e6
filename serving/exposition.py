"""Prometheus's text form of what the web processes of a machine counted."""

import sys

from django.conf import settings
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY

from .metrics import GATHERING, of_learner, web_processes
from .process import CannotServe, process

__all__ = ["ALONE", "CONTENT_TYPE_LATEST", "counts_alone", "text"]

ALONE = "several web processes count alone: set PROMETHEUS_MULTIPROC_DIR"


def counts_alone() -> bool:
    """Is this one of several web processes that have no folder through which they add up their
    counters?"""
    workers = settings.ENVIRONMENT.web_processes
    return settings.METRICS_DIR is None and web_processes(sys.argv[1:], workers) > 1


def text() -> bytes:
    """Of all web processes of this machine together; the learner as this process hears of it."""
    GATHERING.flush()  # of this process; the others' are a second old at most
    registry = REGISTRY
    if settings.METRICS_DIR is not None:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(settings.METRICS_DIR))  # type: ignore[no-untyped-call]  # left untyped there
    try:
        store = process().store
    except CannotServe:  # what was counted is told all the same
        return generate_latest(registry)
    learns = of_learner(store.learner, [live.document.name for live in store.endpoints()])
    return generate_latest(registry) + generate_latest(learns)
