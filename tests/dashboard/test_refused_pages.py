"""What a browser is told where a page is not there, may not be opened, or can't be made."""

import html
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from noregret.trail.models import AuditEntry

PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    "path", ["experiments/experiment/999999/change/", "nothing/here/", "registry/modelversion/x/change/"]
)
def test_page_that_is_not_there__is_told_on_a_page_with_a_way_on(admin: Client, path: str) -> None:
    answer = admin.get(f"/admin/{path}", headers=PAGE, follow=True)
    # A row that is not there sends to the first page, with a message; so Django has it.
    text = answer.content.decode()
    assert answer["Content-Type"].startswith("text/html")
    assert (
        "There is no such page" in text and answer.status_code == 404
    ) or "doesn\N{RIGHT SINGLE QUOTATION MARK}t exist" in text
    assert 'href="/admin/"' in text


LISTS = (
    *("trail/auditentry", "experiments/experiment", "experiments/endpoint", "registry/modelversion", "access/apikey"),
    *(
        "serving/quarantinedevent",
        "notify/delivery",
        "notify/webhook",
        "mlflow/importedversion",
        "auth/user",
        "auth/group",
    ),
)


@pytest.mark.parametrize("rows", LISTS)
def test_filter__that_means_nothing__is_named_on_a_page__and_nothing_is_shown(admin: Client, rows: str) -> None:
    for query in ("pk__gte=abc", "pk__nope=1", "nothing=1"):
        answer = admin.get(f"/admin/{rows}/?{query}", headers=PAGE, follow=True)
        text = answer.content.decode()
        assert (answer.status_code, answer["Content-Type"][:9]) == (400, "text/html"), query
        assert "Content-Security-Policy" in answer
        assert f"The list can&#x27;t be narrowed by {query}: it has no such filter" in text
        assert f'href="/admin/{rows}/"' in text
    assert admin.get(f"/admin/{rows}/?pk__gte=1", headers=PAGE).status_code == 200


def test_filter__of_the_trail__is_refused_in_its_table_too(admin: Client) -> None:
    AuditEntry.objects.bulk_create(AuditEntry(actor="ann", action="a") for _ in range(101))
    assert "The list has no page 99." in admin.get("/admin/trail/auditentry/?p=99", headers=PAGE).content.decode()
    for query in ("at__gte=abc", "actor__nope=1", "actor__regex=("):
        for address in ("", "audit.csv"):
            answer = admin.get(f"/admin/trail/auditentry/{address}?actor=ann&{query}", headers=PAGE)
            text = answer.content.decode()
            assert answer.status_code == 400
            assert f"narrowed by {query}: " in html.unescape(text)


@pytest.mark.parametrize(
    "path", ["trail/auditentry/?q=%00", "experiments/experiment/?status=%00", "access/apikey/%00/"]
)
def test_address_that_holds_nul__is_told_on_a_page__and_to_programs_as_a_problem(admin: Client, path: str) -> None:
    answer = admin.get(f"/admin/{path}", headers=PAGE)
    assert (answer.status_code, answer["Content-Type"][:9]) == (400, "text/html")
    assert "Its address holds NUL." in answer.content.decode()
    assert "Content-Security-Policy" in answer
    problem = admin.get(f"/admin/{path}")
    assert (problem.status_code, problem.json()["detail"]) == (400, "its address holds NUL")


def test_form_that_is_too_large__is_told_on_a_page__and_to_programs_as_a_problem(admin: Client, settings: Any) -> None:
    settings.SERVING_BODY_LIMIT = 2000
    sent: dict[str, Any] = {"data": "reason=" + "x" * 3000, "content_type": "application/x-www-form-urlencoded"}
    answer = admin.post("/admin/access/apikey/add/", **sent, headers=PAGE)
    assert (answer.status_code, answer["Content-Type"][:9]) == (413, "text/html")
    assert "The body is too large" in answer.content.decode()
    assert "Content-Security-Policy" in answer
    assert 'href="/admin/"' in answer.content.decode()
    assert admin.post("/admin/access/apikey/add/", **sent).json()["type"] == "/problems/too-large"


@pytest.mark.parametrize("rows", LISTS)
def test_empty_list__offers_only_what_can_be_done(admin: Client, rows: str) -> None:
    whole, sought = (admin.get(f"/admin/{rows}/{query}").content.decode() for query in ("", "?pk=0"))
    for page in (whole, sought):
        assert "Create a new item" not in page
    assert "Nothing matches" in sought
    assert "Show all" in sought
    if rows in ("trail/auditentry", "auth/user"):
        return  # there is some already
    adds = ("experiments/experiment", "experiments/endpoint", "registry/modelversion", "access/apikey", "auth/group")
    assert ("stands here once it is made" in whole) is (rows in adds)
    assert ("rows come by themselves, or over the API" in whole) is (rows not in adds)


def test_program__is_told_by_a_problem_document(admin: Client) -> None:
    for path in ("/admin/nothing/here/", "/nothing"):
        answer = admin.get(path, headers={"Accept": "application/json"})
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")


def test_page_that_ones_role_does_not_open__says_so_on_a_page(platform: None) -> None:
    client = Client()
    client.force_login(User.objects.create_user("eve", is_staff=True))
    answer = client.get("/admin/auth/user/add/", headers=PAGE)
    assert answer.status_code == 403
    assert "You may not open this" in answer.content.decode()


def test_database_away__is_said_on_a_page_that_needs_none(admin: Client) -> None:
    admin.raise_request_exception = False

    def away(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        raise OperationalError("the connection is closed")

    with connection.execute_wrapper(away):
        answer = admin.get("/admin/", headers=PAGE)
    text = answer.content.decode()
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert "The database can&#x27;t be reached" in text
    assert "Try again" in text
