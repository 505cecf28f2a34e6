"""Registers models whose artefacts have to be inspected: by a worker, while the caller waits a
little, and may ask later.

The artefact is stored, and a job says what is to become of it. A worker of the queue `inspect`
claims the job, inspects, registers, and ends it. Where no such worker has given a sign lately
(there is none, or Redis is away) the caller's own thread does the same, as long as an inspection
may take: PostgreSQL is all that a registration needs.

A claim ends by itself, so a worker that is killed leaves a job that another takes up; `tend` tells
workers of it. After MOST_ATTEMPTS, or LONGEST in which nobody took it up, a job has failed, also
when nothing but a reader looks at it.
"""

import time
from collections.abc import Collection
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, cast
from uuid import UUID

import msgspec
import redis
import structlog
from django.db import DatabaseError, IntegrityError
from django.db.models import F, Q
from django.utils import timezone
from kombu.exceptions import KombuError

from noregret.redis_client import client, keys
from serving.artifacts import ArtifactMissing

from . import errors, stored_files, uploads
from .artifact_storage import artifact_source, artifact_store
from .frameworks import ArtifactDefinition, Definition, frameworks
from .inspection import WALL_SECONDS
from .models import ModelVersion, RegistrationJob
from .register import is_whole, keep, register_model, registered
from .visibility import may_register, seen_models

log = structlog.get_logger(__name__)

WAIT_SECONDS = 10.0
"""So long at most a caller waits."""
_LOOK_SECONDS = 0.1
CLAIM = timedelta(seconds=WALL_SECONDS + 30)
LONGEST = timedelta(minutes=30)
MOST_ATTEMPTS = 3
TOLD_AGAIN = timedelta(seconds=60)
SIGN_SECONDS = WALL_SECONDS + 30
"""So long a worker's sign counts: longer than one inspection keeps it from the next."""
INSPECT = "noregret.registry.tasks.inspect"
_AT_ONCE = 20
_UNFORESEEN = "Unforeseen"


def register(
    definition: Definition, *, actor: str, endpoints: Collection[str] | None = None
) -> tuple[ModelVersion, bool]:
    """As `register_model` for a key with that limit, within about WAIT_SECONDS where a worker
    inspects.

    Raises StillInspected besides, when the inspection goes on without the caller.
    """
    if not isinstance(definition, ArtifactDefinition):
        return _register(definition, actor, endpoints)
    version = registered(definition, may_take=lambda name: _may_take(definition, endpoints))
    with uploads.slot():
        if version is not None and is_whole(version, definition.artifact):
            return version, False
        job, is_ours = _begin(definition, actor, endpoints)
        if not (_is_somebody_there() and _tell(job.pk)):
            run(job.pk)
        job = _ended(job.pk, WAIT_SECONDS)
    if job.status == RegistrationJob.Status.RUNNING:
        raise errors.StillInspected(job.pk)
    if job.model is None:
        raise refusal_of(job)
    return job.model, job.is_new and is_ours


def seen_job(identity: str, endpoints: Collection[str] | None) -> RegistrationJob | None:
    """A job that a key with this limit may see: one of its own limit, or of a narrower one."""
    try:
        rows = RegistrationJob.objects.filter(pk=UUID(identity))
    except ValueError:
        return None
    if endpoints is not None:
        rows = rows.filter(endpoints__contained_by=sorted(endpoints))
    _fail_overdue(rows)
    return rows.select_related("model").first()


def refusal_of(job: RegistrationJob) -> Exception:
    """Why a job failed, as the error that a registration raises."""
    told = job.refusal or {"kind": _UNFORESEEN, "message": "the version was removed meanwhile"}
    kind = getattr(errors, told["kind"], RuntimeError)
    return kind(told["field"], told["message"]) if kind is errors.DefinitionInvalid else kind(told["message"])


