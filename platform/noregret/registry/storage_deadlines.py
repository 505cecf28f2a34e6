"""The storage that settings name for artefacts, which answers in time or not at all.

Amazon's library waits a minute for each answer and asks five times: a store that is gone would hold
an upload, and the loading of a model, for ten. Other storages have their deadlines among their own
options.
"""

from importlib import import_module
from typing import Any
from weakref import WeakSet

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import Storage, storages

from noregret.variables import ARTIFACT_STORAGE

from .replacing import let_overwrite

ALIAS = "artifacts"
DEADLINES: dict[str, Any] = {
    "connect_timeout": 3,
    "read_timeout": 20,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}
"""Seconds, and how often it asks in all."""
_bounded: "WeakSet[Storage]" = WeakSet()


def artifact_storage() -> Storage | None:
    """None where settings name none. Raises ImproperlyConfigured, whose text says what is wrong
    with the setting, where none can be made of it."""
    if ALIAS not in settings.STORAGES:
        return None
    try:
        storage = storages[ALIAS]
        if storage not in _bounded:
            if not getattr(storage, "bucket_name", ALIAS):
                raise ImproperlyConfigured("its OPTIONS name no bucket_name")
            if hasattr(storage, "client_config"):
                _bound(storage)
            let_overwrite(storage)
            _bounded.add(storage)
    except Exception as error:  # a package that is missing, an option that nobody knows
        raise ImproperlyConfigured(f"{ARTIFACT_STORAGE} can't be used: {str(error) or type(error).__name__}") from error
    return storage


def _bound(storage: Any) -> None:
    """Of an S3Storage of django-storages. `client_config` is a botocore Config there, or what a
    deployment wrote in JSON among the options: the arguments of one."""
    told = storage.client_config
    if isinstance(told, int | float | str | list):
        raise ImproperlyConfigured("client_config: the arguments of botocore's Config were expected")
    make: Any = import_module("botocore.config").Config
    chosen = told if isinstance(told, dict) else {}
    usual = (
        make(
            s3={"addressing_style": storage.addressing_style},
            signature_version=storage.signature_version,
            proxies=storage.proxies,
        )
        if isinstance(told, dict)
        else told
    )
    storage.client_config = usual.merge(make(**(DEADLINES | chosen)))
