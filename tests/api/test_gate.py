"""What no request gets past, and what every page says to browsers."""

from typing import Any

import pytest
from django.test import Client

from serving.tokens import InvalidToken, Signer, Token, new_id
from tests.conftest import Api, endpoint_of, static_model

ADDRESSES = [
    "/api/v1/models/%00/1",
    "/api/v1/models/a/%00",
    "/api/v1/endpoints/%00",
    "/api/v1/endpoints/%00/champions",
    "/api/v1/experiments/%00",
    "/api/v1/experiments/%00/results",
    "/api/v1/experiments/%00/decisions.ndjson",
    "/api/v1/webhooks/%00",
    "/api/v1/audit?experiment=%00",
    "/api/v1/endpoints/%00/predict",
    "/admin/experiments/experiment/%00/change/",
    "/admin/login/?next=%00",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_nul__in_an_address__is_a_clear_400(alice: Api, address: str) -> None:
    answer = alice.get(address)
    assert (answer.status, answer["title"]) == (400, "The request can't be understood")
    assert alice.post(address).status == 400


@pytest.mark.parametrize(
    "limit", ["0002009999", "0", "201", "-1", "1" * 5000, "1.0", "+5", "٣", "", " 5", "5\n", "007"]
)
def test_limit__that_is_none__is_refused_by_name(alice: Api, limit: str) -> None:
    from urllib.parse import quote

    answer = alice.get(f"/api/v1/models?limit={quote(limit)}")
    assert (answer.status, answer.fields()) == (400, ["limit"])


@pytest.mark.parametrize("limit", ["1", "10", "200"])
def test_limit__within_bounds__is_taken(alice: Api, limit: str) -> None:
    assert alice.get(f"/api/v1/models?limit={limit}").status == 200


@pytest.mark.parametrize("change", ["{}=", "{}A", " {}", "{}!", "!", "9" * 500, "MTAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw"])
def test_cursor__in_another_spelling__is_refused(alice: Api, change: str) -> None:
    for version in "abc":
        static_model("m", version)
    cursor = alice.get("/api/v1/models?limit=1")["next_cursor"]
    assert len(alice.get(f"/api/v1/models?limit=1&cursor={cursor}")["items"]) == 1
    answer = alice.get("/api/v1/models?limit=1&cursor=" + change.format(cursor))
    assert (answer.status, answer.fields()) == (400, ["cursor"])


def test_decision_id__in_a_second_alphabet_or_with_spare_bits__is_none_of_ours() -> None:
    signer = Signer("s" * 32)
    for _ in range(200):
        text = signer.sign(Token(new_id(), 1, 2, 3, 0.5, True))
        assert signer.read(text).experiment_id == 1
        for other in {text.replace("-", "+"), text.replace("_", "/"), text + "=", " " + text, text[:-1] + "~"} - {text}:
            with pytest.raises(InvalidToken):
                signer.read(other)


def test_decision_id__spare_bits_set__is_none_of_ours() -> None:
    """80 bytes end two bits before a character does: four last characters would decode alike."""
    signer = Signer("s" * 32)
    text = signer.sign(Token(new_id(), 1, 2, 3, 0.5, True))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    read = 0
    for last in alphabet:
        try:
            signer.read(text[:-1] + last)
        except InvalidToken:
            continue
        read += 1
    assert read == 1


def test_pages__carry_a_content_security_policy(platform: None, client: Client) -> None:
    policy = client.get("/admin/login/")["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "object-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_answers_of_the_api__need_none(alice: Api) -> None:
    endpoint_of("pages", static_model("page", "a"))
    answer: Any = alice.get("/api/v1/endpoints/pages").response
    assert "Content-Security-Policy" not in answer
