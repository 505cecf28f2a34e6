"""Artefacts on many machines: fetched from a store that all reach, checked, kept within bounds, and
tried again where they are missing."""

import contextlib
import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import skops.io
from django.core.checks import run_checks
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from noregret.env import BadEnvironment, Environment
from noregret.learning import shadows
from noregret.registry.artifact_storage import StorageSource, artifact_store
from noregret.registry.frameworks import Examined
from noregret.registry.frameworks.sklearn import SklearnFramework
from noregret.registry.models import ModelVersion
from noregret.registry.tasks import refuse_to_start
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from serving import loading
from serving import process as processes
from serving.artifacts import ArtifactMissing, ArtifactStore, SourceFailed
from serving.process import process
from serving.starting import begin_serving
from tests.conftest import Api, endpoint_of, python_model, start_experiment
from tests.registry.inspected import inspect
from tests.serving.test_when_things_break import wait_for

IRIS, SPECIES = load_iris(return_X_y=True)
PREDICT = "/api/v1/endpoints/pages/predict"


class Distant(FileSystemStorage):
    """A storage of Django on another machine, which may be away."""

    is_away: ClassVar[bool] = False
    read: ClassVar[list[str]] = []

    def _open(self, name: str, mode: str = "rb") -> Any:
        if self.is_away:
            raise ConnectionError("no route to the store")
        self.read.append(name)
        return super()._open(name, mode)

    def _save(self, name: str, content: Any) -> str:
        if self.is_away:
            raise ConnectionError("no route to the store")
        return super()._save(name, content)


@pytest.fixture
def distant(platform: None, settings: Any, tmp_path: Path) -> Iterator[type[Distant]]:
    settings.STORAGES = settings.STORAGES | {
        "artifacts": {"BACKEND": f"{__name__}.Distant", "OPTIONS": {"location": str(tmp_path / "distant")}}
    }
    Distant.is_away, Distant.read = False, []
    yield Distant
    Distant.is_away = False


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "FIRST_PAUSE_SECONDS", 0.2)


ARTIFACT = skops.io.dumps(LogisticRegression(max_iter=500).fit(IRIS, SPECIES))


@cache
def inspected() -> Examined:
    return inspect(ARTIFACT)


