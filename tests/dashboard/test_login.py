"""Passwords tried: how often, from where, and what is told and kept of it."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.contrib.auth import hashers
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory
from noregret.access import logins
from noregret.redis_client import client as redis_client
from noregret.redis_client import keys
from noregret.trail.models import AuditEntry

PASSWORD = "correct horse battery staple"
ATTACKER, HOME = "203.0.113.7", "198.51.100.9"


@pytest.fixture(autouse=True)
def root(platform: None, settings: Any) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return User.objects.create_superuser("root", password=PASSWORD)


def attempt(
    password: str, user: str = "root", address: str = ATTACKER, browser: Client | None = None, **extra: Any
) -> Any:
    form = {"username": user, "password": password}
    return (browser or Client()).post("/admin/login/", form, REMOTE_ADDR=address, **extra)


def pauses_are_over() -> None:
    for key in redis_client().scan_iter(f"{keys().prefix}{{login}}:*"):
        redis_client().hset(key, "until", 0)


def failures(address: str = ATTACKER) -> int:
    return int(redis_client().hget(keys().login("address", address), "failures") or 0)


def latest(browser: Client) -> str:
    return str(browser.cookies[logins.DEVICE_COOKIE].value)


def test_login__right__is_taken_and_counts_nothing() -> None:
    for _ in range(8):
        assert attempt(PASSWORD).status_code == 302
    assert failures() == 0
    assert not AuditEntry.objects.exists()


def failed_before(times: int, address: str = ATTACKER) -> None:
    """So many failures, whose pause is over; the next makes one that outlasts the test."""
    redis_client().hset(keys().login("address", address), "failures", times)


def test_login__few_failures__make_no_pause() -> None:
    assert [attempt("wrong").status_code for _ in range(3)] == [200, 200, 200]
    assert attempt(PASSWORD).status_code == 302
    assert failures() == 3  # a right password clears no failure: its owner may guess at another's


@pytest.mark.parametrize(("before", "seconds"), [(8, 32), (9, 64), (12, 512), (13, 900), (40, 900), (2000, 900)])
def test_login__failing_on__waits_longer_and_longer_up_to_a_bound(before: int, seconds: int) -> None:
    failed_before(before)
    assert attempt("wrong").status_code == 200
    for password in ("wrong", PASSWORD):  # the right one is not looked at either
        paused = attempt(password)
        assert paused.status_code == 429
        assert seconds - 20 <= int(paused["Retry-After"]) <= seconds
        assert re.search(
            r"There were too many failed logins. Try again in \d+\s(seconds|minutes)\.", paused.content.decode()
        )
    assert failures() == before + 1
    pauses_are_over()
    assert attempt(PASSWORD).status_code == 302


def test_login__failed__is_in_the_audit_trail_once_each() -> None:
    typed = "ro\x1bot" + "x" * 200
    assert attempt("wrong", typed).status_code == 200
    failed_before(12)
    assert [attempt("wrong").status_code for _ in range(5)] == [200, 429, 429, 429, 429]
    entries = AuditEntry.objects.order_by("pk")
    assert [(entry.actor, entry.action) for entry in entries] == [("unknown", "login.failed")] * 2
    assert entries[0].details == {"user": "ro\N{REPLACEMENT CHARACTER}ot" + "x" * 145, "address": ATTACKER}
    assert entries[1].details == {"user": "root", "address": ATTACKER}


@pytest.mark.parametrize("kind", ["unknown", "wrong", "inactive", "no staff"])
def test_login__refused__costs_one_hash_and_says_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    encode = hashers.MD5PasswordHasher.encode

    def counted(self: Any, password: str, salt: str, *rest: Any) -> str:
        hashed.append(1)
        return str(encode(self, password, salt, *rest))

    User.objects.create_user("nobody", password=PASSWORD)
    User.objects.create_user("gone", password=PASSWORD, is_active=False, is_staff=True)
    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", counted)
    user, password = {
        "unknown": ("other", PASSWORD),
        "wrong": ("root", "wrong"),
        "inactive": ("gone", PASSWORD),
        "no staff": ("nobody", PASSWORD),
    }[kind]
    answer = attempt(password, user)
    assert (answer.status_code, len(hashed), failures()) == (200, 1, 1)
    said = re.findall(r"Please enter the correct[^<]*", answer.content.decode())
    assert [" ".join(text.split()) for text in said] == [
        "Please enter the correct username and password for a staff account. Note that both fields may be case-sensitive."
    ]
    assert AuditEntry.objects.count() == 1


def test_login__guessed_at_from_many_addresses__its_user_gets_in_at_home() -> None:
    for i in range(20):
        assert attempt("wrong", address=f"203.0.113.{i}").status_code == 200
    # By user the tries are past the bound: an address that failed already waits, one that did not
    # is looked at.
    assert attempt("wrong", address="203.0.113.1").status_code == 429
    assert attempt(PASSWORD, address=HOME).status_code == 302


def test_login__browser_that_was_logged_in__is_held_up_by_nobody_else() -> None:
    browser = Client()
    assert attempt(PASSWORD, browser=browser).status_code == 302
    cookie = browser.cookies[logins.DEVICE_COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/admin/login/")
    browser.cookies.pop("sessionid")
    failed_before(12)  # from the same address, as behind one proxy
    attempt("wrong")
    assert attempt(PASSWORD).status_code == 429
    assert attempt(PASSWORD, browser=browser).status_code == 302
    # It is counted by itself, and is good for its own user alone.
    device = logins._device("root", RequestFactory(HTTP_COOKIE=f"{logins.DEVICE_COOKIE}={latest(browser)}").get("/"))
    redis_client().hset(keys().login("device", str(device)), "failures", 12)
    assert attempt("wrong", browser=browser).status_code == 200
    assert attempt(PASSWORD, browser=browser).status_code == 429
    User.objects.create_superuser("other", password=PASSWORD)
    assert attempt(PASSWORD, "other", browser=browser).status_code == 429
    forged = Client()
    value = latest(browser)
    forged.cookies[logins.DEVICE_COOKIE] = value[:-1] + ("A" if value[-1] != "A" else "B")
    assert attempt(PASSWORD, browser=forged).status_code == 429


def test_login__side_by_side__hashes_one_at_a_time_and_admits_no_more(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most = 0, 0
    watch = threading.Lock()
    encode = hashers.MD5PasswordHasher.encode

    def slow(self: Any, password: str, salt: str, *rest: Any) -> str:
        nonlocal inside, most
        with watch:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.05)
        with watch:
            inside -= 1
        return str(encode(self, password, salt, *rest))

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", slow)
    start = threading.Barrier(8)

    def one(address: str) -> int:
        start.wait()
        try:
            return int(attempt("wrong", address=address).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        spread = [status for _ in range(3) for status in pool.map(one, [f"192.0.2.{i}" for i in range(8)])]
        assert (most, set(spread)) == (1, {200, 503})
        failed_before(12)
        statuses = [status for _ in range(3) for status in pool.map(one, [ATTACKER] * 8)]
    assert (statuses.count(200), failures()) == (1, 13)
    # That no more than two are inside is asserted above; whether a third comes while the second is
    # told to wait, a few milliseconds decide.
    assert {200, 429} <= set(statuses) <= {200, 429, 503}


def test_login__hashing_takes_too_long__says_so_and_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "HASHING_SECONDS", 0.05)
    with logins._HASHING:
        answer = attempt("wrong")
    assert (answer.status_code, answer["Retry-After"], failures()) == (503, "5", 0)
    assert "Too many are logging in at this moment. Try again in 5\N{NO-BREAK SPACE}seconds." in answer.content.decode()
    assert attempt(PASSWORD).status_code == 302


def test_login__redis_away__is_possible_and_still_in_the_trail(monkeypatch: pytest.MonkeyPatch) -> None:
    away = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.2, retry=None)
    monkeypatch.setattr(logins, "client", lambda: away)
    assert [attempt("wrong").status_code for _ in range(6)] == [200] * 6
    assert attempt(PASSWORD).status_code == 302
    assert AuditEntry.objects.count() == 6


@pytest.mark.parametrize(
    ("proxies", "header", "address"),
    [
        (0, "1.2.3.4", "10.0.0.1"),
        (1, "1.2.3.4", "1.2.3.4"),
        (1, "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        (2, "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        (2, "1.2.3.4", "10.0.0.1"),
        (1, "", "unknown"),
        (1, "<script>", "unknown"),
        (1, "[2001:db8::1]", "2001:db8::1"),
    ],
)
def test_address__forwarded__is_believed_as_far_as_proxies_are_configured(
    settings: Any, proxies: int, header: str, address: str
) -> None:
    settings.PROXIES = proxies
    request = RequestFactory().post("/admin/login/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=header)
    assert logins.address_of(request) == address


def test_address__of_ipv6__is_counted_by_its_network() -> None:
    failed_before(12, "2001:db8:1:2::")
    assert attempt("wrong", address="2001:db8:1:2::1").status_code == 200
    assert attempt("wrong", address="2001:db8:1:2:ffff::9").status_code == 429
    assert attempt("wrong", address="2001:db8:1:3::1").status_code == 200
    assert logins._network("::ffff:192.0.2.1") == "192.0.2.1"


def test_form__larger_than_any_of_the_admin__is_not_read() -> None:
    body = b"username=root&password=" + b"x" * (2 << 20)
    answer = Client().post("/admin/login/", body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 413
