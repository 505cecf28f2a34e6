"""The review of the guided form says all that the document says, and what speaks against it; that
is looked at twice before it starts."""

import html
from collections.abc import Iterator

import pytest
from django.test import Client
from msgspec.inspect import BoolType, DateTimeType, FloatType, IntType, LiteralType
from noregret.dashboard.document_parts import Leaf, Part, Rows, part_of
from noregret.dashboard.experiment_form import ExperimentForm, has
from noregret.dashboard.review import review
from noregret.experiments import document
from noregret.experiments.models import Baseline, Endpoint, Experiment
from noregret.learning.models import ArmStatistics, BaselineInterval

from serving.ledger import latency
from tests.conftest import Api, endpoint_of, static_model
from tests.dashboard.test_guided_form import ADD, LIST, begin, leave, look, traffic

STRATEGIES = ("shadow", "canary", "ab", "bandit", "apprentice")


@pytest.fixture
def pages(admin: Client) -> Client:
    """An endpoint without a reward of its own."""
    for version in "abc":
        static_model("page", version, version)
    endpoint_of("pages", "page@a")
    return admin


def leaves(part: Part, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Every value of the document, of lists in their first row."""
    for member in part.members:
        at = f"{path}.{member.name}" if path else member.name
        match member:
            case Leaf():
                yield at, member
            case Part():
                yield from leaves(member, at)
            case Rows():
                yield from leaves(member.item, f"{at}[0]")


BASE = {
    "name": "e",
    "endpoint": "pages",
    "arms[0].name": "old",
    "arms[0].model": "page@a",
    "arms[1].name": "new",
    "arms[1].model": "page@b",
}
RAIL = {"guardrails[0].metric": "pages", "guardrails[0].action": "pause", "guardrails[0].max": "0.5"}
NUMBER = {
    "context.fields[0].name": "age",
    "context.fields[0].type": "number",
    "context.fields[0].min": "-1",
    "context.fields[0].max": "99",
}
CATEGORY = {"context.fields[0].name": "age", "context.fields[0].type": "category", "context.fields[0].values": "x"}
BESIDES: dict[str, dict[str, str]] = {
    "arms[0].weight": {"arms[0].weight": "1", "arms[1].weight": "1"},
    "policy.params": {"policy.name": "epsilon-greedy"},
    "reward.kind": {"reward.kind": "continuous", "reward.minimum": "0", "reward.maximum": "9"},
    "reward.minimum": {"reward.kind": "continuous", "reward.minimum": "0", "reward.maximum": "9"},
    "reward.maximum": {"reward.kind": "count", "reward.maximum": "9"},
    "reward.pending": {"reward.default": "0"},
    "context.fields[0].values": CATEGORY,
    "context.fields[0].type": CATEGORY,
}
"""What a value needs beside it to be allowed, the value as it was among it."""
VALUES = {
    "name": "another",
    "endpoint": "others",
    "arms[0].name": "former",
    "arms[0].model": "page@c",
    "arms[0].payload": '{"said": 37}',
    "policy.name": "uniform",
    "policy.params": '{"epsilon": 0.037}',
    "reward.metric": "sales",
    "reward.kind": "count",
    "reward.default": "1",
    "reward.minimum": "-3.7",
    "reward.maximum": "3.7",
    "context.fields[0].name": "height",
    "context.fields[0].values": "KR\nDE",
    "context.fields[0].min": "-3.7",
    "guardrails[0].metric": "sales",
    "guardrails[0].min": "-3.7",
    "guardrails[0].minimum": "-3.7",
    "guardrails[0].maximum": "3.7",
    "canary.steps": "0.037\n0.5",
    "promotion.auto": "false",
}


def other_than(path: str, leaf: Leaf, typed: dict[str, str]) -> str:
    """A value that is neither the default nor what is typed."""
    if path in VALUES:
        return VALUES[path]
    kind = leaf.options[0]
    match kind:
        case LiteralType(values=values):
            mine = typed.get(path) or leaf.default
            return str(next(value for value in values if value != mine))
        case BoolType():
            return "false" if leaf.default is True else "true"
        case IntType():
            return "37"
        case FloatType():
            return "0.037" if leaf.unit == "share" else "4321" if leaf.unit == "seconds" else "37"
        case DateTimeType():
            return "2031-01-31T12:00:37"
    raise AssertionError(f"{path}: say what else it may be")


def said(typed: dict[str, str]) -> str:
    """What a person reads of what will happen, without defaults and code."""
    form = ExperimentForm(typed)
    draft = form.draft_rows()
    assert draft is not None, form.told_errors()
    told = review(form, draft, 0.1)
    arms = [f"{arm.name} {arm.model} {' '.join(arm.besides)}" for arm in told.arms]
    return "\n".join([form.body["name"], form.body["endpoint"], *arms, *told.words])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_review__each_value_of_the_document__is_said_where_it_is_no_default(pages: Client, strategy: str) -> None:
    """Read from the document's type: a field that is added is asked about here."""
    endpoint_of("others", "page@a")
    of = "bandit" if strategy == "apprentice" else strategy
    base = BASE | {"strategy": of} | ({"apprentice": "true"} if strategy == "apprentice" else {})
    seen, silent = 0, []
    for path, leaf in leaves(part_of(document.Experiment)):
        only_one = isinstance(leaf.options[0], LiteralType) and len(leaf.options[0].values) == 1
        if only_one or not has(path, of) or path in ("strategy", "apprentice"):
            continue
        besides = BESIDES.get(path) or (
            RAIL if path.startswith("guardrails") else NUMBER if path.startswith("context") else {}
        )
        before = base | besides
        is_type = path == "context.fields[0].type"
        after = base | NUMBER if is_type else before | {path: other_than(path, leaf, before)}
        if said(before) == said(after):
            silent.append(path)
        seen += 1
    assert silent == []
    assert seen > 30


def test_review__says_in_plain_words_what_was_set(pages: Client) -> None:
    """What was missing there once, and the words that say it."""
    told = said(
        BASE
        | {"strategy": "ab", "arms[0].weight": "0.9", "arms[1].weight": "0.05", "arms[1].cost": "0.002"}
        | {"arms[1].payload": '{"page": "blue"}', "promotion.indifference": "1%", "promotion.cooldown_seconds": "7200"}
    )
    for words in (
        "94.7 % of the traffic",
        "5.3 % of the traffic",
        "a decision costs 0.002",
        'payload {"page":"blue"}',
        "differ by less than 1% of the reward's range end it without a winner",
        "Within 2 h of a change of champion nothing is promoted by itself.",
    ):
        assert words in told, words
    canary = said(BASE | {"strategy": "canary", "canary.steps": "0.002\n0.5", "canary.min_decisions": "40"} | RAIL)
    for words in (
        "gets 0.2%, 50% of the units",
        "must itself serve 40 decisions, have 40 rewards, and have been heard of by pages, pass no guardrail",
        "Before it is promoted it must have 100 decisions and rewards in all.",
    ):
        assert words in canary, words


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (
            {"holdout": "5%"},
            "5% of the units, always the same ones, get the control with each request; for all others an arm is",
        ),
        ({"holdout": "5%", "sticky": "true"}, "every other unit keeps the arm that it got first"),
        ({"holdout": "5%", "apprentice": "true"}, "Once it is activated, 5% of the units"),
        ({"sticky": "true"}, "A unit keeps the arm that it got first."),
    ],
)
def test_review__says_who_is_held_out_and_what_is_drawn(pages: Client, typed: dict[str, str], words: str) -> None:
    assert words in said(BASE | {"strategy": "bandit"} | typed)