@pytest.fixture(autouse=True)
def inspected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file each time: its inspection takes seconds, and is not what these tests are
    about."""
    monkeypatch.setattr(SklearnFramework, "examine", lambda framework, definition: inspected())


def upload(api: Api, version: str = "1") -> Any:
    file = SimpleUploadedFile("m.skops", ARTIFACT)
    return api.upload("/api/v1/models", {"name": "m", "version": version, "framework": "sklearn", "artifact": file})


def another_machine(settings: Any, tmp_path: Path, name: str) -> None:
    """A web process with a data directory of its own."""
    processes.reset()
    settings.ARTIFACT_DIR = tmp_path / name


def doctor() -> list[str]:
    """Its lines."""
    said = io.StringIO()
    with contextlib.suppress(SystemExit):
        call_command("doctor", stdout=said)
    return said.getvalue().splitlines()


def predict(api: Api) -> Any:
    return api.post(PREDICT, {"inputs": IRIS[:2].tolist()})


def test_another_machine__fetches_what_it_serves__once(
    alice: Api, distant: type[Distant], settings: Any, tmp_path: Path
) -> None:
    assert upload(alice).status == 201
    endpoint_of("pages", "m@1")
    sha256 = ModelVersion.objects.get().compiled_sha256
    distant.read.clear()  # registering read what it had stored
    assert (predict(alice).status, distant.read) == (200, [])  # where it was registered it is already
    another_machine(settings, tmp_path, "b")
    assert predict(alice).status == 200
    assert distant.read == [f"{sha256[:2]}/{sha256}"]
    assert (tmp_path / "b" / sha256[:2] / sha256).exists()
    processes.reset()
    assert predict(alice).status == 200
    assert len(distant.read) == 1


def test_store_away__is_named_in_answer_and_readiness__and_tried_again(
    alice: Api, distant: type[Distant], settings: Any, tmp_path: Path, quick_retries: None
) -> None:
    assert upload(alice).status == 201
    endpoint_of("pages", "m@1")
    sha256 = ModelVersion.objects.get().compiled_sha256
    distant.is_away = True
    another_machine(settings, tmp_path, "b")
    answer = predict(alice)
    assert answer.status == 503
    assert (
        f"m@1 is not loaded here: ArtifactMissing: file {sha256} can't be fetched: ConnectionError" in answer["detail"]
    )
    assert sha256 in alice.get("/readyz")["checks"]["champions"]["not_loaded"]["pages"]
    version = process().store.endpoints()[0].document.version
    distant.is_away = False
    assert wait_for(lambda: predict(alice).status == 200)
    assert process().store.endpoints()[0].document.version == version  # no new snapshot was needed
    assert alice.get("/readyz")["checks"]["champions"]["ok"]


def test_folder_alone__file_that_comes_later__is_found(
    alice: Api, settings: Any, tmp_path: Path, quick_retries: None
) -> None:
    assert upload(alice).status == 201
    endpoint_of("pages", "m@1")
    sha256 = ModelVersion.objects.get().compiled_sha256
    here = settings.ARTIFACT_DIR
    another_machine(settings, tmp_path, "b")
    answer = predict(alice)
    assert answer.status == 503
    assert f"file {sha256} is not here" in answer["detail"]
    ArtifactStore(settings.ARTIFACT_DIR).put((here / sha256[:2] / sha256).read_bytes())
    assert wait_for(lambda: predict(alice).status == 200)


def test_challenger_whose_file_is_missing__falls_back__and_joins_when_it_is_there(
    alice: Api, distant: type[Distant], settings: Any, tmp_path: Path, quick_retries: None
) -> None:
    upload(alice)
    python_model("m", "old", "zeros")
    endpoint_of("pages", "m@old")
    start_experiment(
        {"name": "e", "endpoint": "pages", "strategy": "ab", "arms": [{"name": "a", "model": "m@old"}, {"name": "b", "model": "m@1"}]}
    )  # fmt: skip
    distant.is_away = True
    another_machine(settings, tmp_path, "b")
    answers = [predict(alice).body for _ in range(30)]
    assert {(answer["arm"], answer["model"]) for answer in answers} == {("a", "m@old"), ("b", "m@old")}
    assert {answer["fallback_reason"] for answer in answers if answer["arm"] == "b"} <= {"unavailable", "circuit_open"}
    distant.is_away = False
    assert wait_for(lambda: bool(predict(alice)["model"] == "m@1"))


def test_registering__store_away__is_a_503_and_no_version(alice: Api, distant: type[Distant]) -> None:
    distant.is_away = True
    answer = upload(alice)
    assert (answer.status, answer.response["Retry-After"]) == (503, "10")
    assert ModelVersion.objects.count() == 0
    distant.is_away = False
    assert upload(alice).status == 201


def test_shadow_challenger_whose_file_is_missing__is_tried_again(
    alice: Api, distant: type[Distant], settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(alice)
    python_model("m", "old", "zeros")
    endpoint_of("pages", "m@old")
    experiment = start_experiment(
        {"name": "e", "endpoint": "pages", "strategy": "shadow", "arms": [{"name": "new", "model": "m@1"}]}
    )
    monkeypatch.setattr(shadows, "_loaded", {})
    monkeypatch.setattr(shadows, "_failed_at", {})
    distant.is_away = True
    another_machine(settings, tmp_path, "b")
    assert [seat.problem for seat in shadows.seats(experiment)] == ["unavailable"]
    distant.is_away = False
    assert [seat.problem for seat in shadows.seats(experiment)] == ["unavailable"]  # not at once
    monkeypatch.setattr(shadows, "RETRY_SECONDS", 0.0)
    assert [seat.problem for seat in shadows.seats(experiment)] == [""]


# The store by itself.


class Source:
    """Another store of artefacts, in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def fetch(self, sha256: str) -> Iterator[bytes]:
        if sha256 not in self.files:
            raise FileNotFoundError(sha256)
        self.fetched.append(sha256)
        body = self.files[sha256]
        yield from (body[at : at + 1000] for at in range(0, len(body), 1000))

    def store(self, sha256: str, body: bytes) -> None:
        self.files[sha256] = body


class Full(FileSystemStorage):
    """A disk that is full once half of a file is written."""

    def _save(self, name: str, content: Any) -> str:
        Path(self.path(name)).write_bytes(b"half")
        raise OSError("No space left on device")


class Bucket(Storage):
    """As those of django-storages: its options are attributes, and it asks nobody when it is
    made."""

    def __init__(self, bucket_name: str | None = None, client_config: Any = None) -> None:
        self.bucket_name = bucket_name
        self.client_config = client_config


