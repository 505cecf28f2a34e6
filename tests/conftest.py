"""What tests share: a Redis prefix of their own, a running hot path, and the cast."""

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.contenttypes.management import create_contenttypes
from django.db.models.signals import post_migrate
from noregret.access.keys import create_key
from noregret.experiments import document
from noregret.experiments.models import Endpoint, Experiment
from noregret.registry.frameworks import PythonDefinition, StaticDefinition
from noregret.registry.register import register_model
from noregret.rollout import creation
from noregret.rollout.endpoints import create_endpoint
from noregret.rollout.transitions import move

from tests.both_planes import BothPlanes

ACTOR = "tests"

if os.environ.get("TESTS_REDIS_CLUSTER"):
    from tests.redis_cluster import let_tests_look_at_all_keys

    let_tests_look_at_all_keys()


SLOW_FILES = (
    "embedded/test_up.py",
    "from_mlflow/test_import.py",
    "registry/test_registry.py",
    "learning/test_policies_in_service.py",
    "learning/test_learned_when_matured.py",
    "embedded/test_pooler.py",
    "edge/test_digits_page.py",
    "clients/test_register.py",
    "serving/test_runtime_contract.py",
    "from_mlflow/test_one_model_everywhere.py",
)
"""The longest ones, by seconds: several processes begin with them, so that none is left alone with
one at the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes
        place = {str(Path(__file__).parent / name): i for i, name in enumerate(SLOW_FILES)}
        items.sort(key=lambda item: place.get(str(item.path), len(place)))


@pytest.fixture(scope="session", autouse=True)
def _static_files_once() -> None:
    """Each client of a test makes the middleware anew, and with it WhiteNoise looks at every static
    file again: a tenth of the suite's time, for files that do not change."""
    from whitenoise.middleware import WhiteNoiseMiddleware

    look, found = WhiteNoiseMiddleware.add_files_from_finders, {}

    def add_files_from_finders(self: WhiteNoiseMiddleware) -> None:
        seen = (self.static_root, self.static_prefix)
        if seen not in found:
            look(self)
            found[seen] = dict(self.files)
        self.files.update(found[seen])

    WhiteNoiseMiddleware.add_files_from_finders = add_files_from_finders


@pytest.fixture(scope="session")
def django_db_modify_db_settings(engines: None) -> None:
    """pytest-django asks for this before it makes its database: here the servers start."""
    from django.conf import settings

    # Threads of the live server would keep their connections, and with them the test database.
    settings.DATABASES["default"]["CONN_MAX_AGE"] = 0
    # Imported before any test looks at logs: an entry point sets them up, and begins to serve.
    import noregret.wsgi  # noqa: F401

    from serving import process

    process.reset()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database, and at the end a look at who still holds it: a connection that nobody
    closed is a fault of its test."""
    # Every test empties every table, and Django would then write all permissions anew: a fifth of a
    # second a test that hardly one needs.
    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")
    post_migrate.disconnect(create_contenttypes)
    from tests.emptying import empty_by_rows

    empty_by_rows()
    yield
    from django.db import connection

    # Backends of processes that a test killed are gone within moments.
    for _ in range(100):
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT application_name, backend_start, state, query FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            others = cursor.fetchall()
        if not others:
            return
        time.sleep(0.1)
    raise AssertionError(f"connections were left open: {others}")


@pytest.fixture
def platform(transactional_db: None, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty platform: own Redis keys, own folders, own hot path; committed rows, for workers and
    threads to see."""
    from django.contrib.contenttypes.models import ContentType
    from noregret.redis_client import client

    from serving import process, redis_clients, store

    # What has just come is waited for as long as a busy machine may take: tests are no callers in a
    # hurry.
    monkeypatch.setattr(store, "MISS_SECONDS", 5.0)
    ContentType.objects.clear_cache()  # rows of the test before, which are gone
    settings.SHADOW_MEMORY_BYTES = 1 << 40  # a process of the suite has grown by all that it ran
    settings.REDIS_PREFIX = f"test:{secrets.token_hex(6)}:"
    settings.ARTIFACT_DIR = tmp_path / "artifacts"
    settings.SNAPSHOT_DIR = tmp_path / "snapshots"
    settings.SPOOL_DIR = tmp_path / "spool"
    process.reset()
    yield
    process.reset()
    with contextlib.suppress(redis.RedisError):  # a test may have killed a Redis of its own
        for server in redis_clients.shards(client()):
            for key in server.scan_iter(f"{settings.REDIS_PREFIX}*"):
                server.delete(key)
    shutil.rmtree(tmp_path, ignore_errors=True)