def test_step_more__says_what_a_holdout_and_sticky_mean_together(pages: Client) -> None:
    form = begin(pages)
    leave(pages, form, "strategy", {"name": "e", "endpoint": "pages", "strategy": "bandit"})
    assert "sticky</code> or not, and no arm is drawn for them" in look(pages, form, "more")
    assert "“no” changes nothing here" not in look(pages, form, "more")
    Endpoint.objects.update(sticky=True)
    assert "“no” changes nothing here" in look(pages, form, "more")
    leave(pages, form, "strategy", {"name": "e", "endpoint": "pages", "strategy": "canary"})
    assert "holdout" not in look(pages, form, "more")
    assert "this canary gets one" in look(pages, form, "guardrails")


def test_review__lists_what_is_left_at_its_defaults(pages: Client) -> None:
    form = ExperimentForm(BASE | {"strategy": "bandit", "promotion.alpha": "0.01"} | RAIL)
    draft = form.draft_rows()
    assert draft is not None
    defaults = {each.part: each.values for each in review(form, draft, 0.1).defaults}
    assert defaults["Promotion"].startswith("rule anytime; indifference 0%; min rewards 100; min 0 seconds")
    assert "alpha" not in defaults["Promotion"]
    assert defaults["Guardrail 1"].startswith("versus limit; min decisions 50; alpha 5%; not given: min,")
    assert "Canary" not in defaults
    assert "window 1 hour" in defaults["Reward"] if "Reward" in defaults else True


