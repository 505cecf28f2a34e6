"""A framework that one file adds is everywhere: the API, predict, the OpenAPI document, the admin's
form. Nothing else knows its name.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from noregret.openapi import components
from noregret.openapi.document import document
from noregret.registry import frameworks
from noregret.registry.models import ModelVersion

from serving import process, runtimes
from tests.conftest import Api, endpoint_of
from tests.serving.doubling import DoublingFramework, DoublingModel
from tests.serving.test_when_things_break import wait_for


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As its two lines would: taken back when the test is over."""
    components._made.cache_clear()
    monkeypatch.setattr(runtimes, "_KINDS", dict(runtimes._KINDS))
    monkeypatch.setattr(frameworks, "_FRAMEWORKS", dict(frameworks._FRAMEWORKS))
    runtimes.register(DoublingModel)
    frameworks.register(DoublingFramework())
    yield
    components._made.cache_clear()


def upload(api: Api, body: bytes, **fields: Any) -> Any:
    given = {"name": "twice", "version": "1", "framework": "doubling", "artifact": SimpleUploadedFile("f", body)}
    return api.upload("/api/v1/models", given | fields)


FACTOR = json.dumps({"factor": 2.5}).encode()


def test_framework__registered_over_the_api__is_served(alice: Api) -> None:
    made = upload(alice, FACTOR, unit="kg")
    assert made.status == 201, made.content
    assert (made["framework"], made["compiled"], made["compile_note"]) == ("doubling", False, "nothing to compile")
    assert made["signature"]["feature_names"] == ["x", "y"]
    assert ModelVersion.objects.get().runtime == "doubling"
    assert upload(alice, FACTOR).status == 200
    assert upload(alice, b'{"factor": 3}').status == 409
    endpoint_of("pages", "twice@1")
    path = "/api/v1/endpoints/pages/predict"
    answer = alice.post(path, {"inputs": [[0.1, 0], {"y": 1, "x": 4e9}]})
    assert (answer.status, answer["outputs"]) == (200, {"predict": [0.25, 1e10]})
    assert alice.post(path, {"inputs": [[1.0]]}).fields() == ["inputs[0]"]
    assert alice.post(path, {"inputs": [{"x": 1, "z": 1}]}).fields() == ["inputs[0].y", "inputs[0].z"]
    refused = alice.post(path, {"inputs": [[-1, 0]]})
    assert (refused.status, refused.fields()) == (400, ["inputs"])


def test_framework__file_that_it_refuses_or_fields_that_it_has_not__is_told(alice: Api) -> None:
    refused = upload(alice, b"[]")
    assert (refused.status, refused["detail"]) == (422, "holds no factor")
    assert upload(alice, b"").fields() == ["artifact"]
    assert upload(alice, FACTOR, sample="[[1, 2]]").fields() == ["sample"]
    as_json = alice.post("/api/v1/models", {"name": "twice", "version": "1", "framework": "doubling"})
    assert as_json.fields() == ["artifact"]
    assert ModelVersion.objects.count() == 0


def test_framework__unknown_to_a_process__is_a_champion_that_does_not_load(
    alice: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert upload(alice, FACTOR).status == 201
    endpoint_of("pages", "twice@1")
    monkeypatch.delitem(runtimes._KINDS, "doubling")  # as in a web process of an earlier version
    process.reset()
    answer = alice.post("/api/v1/endpoints/pages/predict", {"inputs": [[1, 1]]})
    assert answer.status == 503
    assert "runtime is 'doubling': one of http, onnx, python, sklearn, static was expected" in answer["detail"]
    runtimes.register(DoublingModel)
    process.reset()
    path = "/api/v1/endpoints/pages/predict"
    assert wait_for(lambda: alice.post(path, {"inputs": [[1, 1]]}).status == 200)


def test_framework__stands_in_the_openapi_document() -> None:
    bodies = document()["paths"]["/api/v1/models"]["post"]["requestBody"]["content"]
    forms = {
        form["properties"]["framework"]["enum"][0]: form for form in bodies["multipart/form-data"]["schema"]["oneOf"]
    }
    assert sorted(forms) == ["doubling", "onnx", "sklearn"]
    assert forms["doubling"]["properties"]["artifact"]["format"] == "binary"
    assert forms["doubling"]["required"] == ["name", "version", "framework", "artifact"]
    assert "sample" not in forms["doubling"]["properties"]


def test_framework__stands_in_the_admins_form__and_is_registered_by_it(platform: None) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    url = "/admin/registry/modelversion/add/"
    page = client.get(url).content.decode()
    assert '<option value="doubling">Doubling</option>' in page
    assert "For doubling: what the numbers are." in page
    given = {"name": "twice", "version": "1", "framework": "doubling", "unit": "kg"}
    assert b"required" in client.post(url, given).content
    made = client.post(url, given | {"artifact": SimpleUploadedFile("f", FACTOR)})
    assert made.status_code == 302, made.content
    assert ModelVersion.objects.get().framework == "doubling"
