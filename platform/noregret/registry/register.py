"""Registers model versions. A version is immutable: the same content again is the same version, another content is refused."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from noregret.names import validate_name
from noregret.trail import audit
from serving.runtimes import ModelError
from serving.runtimes.python import resolve

from . import uploads
from .artifact_storage import artifact_store
from .errors import DefinitionInvalid, NameTaken, StoreUnavailable, VersionTaken
from .inspection import inspect
from .models import ModelVersion

log = structlog.get_logger(__name__)

_NO_SIGNATURE: dict[str, Any] = {
    "features": None,
    "feature_names": None,
    "outputs": ["predict"],
    "classes": None,
    "task": "other",
}


@dataclass(frozen=True, slots=True)
class Definition:
    """What a caller says of a model version; which fields count depends on the framework."""

    name: str
    version: str
    framework: str
    artifact: bytes | None = None
    sample: list[list[float]] | None = None
    callable: str = ""
    payload: Any = None


def register_model(
    definition: Definition,
    *,
    actor: str,
    endpoints: Collection[str] | None = None,
    may_take: Callable[[str], bool] = lambda name: True,
) -> tuple[ModelVersion, bool]:
    """The version, and whether it is new. `endpoints`: the limit of the caller's key; `may_take`: is a name the caller's to use?

    Raises DefinitionInvalid, ArtifactRefused, NameTaken, VersionTaken, TooManyUploads, StoreUnavailable.
    """
    _check(definition)
    _require(may_take, definition.name)
    existing = ModelVersion.objects.filter(name=definition.name, version=definition.version).first()
    if existing is not None:
        return _same(existing, definition), False
    version = _FRAMEWORKS[definition.framework](definition)
    version.created_by = actor
    version.endpoints = None if endpoints is None else sorted(endpoints)
    try:
        with transaction.atomic():
            _hold(definition.name)
            _require(may_take, definition.name)
            version.save(force_insert=True)
            audit.record(
                actor=actor,
                action="model.registered",
                model=version.model,
                details={"framework": version.framework, "sha256": version.sha256, "compiled": version.compiled},
            )
    except IntegrityError:
        # Another caller registered it meanwhile: what it holds decides.
        return _same(ModelVersion.objects.get(name=definition.name, version=definition.version), definition), False
    return version, True


def _require(may_take: Callable[[str], bool], name: str) -> None:
    if not may_take(name):
        raise NameTaken(f"the name {name} is in use for other endpoints: choose another")


def _hold(name: str) -> None:
    """Until the end of the transaction nobody else registers under this name."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('noregret.registry.' || %s))", [name])


def _check(definition: Definition) -> None:
    for field in ("name", "version"):
        try:
            validate_name(getattr(definition, field))
        except ValidationError as error:
            raise DefinitionInvalid(field, error.messages[0]) from error
    if definition.framework not in _FRAMEWORKS:
        raise DefinitionInvalid("framework", f"one of {', '.join(sorted(_FRAMEWORKS))} was expected")


def _same(existing: ModelVersion, definition: Definition) -> ModelVersion:
    sha256 = "" if definition.artifact is None else hashlib.sha256(definition.artifact).hexdigest()
    held = (existing.framework, existing.sha256, existing.callable, existing.payload)
    if held != (definition.framework, sha256, definition.callable, definition.payload):
        raise VersionTaken(f"{existing.model} is registered with another content; versions never change")
    return existing


def _sklearn(definition: Definition) -> ModelVersion:
    if definition.artifact is None:
        raise DefinitionInvalid("artifact", "a skops file was expected")
    if not definition.artifact:
        raise DefinitionInvalid("artifact", "the file is empty: a skops file was expected")
    with uploads.slot():
        found = inspect(definition.artifact, trusted=settings.SKOPS_TRUSTED, sample=definition.sample)
    kept = _kept(definition.artifact)
    kept_compiled = "" if found.compiled is None else _kept(found.compiled)
    return ModelVersion(
        name=definition.name,
        version=definition.version,
        framework=ModelVersion.Framework.SKLEARN,
        runtime=ModelVersion.Runtime.SKLEARN if found.compiled is None else ModelVersion.Runtime.ONNX,
        sha256=kept,
        size=len(definition.artifact),
        compiled_sha256=kept_compiled,
        compile_note=found.note,
        signature=found.signature,
        call_seconds=found.call_seconds,
        row_seconds=found.row_seconds,
    )


def _kept(body: bytes) -> str:
    """The SHA-256 of a file that is in the store. Raises StoreUnavailable."""
    try:
        return artifact_store().put(body)
    except Exception as error:  # a full disk, or whatever a storage's library raises
        log.error("artefact not kept", error=repr(error))
        raise StoreUnavailable(f"the artefact could not be kept: {type(error).__name__}") from error


def _python(definition: Definition) -> ModelVersion:
    if not definition.callable:
        raise DefinitionInvalid("callable", "a dotted path was expected, as package.module.function")
    try:
        resolve(definition.callable, settings.PYTHON_CALLABLES)
    except ModelError as error:
        raise DefinitionInvalid("callable", str(error)) from error
    return ModelVersion(
        name=definition.name,
        version=definition.version,
        framework=ModelVersion.Framework.PYTHON,
        runtime=ModelVersion.Runtime.PYTHON,
        callable=definition.callable,
        signature=_NO_SIGNATURE,
    )


def _static(definition: Definition) -> ModelVersion:
    return ModelVersion(
        name=definition.name,
        version=definition.version,
        framework=ModelVersion.Framework.STATIC,
        runtime=ModelVersion.Runtime.STATIC,
        payload=definition.payload,
        signature=_NO_SIGNATURE,
    )


_FRAMEWORKS = {"sklearn": _sklearn, "python": _python, "static": _static}