def run(identity: UUID) -> None:
    """Inspect and register, unless somebody else does or has. Raises DatabaseError, and then the
    job is taken up again.
    """
    now = timezone.now()
    free = RegistrationJob.objects.filter(_unclaimed(now), pk=identity, status=RegistrationJob.Status.RUNNING)
    if not free.update(claimed_until=now + CLAIM, attempts=F("attempts") + 1):
        return
    job = RegistrationJob.objects.get(pk=identity)
    if job.attempts > MOST_ATTEMPTS:
        _end(job, refusal=errors.InspectionUnfinished(f"its inspection was cut off {MOST_ATTEMPTS} times"))
        return
    read_at = timezone.now()
    try:
        definition = _definition(job)
        read_at = timezone.now()
        version, is_new = _register(definition, job.created_by, job.endpoints)
    except errors.TooManyUploads:
        RegistrationJob.objects.filter(pk=identity).update(claimed_until=None, attempts=F("attempts") - 1)
    except DatabaseError:
        raise
    except Exception as error:
        if not isinstance(error, errors.RegistryError):
            log.exception("registration failed", model=str(job))
        _end(job, refusal=error)
        _discard(job, read_at)
    else:
        # Cut off between the two: it was this job that made it all the same.
        is_new |= job.attempts > 1 and version.created_by == job.created_by and version.created_at >= job.created_at
        _end(job, version=version, is_new=is_new)


def tend() -> None:
    """Give the sign of a worker that listens, and tell workers again of jobs that nobody has.
    Raises redis.RedisError.
    """
    client().set(keys().inspector, int(time.time()), ex=SIGN_SECONDS)
    running = RegistrationJob.objects.filter(status=RegistrationJob.Status.RUNNING)
    _fail_overdue(running)
    now = timezone.now()
    told = Q(sent_at=None) | Q(sent_at__lt=now - TOLD_AGAIN)
    for identity in (
        running.filter(_unclaimed(now), told).order_by("created_at").values_list("pk", flat=True)[:_AT_ONCE]
    ):
        _tell(identity)


def _register(definition: Definition, actor: str, endpoints: Collection[str] | None) -> tuple[ModelVersion, bool]:
    return register_model(
        definition, actor=actor, endpoints=endpoints, may_take=lambda name: _may_take(definition, endpoints)
    )


def _may_take(definition: Definition, endpoints: Collection[str] | None) -> bool:
    """Is the name the key's to use, or the version there for it already?"""
    if may_register(endpoints, definition.name):
        return True
    return seen_models(endpoints).filter(name=definition.name, version=definition.version).exists()


def _begin(
    definition: ArtifactDefinition, actor: str, endpoints: Collection[str] | None
) -> tuple[RegistrationJob, bool]:
    """The running job of this request, and whether this call made it: the same sent twice is one
    job.
    """
    plain: dict[str, Any] = msgspec.to_builtins(definition, builtin_types=(bytes,))
    plain.pop("artifact")
    limit = None if endpoints is None else sorted(endpoints)
    stored = keep(definition.artifact)
    asked = msgspec.json.encode([plain, stored, actor, limit], order="deterministic")
    digest = sha256(asked).hexdigest()
    while True:
        job = RegistrationJob.objects.filter(request_digest=digest, status=RegistrationJob.Status.RUNNING).first()
        if job is not None:
            return job, False
        try:
            return (
                RegistrationJob.objects.create(
                    request_digest=digest, definition=plain, sha256=stored, created_by=actor, endpoints=limit
                ),
                True,
            )
        except IntegrityError:  # another call of the same made it just now
            continue


def _definition(job: RegistrationJob) -> Definition:
    """Raises StoreUnavailable."""
    try:
        artifact = artifact_store().read(job.sha256)
    except ArtifactMissing as error:
        raise errors.StoreUnavailable(str(error)) from error
    except Exception as error:  # a storage that can't be made
        log.error("artefact not read", model=str(job), error=repr(error))
        raise errors.StoreUnavailable(f"the artefact could not be read: {type(error).__name__}") from error
    framework = frameworks()[job.definition["framework"]]
    return msgspec.convert(job.definition | {"artifact": artifact}, framework.definition)