def reviewed(client: Client, typed: dict[str, str]) -> str:
    """The address of a form with all this, and the page of its review."""
    form = begin(client)
    assert client.post(form, typed | {"to": "review"}).status_code == 302
    return form


SAME = {f"arms[{i}].{name}": value for i in range(1, 100) for name, value in (("name", f"a{i}"), ("model", "page@b"))}
YEAR = {"canary.steps": "\n".join(f"{i / 12:.3f}" for i in range(1, 13)), "canary.bake_seconds": "2592000"}
GRAVE: list[tuple[str, dict[str, str], str]] = [
    (
        "bandit",
        {"arms[2].name": "c", "arms[2].model": "page@c", "policy.floor": "0.3333"},
        "leave nothing to the policy",
    ),
    ("bandit", {"promotion.min_rewards": "1000000000"}, "even at 100 requests a second it takes 231 days or more"),
    ("bandit", {"policy.burn_in": "1000000000"}, "an even split goes on so long"),
    ("ab", {"promotion.min_rewards": "1000000000"}, "231 days or more"),
    *((strategy, SAME, "and 96 more have one model, page@b") for strategy in ("shadow", "ab", "bandit")),
    ("canary", {"arms[1].model": "page@a"}, "they can't differ"),
    ("ab", {"arms[0].weight": "1", "arms[1].weight": "0.0001"}, "by its weight new gets 0.01 % of the traffic"),
    ("ab", {"arms[0].weight": "1", "arms[1].weight": "0"}, "by its weight new gets nothing"),
    ("canary", YEAR, "its steps take 360 days or more"),
    ("canary", {"canary.min_decisions": "1000000000"}, "or more: each bakes, and waits for its decisions"),
    ("canary", {"schedule.max_seconds": "600"}, "it ends after 10 minutes, and the canary asks for 40 minutes"),
    ("ab", {"promotion.min_seconds": "31536000"}, "before 365 days have passed since its start"),
    (
        "bandit",
        {"promotion.min_seconds": "864000", "schedule.max_seconds": "86400"},
        "promotion.min_seconds asks for 10 days",
    ),
    (
        "ab",
        {"reward.window_seconds": "604800", "schedule.max_seconds": "3600", "schedule.at_end": "promote_leader"},
        "reward.window_seconds asks for 7 days at least: its leader is promoted without evidence then",
    ),
    ("bandit", {"schedule.end_at": "2020-01-01T00:00"}, "it would end at once"),
    ("canary", {"canary.steps": "1"}, "it is never compared with the control"),
    ("ab", {"promotion.alpha": "0.5"}, "with a chance of up to 50% an arm is told to be the best that is not"),
    ("bandit", RAIL | {"guardrails[0].metric": "eror_rate"}, "error_rate may be meant"),
    ("bandit", {"promotion.indifference": "0.6"}, "differ by less than 60% of the reward's range count as alike"),
]
MILD: list[tuple[str, dict[str, str], str]] = [
    ("bandit", {"holdout": "0.6"}, "60% of the units get the control whatever is learned"),
    ("ab", {"arms[0].weight": "1", "arms[1].weight": "0.005"}, "hardly anything is learned of it"),
    ("ab", {"promotion.cooldown_seconds": "5184000"}, "before 60 days have passed since a change of champion"),
    ("ab", {"reward.default": "0", "reward.window_seconds": "5184000"}, "evidence waits for it"),
    ("canary", RAIL | {"guardrails[0].min_decisions": "1000000000"}, "until the guardrail on pages may act"),
]


