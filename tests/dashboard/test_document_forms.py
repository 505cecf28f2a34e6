"""Forms that are made from documents: every field has its input, and what is filled in is the
document that the API would be sent."""

import html
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import pytest
from django.contrib.auth.models import User
from django.test import Client
from msgspec import UNSET, Meta, UnsetType
from noregret.dashboard.document_form import DocumentForm
from noregret.dashboard.experiment_form import STEPS
from noregret.experiments.document import ONLY_FOR, Experiment
from noregret.experiments.models import Endpoint
from noregret.experiments.models import Experiment as ExperimentRow
from noregret.rollout.api.endpoints import EndpointRequest

from tests.conftest import Api, endpoint_of, static_model

ADD = "/admin/experiments/experiment/add/"
ADD_ENDPOINT = "/admin/experiments/endpoint/add/"
MINE = {"id", "name", "created_at", "policy_version", "document"}
"""What two rows of one document differ in."""


@pytest.fixture
def admin(platform: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def pages(admin: Client) -> Client:
    for version in "abc":
        static_model("page", version, version)
    endpoint_of("pages", "page@a")
    return admin


def is_document(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


def holds_document(annotation: Any) -> bool:
    return is_document(annotation) or any(holds_document(within) for within in get_args(annotation))


def paths_of(annotation: Any, path: str = "") -> Iterator[str]:
    """The path of every value of a document, read from its annotations; of a list, those of its
    first row."""
    if is_document(annotation):
        for field in msgspec.structs.fields(annotation):
            yield from paths_of(field.type, f"{path}.{field.name}" if path else field.name)
    elif holds_document(annotation):
        row = f"{path}[0]" if get_origin(annotation) is list else path
        for within in filter(holds_document, get_args(annotation)):
            yield from paths_of(within, row)
    else:
        yield path


def form_of(document: dict[str, Any], path: str = "") -> dict[str, str]:
    """What a person types for a document."""
    typed: dict[str, str] = {}
    for name, value in document.items():
        at = f"{path}.{name}" if path else name
        if name in {"params", "payload"}:
            typed[at] = json.dumps(value)
        elif isinstance(value, dict):
            typed |= form_of(value, at)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for i, item in enumerate(value):
                typed |= form_of(item, f"{at}[{i}]")
        elif isinstance(value, list):
            typed[at] = "\r\n".join(str(item) for item in value)
        else:
            typed[at] = json.dumps(value) if isinstance(value, bool) else str(value)
    return typed


ARMS = [{"name": "control", "model": "page@a"}, {"name": "new", "model": "page@b"}]
RULE = {
    "rule": "anytime",
    "alpha": 0.025,
    "indifference": 0.002,
    "min_rewards": 0,
    "min_seconds": 60.5,
    "cooldown_seconds": 0.0,
    "auto": False,
}
SCHEDULE = {
    "start_at": "2031-01-31T12:00:30+09:00",
    "end_at": "2031-03-01T00:00:00+00:00",
    "max_seconds": 86400.5,
    "at_end": "promote_leader",
}
GUARDRAILS = [
    {
        "metric": "error_rate",
        "action": "rollback",
        "max": 0.002,
        "versus": "control",
        "min_decisions": 1,
        "alpha": 0.01,
    },
    {"metric": "latency_p99_ms", "action": "pause", "max": 0.0},
    {"metric": "revenue", "action": "disable_arm", "min": -1e9, "max": 1.5, "minimum": -2e9, "maximum": 2.0},
]
DOCUMENTS: dict[str, dict[str, Any]] = {
    "bandit": {
        "arms": [
            {"name": "control", "model": "page@a", "payload": {"a": [1.5, None]}, "cost": 0.002},
            {"name": "new", "model": "page@b", "payload": 0, "cost": 0},
        ],
        "policy": {"name": "epsilon-greedy", "params": {"epsilon": 0.002}, "floor": 0.0, "burn_in": 0},
        "reward": {
            "metric": "revenue",
            "kind": "continuous",
            "direction": "minimize",
            "window_seconds": 1.5,
            "default": 0.0,
            "minimum": -1000000000.5,
            "maximum": 0.25,
            "pending": "ignore",
        },
        "promotion": RULE,
        "context": {
            "fields": [
                {"name": "age", "type": "number", "min": -0.5, "max": 120},
                {"name": "country", "type": "category", "values": ["KR", "a, b", "<i>"]},
            ]
        },
        "guardrails": GUARDRAILS,
        "sticky": True,
        "holdout": 0.002,
        "apprentice": True,
        "schedule": SCHEDULE,
    },
    "ab": {
        "arms": [ARMS[0] | {"weight": 0.25}, ARMS[1] | {"weight": 0}, {"name": "c", "model": "page@c", "weight": 3}],
        "reward": {"kind": "count", "default": 3, "maximum": 10, "pending": "ignore"},
        "promotion": RULE | {"auto": True},
    },
    "canary": {
        "arms": ARMS[1:],
        "canary": {"steps": [0.002, 0.5, 1], "bake_seconds": 1.5, "min_decisions": 1, "auto": False},
        "guardrails": GUARDRAILS,
    },
    "shadow": {"arms": ARMS, "shadow": {"sample": 0.125}},
}


def steps(client: Client, typed: dict[str, str]) -> dict[str, str]:
    """The page of each step of a new form with this typed."""
    begun = client.get(ADD).headers["Location"].partition("&step=")[0]
    assert client.post(begun, typed | {"step": "strategy", "to": "arms"}).status_code == 302
    return {step.name: client.get(f"{begun}&step={step.name}").content.decode() for step in STEPS}


def inputs(page: str) -> set[str]:
    form = page.partition('class="nr-form')[2].partition("</form>")[0]
    return set(re.findall(r'<(?:input|select|textarea)[^>]*? name="([^"]+)"', form)) - {
        "csrfmiddlewaretoken",
        "step",
        "once",
        "page",
    }


def test_form__every_field_of_the_document__has_an_input(admin: Client) -> None:
    everything = {strategy: steps(admin, {"strategy": strategy}) for strategy in DOCUMENTS}
    offered = {strategy: set().union(*map(inputs, pages.values())) for strategy, pages in everything.items()}
    of_experiments, of_endpoints = set().union(*offered.values()), inputs(admin.get(ADD_ENDPOINT).content.decode())
    for kind, found in ((Experiment, of_experiments), (EndpointRequest, of_endpoints)):
        paths = set(paths_of(kind))
        assert len(paths) > 10
        assert paths - found == set()
        assert {name for name in found if "[" not in name} - paths == set()
    # A strategy's form asks for what it has, and for nothing else; no step asks twice.
    for strategy, found in offered.items():
        others = {part for part, only in ONLY_FOR.items() if strategy not in only}
        assert {name.partition(".")[0] for name in found} & others == set()
        assert ("arms[0].weight" in found) is (strategy == "ab")
        assert sum(len(inputs(page)) for page in everything[strategy].values()) == len(found)


def test_form__lists__have_three_empty_rows_without_a_script(admin: Client) -> None:
    page = "".join(steps(admin, {"strategy": "bandit"}).values())
    for name in ("arms[{}].name", "guardrails[{}].metric", "context.fields[{}].name"):
        assert [i for i in range(6) if f'name="{name.format(i)}"' in page] == [0, 1, 2]


@pytest.mark.parametrize("strategy", DOCUMENTS)
def test_form__filled_in__makes_what_the_api_makes(alice: Api, pages: Client, strategy: str) -> None:
    for parts in (DOCUMENTS[strategy], {"arms": ARMS}):
        makes_the_same(alice, pages, parts | {"endpoint": "pages", "strategy": strategy})
        ExperimentRow.objects.all().delete()


def makes_the_same(alice: Api, pages: Client, document: dict[str, Any]) -> None:
    by_api = alice.post("/api/v1/experiments", document | {"name": "api"})
    assert by_api.status == 201, by_api.content
    # A browser sends what is left empty, too.
    empty = dict.fromkeys(set().union(*map(inputs, steps(pages, {"strategy": document["strategy"]}).values())), "")
    made = pages.post(ADD, empty | form_of(document) | {"name": "form"})
    assert made.status_code == 302, re.findall(r"nr-error[^>]*>([^<]*)", made.content.decode())
    api, form = (alice.get(f"/api/v1/experiments/{name}").body for name in ("api", "form"))
    assert {key: form[key] for key in form if key not in MINE} == {key: api[key] for key in api if key not in MINE}
    for part in set(document) - {"arms", "guardrails", "context", "schedule"}:
        given = document[part]
        assert given == ({key: form[part][key] for key in given} if isinstance(given, dict) else form[part])


def test_endpoint__filled_in__makes_what_the_api_makes(alice: Api, pages: Client) -> None:
    document = {
        "champion": "page@b",
        "deadline_ms": 50,
        "sticky": True,
        "record": 0.002,
        "reward": {"metric": "revenue", "kind": "continuous", "minimum": 0.0, "maximum": 1e9, "default": 0.0},
    }
    assert alice.post("/api/v1/endpoints", document | {"name": "api"}).status == 201
    assert pages.post(ADD_ENDPOINT, form_of(document) | {"name": "form"}).status_code == 302
    api, form = (alice.get(f"/api/v1/endpoints/{name}").body for name in ("api", "form"))
    assert {key: form[key] for key in form if key not in MINE} == {key: api[key] for key in api if key not in MINE}
    assert (form["record"], form["sticky"], form["reward"]["maximum"]) == (0.002, True, 1e9)
    pages.post(ADD_ENDPOINT, {"name": "plain", "champion": "page@b", "record": "", "reward.metric": ""})
    plain = alice.get("/api/v1/endpoints/plain").body
    assert (plain["deadline_ms"], plain["record"], plain["reward"]) == (300, 1.0, None)


def test_endpoint__wrong__is_told_in_words_and_shares_may_be_per_cent(alice: Api, pages: Client) -> None:
    typed = {
        "name": "single",
        "champion": "page@b",
        "deadline_ms": "60001",
        "record": "120 %",
        "reward.window_seconds": "0",
    }
    page = html.unescape(pages.post(ADD_ENDPOINT, typed).content.decode())
    for said in (
        "Deadline ms</a>: at most 60,000 ms was expected",
        "Record</a>: at most 1 (100 %) was expected",
        "Reward, window seconds</a>: at least 1 second was expected",
    ):
        assert said in page, said
    right = typed | {"deadline_ms": "300", "record": "12,5 %", "reward.window_seconds": "60"}
    assert pages.post(ADD_ENDPOINT, right).status_code == 302
    assert alice.get("/api/v1/endpoints/single")["record"] == 0.125


def test_form__no_reward_filled_in__is_the_endpoints(alice: Api, pages: Client) -> None:
    alice("PATCH", "/api/v1/endpoints/pages", {"reward": {"metric": "clicks", "window_seconds": 7}})
    pages.post(ADD, form_of({"name": "e", "endpoint": "pages", "strategy": "bandit", "arms": ARMS}))
    assert alice.get("/api/v1/experiments/e")["reward"]["metric"] == "clicks"


VALID = form_of({"name": "e", "endpoint": "pages", "strategy": "bandit", "arms": ARMS})
LIMITED = form_of({"guardrails": GUARDRAILS})


def told_beside(page: str) -> dict[str, str]:
    """By the name of an input, or the path of a part, the first thing said beside it."""
    told: dict[str, str] = {}
    at = ""
    for name, part, error in re.findall(r' name="([^"]+)"| id="part_([^"]+)"|nr-error" role="alert">([^<]*)<', page):
        at = name or part or at
        if error and at not in {"csrfmiddlewaretoken", "step", "page", "to"}:
            told.setdefault(at, error)
    return told


WRONG: list[tuple[dict[str, str], str, str]] = [
    ({"guardrails[1].max": "-1", "guardrails[1].metric": "error_rate"}, "guardrails[1].max", "0 or more"),
    ({"guardrails[0].max": ""}, "guardrails[0].max", "a limit is required: max, min or both"),
    ({"guardrails[0].action": ""}, "guardrails[0].action", "required"),
    ({"guardrails[0].action": "explode"}, "guardrails[0].action", "not one of the available choices"),
    ({"guardrails[0].alpha": "a lot"}, "guardrails[0].alpha", "A number was expected, as 0.05 or 5 %."),
    (
        {"guardrails[0].alpha": "5"},
        "guardrails[0].alpha",
        "at most 0.5 (50 %) was expected: for 5 per cent write 0.05 or 5 %",
    ),
    ({"guardrails[0].min_decisions": "1.5"}, "guardrails[0].min_decisions", "A whole number was expected, as 100."),
    ({"guardrails[0].min_decisions": "1,000"}, "guardrails[0].min_decisions", "without commas was expected: 1000."),
    ({"guardrails[0].min_decisions": "5%"}, "guardrails[0].min_decisions", "A number without % was expected, as 100."),
    ({"guardrails[0].min_decisions": "0"}, "guardrails[0].min_decisions", "at least 1 was expected"),
    ({"guardrails[0].max": "nan"}, "guardrails[0].max", "A number was expected, as 0.05."),
    ({"guardrails[0].max": "2 %"}, "guardrails[0].max", "A number without % was expected, as 0.05 for 5 %."),
    ({"guardrails[0].max": "1e400"}, "guardrails[0].max", "A number was expected"),
    ({"arms[1].cost": "1,250"}, "arms[1].cost", "expected: 1250, or 1.250 if the comma parts decimals."),
    ({"arms[1].model": "page"}, "arms[1].model", "a name, @ and a version, as digits@2"),
    ({"reward.window_seconds": "7776001"}, "reward.window_seconds", "at most 7,776,000 seconds (90 days) was expected"),
    ({"reward.window_seconds": "0"}, "reward.window_seconds", "at least 1 second was expected"),
    ({"reward.window_seconds": "1 h"}, "reward.window_seconds", "A number was expected, as 3600 for an hour."),
    ({"arms[1].model": "page@none"}, "arms[1].model", "no model version page@none"),
    ({"arms[1].name": ""}, "arms[1].name", "required"),
    ({"arms[1].name": "control"}, "arms[1].name", "the name of another arm"),
    ({"arms[1].payload": '{"a": 1, "a": 2}'}, "arms[1].payload", "duplicate key 'a'"),
    ({"arms[1].payload": "NaN"}, "arms[1].payload", "NaN is no JSON number"),
    ({"policy.floor": "0.9"}, "policy.floor", "at most 0.5 was expected"),
    ({"policy.params": "[]"}, "policy.params", "an object in braces was expected"),
    ({"policy.params": '{"epsilon": 1}'}, "policy.params", "epsilon is unknown"),
    ({"policy.name": "lin-ucb"}, "context.fields", "at least one field was expected"),
    ({"promotion.alpha": "0.9"}, "promotion.alpha", "at most 0.5 (50 %) was expected"),
    ({"reward.kind": "continuous"}, "reward.maximum", "needs a bounded reward"),
    ({"schedule.start_at": "soon"}, "schedule.start_at", "A date and a time were expected"),
    ({"strategy": "canary", "canary.steps": "0.5\r\n0.2"}, "canary.steps", "Line 2: must be more"),
    ({"strategy": "canary", "canary.steps": "0.5\r\n2"}, "canary.steps", "Line 2: at most 1 (100 %) was expected"),
    ({"strategy": "canary", "canary.steps": "0.5\r\nall"}, "canary.steps", "Line 2: A number was expected"),
    ({"strategy": ""}, "strategy", "required"),
    ({"name": "Bad Name"}, "name", "at most 63 of a to z, 0 to 9"),
    ({"name": "e\x00"}, "name", "Null characters"),
    ({"endpoint": "elsewhere"}, "endpoint", "there is no endpoint elsewhere"),
    ({"holdout": "0.95"}, "holdout", "at most 0.9 (90 %) was expected"),
    (dict.fromkeys(form_of({"arms": ARMS}), ""), "arms", "required"),
]
"""What is typed wrong, where it is told, and what is said there."""


def test_form__wrong__is_told_where_it_stands(pages: Client) -> None:
    for typed, at, said in WRONG:
        answer = pages.post(ADD, VALID | LIMITED | typed)
        page = answer.content.decode()
        assert answer.status_code == 400, typed
        beside = told_beside(page)
        assert list(beside) == [at]
        assert said in html.unescape(beside[at]), (typed, beside)
        assert not re.search(r"`(float|int|str|array|object)`|regex|column \d|Expecting", html.unescape(beside[at]))
        # It is named at the top as well, and what stands there leads to it.
        assert re.search(rf'href="#(id_|part_){re.escape(at)}"', page)
        assert "Nothing was created" in page
    assert ExperimentRow.objects.count() == 0


def test_form__everything_wrong__is_told_at_once_and_nothing_typed_is_lost(pages: Client) -> None:
    typed = {
        "name": "e",
        "strategy": "bandit",
        "guardrails[7].metric": "error_rate",
        "guardrails[7].max": "much",
        "policy.params": '{"epsilon": ',
        "reward.default": "none",
        "schedule.end_at": "2031-01-31T12:00",
        "context.fields[0].values": "a\r\nb",
    }
    page = pages.post(ADD, typed).content.decode()
    assert list(told_beside(page)) == ["endpoint"]
    elsewhere = [html.unescape(link) for link in re.findall(r'href="(\?form=[^"#]+)#', page)]
    elsewhere.append(elsewhere[0].partition("&step=")[0] + "&step=more")
    page += "".join(pages.get(ADD + link).content.decode() for link in dict.fromkeys(elsewhere))
    assert set(told_beside(page)) == {
        "arms",
        "endpoint",
        "policy.params",
        "reward.default",
        "guardrails[7].max",
        "guardrails[7].action",
        "context.fields[0].name",
        "context.fields[0].type",
    }
    for kept in ('value="error_rate"', 'value="much"', "{&quot;epsilon&quot;:", 'value="2031-01-31T12:00"'):
        assert kept in page, kept
    assert re.search(r"a\r?\nb\s*</textarea>", page)


JSON_WRONG = {
    '{"epsilon": ': "it ends at line 1, character 12",
    "{epsilon: 1}": "at line 1, character 2 a name in double quotes was expected",
    '{"epsilon": blue}': "at line 1, character 13 a value was expected",
    '{"a": 1\r\n"b": 2}': "at line 2, character 1 a comma was expected",
    "{} {}": "something stands behind its end",
}


@pytest.mark.parametrize("typed", JSON_WRONG)
def test_form__no_json__is_told_in_words(pages: Client, typed: str) -> None:
    beside = told_beside(pages.post(ADD, VALID | {"policy.params": typed}).content.decode())
    assert JSON_WRONG[typed] in html.unescape(beside["policy.params"])


def test_form__numbers_as_people_type_them__are_taken(pages: Client) -> None:
    typed = {
        "holdout": "5 %",
        "promotion.alpha": "2,5%",
        "promotion.indifference": "0,002",
        "policy.floor": "1,5 %",
        "arms[0].cost": "0,25",
        "reward.window_seconds": "1,5",
    }
    assert pages.post(ADD, VALID | typed).status_code == 302
    made = ExperimentRow.objects.get()
    assert made.policy_ is not None
    assert (made.holdout, made.promotion_.alpha, made.promotion_.indifference) == (0.05, 0.025, 0.002)
    assert (made.policy_.floor, made.arms.get(name=ARMS[0]["name"]).cost, made.reward_.window_seconds) == (
        0.015,
        0.25,
        1.5,
    )
    steps_ = {"strategy": "canary", "canary.steps": "5%\n0,25\n100 %"}
    canary = VALID | {"name": "c"} | steps_
    assert pages.post(ADD, canary).status_code == 302
    assert ExperimentRow.objects.get(name="c").canary["steps"] == [0.05, 0.25, 1.0]  # type: ignore[index]  # it has one


def test_form__empty_rows_between__errors_stand_at_the_row_that_was_typed(pages: Client) -> None:
    rows = {f"arms[{2 * i + 1}].{name}": value for i, arm in enumerate(ARMS) for name, value in arm.items()}
    typed = {"name": "e", "endpoint": "pages", "strategy": "bandit"} | rows
    page = pages.post(ADD, typed | {"arms[3].model": "page@none"}).content.decode()
    assert list(told_beside(page)) == ["arms[3].model"]
    # At the top it is called as the page calls it, with the number that stands above the row.
    assert '<a href="#id_arms[3].model">Arm 2, model</a>' in page
    assert pages.post(ADD, typed).status_code == 302


def test_form__more_rows_than_allowed__is_told(pages: Client) -> None:
    rows = {f"guardrails[{i}].{name}": value for i in range(25) for name, value in GUARDRAILS[1].items()}
    beside = told_beside(pages.post(ADD, VALID | {name: str(value) for name, value in rows.items()}).content.decode())
    assert list(beside) == ["guardrails"]
    assert "at most 20 were expected" in beside["guardrails"]


def test_form__hundred_arms__are_made(pages: Client) -> None:
    arms = [{"name": f"a{i}", "model": "page@b" if i else "page@a", "cost": i / 8} for i in range(100)]
    typed = form_of({"name": "e", "endpoint": "pages", "strategy": "bandit", "arms": arms})
    assert pages.post(ADD, typed).status_code == 302
    assert ExperimentRow.objects.get().arms.count() == 100


class Wheel(msgspec.Struct, frozen=True):
    """One of several."""

    size: int
    spokes: list[int] = []
    bolts: list["Bolt"] = []


class Bolt(msgspec.Struct, frozen=True):
    """Holds a wheel."""

    name: str


class Axle(msgspec.Struct, frozen=True):
    """Holds wheels. `<b>` is no markup."""

    wheels: list[Wheel] = []
    gauge: Annotated[float | UnsetType, Meta(description="Between `wheels`.")] = UNSET


class Cart(msgspec.Struct, frozen=True, rename="camel"):
    """Something that nobody wrote a form for."""

    axle: Axle
    wheel_colour: Literal["red", "blue"] = "red"
    gears: Literal[1, 2] = 1
    load: int | str = 0
    braked: bool | None = None


class CartForm(DocumentForm):
    document = Cart


def test_form__of_any_document__follows_its_type() -> None:
    typed = {
        "axle.wheels[1].size": "28",
        "axle.wheels[1].spokes": "32\n\n36",
        "axle.wheels[1].bolts": '[{"name": "m5"}]',
        "wheelColour": "blue",
        "gears": "2",
        "load": '"heavy"',
        "braked": "false",
    }
    form = CartForm(typed)
    assert form.is_valid(), form.errors
    assert form.made(Cart) == Cart(Axle([Wheel(28, [32, 36], [Bolt("m5")])]), "blue", 2, "heavy", False)
    assert list(CartForm({}).errors) == ["axle"]
    assert str(form["axle.gauge"].help_text) == "Between <code>wheels</code>."
    assert "<b>" not in CartForm().shown_parts()[1].explanation  # type: ignore[union-attr]


def test_suggestions__name_what_is_there(pages: Client) -> None:
    page = steps(pages, {"strategy": "bandit"})["arms"]
    assert re.search(r'<datalist id="suggested-endpoint"><option value="pages">', page)
    assert '<option value="page@c">' in page
    assert 'list="suggested-arms.model"' in page
    assert Endpoint.objects.count() == 1
