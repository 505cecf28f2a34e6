"""The only reader of the environment: every setting that a deployment can change is a line of
`Environment`.

What is read here is documented in README.md ("Settings"); a test holds the two against each other.
A value that can't be used ends the process with a sentence that says which variable, what it holds
and what was expected.
"""

import base64
import hashlib
import json
import math
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from noregret import variables
from serving import redis_addresses


class BadEnvironment(ValueError):
    """A variable of the environment holds what can't be used."""


def _number(
    source: Mapping[str, str], name: str, default: float, minimum: float, maximum: float = float("inf")
) -> float:
    text = source.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise BadEnvironment(f"{name} is {text!r}: a number was expected") from None
    if not minimum <= value < math.inf:
        raise BadEnvironment(f"{name} is {text!r}: it must be at least {minimum:,.15g}")
    if value > maximum:
        raise BadEnvironment(f"{name} is {text!r}: it must be at most {maximum:,.15g}")
    return value


def _whole(source: Mapping[str, str], name: str, default: int, minimum: int) -> int:
    value = _number(source, name, default, minimum)
    if value != int(value):
        raise BadEnvironment(f"{name} is {source.get(name, '').strip()!r}: a whole number was expected")
    return int(value)


def _one_of(source: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """The first where nothing is said."""
    value = source.get(name, "").strip() or allowed[0]
    if value not in allowed:
        raise BadEnvironment(f"{name} is {value!r}: {' or '.join(allowed)} was expected")
    return value


def _listed(source: Mapping[str, str], name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    text = source.get(name)
    if text is None:
        return default
    return tuple(part.strip() for part in text.split(",") if part.strip())


def take_data_dir(argv: list[str]) -> list[str]:
    """Move `--data-dir DIR` from the arguments into NOREGRET_DATA_DIR, where `Environment` finds
    it.

    Settings are loaded before a command parses its arguments, and where the embedded servers listen
    follows from the data directory; a command therefore can't take this option by itself.
    """
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        if argument == "--data-dir":
            value = next(arguments, None)
            if value is None:
                raise BadEnvironment("--data-dir needs a directory")
            os.environ[variables.DATA_DIR] = value
        elif argument.startswith("--data-dir="):
            os.environ[variables.DATA_DIR] = argument.partition("=")[2]
        else:
            rest.append(argument)
    return rest


def name_settings() -> None:
    """Say to Django where the settings are."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")


def python_path() -> list[Path]:
    """The folders that PYTHONPATH names, from where this process stands."""
    return [Path(entry).absolute() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def hand_home(home: Path, user: str) -> None:
    """Say where a process that became another user is at home."""
    os.environ.update(HOME=str(home), USER=user, LOGNAME=user)


def data_dir(source: Mapping[str, str] | None = None) -> Path:
    """The data directory; `source` stands in for os.environ in tests."""
    text = (os.environ if source is None else source).get(variables.DATA_DIR, "").strip()
    return Path(text or ".noregret").expanduser().absolute()


def database_is_named(source: Mapping[str, str] | None = None) -> bool:
    """Does an address name a PostgreSQL, so that none is started?"""
    return bool((os.environ if source is None else source).get(variables.DATABASE_URL, "").strip())


POSTGRES_SOCKETS = "postgres"
"""The folder of PostgreSQL's socket, inside the folder of sockets: it may belong to another
user."""


def socket_dir(data_dir: Path) -> Path:
    """Where the embedded servers of a data directory put their sockets.

    Not inside the data directory: a socket's path has at most 107 characters, and a data directory
    may be deep. The name follows from the directory and its owner alone, so that every command
    finds a running `up` without a lookup: root's commands too, while `up` runs as the directory's
    owner.
    """
    digest = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:16]
    try:
        owner = data_dir.stat().st_uid
    except OSError:
        owner = os.getuid()
    return Path(tempfile.gettempdir()) / f"noregret-{owner}-{digest}"


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment says, checked once."""

    data_dir: Path
    database_url: str
    replica_url: str
    replica_lag_seconds: float
    redis_url: str
    broker_url: str
    redis_prefix: str
    embedded_database: bool
    embedded_redis: bool
    secret_key: str
    secret_key_is_ephemeral: bool
    allowed_hosts: tuple[str, ...]
    trusted_origins: tuple[str, ...]
    cors_origins: tuple[str, ...]
    python_callables: tuple[str, ...]
    remote_hosts: tuple[str, ...]
    remote_networks: tuple[IPv4Network | IPv6Network, ...]
    remote_tokens: dict[str, str]
    remote_answer_limit: int
    mlflow_url: str
    skops_trusted: tuple[str, ...]
    onnx_providers: tuple[str, ...]
    onnx_threads: int
    onnx_memory_limit: int
    serving_body_limit: int
    max_rows: int
    cache_bytes: int
    edge_signing_keys: tuple[bytes | None, ...]
    edge_bundle_seconds: float
    edge_grace_seconds: float
    edge_events_per_minute: int
    artifact_limit: int
    artifact_storage: dict[str, Any] | None
    artifact_cache_limit: int
    snapshots: str
    decision_queue: str | None
    refresh_seconds: float
    stale_seconds: float
    spool_limit: int
    backlog_limit: int | None
    access_lines: float
    web_processes: int
    learn_seconds: float
    ledger_days: int
    read_seconds: float
    blocking_threads: int
    database_connections: int
    proxies: int
    https: bool
    log_level: str
    metrics_dir: Path | None
    role: str
    webhook_private: bool
    alert_emails: tuple[str, ...]
    email_host: str
    email_port: int
    email_user: str
    email_password: str
    email_tls: bool
    email_from: str

    @classmethod
    def read(cls, source: Mapping[str, str] | None = None) -> "Environment":
        """Read and check every variable; `source` stands in for os.environ in tests."""
        source = os.environ if source is None else source
        folder = data_dir(source)
        sockets = socket_dir(folder)
        database_url = source.get(variables.DATABASE_URL, "").strip()
        redis_url = _redis_url(source)
        secret_key, ephemeral = _secret_key(source, folder)
        mail = _mail_server(source)
        threads = int(_number(source, variables.BLOCKING_THREADS, 8, 1))
        level = source.get(variables.LOG_LEVEL, "INFO").strip().upper() or "INFO"
        if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise BadEnvironment(f"{variables.LOG_LEVEL} is {level!r}: DEBUG, INFO, WARNING or ERROR was expected")
        storage, snapshots = _storage(source), _one_of(source, variables.SNAPSHOTS, ("redis", "storage"))
        if snapshots == "storage" and storage is None:
            raise BadEnvironment(f"{variables.SNAPSHOTS} is 'storage', which needs {variables.ARTIFACT_STORAGE}")
        return cls(
            data_dir=folder,
            database_url=database_url
            or f"postgresql://postgres@/noregret?host={quote(str(sockets / POSTGRES_SOCKETS), safe='')}",
            replica_url=source.get(variables.REPLICA_URL, "").strip(),
            replica_lag_seconds=_number(source, variables.REPLICA_LAG_SECONDS, 5.0, 0.1),
            redis_url=redis_url or f"unix://{sockets}/redis.sock",
            broker_url=_broker_url(source, redis_url or f"unix://{sockets}/redis.sock"),
            redis_prefix=source.get(variables.REDIS_PREFIX, "").strip() or "nr:",
            embedded_database=not database_url,
            embedded_redis=not redis_url,
            secret_key=secret_key,
            secret_key_is_ephemeral=ephemeral,
            allowed_hosts=_listed(source, variables.ALLOWED_HOSTS, ("localhost", "127.0.0.1", "[::1]")),
            trusted_origins=_listed(source, variables.TRUSTED_ORIGINS),
            cors_origins=_listed(source, variables.CORS_ORIGINS),
            python_callables=_listed(source, variables.PYTHON_CALLABLES),
            remote_hosts=_listed(source, variables.REMOTE_HOSTS),
            remote_networks=_networks(source),
            remote_tokens=_tokens(source),
            remote_answer_limit=int(_number(source, variables.REMOTE_ANSWER_LIMIT, 16 * 1024 * 1024, 1024)),
            mlflow_url=_mlflow_url(source),
            skops_trusted=_listed(source, variables.SKOPS_TRUSTED),
            onnx_providers=_listed(source, variables.ONNX_PROVIDERS),
            onnx_threads=_whole(source, variables.ONNX_THREADS, 1, 1),
            onnx_memory_limit=_whole(source, variables.ONNX_MEMORY_LIMIT, 1 << 30, 1 << 20),
            serving_body_limit=int(_number(source, variables.SERVING_BODY_LIMIT, 1024 * 1024, 1024)),
            max_rows=int(_number(source, variables.MAX_ROWS, 10_000, 1)),
            cache_bytes=int(_number(source, variables.CACHE_BYTES, 64 * 1024 * 1024, 0)),
            edge_signing_keys=_seeds(source),
            edge_bundle_seconds=_number(source, variables.EDGE_BUNDLE_SECONDS, 86_400.0, 2.0),
            edge_grace_seconds=_number(source, variables.EDGE_GRACE_SECONDS, 604_800.0, 0.0),
            edge_events_per_minute=int(_number(source, variables.EDGE_EVENTS_PER_MINUTE, 60_000, 1)),
            artifact_limit=int(_number(source, variables.ARTIFACT_LIMIT, 100 * 1024 * 1024, 1024)),
            artifact_storage=storage,
            artifact_cache_limit=int(_number(source, variables.ARTIFACT_CACHE_LIMIT, 10 * 1024**3, 1024 * 1024)),
            snapshots=snapshots,
            decision_queue=source.get(variables.DECISION_QUEUE, "").strip() or None,
            refresh_seconds=_number(source, variables.REFRESH_SECONDS, 0.1, 0.01),
            stale_seconds=_number(source, variables.STALE_SECONDS, 10.0, 0.1),
            spool_limit=int(_number(source, variables.SPOOL_LIMIT, 64 * 1024 * 1024, 0)),
            backlog_limit=None
            if not source.get(variables.BACKLOG_LIMIT, "").strip()
            else int(_number(source, variables.BACKLOG_LIMIT, 0, 65536)),
            web_processes=int(_number(source, variables.WEB_CONCURRENCY, 1, 1)),
            access_lines=_number(source, variables.ACCESS_LINES, 0.01, 0.0, 1.0),
            learn_seconds=_number(source, variables.LEARN_SECONDS, 1.0, 0.1),
            ledger_days=_whole(source, variables.LEDGER_DAYS, 400, 1),
            read_seconds=_number(source, variables.READ_SECONDS, 10.0, 0.001),
            blocking_threads=threads,
            database_connections=int(
                _number(source, variables.DATABASE_CONNECTIONS, max(4, 2 * threads), max(1, threads // 2) + 2)
            ),
            proxies=int(_number(source, variables.PROXIES, 0, 0)),
            https=source.get(variables.HTTPS, "0").strip() in {"1", "true", "yes"},
            log_level=level,
            metrics_dir=Path(metrics) if (metrics := source.get(variables.METRICS_DIR, "").strip()) else None,
            role=source.get(variables.ROLE, "").strip(),
            webhook_private=source.get(variables.WEBHOOK_PRIVATE, "0").strip() in {"1", "true", "yes"},
            alert_emails=_listed(source, variables.ALERT_EMAILS),
            email_host=mail.hostname or "localhost",
            email_port=mail.port or 25,
            email_user=unquote(mail.username or ""),
            email_password=unquote(mail.password or ""),
            email_tls=mail.scheme == "smtps",
            email_from=source.get(variables.EMAIL_FROM, "").strip() or "noregret@localhost",
        )


def _networks(source: Mapping[str, str]) -> tuple[IPv4Network | IPv6Network, ...]:
    networks = []
    for text in _listed(source, variables.REMOTE_NETWORKS):
        try:
            networks.append(ip_network(text))
        except ValueError:
            raise BadEnvironment(
                f"{variables.REMOTE_NETWORKS} holds {text!r}: a network as 10.0.0.0/8 was expected"
            ) from None
    return tuple(networks)


def _tokens(source: Mapping[str, str]) -> dict[str, str]:
    """Tokens by host. They stand in variables of their own, so that no list of settings shows
    them.
    """
    tokens = {}
    for text in _listed(source, variables.REMOTE_TOKENS):
        host, equals, name = text.partition("=")
        if not equals or not host or not name:
            raise BadEnvironment(f"{variables.REMOTE_TOKENS} holds {text!r}: host=VARIABLE was expected")
        token = source.get(name.strip(), "").strip()
        if not token or not token.isascii() or not token.isprintable():
            raise BadEnvironment(
                f"{variables.REMOTE_TOKENS} names {name.strip()}, which holds no token of printable ASCII"
            )
        tokens[host.strip().lower()] = token
    return tokens


def _seeds(source: Mapping[str, str]) -> tuple[bytes | None, ...]:
    """None where the derived one is named. What is wrong with one is told without it: it is a
    secret."""
    seeds: list[bytes | None] = []
    for i, text in enumerate(_listed(source, variables.EDGE_SIGNING_KEYS), start=1):
        if text == "derived":
            seeds.append(None)
            continue
        try:
            seed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError:
            seed = b""
        if len(seed) != 32:
            raise BadEnvironment(f"{variables.EDGE_SIGNING_KEYS}: 32 bytes in base64url were expected at place {i}")
        seeds.append(seed)
    return tuple(seeds)


def _mlflow_url(source: Mapping[str, str]) -> str:
    text = source.get(variables.MLFLOW_URL, "").strip()
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.username and parts.port != 0
    except ValueError:
        is_good = False
    if text and not (is_good and text.isascii() and text.isprintable()):
        raise BadEnvironment(
            f"{variables.MLFLOW_URL} can't be read: an address as https://mlflow.example.com was expected"
        )
    return text


def _storage(source: Mapping[str, str]) -> dict[str, Any] | None:
    text = source.get(variables.ARTIFACT_STORAGE, "").strip()
    if not text:
        return None
    expected = '{"BACKEND": "package.module.Class", "OPTIONS": {...}} was expected'
    try:
        entry = json.loads(text)
    except ValueError:
        raise BadEnvironment(f"{variables.ARTIFACT_STORAGE} is no JSON: {expected}") from None
    if (
        not isinstance(entry, dict)
        or entry.keys() - {"BACKEND", "OPTIONS"}
        or not isinstance(entry.get("BACKEND"), str)
        or not isinstance(entry.get("OPTIONS", {}), dict)
    ):
        raise BadEnvironment(f"{variables.ARTIFACT_STORAGE} holds something else: {expected}")
    return entry


_MAIL_EXPECTED = "smtp://host:25 or smtps://user:password@host:587 was expected"


def _mail_server(source: Mapping[str, str]) -> SplitResult:
    text = source.get(variables.EMAIL_URL, "").strip() or "smtp://localhost:25"
    try:
        found = urlsplit(text)
        found.port  # noqa: B018 - raises where it is no number
    except ValueError:
        raise BadEnvironment(f"{variables.EMAIL_URL} can't be read: {_MAIL_EXPECTED}") from None
    if found.scheme not in {"smtp", "smtps"} or not found.hostname:
        raise BadEnvironment(f"{variables.EMAIL_URL} names no mail server: {_MAIL_EXPECTED}")
    return found


def _broker_url(source: Mapping[str, str], redis_url: str) -> str:
    """Where Celery's queues are: what carries them knows no cluster."""
    if text := _redis_url(source, variables.BROKER_URL):
        return text
    if redis_addresses.is_cluster(redis_url):
        raise BadEnvironment(
            f"{variables.REDIS_URL} names a cluster, which Celery can't use: {variables.BROKER_URL} was expected, a Redis of one server"
        )
    return redis_url


def _redis_url(source: Mapping[str, str], name: str = variables.REDIS_URL) -> str:
    """As it is given; "" where none is. What it holds is never shown: a password may be in it."""
    text = source.get(name, "").strip()
    if not text:
        return ""
    expected = "redis://:password@host:6379/0, rediss://... or unix:///path/to/socket was expected, with / ? # @ in a password escaped"
    if redis_addresses.is_cluster(text):
        if name == variables.BROKER_URL:
            raise BadEnvironment(f"{name} names a cluster, which Celery can't use: a Redis of one server was expected")
        try:
            redis_addresses.parse(text)
        except ValueError as error:
            raise BadEnvironment(f"{name} can't be read: {error}") from None
        return text
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        raise BadEnvironment(f"{name} can't be read: {expected}") from None
    if parts.scheme not in {"redis", "rediss", "unix"} or (
        "@" not in parts.netloc and "@" in parts.path + parts.fragment and parts.netloc
    ):
        raise BadEnvironment(f"{name} names no Redis: {expected}")
    return text


def secret_key_file(data_dir: Path) -> Path:
    return data_dir / "secret_key"


def _secret_key(source: Mapping[str, str], data_dir: Path) -> tuple[str, bool]:
    key = source.get(variables.SECRET_KEY, "").strip()
    if key:
        if len(key) < 32:
            raise BadEnvironment(f"{variables.SECRET_KEY} has {len(key)} characters: at least 32 were expected")
        return key, False
    try:
        return secret_key_file(data_dir).read_text().strip(), False
    except FileNotFoundError:
        # Commands that need no lasting key (migrations, checks) run without one; serving refuses by
        # a system check.
        return secrets.token_urlsafe(48), True
    except NotADirectoryError:
        raise BadEnvironment(
            f"the data directory {data_dir} is a file, or lies in one: a directory was expected"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no text"
        raise BadEnvironment(f"the secret key {secret_key_file(data_dir)} can't be read: {why}") from None
