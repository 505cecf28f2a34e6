"""MLflow's registry, a real one: versions are imported by alias and number, and its alias
`champion` follows whatever becomes champion here.
"""

import json
import pickle
import threading
import urllib.request
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from noregret.experiments.models import Endpoint
from noregret.mlflow import aliases
from noregret.mlflow.aliases import move_due
from noregret.mlflow.models import AliasMove, ImportedVersion
from noregret.notify.deliver import ATTEMPTS
from noregret.registry.models import ModelVersion
from noregret.rollout.endpoints import update_endpoint
from noregret.trail.models import AuditEntry
from sklearn.datasets import load_iris

from tests.conftest import ACTOR, Api, endpoint_of, static_model
from tests.from_mlflow.mlflow_server import put_version
from tests.serving.remote_server import RemoteServer

pytestmark = pytest.mark.django_db(transaction=True)

IMPORTS = "/api/v1/mlflow/imports"
IRIS = load_iris().data


def alias(url: str, name: str, model: str = "fraud") -> str:
    """The version that MLflow's alias points at."""
    address = f"{url}/api/2.0/mlflow/registered-models/alias?name={model}&alias={name}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=10.0) as answer:
        return str(json.loads(answer.read())["model_version"]["version"])


def test_import__by_alias__registers_the_file_with_its_run_metrics_and_example(
    alice: Api, mlflow: dict[str, Any]
) -> None:
    made = alice.post(IMPORTS, {"uri": "models:/fraud@challenger"})
    assert made.status == 201, made.content
    assert (made["model"], made["name"], made["version"]) == ("fraud@1", "fraud", "1")
    assert made["run_id"] == mlflow["runs"][0]
    assert made["metrics"] == {"auc": 0.91}  # NaN is no figure
    again = alice.post(IMPORTS, {"uri": "models:/fraud/1"})
    assert (again.status, again["id"]) == (200, made["id"])
    assert [row["model"] for row in alice.get(IMPORTS)["items"]] == ["fraud@1"]
    version = ModelVersion.objects.get()
    assert (version.framework, version.compiled) == ("sklearn", True)
    assert version.signature["feature_names"][0] == "sepal length (cm)"
    out = StringIO()
    call_command("import-mlflow", "models:/fraud/3", name="other", version_name="new", stdout=out)
    assert out.getvalue() == f"other@new registered: fraud 3, run {mlflow['runs'][2]}\n"
    endpoint_of("pages", "other@new")
    answer = alice.post("/api/v1/endpoints/pages/predict", {"inputs": IRIS[::30].tolist()})
    assert answer["outputs"]["predict"] == mlflow["predictions"]


def test_import__pickle__is_refused_with_what_helps(alice: Api, mlflow: dict[str, Any]) -> None:
    refused = alice.post(IMPORTS, {"uri": "models:/fraud@champion"})
    assert refused.status == 422
    assert "is a pickle" in refused["detail"]
    assert "serialization_format='skops'" in refused["detail"]
    assert ModelVersion.objects.count() == ImportedVersion.objects.count() == 0
    with pytest.raises(CommandError, match="is a pickle"):
        call_command("import-mlflow", "models:/fraud/2")


def test_import__pickle_that_is_served_elsewhere__is_a_remote_model_with_its_columns(
    alice: Api, mlflow: dict[str, Any]
) -> None:
    served = RemoteServer(lambda rows: {"predict": rows[:, 0]})
    asked = {"uri": "models:/fraud@champion", "url": served.root}
    made = alice.post(IMPORTS, asked)
    assert made.status == 201, made.content
    assert (made["model"], made["url"], made["run_id"]) == ("fraud@2", served.root, mlflow["runs"][1])
    assert alice.post(IMPORTS, asked).status == 200
    version = ModelVersion.objects.get()
    assert (version.framework, version.sha256) == ("http", "")
    assert [column["type"] for column in version.signature["columns"]] == ["number"] * 4
    endpoint_of("pages", static_model("page", "a"))
    make_champion("fraud@2")
    names = version.signature["feature_names"]
    row = dict(zip(names, IRIS[0].tolist(), strict=True))
    answer = alice.post("/api/v1/endpoints/pages/predict", {"inputs": [row]})
    assert answer["outputs"]["predict"] == [IRIS[0, 0]]
    assert move_due() == 1
    assert alias(mlflow["url"], "champion") == "2"
    served.stop()


BOOSTED = Path(__file__).resolve().parents[1] / "registry" / "boosted"


