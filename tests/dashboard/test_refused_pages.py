"""What a browser is told where a page is not there, may not be opened, or can't be made."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client

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
    assert "the database can&#x27;t be reached" in text
    assert "Try again" in text