class AddsAlone(Storage):
    """A storage of Django that overwrites nothing: it finds another name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.refuses = False

    def exists(self, name: str) -> bool:
        return name in self.files

    def delete(self, name: str) -> None:
        assert not self.refuses
        del self.files[name]

    def _open(self, name: str, mode: str = "rb") -> Any:
        return ContentFile(self.files[name])

    def _save(self, name: str, content: Any) -> str:
        assert not self.refuses
        self.files[name] = content.read()
        return name


def put(source: Source, body: bytes) -> str:
    sha256 = hashlib.sha256(body).hexdigest()
    source.store(sha256, body)
    return sha256


def test_store__what_the_source_holds_under_a_wrong_name__is_refused_and_not_kept(tmp_path: Path) -> None:
    source = Source()
    sha256 = put(source, b"model" * 1000)
    source.files[sha256] = b"another" * 1000
    with pytest.raises(ArtifactMissing, match="has another hash in the artefact store"):
        ArtifactStore(tmp_path, source).read(sha256)
    assert not list(tmp_path.rglob("*/*"))


def test_store__damaged_copy__is_fetched_again(tmp_path: Path) -> None:
    source = Source()
    store = ArtifactStore(tmp_path, source)
    sha256 = put(source, b"model" * 1000)
    assert store.read(sha256) == b"model" * 1000
    store.path(sha256).write_bytes(b"torn")
    assert store.read(sha256) == b"model" * 1000
    assert store.path(sha256).read_bytes() == b"model" * 1000
    # Without a source there is nothing to mend it from, and it is left as it is.
    store.path(sha256).write_bytes(b"torn")
    with pytest.raises(ArtifactMissing, match="has another hash here"):
        ArtifactStore(tmp_path).read(sha256)


def test_store__past_its_limit__drops_what_was_read_longest_ago__and_fetches_it_again(tmp_path: Path) -> None:
    source = Source()
    store = ArtifactStore(tmp_path, source, limit=3500)
    names = [put(source, bytes([i]) * 1000) for i in range(4)]
    for age, name in enumerate(names[:3]):
        store.read(name)
        os.utime(store.path(name), (time.time() - 1000 + age,) * 2)
    store.read(names[0])  # now the one that was read last
    store.read(names[3])
    assert [store.path(name).exists() for name in names] == [True, False, True, True]
    assert store.read(names[1]) == bytes([1]) * 1000
    assert sum(path.stat().st_size for path in tmp_path.glob("??/*")) <= 3500
    # What is larger than all that may be kept is not taken into memory either.
    with pytest.raises(ArtifactMissing, match="larger than the 3500 bytes"):
        store.read(put(source, b"x" * 4000))


def test_store__left_over_by_a_process_that_died__is_cleared_after_a_while(tmp_path: Path) -> None:
    source = Source()
    store = ArtifactStore(tmp_path, source)
    sha256 = put(source, b"model")
    (tmp_path / sha256[:2]).mkdir()
    old, young = (tmp_path / sha256[:2] / f".{name}" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    store.read(sha256)
    assert (old.exists(), young.exists()) == (False, True)


def test_store__without_a_source__nothing_is_ever_removed(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path, limit=1000)
    names = [store.put(bytes([i]) * 900) for i in range(5)]
    assert [store.read(name) for name in names] == [bytes([i]) * 900 for i in range(5)]


def test_store__disk_that_takes_nothing__serves_what_was_fetched(tmp_path: Path) -> None:
    source = Source()
    (tmp_path / "file").write_bytes(b"")
    store = ArtifactStore(tmp_path / "file", source)  # no folder can be made there
    assert store.read(put(source, b"model")) == b"model"


def test_store__many_processes_at_once__all_read_it(tmp_path: Path) -> None:
    source = Source()
    sha256 = put(source, b"model" * 100_000)

    def read(_: int) -> bytes:
        return ArtifactStore(tmp_path, source).read(sha256)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(32))) == {b"model" * 100_000}
    assert [path.name for path in tmp_path.glob("??/*")] == [sha256]


def test_storage__file_torn_by_whoever_stored_it__is_stored_again(tmp_path: Path) -> None:
    storage = FileSystemStorage(location=str(tmp_path))
    sha256 = hashlib.sha256(b"model").hexdigest()
    storage.save(f"{sha256[:2]}/{sha256}", ContentFile(b"mo"))
    StorageSource(storage).store(sha256, b"model")
    assert b"".join(StorageSource(storage).fetch(sha256)) == b"model"
    StorageSource(storage).store(sha256, b"model")
    assert len(list(tmp_path.rglob(f"{sha256[:8]}*"))) == 1
    with pytest.raises(FileNotFoundError):
        list(StorageSource(storage).fetch("0" * 64))


def test_storage__that_is_away_while_a_file_is_replaced__holds_what_it_held(tmp_path: Path) -> None:
    storage = Full(location=str(tmp_path))
    sha256 = hashlib.sha256(b"model").hexdigest()
    FileSystemStorage(location=str(tmp_path)).save(f"{sha256[:2]}/{sha256}", ContentFile(b"other"))
    with pytest.raises(SourceFailed, match="OSError"):
        StorageSource(storage).store(sha256, b"model")
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == {sha256: b"other"}


def test_storage__that_can_replace_nothing__keeps_what_is_whole__and_mends_the_rest() -> None:
    storage = AddsAlone()
    sha256 = hashlib.sha256(b"model").hexdigest()
    name = f"{sha256[:2]}/{sha256}"
    StorageSource(storage).store(sha256, b"model")
    storage.refuses = True
    StorageSource(storage).store(sha256, b"model")
    storage.refuses = False
    storage.files[name] = b"ledom"
    StorageSource(storage).store(sha256, b"model")
    assert storage.files == {name: b"model"}


def test_folder_alone__damaged_file__is_mended_by_whoever_stores_it(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    sha256 = store.put(b"model")
    store.path(sha256).write_bytes(b"ledom")
    store.put(b"model")
    assert store.read(sha256) == b"model"


def test_settings__without_a_store__the_folder_is_all_there_is(platform: None) -> None:
    assert "artifacts" not in storages.backends
    assert artifact_store().put(b"model") == hashlib.sha256(b"model").hexdigest()


@pytest.mark.parametrize(
    "text", ["s3://bucket", "[]", '{"OPTIONS": {}}', '{"BACKEND": 3}', '{"BACKEND": "a.B", "OPTIONS": []}', '{"BACKEND": "a.B", "X": 1}']
)  # fmt: skip
def test_environment__store_that_is_not_understood__says_what_was_expected(text: str) -> None:
    with pytest.raises(BadEnvironment, match=r"NOREGRET_ARTIFACT_STORAGE .*was expected"):
        Environment.read({"NOREGRET_ARTIFACT_STORAGE": text})


def test_environment__bytes_that_are_too_few__are_told_as_whole_numbers() -> None:
    with pytest.raises(BadEnvironment, match=r"NOREGRET_ARTIFACT_CACHE_LIMIT is '30000': .* at least 1,048,576$"):
        Environment.read({"NOREGRET_ARTIFACT_CACHE_LIMIT": "30000"})


def test_environment__snapshots_of_a_store_that_nobody_names__are_refused() -> None:
    with pytest.raises(BadEnvironment, match="needs NOREGRET_ARTIFACT_STORAGE"):
        Environment.read({"NOREGRET_SNAPSHOTS": "storage"})


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"BACKEND": "nosuch.Storage"}, "No module named 'nosuch'"),
        ({"BACKEND": f"{__name__}.Distant", "OPTIONS": {"bucket": "x"}}, "unexpected keyword argument 'bucket'"),
        ({"BACKEND": f"{__name__}.Bucket"}, "name no bucket_name"),
        ({"BACKEND": f"{__name__}.Bucket", "OPTIONS": {"bucket_name": "m", "client_config": 5}}, "client_config: "),
    ],
)
def test_store_that_cannot_be_made__is_told_by_doctor_and_checks__and_no_process_starts(
    platform: None, settings: Any, entry: dict[str, Any], words: str
) -> None:
    settings.STORAGES = settings.STORAGES | {"artifacts": entry}
    said = f"NOREGRET_ARTIFACT_STORAGE can't be used: .*{words}"
    assert any(re.search(f"FAIL  artefacts: {said}", line) for line in doctor())
    assert [re.search(said, problem.msg) is not None for problem in run_checks(tags=["files"])] == []
    found = run_checks(tags=["files"], include_deployment_checks=True)
    assert [(one.id, re.search(said, one.msg) is not None) for one in found] == [("noregret.E002", True)]
    processes.reset()
    for start in (begin_serving, refuse_to_start):
        with pytest.raises(SystemExit, match=f"noregret: {said}"):
            start()


def test_environment__store__is_an_entry_of_storages() -> None:
    text = '{"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {"bucket_name": "models"}}'
    read: Callable[[dict[str, str]], Environment] = Environment.read
    assert read({"NOREGRET_ARTIFACT_STORAGE": text}).artifact_storage == {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {"bucket_name": "models"},
    }
    assert read({}).artifact_storage is None
