"""Registers model versions. A version is immutable: the same content again is the same version,
another content is refused."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from hashlib import sha256
from typing import Any

import structlog
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import IntegrityError, connection, transaction

from noregret.names import validate_name
from noregret.trail import audit
from serving.artifacts import SourceFailed

from . import stored_files, uploads
from .artifact_storage import artifact_source, artifact_store
from .errors import DefinitionInvalid, NameTaken, StoreUnavailable, VersionTaken
from .frameworks import ArtifactDefinition, Content, Definition, Framework, frameworks, model_document
from .models import ModelVersion

log = structlog.get_logger(__name__)


def register_model(
    definition: Definition,
    *,
    actor: str,
    endpoints: Collection[str] | None = None,
    may_take: Callable[[str], bool] = lambda name: True,
) -> tuple[ModelVersion, bool]:
    """The version, and whether it is new. `endpoints`: the limit of the caller's key; `may_take`:
    is a name the caller's to use?

    Raises DefinitionInvalid, ArtifactRefused, NameTaken, VersionTaken, TooManyUploads,
    StoreUnavailable.
    """
    existing = registered(definition, may_take=may_take)
    framework = frameworks()[definition.framework]
    if existing is not None:
        _restore(existing, framework, definition)
        return existing, False
    content = framework.content(definition)
    version = _examined(framework, definition, content)
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
        existing = ModelVersion.objects.get(name=definition.name, version=definition.version)
        return _same(existing, definition, content), False
    return version, True


def registered(definition: Definition, *, may_take: Callable[[str], bool]) -> ModelVersion | None:
    """The version that stands under this definition, if one does. Raises DefinitionInvalid,
    NameTaken, VersionTaken."""
    for field in ("name", "version"):
        try:
            validate_name(getattr(definition, field))
        except ValidationError as error:
            raise DefinitionInvalid(field, error.messages[0]) from error
    content = frameworks()[definition.framework].content(definition)
    _require(may_take, definition.name)
    existing = ModelVersion.objects.filter(name=definition.name, version=definition.version).first()
    return None if existing is None else _same(existing, definition, content)


def _require(may_take: Callable[[str], bool], name: str) -> None:
    if not may_take(name):
        raise NameTaken(f"the name {name} is in use for other endpoints: choose another")


def _hold(name: str) -> None:
    """Until the end of the transaction nobody else registers under this name."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('noregret.registry.' || %s))", [name])


def _same(existing: ModelVersion, definition: Definition, content: Content) -> ModelVersion:
    stands = {name: getattr(existing, name) for name in _columns(content)}
    if existing.framework != definition.framework or stands != _columns(content):
        raise VersionTaken(f"{existing.model} is registered with another content; versions never change")
    return existing


def _examined(framework: Framework[Any], definition: Definition, content: Content) -> ModelVersion:
    """A version that is not saved yet; its files are kept."""
    artifact = definition.artifact if isinstance(definition, ArtifactDefinition) else None
    with _turn(framework):
        examined = framework.examine(definition)
    if artifact is not None:
        keep(artifact)
    version = ModelVersion(
        name=definition.name,
        version=definition.version,
        framework=framework.name,
        size=len(artifact or b""),
        compiled_sha256="" if examined.compiled is None else keep(examined.compiled),
        compile_note=examined.note,
        signature=examined.signature.to_dict(),
        call_seconds=examined.call_seconds,
        row_seconds=examined.row_seconds,
        **_columns(content),
    )
    version.runtime = model_document(version).runtime
    return version


def _turn(framework: Framework[Any]) -> AbstractContextManager[None]:
    """Raises TooManyUploads."""
    if framework.takes_artifact:
        return uploads.slot()
    return uploads.asking() if framework.asks_others else nullcontext()


def _columns(content: Content) -> dict[str, Any]:
    return {field.name: getattr(content, field.name) for field in fields(content)}


def is_whole(version: ModelVersion, artifact: bytes) -> bool:
    """Are the files of a version where all machines reach them? The one that was sent is stored
    anew where it is not. Raises StoreUnavailable."""
    keep(artifact)
    if not version.compiled_sha256:
        return True
    with _told():
        return artifact_store().restore(version.compiled_sha256)


def _restore(version: ModelVersion, framework: Framework[Any], definition: Definition) -> None:
    """Whoever sends a version again has its files stored anew where they were lost or damaged:
    nobody else has them. Raises StoreUnavailable, VersionTaken and what an examination raises."""
    if not isinstance(definition, ArtifactDefinition) or is_whole(version, definition.artifact):
        return
    with _turn(framework):
        compiled = framework.examine(definition).compiled
    if compiled is None or sha256(compiled).hexdigest() != version.compiled_sha256:
        raise VersionTaken(
            f"the compiled file {version.compiled_sha256} of {version.model} is lost, and compiling gives another "
            "today: register the artefact as a new version"
        )
    keep(compiled)


def keep(body: bytes) -> str:
    """The SHA-256 of a file that is in the store. Raises StoreUnavailable."""
    with _told():
        source = artifact_source()
        if source is not None:
            stored_files.note(source, sha256(body).hexdigest(), len(body))
        return artifact_store().put(body)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (SourceFailed, OSError, ImproperlyConfigured) as error:  # the store, or a disk that is full
        why = str(error) if isinstance(error, SourceFailed) else type(error).__name__
        log.error("artefact not kept", why=why, error=repr(error.__cause__ or error))
        raise StoreUnavailable(f"the artefact could not be kept: {why}") from error
