"""Uploads as jobs: a worker inspects, the caller waits a little and may ask later; whatever dies, a
job ends, and registers once.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
import skops.io
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.utils import timezone
from noregret.access.keys import create_key
from noregret.redis_client import client, keys
from noregret.registry import jobs
from noregret.registry.frameworks import Examined
from noregret.registry.frameworks.sklearn import SklearnFramework
from noregret.registry.models import ModelVersion, RegistrationJob
from noregret.trail.models import AuditEntry
from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB

from tests.conftest import ACTOR, Api
from tests.learning.test_celery import Learners, wait_until
from tests.registry.inspected import inspect
from tests.serving.test_when_things_break import OwnRedis, own_redis

IRIS, SPECIES = load_iris(return_X_y=True)
ARTIFACT = skops.io.dumps(GaussianNB().fit(IRIS, SPECIES))
__all__ = ["own_redis"]
PATH = "/api/v1/models"


def upload(api: Api, body: bytes = ARTIFACT, version: str = "1") -> Any:
    file = SimpleUploadedFile("m.skops", body)
    return api.upload(PATH, {"name": "m", "version": version, "framework": "sklearn", "artifact": file})


class Inspectors(Learners):
    """Workers of the queue `inspect`, which find artefacts where this process keeps them."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._environment |= {"NOREGRET_DATA_DIR": str(settings.ARTIFACT_DIR.parent)}

    def inspector(self) -> Any:
        name = f"i{len(self._started)}@test"
        arguments = ("worker", "--queues", "inspect", "--pool", "threads", "--concurrency", "1")
        return self._start(*arguments, "--without-gossip", "--without-mingle", "-n", name)


@pytest.fixture
def inspectors(platform: None, settings: Any) -> Iterator[Inspectors]:
    prefixed = {"global_keyprefix": f"{settings.REDIS_PREFIX}celery:"}
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = settings.CELERY_BROKER_TRANSPORT_OPTIONS | prefixed
    made = Inspectors(settings)
    yield made
    made.stop()


def sign() -> None:
    """As a worker that listens gives it."""
    client().set(keys().inspector, 1, ex=60)


def test_upload__slow__is_a_job_to_ask_for__and_is_answered_as_ever_where_it_ends_in_time(
    alice: Api, inspectors: Inspectors, monkeypatch: Any
) -> None:
    monkeypatch.setattr(jobs, "WAIT_SECONDS", 0.2)
    sign()
    begun = upload(alice)
    assert (begun.status, begun["status"]) == (202, "running")
    path = begun.response["Location"]
    assert path == f"/api/v1/jobs/{begun['job']}"
    assert upload(alice)["job"] == begun["job"]  # the same sent twice is one job
    assert upload(alice, b"(pickle", "2")["job"] != begun["job"]
    waiting = alice.get(path)
    assert (waiting.status, waiting["status"], waiting["model"], waiting["problem"]) == (200, "running", None, None)
    inspectors.inspector()
    wait_until(lambda: not RegistrationJob.objects.filter(status="running").exists())
    ended = alice.get(path)
    assert (ended["status"], ended["problem"], ended["model"]) == ("done", None, alice.get(f"{PATH}/m/1").body)
    failed = RegistrationJob.objects.get(status="failed")
    problem = alice.get(f"/api/v1/jobs/{failed.pk}")["problem"]
    assert (problem["status"], problem["type"]) == (422, "/problems/artifact-refused")
    # In time; this process inspects nothing.
    monkeypatch.setattr(jobs, "WAIT_SECONDS", 60.0)
    monkeypatch.setattr(jobs, "run", None)
    made = upload(alice, version="3")
    assert (made.status, made.body) == (201, alice.get(f"{PATH}/m/3").body)
    assert upload(alice).status == 200
    assert AuditEntry.objects.filter(action="model.registered").count() == ModelVersion.objects.count() == 2


def test_worker__killed_over_an_inspection__another_takes_the_job_up(
    alice: Api, inspectors: Inspectors, monkeypatch: Any
) -> None:
    monkeypatch.setattr(jobs, "WAIT_SECONDS", 0.2)
    sign()
    begun = upload(alice)
    first = inspectors.inspector()
    row = RegistrationJob.objects.filter(pk=begun["job"])
    wait_until(lambda: row.filter(attempts=1, status="running").exists())
    inspectors.kill(first)
    jobs.run(row.get().pk)  # as long as the claim lasts nobody else begins
    assert (row.get().status, row.get().attempts) == ("running", 1)
    told = timezone.now() - jobs.TOLD_AGAIN
    row.update(claimed_until=timezone.now(), sent_at=told)
    jobs.tend()  # tells workers of it again
    assert row.get().sent_at > told
    jobs.run(row.get().pk)  # as one of them does
    assert (row.get().status, row.get().attempts, ModelVersion.objects.count()) == ("done", 2, 1)


def test_jobs__that_nobody_ends__fail_with_a_reason(alice: Api, inspectors: Inspectors, monkeypatch: Any) -> None:
    monkeypatch.setattr(jobs, "WAIT_SECONDS", 0.0)
    sign()
    begun = upload(alice)
    rows = RegistrationJob.objects.filter(pk=begun["job"])
    path = begun.response["Location"]
    rows.update(created_at=timezone.now() - jobs.LONGEST - timedelta(seconds=1))
    told = alice.get(path)
    assert (told["status"], told["problem"]["status"]) == ("failed", 503)
    assert "no worker ended its inspection" in told["problem"]["detail"]
    # Nor is one tried for ever whose inspection takes its worker down each time.
    again = upload(alice)
    rows = RegistrationJob.objects.filter(pk=again["job"])
    rows.update(attempts=jobs.MOST_ATTEMPTS)
    jobs.run(rows.get().pk)
    assert "cut off 3 times" in alice.get(again.response["Location"])["problem"]["detail"]
    # What has ended is not ended otherwise by who comes late.
    jobs.run(rows.get().pk)
    assert (rows.get().status, ModelVersion.objects.count()) == ("failed", 0)


