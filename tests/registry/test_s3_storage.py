"""Artefacts in a bucket: a real S3 server on loopback, two machines that serve from it, and what is
removed."""

import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.files.storage import storages
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone
from noregret.registry import register, stored_files
from noregret.registry.artifact_storage import StorageSource, artifact_source
from noregret.registry.errors import ArtifactRefused
from noregret.registry.frameworks import Examined
from noregret.registry.frameworks.sklearn import SklearnFramework
from noregret.registry.models import ModelVersion, StoredFile
from noregret.registry.storage_deadlines import artifact_storage
from noregret.retention import ages

from serving import loading
from serving.artifacts import SourceFailed
from tests.client_environments import python_of
from tests.conftest import Api, endpoint_of
from tests.registry.inspected import inspect
from tests.registry.test_artifact_storage import ARTIFACT, another_machine, doctor, predict, upload
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


def keys(bucket: Any) -> dict[str, str]:
    """What it holds, and the SHA-256 of each."""
    return {one.key: hashlib.sha256(one.get()["Body"].read()).hexdigest() for one in bucket.objects.all()}


def name_of(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


class Refusal(io.BytesIO):
    """The body of an answer of S3, as its library reads one."""

    def __init__(self, code: str) -> None:
        super().__init__(f"<Error><Code>{code}</Code></Error>".encode() if code else b"")

    def stream(self, **given: Any) -> Iterator[bytes]:
        yield self.read()


class Line:
    """What this process asks of the bucket, and what comes back: files seem nine days old, and puts
    may fail."""

    def __init__(self, storage: Any) -> None:
        self.asked: list[str] = []
        self.refuses_puts = False
        self.refuses_all = ""
        """By this code, which an answer to HEAD has no room for."""
        events = storage.connection.meta.client.meta.events
        events.register("before-send.s3", self._send)
        events.register("after-call.s3.HeadObject", self._age)

    def _send(self, request: Any, event_name: str, **given: Any) -> Any:
        self.asked.append(event_name.rpartition(".")[2])
        if self.refuses_puts and event_name.endswith("PutObject"):
            return self._refusal(request, 503, "SlowDown")
        if self.refuses_all:
            return self._refusal(request, 403, "" if event_name.endswith("HeadObject") else self.refuses_all)
        return None

    def _refusal(self, request: Any, status: int, code: str) -> Any:
        return import_module("botocore.awsrequest").AWSResponse(request.url, status, {}, Refusal(code))

    def _age(self, parsed: dict[str, Any], **given: Any) -> None:
        if "LastModified" in parsed:
            parsed["LastModified"] -= timedelta(days=9)


def test_put_that_fails__of_a_file_that_live_versions_need__leaves_it_where_it_is(alice: Api, bucket: Any) -> None:
    assert upload(alice).status == 201
    before = keys(bucket)
    line = Line(artifact_storage())
    line.refuses_puts = True
    # It is there, whole: nothing has to be put.
    assert upload(alice, "2").status == 201
    assert keys(bucket) == before
    # What is there is another file: it is put, and stays as it was where that fails.
    name = name_of(ModelVersion.objects.get(version="1").sha256)
    line.refuses_puts = False
    bucket.Object(name).put(Body=b"?" * len(ARTIFACT))
    torn = keys(bucket)
    line.refuses_puts = True
    refused = upload(alice, "3")
    assert (refused.status, "PutObject" in line.asked) == (503, True), refused.content
    assert keys(bucket) == torn
    line.refuses_puts = False
    assert upload(alice, "3").status == 201
    assert keys(bucket) == before
    assert "DeleteObject" not in line.asked  # nobody ever finds it missing


def test_file_of_another_content__is_mended_by_whoever_registers_it(alice: Api, bucket: Any) -> None:
    assert upload(alice).status == 201
    before = keys(bucket)
    for name in before:
        body = bucket.Object(name).get()["Body"].read()
        bucket.Object(name).put(Body=b"?" * len(body))  # a size says nothing
    assert upload(alice, "2").status == 201
    assert keys(bucket) == before


def test_lost_file__the_same_registration_again__restores_it(
    alice: Api, bucket: Any, settings: Any, tmp_path: Path
) -> None:
    assert upload(alice).status == 201
    endpoint_of("pages", "m@1")
    before = keys(bucket)
    bucket.objects.all().delete()
    another_machine(settings, tmp_path, "b")
    assert predict(alice).status == 503
    assert (
        "registering its version again, with the same file, restores it"
        in alice.get("/readyz")["checks"]["champions"]["not_loaded"]["pages"]
    )
    again = upload(alice)
    assert (again.status, again["version"]) == (200, "1")
    assert keys(bucket) == before
    assert wait_for(lambda: predict(alice).status == 200, 30.0)
    # From the copy of a machine that has one, where the file as compiled alone is lost.
    compiled = ModelVersion.objects.get().compiled_sha256
    bucket.Object(name_of(compiled)).delete()
    assert upload(alice).status == 200
    assert keys(bucket) == before


def test_files_that_no_version_names__ours_go_with_their_age__and_no_others(
    alice: Api, bucket: Any, settings: Any, tmp_path: Path
) -> None:
    assert upload(alice).status == 201
    stray = register.keep(b"of a registration that failed")
    another = hashlib.sha256(b"of another installation").hexdigest()
    bucket.Object(name_of(another)).put(Body=b"of another installation")
    bucket.Object("snapshots/pages").put(Body=b"of another kind")
    everything = set(keys(bucket))
    another_machine(settings, tmp_path, "b")  # whose worker keeps house
    ages.prune(timezone.now())
    assert set(keys(bucket)) == everything
    ages.prune(timezone.now() + timedelta(days=8))
    assert set(keys(bucket)) == everything - {name_of(stray)}
    # One that is stored again is young again.
    register.keep(ARTIFACT)
    StoredFile.objects.update(stored_at=timezone.now() - timedelta(days=8))
    register.keep(ARTIFACT)
    named = ModelVersion.objects.get()
    ModelVersion.objects.all().delete()
    ages.prune(timezone.now())
    assert set(keys(bucket)) == {name_of(named.sha256), name_of(another), "snapshots/pages"}
    # What is registered while it is removed stays.
    source = artifact_source()
    assert source is not None
    later = timezone.now() + timedelta(days=8)
    assert not stored_files.remove(source, named.sha256, later, lambda sha256: True)
    assert name_of(named.sha256) in keys(bucket)
    ages.prune(later)
    assert set(keys(bucket)) == {name_of(another), "snapshots/pages"}


def test_file_that_was_refused__goes_at_once__if_it_was_stored_from_here(
    alice: Api, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(framework: Any, definition: Any) -> Examined:
        raise ArtifactRefused("no model")

    monkeypatch.setattr(SklearnFramework, "examine", refuse)
    assert upload(alice).status == 422
    assert keys(bucket) == {}
    assert not StoredFile.objects.exists()
    # One that another installation stored, for which it may be a model, stays.
    name = name_of(hashlib.sha256(ARTIFACT).hexdigest())
    bucket.Object(name).put(Body=ARTIFACT)
    assert upload(alice).status == 422
    assert set(keys(bucket)) == {name}


def refusing(bucket: Any, settings: Any, **options: Any) -> None:
    """From here on the settings name the same store with other options."""
    entry = settings.STORAGES["artifacts"]
    settings.STORAGES = settings.STORAGES | {"artifacts": entry | {"OPTIONS": entry["OPTIONS"] | options}}


def artefacts() -> list[str]:
    return [line for line in doctor() if "  artefacts: " in line]


def test_bucket_that_is_not_there__is_named_by_upload_and_doctor(alice: Api, bucket: Any, settings: Any) -> None:
    assert artefacts() == ["ok    artefacts: the store answers"]
    refusing(bucket, settings, bucket_name="nobodys")
    refused = upload(alice)
    assert refused.status == 503
    words = "the store answers NoSuchBucket: there is no such bucket, look at bucket_name in NOREGRET_ARTIFACT_STORAGE"
    assert words in refused["detail"]
    assert artefacts() == [f"FAIL  artefacts: {words}"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("InvalidAccessKeyId", "the access key is not known"),
        ("AccessDenied", "they need to read, write, list and delete"),
    ],
)
def test_credentials_that_are_not_taken__are_named_by_the_stores_own_code(
    alice: Api, bucket: Any, code: str, words: str
) -> None:
    storage: Any = artifact_storage()
    line = Line(storage)
    line.refuses_all = code
    refused = upload(alice)
    assert refused.status == 503
    assert f"the store answers {code}: {words}" in refused["detail"]
    assert "look at the credentials" in refused["detail"]
    # To doctor it says the same; it asks in a thread, and with a connection, of its own.
    with pytest.raises(SourceFailed, match=f"the store answers {code}: {words}"):
        StorageSource(storage).remove("0" * 64)
    line.refuses_all = ""


def test_store_that_hangs__doctor_says_so_in_time(bucket: Any, s3_server: S3Server, monkeypatch: Any) -> None:
    monkeypatch.setattr(import_module("noregret.embedded.management.commands.doctor"), "STORE_SECONDS", 0.3)
    os.kill(s3_server.pid, signal.SIGSTOP)
    try:
        assert artefacts() == ["FAIL  artefacts: the store did not answer within 0.3 s"]
    finally:
        os.kill(s3_server.pid, signal.SIGCONT)


def test_put_snapshots__store_that_refuses__is_told_in_a_line__and_the_next_round_goes_on(
    alice: Api, bucket: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(alice)
    endpoint_of("pages", "m@1")
    line = Line(artifact_storage())
    line.refuses_all = "AccessDenied"
    with pytest.raises(CommandError, match=r"^snapshots can't be written: the store answers AccessDenied: "):
        call_command("put-snapshots")

    class Stopped(Exception):
        pass

    rounds: list[float] = []

    def sleep(seconds: float) -> None:
        line.refuses_all = ""
        rounds.append(seconds)
        if len(rounds) == 2:
            raise Stopped

    monkeypatch.setattr(import_module("noregret.serverless.management.commands.put-snapshots").time, "sleep", sleep)
    said, wrong = io.StringIO(), io.StringIO()
    with pytest.raises(Stopped):
        call_command("put-snapshots", every=2.0, stdout=said, stderr=wrong)
    assert wrong.getvalue().count("\n") == 1
    assert "AccessDenied" in wrong.getvalue()
    assert said.getvalue().endswith("documents written\n")
    assert {"snapshots/pages", "snapshots/@index"} <= set(keys(bucket))
    # What is there is replaced, and never missing on the way.
    call_command("put-snapshots", stdout=said)
    assert "DeleteObject" not in line.asked


def test_bucket__waits_as_long_as_its_options_say__and_no_longer_than_the_service_by_itself(bucket: Any) -> None:
    storage: Any = storages["artifacts"]
    assert (storage.client_config.connect_timeout, storage.client_config.read_timeout) == (3, 1)
    assert storage.client_config.retries["total_max_attempts"] == 2
    assert artifact_storage() is storage