class Api:
    """One member of the cast: calls with a key, and reads JSON."""

    def __init__(self, key: str | None) -> None:
        self._client = BothPlanes(raise_request_exception=False)
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def __call__(self, method: str, path: str, body: Any = None, **extra: Any) -> "Answer":
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        content_type = extra.pop("content_type", "application/json")
        headers = self._headers | extra.pop("headers", {})
        return Answer(
            self._client.generic(
                method, path, data, content_type=content_type, headers=headers, CONTENT_TYPE=content_type, **extra
            )
        )

    def get(self, path: str, **extra: Any) -> "Answer":
        return self("GET", path, **extra)

    def post(self, path: str, body: Any = None, **extra: Any) -> "Answer":
        return self("POST", path, {} if body is None else body, **extra)

    def upload(self, path: str, fields: dict[str, Any]) -> "Answer":
        return Answer(self._client.post(path, fields, headers=self._headers))


class Answer:
    """An HTTP answer."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self.status: int = response.status_code

    @property
    def body(self) -> Any:
        return json.loads(self.content)

    @property
    def content(self) -> bytes:
        if self.response.streaming:
            return b"".join(self.response.streaming_content)
        return bytes(self.response.content)

    def __getitem__(self, name: str) -> Any:
        return self.body[name]

    def fields(self) -> list[str]:
        """The fields that a problem document names."""
        assert self.response["Content-Type"] == "application/problem+json", self.content
        return [error["field"] for error in self.body.get("errors", [])]


@pytest.fixture
def permissions(platform: None) -> None:
    """Every permission, as after a migration."""
    for config in apps.get_app_configs():
        create_contenttypes(config, verbosity=0)
        create_permissions(config, verbosity=0)


@pytest.fixture
def alice(platform: None) -> Api:
    """She may do everything."""
    return Api(create_key(name="alice", scopes=["predict", "feedback", "manage"], actor=ACTOR)[1])


@pytest.fixture
def bob(platform: None) -> Api:
    """He may predict, on every endpoint."""
    return Api(create_key(name="bob", scopes=["predict"], actor=ACTOR)[1])


@pytest.fixture
def carol(platform: None) -> Api:
    """She may do everything, on the endpoint `hers` alone."""
    return Api(create_key(name="carol", scopes=["predict", "feedback", "manage"], endpoints=["hers"], actor=ACTOR)[1])


@pytest.fixture
def charlie(platform: None) -> Api:
    """He has no key."""
    return Api(None)


def static_model(name: str, version: str, payload: Any = None) -> str:
    register_model(StaticDefinition(name=name, version=version, payload=payload), actor=ACTOR)
    return f"{name}@{version}"


def python_model(name: str, version: str, function: str) -> str:
    register_model(PythonDefinition(name=name, version=version, callable=f"tests.callables.{function}"), actor=ACTOR)
    return f"{name}@{version}"


def endpoint_of(name: str, champion: str, deadline_ms: int = 300) -> Endpoint:
    return create_endpoint(name=name, champion=champion, deadline_ms=deadline_ms, actor=ACTOR)


def start_experiment(body: dict[str, Any]) -> Experiment:
    """Create and start, as a caller would."""
    import msgspec

    made = creation.create_experiment(msgspec.convert(body, document.Experiment), actor=ACTOR)
    return move(made, "start", actor=ACTOR)


@pytest.fixture
def two_arms(platform: None) -> Callable[..., Experiment]:
    """Starts an experiment `e` on the endpoint `pages` with the static arms a (champion, payload A)
    and b (payload B)."""

    def start(**changes: Any) -> Experiment:
        static_model("page", "a", {"text": "A"})
        static_model("page", "b", {"text": "B"})
        endpoint_of("pages", "page@a")
        body: dict[str, Any] = {
            "name": "e",
            "endpoint": "pages",
            "strategy": "bandit",
            "arms": [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@b"}],
        }
        return start_experiment(body | changes)

    return start