def test_import__onnx_flavour_with_an_example__is_served_as_onnx(alice: Api, mlflow: dict[str, Any]) -> None:
    rows = json.loads((BOOSTED / "lightgbm_regressor.json").read_text())["sample"][:3]
    described = {
        "flavors": {"onnx": {"data": "model.onnx", "onnx_version": "1.17"}, "python_function": {}},
        "saved_input_example_info": {"artifact_path": "input_example.json", "type": "ndarray"},
    }
    version = put_version(
        mlflow["url"],
        "boosted",
        {
            "MLmodel": json.dumps(described).encode(),  # YAML holds JSON
            "model.onnx": (BOOSTED / "lightgbm_regressor.onnx").read_bytes(),
            "input_example.json": json.dumps(rows).encode(),
        },
    )
    made = alice.post(IMPORTS, {"uri": f"models:/boosted/{version}", "version": "1"})
    assert made.status == 201, made.content
    assert (made["model"], len(made["run_id"]), made["metrics"]) == ("boosted@1", 32, {})
    assert ModelVersion.objects.get().framework == "onnx"
    endpoint_of("pages", "boosted@1")
    assert len(alice.post("/api/v1/endpoints/pages/predict", {"inputs": rows})["outputs"]["predict"]) == 3


SKOPS = {"sklearn": {"pickled_model": "model.skops", "serialization_format": "skops"}}
HOSTILE: dict[str, tuple[dict[str, bytes], str]] = {
    "no description": ({"model.skops": b"x"}, "no file MLmodel"),
    "no YAML": ({"MLmodel": b"a: [b: ]: {"}, "can't be read"),
    "no UTF-8": ({"MLmodel": b"\xff\xfe\xff"}, "can't be read"),
    "a tag that makes objects": ({"MLmodel": b"!!python/object/apply:os.system ['true']"}, "can't be read"),
    "deep": ({"MLmodel": b"[" * 100_000}, "can't be read"),
    "a list": ({"MLmodel": b"[1]"}, "no description"),
    "no flavour": ({"MLmodel": b"flavors: 3"}, "none can be served here"),
    "another flavour": ({"MLmodel": b"flavors: {pytorch: {}, python_function: {}}"}, "(python_function, pytorch)"),
    "a pickle by another name": (
        {"MLmodel": json.dumps({"flavors": SKOPS}).encode(), "model.skops": pickle.dumps({"a": 1})}, "",
    ),
    "a path out of the folder": (
        {"MLmodel": json.dumps({"flavors": {"onnx": {"data": "../../secret"}}}).encode()}, "no path within its folder",
    ),
    "weights elsewhere": (
        {"MLmodel": json.dumps({"flavors": {"onnx": {"data": "m.onnx", "external_data": "onnx_data"}}}).encode()},
        "weights in other files",
    ),
    "no file": ({"MLmodel": json.dumps({"flavors": SKOPS}).encode()}, "model.skops is not there"),
}  # fmt: skip


def test_import__of_what_others_may_have_put_there__is_refused(alice: Api, mlflow: dict[str, Any]) -> None:
    for name, (files, told) in HOSTILE.items():
        version = put_version(mlflow["url"], "hostile", files)
        answer = alice.post(IMPORTS, {"uri": f"models:/hostile/{version}"})
        assert answer.status == 422, (name, answer.content)
        assert told in answer["detail"], (name, answer["detail"])
    assert ModelVersion.objects.count() == ImportedVersion.objects.count() == 0


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"uri": "models:/fraud@nobody"}, 422, "no fraud@nobody"),
        ({"uri": "models:/fraud/99"}, 422, "no version 99"),
        ({"uri": "models:/nothing/1"}, 422, "nothing"),
        ({"uri": "runs:/abc/model"}, 400, "uri"),
        ({"uri": "models:/../1"}, 422, "no version 1 of .."),
        ({"uri": "models:/fraud@challenger", "name": "No"}, 400, "name"),
        ({"uri": "models:/fraud@challenger", "url": "http://elsewhere.example"}, 400, "url"),
        ({"uri": "models:/fraud@challenger", "pickle": True}, 400, "pickle"),
        ({}, 400, "uri"),
    ],
)
def test_import__of_what_is_not_there_or_not_right__is_told(
    alice: Api, mlflow: dict[str, Any], body: dict[str, Any], status: int, told: str
) -> None:
    answer = alice.post(IMPORTS, body)
    assert (answer.status, told in answer.content.decode()) == (status, True), answer.content
    assert ModelVersion.objects.count() == 0