def seconds_since_sign() -> float | None:
    """Since a worker of the queue gave its sign; None where none did lately. Raises
    redis.RedisError."""
    sign = cast("bytes | None", client().get(keys().inspector))
    return None if sign is None else max(0.0, time.time() - float(sign))


def _is_somebody_there() -> bool:
    """Has a worker of the queue given its sign lately?"""
    try:
        return seconds_since_sign() is not None
    except (redis.RedisError, OSError):
        return False


def _tell(identity: UUID) -> bool:
    """Tell a worker of a job; False where the broker does not take it."""
    from noregret.celery import tell  # not before somebody uploads: a web process needs none of it otherwise

    RegistrationJob.objects.filter(pk=identity).update(sent_at=timezone.now())
    try:
        tell(INSPECT, (str(identity),))
    except (KombuError, redis.RedisError, OSError) as error:
        log.warning("broker out of reach", error=repr(error))
        return False
    return True


def _ended(identity: UUID, seconds: float) -> RegistrationJob:
    """The job when it has ended, or as it is after so long."""
    until = time.monotonic() + seconds
    while True:
        job = RegistrationJob.objects.select_related("model").get(pk=identity)
        if job.status != RegistrationJob.Status.RUNNING or time.monotonic() > until:
            return job
        time.sleep(_LOOK_SECONDS)


def _unclaimed(now: Any) -> Q:
    return Q(claimed_until=None) | Q(claimed_until__lt=now)


def _fail_overdue(rows: Any) -> None:
    now = timezone.now()
    overdue = rows.filter(_unclaimed(now), status=RegistrationJob.Status.RUNNING, created_at__lt=now - LONGEST)
    minutes = int(LONGEST.total_seconds() // 60)
    refusal = _told(errors.InspectionUnfinished(f"no worker ended its inspection within {minutes} minutes"))
    overdue.update(status=RegistrationJob.Status.FAILED, refusal=refusal, ended_at=now)


def _end(
    job: RegistrationJob,
    *,
    version: ModelVersion | None = None,
    is_new: bool = False,
    refusal: Exception | None = None,
) -> None:
    """Unless it has ended: whoever lost its claim changes nothing that another has told."""
    status = RegistrationJob.Status.DONE if refusal is None else RegistrationJob.Status.FAILED
    RegistrationJob.objects.filter(pk=job.pk, status=RegistrationJob.Status.RUNNING).update(
        status=status,
        model=version,
        is_new=is_new,
        refusal=None if refusal is None else _told(refusal),
        ended_at=timezone.now(),
    )


def _discard(job: RegistrationJob, read_at: datetime) -> None:
    """Remove an artefact that nobody wants: whoever sends what is refused fills no disk. Best
    effort.

    `read_at` is when the job read it: what was stored again since then is another's, whose job may
    not stand yet.
    """

    def is_named(sha256: str) -> bool:
        others = RegistrationJob.objects.filter(sha256=sha256, status=RegistrationJob.Status.RUNNING)
        return others.exists() or stored_files.is_file_of_a_version(sha256)

    try:
        artifact_store().remove(job.sha256, read_at.timestamp(), lambda: is_named(job.sha256))
        source = artifact_source()
        if source is not None:
            stored_files.remove(source, job.sha256, read_at, is_named)
    except Exception as error:  # whatever a storage's library raises
        log.warning("artefact not removed", sha256=job.sha256, error=repr(error))


def _told(error: Exception) -> dict[str, Any]:
    if isinstance(error, errors.DefinitionInvalid):
        return {"kind": "DefinitionInvalid", "message": error.message, "field": error.field}
    known = isinstance(error, errors.RegistryError)
    return {
        "kind": type(error).__name__ if known else _UNFORESEEN,
        "message": str(error)[:1000].replace("\0", ""),
        "field": "",
    }
