"""What is old goes, what is not stays, each by its own age; and files that nobody names go without
racing an upload."""

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from noregret.env import BadEnvironment, Environment
from noregret.experiments.models import Experiment
from noregret.learning.models import ArmInterval, ExperimentEvidence, LedgerBase
from noregret.learning.rebuild import rebuild
from noregret.notify.models import Delivery
from noregret.registry.models import ModelVersion
from noregret.retention import ages, tasks
from noregret.rollout.transitions import move
from noregret.steering.round import learn

from serving.artifacts import ArtifactStore
from serving.models import FirstVisit, QuarantinedEvent
from tests.conftest import ACTOR
from tests.learning.past_traffic import begin_earlier, decide

Start = Callable[..., Experiment]


def test_prune__each_by_its_age(platform: None) -> None:
    now = timezone.now()
    for i, days in enumerate((1, 29, 31, 91)):
        at = now - timedelta(days=days)
        for state in ("waiting", "delivered", "failed"):
            row = Delivery.objects.create(event="e", body={}, state=state, due_at=at)
            Delivery.objects.filter(pk=row.pk).update(created_at=at)
        event = QuarantinedEvent.objects.create(stream="s", entry_id=f"{i}-0", problem="p", body=b"")
        QuarantinedEvent.objects.filter(pk=event.pk).update(at=at)
    found = ages.prune(now)
    assert found["webhook deliveries and e-mail, sent or given up"] == 4
    assert Delivery.objects.filter(state="waiting").count() == 4
    assert found["quarantined events"] == 1
    assert not any(ages.prune(now).values())


def test_prune__first_visits_and_intervals__of_ended_experiments_alone(two_arms: Start) -> None:
    experiment = two_arms(strategy="ab", reward={"kind": "binary", "window_seconds": 1}, promotion={"auto": False})
    begin_earlier(experiment)
    for unit in "xyz":
        decide(experiment, "a", unit=unit)
    learn(experiment.endpoint_id)
    later = timezone.now() + timedelta(days=500)
    assert not any(ages.prune(later).values())
    move(experiment, "stop", actor=ACTOR)
    assert not any(ages.prune(later).values())  # its last buckets are not closed yet
    ended = timezone.now() - timedelta(hours=1)
    Experiment.objects.update(ended_at=ended)
    ExperimentEvidence.objects.update(closed_until=timezone.now())
    assert ages.prune(ended + timedelta(days=29))["first visits of units, after their experiment ended"] == 0
    assert ages.prune(ended + timedelta(days=31))["first visits of units, after their experiment ended"] == 3
    assert not FirstVisit.objects.exists()
    # Intervals of days whose rows are there are compared by rebuild: they go after the rows.
    ages.prune(ended + timedelta(days=401))
    assert ArmInterval.objects.exists()
    assert rebuild(experiment, write=False) == []
    LedgerBase.objects.create(experiment=experiment, until=timezone.now() + timedelta(days=1))
    ages.prune(ended + timedelta(days=401))
    assert not ArmInterval.objects.exists()


def test_prune__store_that_cannot_be_made__stops_no_other(platform: None, settings: Any) -> None:
    settings.STORAGES = settings.STORAGES | {"artifacts": {"BACKEND": "nosuch.Storage"}}
    found = ages.prune(timezone.now())
    assert {age.what for age in ages.AGES} - found.keys() == {"artefacts that no model version names"}


def stored(body: bytes, days_ago: float) -> str:
    sha256 = ArtifactStore(settings.ARTIFACT_DIR).put(body)
    at = time.time() - days_ago * 86_400
    os.utime(ArtifactStore(settings.ARTIFACT_DIR).path(sha256), (at, at))
    return sha256


def test_prune__artefacts__that_no_version_names(platform: None) -> None:
    store = ArtifactStore(settings.ARTIFACT_DIR)
    named, compiled = stored(b"named", 30), stored(b"compiled", 30)
    orphan, young = stored(b"orphan", 8), stored(b"young", 6)
    ModelVersion.objects.create(
        name="m", version="1", framework="sklearn", runtime="onnx", sha256=named, compiled_sha256=compiled
    )
    assert ages.prune(timezone.now())["artefacts that no model version names"] == 1
    assert not store.path(orphan).exists()
    assert {store.read(kept) for kept in (named, compiled, young)} == {b"named", b"compiled", b"young"}


def test_artefact__stored_again_while_it_is_removed__stays(platform: None) -> None:
    store = ArtifactStore(settings.ARTIFACT_DIR)
    old = time.time() - 7 * 86_400
    # Before it is set aside: it is young again.
    sha256 = stored(b"model", 30)
    assert list(store.older_than(old)) == [sha256]
    store.put(b"model")
    assert not store.remove(sha256, old, lambda: False)
    assert store.read(sha256) == b"model"
    # After: whoever stores it finds none, and writes it anew.
    sha256 = stored(b"other", 30)

    def put_meanwhile() -> bool:
        store.put(b"other")
        return False

    store.remove(sha256, old, put_meanwhile)
    assert store.read(sha256) == b"other"
    # A version that named it meanwhile.
    sha256 = stored(b"third", 30)
    assert not store.remove(sha256, old, lambda: True)
    assert store.read(sha256) == b"third"


def test_artefact__remover_that_died__has_lost_nothing(platform: None) -> None:
    store = ArtifactStore(settings.ARTIFACT_DIR)
    sha256 = stored(b"model", 30)

    def die() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.remove(sha256, time.time(), die)
    assert not store.path(sha256).exists()
    list(store.older_than(0.0))
    assert store.read(sha256) == b"model"


def test_artefact__stored_and_removed_by_many__whoever_stored_last_reads_it(platform: None, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "many")
    sha256 = store.put(b"model")
    over = threading.Event()
    named = threading.Event()

    def remove() -> None:
        while not over.is_set():
            if not named.is_set():  # what is named is not touched
                store.remove(sha256, time.time() - 0.02, named.is_set)
            time.sleep(0.0005)

    threads = [threading.Thread(target=remove) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for i in range(150):
            assert store.put(b"model") == sha256
            if i % 2:
                named.set()  # as the version's row that is committed after the file
                time.sleep(0.03)
                deadline = time.monotonic() + 5
                while not store.path(sha256).exists() and time.monotonic() < deadline:
                    time.sleep(0.001)  # set aside for the last look
                assert store.read(sha256) == b"model"
                named.clear()
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=20)


def test_retain__task__is_harmless_again_and_again(two_arms: Start) -> None:
    experiment = two_arms()
    decide(experiment, "a")
    learn(experiment.endpoint_id)
    for _ in range(2):
        tasks.retain.run()
    assert rebuild(experiment, write=False) == []


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "many", "nan", "inf", "1e400"])
def test_ledger_days__what_is_no_number_of_days__is_told(text: str) -> None:
    with pytest.raises(BadEnvironment, match="NOREGRET_LEDGER_DAYS"):
        Environment.read({"NOREGRET_LEDGER_DAYS": text})


def test_ledger_days__default_and_value(tmp_path: Path) -> None:
    said: dict[str, Any] = {"NOREGRET_DATA_DIR": str(tmp_path)}
    assert Environment.read(said).ledger_days == 400
    assert Environment.read(said | {"NOREGRET_LEDGER_DAYS": "30"}).ledger_days == 30