@pytest.mark.parametrize(("strategy", "typed", "words"), [*GRAVE, *MILD])
def test_setting__that_shows_nothing_or_late__is_told_and_looked_at_twice(
    pages: Client, strategy: str, typed: dict[str, str], words: str
) -> None:
    form = reviewed(pages, BASE | {"strategy": strategy} | typed)
    page = look(pages, form, "review")
    told = html.unescape(page.partition("<h2>Look again</h2>")[2].partition("</section>")[0])
    assert words.lower() in told.lower()
    grave = (strategy, typed, words) in GRAVE
    assert ("<strong>" in told) is grave
    sent = leave(pages, form, "review", {}, "start")
    start = sent.headers["Location"]
    assert start.endswith("/do/start")
    assert (words.lower() in html.unescape(pages.get(start).content.decode()).lower()) is grave
    refused = pages.post(start, {"reason": "as planned"})
    if grave:
        assert "I have seen this" in refused.content.decode()
        assert Experiment.objects.get().status == "draft"
        refused = pages.post(start, {"reason": "as planned", "seen": "on"})
    assert refused.status_code == 302
    assert Experiment.objects.get().status == "running"


def test_settings__of_every_day__are_not_told(pages: Client) -> None:
    for strategy in STRATEGIES:
        of = {"strategy": "bandit", "apprentice": "true"} if strategy == "apprentice" else {"strategy": strategy}
        assert "Look again" not in look(pages, reviewed(pages, BASE | of), "review"), strategy


SLOW = [0] * latency.bucket(12.0) + [70 * 500]


@pytest.mark.parametrize(
    ("rail", "words", "grave"),
    [
        ({"metric": "latency_p99_ms", "max": "0.01"}, "allows at most 0.01 ms, and page@a, the champion, has 12", True),
        ({"metric": "latency_p95_ms", "max": "10"}, "(its p50, of 3,500,000 decisions without an experiment)", False),
        ({"metric": "error_rate", "max": "0.01"}, "allows at most 1%, and page@a, the champion, has 4%", True),
        ({"metric": "error_rate", "max": "0.03"}, "an arm that is only as good as it is past the limit", False),
        ({"metric": "clicks", "max": "0.01"}, "0.01, and page@a, the champion, has 0.05069 (the mean of 175,000", True),
        ({"metric": "clicks", "min": "0.2"}, "allows at least 0.2, and page@a, the champion, has 0.05", True),
        ({"metric": "latency_p99_ms", "max": "50"}, "", False),
        ({"metric": "error_rate", "max": "0.05"}, "", False),
        ({"metric": "error_rate", "max": "0.01", "versus": "control"}, "", False),
        ({"metric": "others", "max": "0.01"}, "", False),
    ],
)
def test_guardrail__that_the_champion_itself_has_passed__is_told_with_both_numbers(
    pages: Client, alice: Api, rail: dict[str, str], words: str, grave: bool
) -> None:
    reward = {"metric": "clicks", "kind": "binary", "default": 0.0}
    assert alice("PATCH", "/api/v1/endpoints/pages", {"reward": reward}).status == 200
    Baseline.objects.exclude(pk=Baseline.objects.latest("pk").pk).delete()
    traffic(50_000, 2500)
    row = BaselineInterval.objects.latest("start")
    BaselineInterval.objects.filter(pk=row.pk).update(latencies=SLOW, failures=140_000)
    typed = {f"guardrails[0].{name}": value for name, value in ({"action": "pause"} | rail).items()}
    page = look(pages, reviewed(pages, BASE | {"strategy": "bandit"} | typed), "review")
    told = page.partition("<h2>Look again</h2>")[2].partition("</section>")[0]
    assert words in told if words else "the champion, has" not in told
    assert ("<strong>" in told) is grave
    numbers = {name: float(value) if name in ("max", "min") else value for name, value in rail.items()}
    document = {"name": "e", "endpoint": "pages", "strategy": "bandit", "arms": [{"name": "b", "model": "page@b"}]}
    made = alice.post("/api/v1/experiments", document | {"guardrails": [{"action": "pause"} | numbers]})
    assert made.status == 201, made
    assert any(words in said for said in made["warnings"]) if words else made["warnings"] == []


def test_guardrail__of_a_champion_with_no_traffic_of_its_own__goes_by_its_last_experiment(
    pages: Client, alice: Api
) -> None:
    document = {"name": "e", "endpoint": "pages", "strategy": "bandit", "arms": [{"name": "b", "model": "page@b"}]}
    assert alice.post("/api/v1/experiments", document).status == 201
    assert alice.post("/api/v1/experiments/e/start").status == 200
    ArmStatistics.objects.filter(arm__is_control=True).update(decisions=100, failures=40, latencies=[*SLOW[:-1], 60])
    assert alice.post("/api/v1/experiments/e/stop").status == 200
    rails = [{"metric": name, "max": 0.05, "action": "pause"} for name in ("error_rate", "latency_p99_ms")]
    made = alice.post("/api/v1/experiments", document | {"name": "again", "guardrails": rails})
    failing, slow = made["warnings"]
    assert "allows at most 5%, and page@a, the champion, has 40% (of 100 decisions in its last experiment)" in failing
    assert "allows at most 0.05 ms, and page@a, the champion, has 12" in slow


