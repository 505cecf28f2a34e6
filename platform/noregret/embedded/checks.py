"""System checks: settings that would let a deployment start and fail later."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured

from noregret.registry.storage_deadlines import artifact_storage
from noregret.variables import SECRET_KEY


@register(Tags.security, deploy=True)
def lasting_secret_key(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Decision ids are signed: with a key of this process alone no other process could read
    them."""
    if not settings.ENVIRONMENT.secret_key_is_ephemeral:
        return []
    hint = f"Set {SECRET_KEY} to at least 32 random characters, the same for every process, or run `manage.py up` once."
    return [Error("There is no lasting secret key.", hint=hint, id="noregret.E001")]


@register(Tags.files, deploy=True)
def store_of_artefacts(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """A process that serves or works refuses to start without it."""
    try:
        artifact_storage()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="Is its package installed here? Are these its OPTIONS?", id="noregret.E002")]
    return []