def test_inspection__that_a_busy_machine_cuts_off__judges_no_file__and_may_be_tried_again(
    alice: Api, platform: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as busy:
        busy.setattr("noregret.registry.inspection.WALL_SECONDS", 0.1)
        refused = upload(alice)
    assert (refused.status, refused.response["Retry-After"]) == (503, "10")
    assert "nothing is known of the file" in refused["detail"]
    assert RegistrationJob.objects.get().refusal["kind"] == "InspectionUnfinished"
    assert upload(alice).status == 201
    with monkeypatch.context() as short_of_memory:  # as the kernel ends a process
        short_of_memory.setattr("noregret.registry.inspection.INSPECTOR", "tests.registry.ends_itself")
        assert upload(alice, version="2").status == 503


@cache
def examined() -> Examined:
    return inspect(ARTIFACT)


@pytest.fixture
def inspected_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The same file each time: its inspection is not what these tests are about. How many there
    were.
    """
    threads: list[int] = []
    found = examined()

    def examine(framework: SklearnFramework, definition: Any) -> Examined:
        threads.append(threading.get_ident())
        time.sleep(0.5)
        return found

    monkeypatch.setattr(SklearnFramework, "examine", examine)
    return threads


def test_upload__no_worker_or_no_redis__is_inspected_by_the_request(
    alice: Api, settings: Any, monkeypatch: Any, inspected_once: list[int]
) -> None:
    assert upload(alice).status == 201

    def away() -> Any:
        raise ConnectionError("no route")

    monkeypatch.setattr(jobs, "client", away)
    assert upload(alice, version="2").status == 201
    assert len(inspected_once) == 2
    assert set(RegistrationJob.objects.values_list("status", "attempts", "sent_at")) == {("done", 1, None)}


def test_inspection__store_that_cannot_be_made__is_no_fault_of_the_artefact(
    alice: Api, settings: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(jobs, "WAIT_SECONDS", 0.0)
    sign()
    begun = upload(alice)
    settings.STORAGES = settings.STORAGES | {"artifacts": {"BACKEND": "nosuch.Storage"}}
    jobs.run(RegistrationJob.objects.get().pk)
    problem = alice.get(f"/api/v1/jobs/{begun['job']}")["problem"]
    assert (problem["status"], problem["type"]) == (503, "/problems/unavailable")
    assert problem["detail"] == "the artefact could not be read: ImproperlyConfigured"


def test_broker__away_though_a_worker_gave_its_sign__request_inspects(
    alice: Api, own_redis: OwnRedis, settings: Any, inspected_once: list[int]
) -> None:
    settings.REDIS_URL = settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://")
    settings.CELERY_BROKER_URL = own_redis.url.replace("unix://", "redis+socket://")
    own_redis.kill()
    sign()
    assert upload(alice).status == 201
    assert len(inspected_once) == 1


def test_same_upload__from_four_at_once__is_inspected_and_registered_once(
    alice: Api, monkeypatch: Any, inspected_once: list[int]
) -> None:
    monkeypatch.setattr(jobs, "WAIT_SECONDS", 30.0)
    monkeypatch.setattr("noregret.registry.uploads._free", threading.BoundedSemaphore(4))

    def post(i: int) -> int:
        try:
            return upload(alice).status
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(pool.map(post, range(4)))
    assert statuses == [200, 200, 200, 201]
    assert (len(inspected_once), ModelVersion.objects.count()) == (1, 1)


def test_artefact__refused__is_kept_nowhere__and_one_that_a_version_names_stays(alice: Api, settings: Any) -> None:
    def files() -> set[str]:
        return {path.name for path in settings.ARTIFACT_DIR.glob("??/*")}

    assert upload(alice, b"(pickle").status == 422
    assert files() == set()
    assert upload(alice).status == 201
    held = files()
    assert held == {ModelVersion.objects.get().sha256, ModelVersion.objects.get().compiled_sha256}
    assert upload(alice, version="2").status == 201
    job = RegistrationJob.objects.latest("created_at")
    jobs._discard(job, timezone.now())
    assert files() == held


def test_job__is_seen_by_keys_of_its_limit_and_wider_ones(alice: Api, carol: Api, inspected_once: list[int]) -> None:
    assert upload(carol).status == 201
    job = RegistrationJob.objects.get()
    path = f"/api/v1/jobs/{job.pk}"
    assert job.endpoints == ["hers"]
    dave = Api(create_key(name="dave", scopes=["manage"], endpoints=["theirs"], actor=ACTOR)[1])
    assert [api.get(path).status for api in (carol, alice, dave)] == [200, 200, 404]
    assert upload(alice, version="2").status == 201
    other = RegistrationJob.objects.exclude(pk=job.pk).get()
    assert [api.get(f"/api/v1/jobs/{other.pk}").status for api in (alice, carol)] == [200, 404]
    assert alice.get("/api/v1/jobs/none").status == 404