def test_setting__of_what_starts_by_itself__is_looked_at_in_the_review(pages: Client) -> None:
    typed = BASE | {
        "strategy": "ab",
        "arms[0].weight": "1",
        "arms[1].weight": "0",
        "schedule.start_at": "2031-01-31T12:00",
    }
    form = reviewed(pages, typed)
    assert 'name="seen"' in look(pages, form, "review")
    refused = leave(pages, form, "review", {}, "create")
    assert refused.status_code == 400
    assert "nobody is asked then" in refused.content.decode()
    assert not Experiment.objects.exists()
    assert leave(pages, form, "review", {"seen": "on"}, "create").status_code == 302
    assert Experiment.objects.exists()


def test_start__that_is_past__is_looked_at_twice__and_the_draft_says_when_it_starts(pages: Client, alice: Api) -> None:
    """It starts within seconds, and nobody is asked: a page said that a draft changes nothing."""
    form = reviewed(pages, BASE | {"strategy": "ab", "schedule.start_at": "2020-01-01T10:00"})
    page = html.unescape(look(pages, form, "review"))
    assert "It starts by itself within seconds: 2020-01-01 10:00:00 UTC is past." in page
    assert "it starts within seconds, by itself, and nobody is asked" in page
    assert "Starting asks once more" not in page
    assert leave(pages, form, "review", {}, "create").status_code == 400
    past = {"name": "past", "endpoint": "pages", "strategy": "ab", "schedule": {"start_at": "2020-01-01T10:00:00Z"}}
    arms = {"arms": [{"name": "old", "model": "page@a"}, {"name": "new", "model": "page@b"}]}
    assert any("start_at is past" in said for said in alice.post("/api/v1/experiments", past | arms)["warnings"])
    form = reviewed(pages, BASE | {"strategy": "ab", "schedule.start_at": "2031-01-31T12:00"})
    assert leave(pages, form, "review", {"seen": "on"}, "create").status_code == 302
    made = Experiment.objects.get(name="e")
    page = html.unescape(pages.get(f"/admin/experiments/experiment/{made.pk}/change/").content.decode())
    assert "It starts by itself at 2031-01-31 12:00:00 UTC, and nobody is asked then." in page
    assert "starts 2031-01-31 12:00 UTC" in page


def test_forecast__that_reaches_no_end__is_looked_at_twice(pages: Client, alice: Api) -> None:
    reward = {"metric": "clicks", "default": 0.0}
    assert alice("PATCH", "/api/v1/endpoints/pages", {"reward": reward}).status == 200
    Baseline.objects.exclude(pk=Baseline.objects.latest("pk").pk).delete()
    traffic(10, 1)
    page = look(pages, reviewed(pages, BASE | {"strategy": "ab"}), "review")
    assert "half of the simulated experiments have not decided after 90 days" in page
    assert "More than 90 days" in page
    soon = BASE | {"strategy": "ab", "schedule.max_seconds": "864000"}
    assert "schedule ends it after 10 days, and at this traffic a decision takes more than 90 days" in look(
        pages, reviewed(pages, soon), "review"
    )
    sent = leave(pages, reviewed(pages, BASE | {"strategy": "ab"}), "review", {}, "start")
    assert "have not decided after 90 days" in pages.get(sent.headers["Location"]).content.decode()


@pytest.mark.parametrize("way", ["edit", "copy"])
def test_setting__of_what_is_changed_or_copied__is_told_too(pages: Client, alice: Api, way: str) -> None:
    arms = [{"name": "a", "model": "page@a", "weight": 1}, {"name": "b", "model": "page@b", "weight": 0}]
    made = alice.post("/api/v1/experiments", {"name": "e", "endpoint": "pages", "strategy": "ab", "arms": arms})
    assert made.status == 201
    assert "by its weight b gets nothing of the traffic: hardly anything is learned of it" in made["warnings"]
    form = begin(pages, f"{LIST}{Experiment.objects.get().pk}/{way}")
    page = look(pages, form, "review")
    assert "By its weight b gets nothing" in page
    assert "0.0 % of the traffic" in page
    assert ADD in form
