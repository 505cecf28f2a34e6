"""`manage.py doctor`: is everything that Noregret needs here, and well? One line each, exit 1 on a
failure."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q
from django.utils import timezone

from noregret import __version__
from noregret.embedded import disk, postgres, redis_findings, redis_server
from noregret.embedded.errors import StartFailed
from noregret.embedded.finding import Finding
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.learning import backlog
from noregret.learning.health import learner
from noregret.mlflow.models import AliasMove, ImportedVersion
from noregret.registry import jobs
from noregret.registry.frameworks import model_document
from noregret.registry.inspection import confinement
from noregret.registry.models import ModelVersion
from noregret.registry.storage_deadlines import artifact_storage
from noregret.registry.storage_refusals import answers
from noregret.rest import replica
from noregret.retention import ages, days
from serving.deadline import DeadlineExceeded
from serving.ledger import horizon, partitions
from serving.ledger.rewards import LedgerUnavailable, RewardWriter
from serving.models import QuarantinedEvent
from serving.outbound.reach import Reach
from serving.runtimes.http import HttpModel, remote_model
from serving.runtimes.runtime import ModelError

_WORDS = {True: "ok  ", None: "warn", False: "FAIL"}
FREE_BYTES = 1 << 30
CLOCK_SECONDS = 1.0
OLDEST_POSTGRESQL = 140000
REMOTE_SECONDS, REMOTE_CALL_SECONDS = 15.0, 3.0
"""So long remote models are asked, all of them and each."""
STORE_SECONDS = 10.0
"""So long the store of artefacts may take to answer."""
GRACE_DAYS = 2
"""So long a day may be older than it is kept until doctor asks why."""


class Command(BaseCommand):
    help = "Checks engines, versions, migrations, disk, artefacts, clock and keys; a line each, exit 1 on a failure."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        failed = False
        for name, check in _CHECKS.items():
            for good, said in _findings(check):
                failed |= good is False
                self.stdout.write(f"{_WORDS[good]}  {name}: {said}")
        if failed:
            sys.exit(1)


def _findings(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except DatabaseError as error:
        return [
            (
                False,
                f"PostgreSQL can't be reached ({_first_line(error)}); is `manage.py up` running, or DATABASE_URL right?",
            )
        ]
    except redis.RedisError as error:
        return [
            (False, f"Redis can't be reached ({_first_line(error)}); is `manage.py up` running, or REDIS_URL right?")
        ]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _program() -> Iterator[Finding]:
    yield sys.version_info >= (3, 11), f"Noregret {__version__} on Python {sys.version.split()[0]}"


def _engines() -> Iterator[Finding]:
    environment = settings.ENVIRONMENT
    if environment.embedded_database:
        yield from _binary("PostgreSQL", lambda: [str(postgres.bin_dir() / "postgres"), "--version"])
    else:
        yield True, "PostgreSQL comes from DATABASE_URL"
    if environment.embedded_redis:
        yield from _binary("Redis", lambda: [str(redis_server.binary()), "--version"])
    else:
        yield True, "Redis comes from REDIS_URL"


def _binary(name: str, command: Callable[[], list[str]]) -> Iterator[Finding]:
    try:
        found = subprocess.run(command(), capture_output=True, text=True, timeout=20, check=True)
    except (StartFailed, OSError, subprocess.SubprocessError) as error:
        yield False, f"{name}: {_first_line(error)}"
    else:
        yield True, f"{name}: {found.stdout.strip().splitlines()[0]}"


def _database() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        number = int(cursor.fetchone()[0])
    yield number >= OLDEST_POSTGRESQL, f"PostgreSQL {number // 10000} answers; 14 or newer is needed"
    yield _takes_rewards()


def _replica() -> Iterator[Finding]:
    found = replica.state()
    if found is None:
        return
    if found.problem is not None:
        yield None, f"{found.problem}; the primary is read in its place"
        return
    yield True, f"{found.lag_seconds or 0.0:.1f} s behind; more than {settings.REPLICA_LAG_SECONDS:g} s is too far"


def _takes_rewards() -> Finding:
    """Written as feedback writes, by a connection of its kind: a pooler or a standby may answer,
    and take nothing."""
    writer = RewardWriter(connection.settings_dict, size=1)
    try:
        writer.probe()
    except LedgerUnavailable as error:
        return False, f"it does not take feedback: {_first_line(error)}"
    finally:
        writer.close()
    return True, "it takes feedback"


def _migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    yield not missing, "complete" if not missing else f"{missing} are missing; run `manage.py migrate`"


def _partitions() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        days = partitions.days_in_default(cursor, timezone.now().date())
    yield (
        not days,
        "every day has its own" if not days else f"{len(days)} days lie in the default partition; is beat running?",
    )


def _retention() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        size_bytes, rows = partitions.size(cursor)
    begins = horizon.begins_at()
    since = "everything is there yet" if begins is None else f"days before {begins:%Y-%m-%d} were dropped"
    yield True, f"{size_bytes / 1e6:,.0f} MB, about {rows:,} rows; kept for {settings.LEDGER_DAYS} days, {since}"
    old = days.old_days(timezone.now(), settings.LEDGER_DAYS + GRACE_DAYS)
    why = next((next(days.blockers(day), "") for day in old[:1]), "")
    yield (
        not old,
        "no day is older than that"
        if not old
        else f"{len(old)} days are older than that and stay; {why or 'is beat running?'}",
    )
    yield True, "; ".join(f"{age.what}: {age.days} days" for age in ages.AGES)


def _learner() -> Iterator[Finding]:
    found = learner()
    if found.age_seconds is None:
        yield False, "never gave a sign; are worker and beat running?"
        return
    yield (
        found.age_seconds <= settings.LEARNER_DEAD_SECONDS,
        f"looked at every endpoint {found.age_seconds:.0f} s ago; more than {settings.LEARNER_DEAD_SECONDS:.0f} s is too long",
    )
    for name, lag in found.lagging.items():
        yield False, f"is behind with {name} by {lag.seconds:.0f} s: {lag.why}"


def _backlog() -> Iterator[Finding]:
    found = backlog.find()
    share = "" if found.of_maxmemory is None else f", {found.of_maxmemory:.1%} of its maxmemory"
    since = "" if found.oldest_seconds is None else f"; the oldest for {found.oldest_seconds:.0f} s"
    advice = (
        "" if found.is_well else "; is the learner running? Past the bound decisions wait on the disks of web processes"
    )
    yield (
        found.is_well,
        f"{found.entries:,} decisions wait in Redis, {found.bytes / 1e6:.1f} MB where {found.bound / 1e6:.0f} MB is the bound"
        f"{share}{since}{advice}",
    )
    yield (
        found.spooled <= settings.SPOOL_LIMIT / 2,
        f"{found.spooled / 1e6:.1f} MB of decisions wait on this machine's disk, {settings.SPOOL_LIMIT / 1e6:.0f} MB is the limit",
    )


def _clock() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        before = time.time()
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        away = abs(float(cursor.fetchone()[0]) - (before + time.time()) / 2)
    yield away <= CLOCK_SECONDS, f"{away * 1000:.0f} ms from the database's; attribution windows are judged by both"


def _disk() -> Iterator[Finding]:
    folder = settings.DATA_DIR
    while not folder.exists():
        folder = folder.parent
    found = disk.trouble(folder)
    if found is not None:
        yield False, found
        return
    free = shutil.disk_usage(folder).free
    yield free >= FREE_BYTES, f"{free / 1e9:.1f} GB are free at {settings.DATA_DIR}; 1 GB is the least"
    yield True, f"{folder} can be written"


def _artifacts() -> Iterator[Finding]:
    try:
        storage = artifact_storage()
    except ImproperlyConfigured as error:
        yield False, _first_line(error)
        return
    if storage is None:
        yield True, f"files are in {settings.ARTIFACT_DIR}, which all processes must share"
        return
    problem = answers(storage, STORE_SECONDS)
    yield problem is None, "the store answers" if problem is None else problem


def _inspection() -> Iterator[Finding]:
    found = confinement()
    means = ", ".join(found.means) or "limits on memory and time alone"
    if found.missing:
        yield None, f"uploaded artefacts are opened without {', '.join(found.missing)}; in force: {means}"
    else:
        yield True, f"uploaded artefacts are opened without network, secrets or other processes: {means}"


def _inspector() -> Iterator[Finding]:
    seconds = jobs.seconds_since_sign()
    yield (
        seconds is not None or None,
        f"a worker that inspects uploads gave its sign {seconds:.0f} s ago"
        if seconds is not None
        else f"no worker of the queue `inspect` gave a sign in {jobs.SIGN_SECONDS} s: uploads are inspected in their callers' requests",
    )


def _user() -> Iterator[Finding]:
    try:
        owner = settings.DATA_DIR.stat().st_uid
    except OSError:
        return
    yield (
        owner != 0 or None,
        "`up` runs as an ordinary user" if owner else f"{settings.DATA_DIR} is root's, and so may be what `up` runs",
    )


def _keys() -> Iterator[Finding]:
    lasting = not settings.ENVIRONMENT.secret_key_is_ephemeral
    yield (
        lasting,
        "the secret key lasts"
        if lasting
        else "there is no secret key; set NOREGRET_SECRET_KEY, or run `manage.py up` once",
    )
    admin = get_user_model().objects.filter(is_superuser=True, is_active=True).exists()
    yield admin, "an admin exists" if admin else "no admin exists; run `manage.py createsuperuser`"


def _remote_models() -> Iterator[Finding]:
    """Those that requests go to, asked as a process of this machine asks them."""
    arms = Arm.objects.filter(experiment__status=Experiment.Status.RUNNING, enabled=True)
    used = Q(pk__in=Endpoint.objects.values("champion")) | Q(pk__in=arms.values("model"))
    rows = ModelVersion.objects.filter(used, runtime="http").order_by("pk")
    until = time.monotonic() + REMOTE_SECONDS
    for row in rows:
        model = model_document(row)
        assert isinstance(model, HttpModel)
        left = until - time.monotonic()
        if left <= 0:
            yield None, f"{row.model} was not asked: others took {REMOTE_SECONDS:g} s"
            continue
        try:
            remote_model(model, Reach.of(settings), settings.REMOTE_ANSWER_LIMIT).describe(
                min(left, REMOTE_CALL_SECONDS)
            )
        except (ModelError, DeadlineExceeded) as error:
            yield None, f"{row.model} at {model.url}: {_first_line(error)[:200]}"
        else:
            yield True, f"{row.model} answers at {model.url}"
    if not rows:
        yield True, "none is used"


def _mlflow() -> Iterator[Finding]:
    imported = ImportedVersion.objects.count()
    failed = AliasMove.objects.filter(state=AliasMove.State.FAILED)
    waiting = AliasMove.objects.filter(state=AliasMove.State.WAITING).count()
    yield True, f"{imported} versions came from it; {waiting} moves of an alias wait"
    last = failed.order_by("-pk").first()
    if last is not None:
        yield None, f"{failed.count()} moves of an alias failed; the last, of {last.alias}: {last.problem[:200]}"


def _quarantine() -> Iterator[Finding]:
    count = QuarantinedEvent.objects.count()
    yield not count, "empty" if not count else f"{count} events or rows could not be read; see them in the admin"


_CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "program": _program,
    "engines": _engines,
    "disk": _disk,
    "user": _user,
    "artefacts": _artifacts,
    "inspection": _inspection,
    "database": _database,
    "migrations": _migrations,
    "partitions": _partitions,
    "ledger": _retention,
    **({"replica": _replica} if replica.is_named() else {}),
    "clock": _clock,
    "redis": redis_findings.state,
    "broker": redis_findings.broker,
    "learner": _learner,
    "backlog": _backlog,
    "inspector": _inspector,
    "keys": _keys,
    "quarantine": _quarantine,
    "remote": _remote_models,
    "mlflow": _mlflow,
}