def test_mlflow__not_named_or_away__is_503(alice: Api, settings: Any) -> None:
    settings.MLFLOW_URL = ""
    answer = alice.post(IMPORTS, {"uri": "models:/fraud/1"})
    assert (answer.status, "NOREGRET_MLFLOW_URL" in answer["detail"]) == (503, True)
    settings.MLFLOW_URL = "http://127.0.0.1:9"
    answer = alice.post(IMPORTS, {"uri": "models:/fraud/1"})
    assert (answer.status, "did not answer" in answer["detail"]) == (503, True)
    settings.MLFLOW_URL, settings.REMOTE_NETWORKS = "http://127.0.0.1:9", ()
    assert "neither an address of the internet" in alice.post(IMPORTS, {"uri": "models:/fraud/1"})["detail"]


@pytest.fixture
def imported(alice: Api, mlflow: dict[str, Any]) -> dict[str, Any]:
    """fraud@1 and fraud@3 on the endpoint `pages`, whose champion is static."""
    for version in (1, 3):
        made = alice.post(IMPORTS, {"uri": f"models:/fraud/{version}"})
        assert made.status == 201, made.content
    endpoint_of("pages", static_model("page", "a"))
    return mlflow


def make_champion(model: str) -> None:
    update_endpoint(Endpoint.objects.get(name="pages"), champion=model, deadline_ms=None, reason="", actor=ACTOR)


def test_champion__imported_one__moves_the_alias_once_and_is_in_the_trail(alice: Api, imported: dict[str, Any]) -> None:
    make_champion("fraud@1")
    assert move_due() == 1
    assert move_due() == 0
    assert alias(imported["url"], "champion") == "1"
    entry = AuditEntry.objects.get(action="mlflow.alias_moved")
    assert (entry.endpoint, entry.model, entry.details["version"]) == ("pages", "fraud@1", "1")
    make_champion("fraud@3")
    alice.post("/api/v1/endpoints/pages/rollback")  # back to 1 before the move to 3 was sent
    assert move_due() == 1
    assert alias(imported["url"], "champion") == "1"
    assert sorted(AliasMove.objects.values_list("state", flat=True)) == ["moved", "moved", "overtaken"]
    moves = {row["model"]: [move["state"] for move in row["alias_moves"]] for row in alice.get(IMPORTS)["items"]}
    assert moves == {"fraud@1": ["moved", "moved"], "fraud@3": ["overtaken"]}
    make_champion("page@a")  # is nothing of MLflow's
    assert move_due() == 0


def test_champion__with_mlflow_away__is_made_all_the_same_and_told_later(
    imported: dict[str, Any], settings: Any
) -> None:
    settings.MLFLOW_URL = "http://127.0.0.1:9"
    make_champion("fraud@3")
    assert move_due() == 0
    assert AliasMove.objects.get().attempts == 1
    settings.MLFLOW_URL = imported["url"]
    assert move_due() == 0  # not due again yet
    AliasMove.objects.update(due_at=timezone.now())
    assert move_due() == 1
    assert alias(imported["url"], "champion") == "3"


def test_alias__that_can_not_be_moved__is_given_up_and_told(imported: dict[str, Any], settings: Any) -> None:
    settings.MLFLOW_URL = "http://127.0.0.1:9"
    make_champion("fraud@1")
    for _ in range(ATTEMPTS + 1):
        AliasMove.objects.update(due_at=timezone.now())
        assert move_due() == 0
    assert (AliasMove.objects.get().state, AliasMove.objects.get().attempts) == ("failed", ATTEMPTS)
    assert AuditEntry.objects.filter(action="mlflow.alias_not_moved").count() == 1
    # And a version that is gone there, at once.
    settings.MLFLOW_URL = imported["url"]
    ImportedVersion.objects.filter(version="3").update(mlflow_version="99")
    make_champion("fraud@3")
    assert move_due() == 0
    assert AliasMove.objects.first().state == "failed"  # type: ignore[union-attr]  # it was just made


def test_alias__of_a_version_that_holds_something_else__is_not_moved(imported: dict[str, Any]) -> None:
    ImportedVersion.objects.update(sha256="0" * 64)
    make_champion("fraud@1")
    assert AliasMove.objects.count() == 0


def test_moves__two_workers_at_once__send_each_once(imported: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(aliases.Mlflow, "move_alias", lambda self, name, alias, version: sent.append(version))
    make_champion("fraud@1")

    def work() -> None:
        move_due()
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sent == ["1"]
