"""A request made from the admin is a real decision: what is told of it is in the stream."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from django.contrib.auth.models import User
from django.test import Client
from noregret.dashboard.playground import TryForm
from noregret.experiments import document
from noregret.experiments.models import Endpoint, Experiment
from noregret.redis_client import client as redis
from noregret.redis_client import keys
from noregret.registry.models import ModelVersion
from noregret.trail.models import AuditEntry

from serving.ledger import events
from serving.problems import Problem
from serving.process import process
from tests.conftest import endpoint_of, python_model

Start = Callable[..., Experiment]


@pytest.fixture
def admin(platform: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def address(endpoint: Endpoint) -> str:
    return f"/admin/experiments/endpoint/{endpoint.pk}/try"


def decided(endpoint: str) -> list[events.DecisionEvent]:
    return [events.decode(fields[b"d"]) for _, fields in redis().xrange(keys().decisions(endpoint))]


def test_try__a_bandit__is_decided_recorded_and_explained(admin: Client, two_arms: Start) -> None:
    fields = [{"name": "country", "type": "category", "values": ["KR", "US"]}]
    experiment = two_arms(policy={"name": "uniform"}, context={"fields": fields})
    process().store.refresh(20.0)
    url = address(experiment.endpoint)
    assert b"Try it" in admin.get(f"/admin/experiments/endpoint/{experiment.endpoint_id}/change/").content
    shown = admin.get(url)
    assert shown.status_code == 200
    assert b"makes a real decision" in shown.content
    assert b'<option value="KR">' in shown.content
    assert decided("pages") == []  # looking decides nothing
    told = admin.post(url, {"unit": "user-1", "context-0": "KR"})
    (event,) = decided("pages")
    names = {arm.pk: arm.name for arm in experiment.arms.all()}
    page = told.content.decode()
    assert (event.unit, event.context) == ("user-1", {"country": "KR"})
    assert event.waits  # it teaches nothing unless that is asked for
    assert f"<strong>{names[event.arm_id]}</strong>" in page
    assert f"The policy gives {names[event.arm_id]} 50.0%" in page
    assert page.count("0.5000") == 2
    assert "nothing is learned of it unless its id is activated" in page
    entry = AuditEntry.objects.get(action="endpoint.tried")
    assert (entry.actor, entry.endpoint, entry.experiment) == ("root", "pages", "e")
    assert entry.details["decision_id"] in page
    assert re.findall(r'id="code-(\w+)"', page) == ["curl", "Python", "JavaScript"]

    admin.post(url, {"activate": "on"})
    assert not decided("pages")[1].waits


def test_try__rows_that_the_model_does_not_take__are_told_beside_the_field(admin: Client) -> None:
    endpoint = endpoint_of("pages", python_model("m", "1", "ones"))
    process().store.refresh(20.0)
    url = address(endpoint)
    assert b"no sample came with it" in admin.get(url).content
    told = admin.post(url, {"row": "[1.5, 2]"}).content.decode()
    assert "No experiment runs on pages: the champion, m@1, answers every request." in told
    assert "&quot;predict&quot;: [" in told
    for row in ("[1, NaN]", '["a"]', "hello", "", "[[1]]", "9" * 400):
        refused = admin.post(url, {"row": row})
        assert refused.status_code == 400, row
        assert 'class="nr-error"' in refused.content.decode()
    assert len(decided("pages")) == 1
    Endpoint.objects.update(name="elsewhere")
    assert b"does not serve the endpoint yet" in admin.post(url, {"row": "[1]"}).content


def form_of(signature: dict[str, Any], data: dict[str, str] | None = None, context: list[Any] | None = None) -> TryForm:
    champion = ModelVersion(name="m", version="1", framework="sklearn", signature=signature)
    return TryForm(Endpoint(name="pages", champion=champion), context or [], data)


def test_form__of_typed_columns__has_a_field_each_and_sends_their_types() -> None:
    columns = [
        {"name": "age", "type": "integer", "nullable": True},
        {"name": "city", "type": "string", "nullable": False},
        {"name": "member", "type": "boolean", "nullable": True},
        {"name": "spent", "type": "number", "nullable": False},
    ]
    signature = {"columns": columns, "features": 4, "example_rows": [[31, "Seoul", True, 1e9]], "sampled": True}
    form = form_of(signature)
    assert [form.fields[f"row-{i}"].initial for i in range(4)] == ["31", "Seoul", "true", "1000000000.0"]
    sent = {"row-0": "", "row-1": "3", "row-2": "", "row-3": "-0.002"}
    field = msgspec.convert({"name": "age", "type": "number", "min": 0, "max": 120}, document.Field)
    form = form_of(signature, sent | {"context-0": "31"}, [field])
    assert form.is_valid(), form.errors
    assert form.body() == {
        "inputs": [{"age": None, "city": "3", "member": None, "spent": -0.002}],
        "context": {"age": 31},
        "activate": False,
    }


def test_form__refused_by_the_hot_path__says_in_words_what_a_column_takes() -> None:
    columns = [
        {"name": "age", "type": "integer", "nullable": False},
        {"name": "spent", "type": "number", "nullable": False},
    ]
    sent = {"row-0": "1,5", "row-1": "1,5", "unit": "u"}
    form = form_of({"columns": columns, "features": 2}, sent)
    assert form.is_valid()
    assert form.body()["inputs"] == [{"age": "1,5", "spent": 1.5}]
    wrong: Any = [
        {"field": "inputs[0].age", "message": "expected `int`, got `str`"},
        {"field": "inputs[0].spent", "message": "expected `float`, got `null`"},
        {"field": "elsewhere", "message": "is wrong"},
    ]
    form.refuse(Problem(400, "invalid", "Wrong", "", errors=wrong))
    assert form.errors["row-0"] == ["a whole number was expected, as 3"]
    assert form.errors["row-1"] == ["a number was expected, as 0.5"]
    assert form.errors["__all__"] == ["elsewhere: is wrong"]


def test_form__of_unnamed_features_and_of_very_many() -> None:
    form = form_of({"features": 2, "example_rows": [[5.1, 3.5]]}, {"row-0": "5.1", "row-1": "3.5", "activate": "on"})
    assert form.is_valid()
    assert form.body() == {"inputs": [[5.1, 3.5]]}
    wide = form_of({"features": 400})
    assert msgspec.json.decode(wide.fields["row"].initial) == [1.0] * 400


def test_form__sample_row__is_of_a_sample__or_plain__and_says_which() -> None:
    columns = [
        {"name": "age", "type": "integer", "nullable": False},
        {"name": "city", "type": "string", "nullable": False},
        {"name": "spent", "type": "number", "nullable": False},
        {"name": "left", "type": "number", "nullable": True},
    ]
    signature = {"columns": columns, "features": 4, "example_rows": [[-7, "Seoul", 25.76, None]]}
    for made in ({}, {"sampled": False}):
        form = form_of(signature | made)
        assert [form.fields[f"row-{i}"].initial for i in range(4)] == ["1", "Seoul", "1.0", ""]
        assert form.origin.startswith("It is not known what rows of m@1 look like, for no sample came with it")
    form = form_of(signature | {"sampled": True})
    assert [form.fields[f"row-{i}"].initial for i in range(4)] == ["-7", "Seoul", "25.76", ""]
    assert form.origin == "The row is the first of the sample that came with m@1."
