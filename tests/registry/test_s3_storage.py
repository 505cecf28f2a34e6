"""Artefacts in a bucket: a real S3 server on loopback, two machines that serve from it, and what is
removed."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.files.storage import storages
from django.utils import timezone
from noregret.registry.frameworks import Examined
from noregret.registry.frameworks.sklearn import SklearnFramework
from noregret.registry.models import ModelVersion
from noregret.registry.storage_deadlines import artifact_storage
from noregret.retention import ages

from serving import loading
from tests.client_environments import python_of
from tests.conftest import Api, endpoint_of
from tests.registry.inspected import inspect
from tests.registry.test_artifact_storage import ARTIFACT, another_machine, predict, upload
from tests.serving.test_when_things_break import wait_for

BUCKET = "models"


class S3Server(NamedTuple):
    url: str
    pid: int


@cache
def inspected() -> Examined:
    return inspect(ARTIFACT)


@pytest.fixture(autouse=True)
def inspected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SklearnFramework, "examine", lambda framework, definition: inspected())
    monkeypatch.setattr(loading, "FIRST_PAUSE_SECONDS", 0.2)


@pytest.fixture(scope="module")
def storage_library() -> Iterator[None]:
    """django-storages and boto3 of an environment of their own, behind all that is installed
    here."""
    site = next(python_of("s3-storage").parents[1].glob("lib/python3*/site-packages"))
    sys.path.append(str(site))
    yield
    sys.path.remove(str(site))


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log = (tmp_path_factory.mktemp("s3") / "log").open("wb")
    command = [str(python_of("s3-server")), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=log, stderr=log)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert server.poll() is None, log.name
            time.sleep(0.1)
    yield S3Server(f"http://127.0.0.1:{port}", server.pid)
    server.kill()
    server.wait()
    log.close()


@pytest.fixture
def bucket(storage_library: None, s3_server: S3Server, platform: None, settings: Any) -> Iterator[Any]:
    """The settings name a bucket of it, as JSON would."""
    settings.STORAGES = settings.STORAGES | {
        "artifacts": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "bucket_name": BUCKET,
                "endpoint_url": s3_server.url,
                "access_key": "a",
                "secret_key": "b",
                "region_name": "us-east-1",
                "client_config": {"read_timeout": 1},
            },
        }
    }
    storage: Any = artifact_storage()
    held = storage.connection.create_bucket(Bucket=BUCKET)
    yield held
    held.objects.all().delete()
    storage.connection.meta.client.close()


def test_bucket__is_where_all_machines_have_artefacts_from__and_what_is_fetched_is_checked(
    alice: Api, bucket: Any, settings: Any, tmp_path: Path
) -> None:
    assert upload(alice).status == 201
    endpoint_of("pages", "m@1")
    compiled = ModelVersion.objects.get().compiled_sha256
    assert compiled is not None
    name = f"{compiled[:2]}/{compiled}"
    assert hashlib.sha256(bucket.Object(name).get()["Body"].read()).hexdigest() == compiled
    another_machine(settings, tmp_path, "b")
    assert predict(alice).status == 200
    body = bucket.Object(name).get()["Body"].read()
    bucket.Object(name).put(Body=body[:-1] + b"?")
    another_machine(settings, tmp_path, "c")
    assert predict(alice).status == 503
    assert compiled in alice.get("/readyz")["checks"]["champions"]["not_loaded"]["pages"]
    bucket.Object(name).put(Body=body)
    assert wait_for(lambda: predict(alice).status == 200, 30.0)


def test_bucket_that_does_not_answer__upload_is_refused_in_time__and_taken_later(
    alice: Api, bucket: Any, s3_server: S3Server
) -> None:
    os.kill(s3_server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        refused = upload(alice)
        assert refused.status == 503, refused.content
        assert time.monotonic() - began < 30.0  # five times a minute, by itself
    finally:
        os.kill(s3_server.pid, signal.SIGCONT)
    assert wait_for(lambda: upload(alice).status == 201, 30.0)


def test_file_that_no_version_names__goes_out_of_the_bucket_with_its_age__whoever_stored_it(
    alice: Api, bucket: Any, settings: Any, tmp_path: Path
) -> None:
    assert upload(alice).status == 201
    stray = hashlib.sha256(b"of a registration that failed").hexdigest()
    bucket.Object(f"{stray[:2]}/{stray}").put(Body=b"of a registration that failed")
    bucket.Object("snapshots/pages").put(Body=b"of another kind")
    named = {one.key for one in bucket.objects.all()} - {f"{stray[:2]}/{stray}"}
    another_machine(settings, tmp_path, "b")  # whose worker keeps house
    ages.prune(timezone.now())
    assert {one.key for one in bucket.objects.all()} == named | {f"{stray[:2]}/{stray}"}
    ages.prune(timezone.now() + timedelta(days=8))
    assert {one.key for one in bucket.objects.all()} == named
    ModelVersion.objects.all().delete()
    ages.prune(timezone.now() + timedelta(days=8))
    assert {one.key for one in bucket.objects.all()} == {"snapshots/pages"}


def test_bucket__waits_as_long_as_its_options_say__and_no_longer_than_the_service_by_itself(bucket: Any) -> None:
    storage: Any = storages["artifacts"]
    assert (storage.client_config.connect_timeout, storage.client_config.read_timeout) == (3, 1)
    assert storage.client_config.retries["total_max_attempts"] == 2
    assert artifact_storage() is storage
