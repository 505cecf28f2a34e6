"""What no process could load gets no traffic: a model whose file is known to be lost becomes
champion, or an arm, only by force; where nothing is known nobody is hindered."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from noregret.experiments.models import ChampionChange, Endpoint, Experiment
from noregret.registry import lost_files
from noregret.registry.frameworks.sklearn import SklearnFramework
from noregret.registry.lost_files import lost_among
from noregret.registry.models import ModelVersion

from tests.conftest import Api, endpoint_of, python_model, start_experiment
from tests.registry.test_artifact_storage import Distant, inspected, predict, upload

PAGES = "/api/v1/endpoints/pages"
ROLLBACK = f"{PAGES}/rollback"


class Slow(Distant):
    """A storage that does not answer."""

    ended = threading.Event()

    def exists(self, name: str) -> bool:
        return self.ended.wait(60.0)


@pytest.fixture(params=["a folder", "a store"])
def lose(
    request: pytest.FixtureRequest, alice: Api, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """The endpoint `pages` with the champion m@old, which has no file, after m@1, which has one;
    called, it loses that file everywhere, and gives its SHA-256."""
    monkeypatch.setattr(SklearnFramework, "examine", lambda framework, definition: inspected())
    if request.param == "a store":
        options = {"location": str(tmp_path / "distant")}
        settings.STORAGES = settings.STORAGES | {
            "artifacts": {"BACKEND": "tests.registry.test_artifact_storage.Distant", "OPTIONS": options}
        }
    assert upload(alice).status == 201
    python_model("m", "old", "zeros")
    endpoint_of("pages", "m@1")
    assert alice("PATCH", PAGES, {"champion": "m@old"}).status == 200

    def lost() -> str:
        for folder in (settings.ARTIFACT_DIR, tmp_path / "distant"):
            shutil.rmtree(folder, ignore_errors=True)
        return str(ModelVersion.objects.get(version="1").compiled_sha256)

    return lost


def test_champion__whose_file_is_lost__is_refused_and_the_present_one_serves(
    alice: Api, lose: Callable[[], str]
) -> None:
    changes = ChampionChange.objects.count()
    sha256 = lose()
    for method, path, body in (
        ("PATCH", PAGES, {"champion": "m@1", "deadline_ms": 77}),
        ("POST", ROLLBACK, {}),
        ("POST", ROLLBACK, {"to": "m@1"}),
    ):
        answer = alice(method, path, body)
        assert answer.status == 409, answer.content
        assert f"the file {sha256} that m@1 is loaded from" in answer["detail"]
        assert "register m@1 again with the same artefact" in answer["detail"]
        assert '{"force": true}' in answer["detail"]
    assert ChampionChange.objects.count() == changes
    assert alice.get(PAGES)["deadline_ms"] != 77
    assert predict(alice)["model"] == "m@old"
    assert alice("PATCH", PAGES, {"deadline_ms": 77}).status == 200  # of the present champion nothing is asked


@pytest.mark.parametrize(("method", "path", "body"), [("PATCH", PAGES, {"champion": "m@1"}), ("POST", ROLLBACK, {})])
def test_champion__whose_file_is_lost__comes_by_force(
    alice: Api, lose: Callable[[], str], method: str, path: str, body: dict[str, Any]
) -> None:
    lose()
    assert alice(method, path, body | {"force": True}).status == 200
    assert Endpoint.objects.get().champion.model == "m@1"


def test_new_endpoint_and_arms__whose_file_is_lost__are_refused(alice: Api, lose: Callable[[], str]) -> None:
    draft = {"name": "e", "endpoint": "pages", "strategy": "bandit", "arms": [{"name": "new", "model": "m@1"}]}
    assert alice.post("/api/v1/experiments", draft).status == 201
    sha256 = lose()
    for path, body in (
        ("/api/v1/endpoints", {"name": "others", "champion": "m@1"}),
        ("/api/v1/experiments/e/start", {}),
        ("/api/v1/experiments/e/arms", {"name": "more", "model": "m@1"}),
    ):
        answer = alice.post(path, body)
        assert (answer.status, sha256 in answer["detail"]) == (409, True), answer.content
        assert "force" not in answer["detail"]
    assert (Endpoint.objects.count(), Experiment.objects.get().status) == (1, "draft")


def test_promotion__of_an_arm_that_is_loaded_nowhere__is_refused(alice: Api, lose: Callable[[], str]) -> None:
    arms = [{"name": "new", "model": "m@1"}]
    start_experiment({"name": "e", "endpoint": "pages", "strategy": "bandit", "arms": arms})
    assert alice.post("/api/v1/experiments/e/pause").status == 200
    lose()
    assert alice.post("/api/v1/experiments/e/promote", {"arm": "new"}).status == 409
    assert Endpoint.objects.get().champion.model == "m@old"


def test_copy_here__is_enough(alice: Api, lose: Callable[[], str], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "distant", ignore_errors=True)
    assert alice.post(ROLLBACK).status == 200


def test_store__that_does_not_answer__keeps_nobody_from_going_back(
    alice: Api, lose: Callable[[], str], settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose()
    monkeypatch.setattr(lost_files, "ASK_SECONDS", 0.1)
    for backend in (f"{__name__}.Slow", "nosuch.Storage"):
        settings.STORAGES = settings.STORAGES | {
            "artifacts": {"BACKEND": backend, "OPTIONS": {"location": str(tmp_path / "distant")}}
        }
        assert lost_among(ModelVersion.objects.all()) is None
    Slow.ended.set()
    assert alice.post(ROLLBACK).status == 200


def test_dashboard__asks_for_a_second_look_at_a_lost_file(alice: Api, lose: Callable[[], str]) -> None:
    sha256 = lose()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    url = f"/admin/experiments/endpoint/{Endpoint.objects.get().pk}/do/rollback"
    assert 'name="seen"' not in client.get(url).content.decode()
    page = client.post(url, {"reason": "it is bad"})
    assert page.status_code == 200
    assert sha256 in page.content.decode()
    assert 'name="seen"' in page.content.decode()
    assert Endpoint.objects.get().champion.model == "m@old"
    assert client.post(url, {"reason": "it is bad", "seen": "on"}).status_code == 302
    assert Endpoint.objects.get().champion.model == "m@1"
