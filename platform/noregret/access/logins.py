"""Who may try a password now: failures are counted in Redis by address and by user, and each makes
the next wait longer.

A try is counted before its password is hashed, and taken back when it was right: tries sent side by
side count like tries sent one after another. A browser that logged in before bears a signed cookie
and is counted by that alone, so nobody keeps a user out of his own browser; elsewhere an address
that has not failed of late is not held to the user's pause, which others may have brought about.
Passwords are hashed one at a time in a process, and two wait at most: hashing is meant to be slow,
and the same threads predict.

While Redis is away nothing is counted, and the one at a time is what bounds guessing.
"""

import hashlib
import ipaddress
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
import structlog
from django.conf import settings
from django.core import signing
from django.db import DatabaseError, transaction
from django.http import HttpRequest

from noregret.redis_client import client, keys
from noregret.trail import audit

log = structlog.get_logger(__name__)

KEPT_SECONDS = 3600
HASHING_SECONDS = 3.0
DEVICE_COOKIE = "noregret_device"
DEVICE_SECONDS = 90 * 86_400
_SALT = "noregret.access.logins"
_WAITING = threading.BoundedSemaphore(2)
_HASHING = threading.BoundedSemaphore(1)

# KEYS[1] {login}:address or {login}:device   KEYS[2] {login}:user, where there is one
# ARGV[1] seconds that failures are kept
# ARGV[2], ARGV[3] failures without a pause, longest pause in seconds, of KEYS[1]
# ARGV[4], ARGV[5] the same of KEYS[2]
# Returns the milliseconds to wait; 0: the try is admitted, and counted.
_ADMIT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wait = 0
local failed = tonumber(redis.call('HGET', KEYS[1], 'failures') or 0)
for i, key in ipairs(KEYS) do
    local till = tonumber(redis.call('HGET', key, 'until') or 0)
    if till > now and (i == 1 or failed > 0) then wait = math.max(wait, till - now) end
end
if wait > 0 then return wait end
for i, key in ipairs(KEYS) do
    local failures = redis.call('HINCRBY', key, 'failures', 1)
    local over = math.min(failures - tonumber(ARGV[2 * i]), 30)
    local pause = over > 0 and math.min(2 ^ (over - 1), tonumber(ARGV[2 * i + 1])) or 0
    redis.call('HSET', key, 'until', string.format('%.0f', now + 1000 * pause))
    redis.call('EXPIRE', key, ARGV[1])
end
return 0
"""
# KEYS as above: the try is none. A success clears no earlier failures: who has one account
# would guess at another's without a pause.
_TAKE_BACK = """
for _, key in ipairs(KEYS) do
    if redis.call('HINCRBY', key, 'failures', -1) <= 0 then redis.call('DEL', key) else redis.call('HSET', key, 'until', 0) end
end
"""
_BY_ADDRESS, _BY_USER = (3, 900), (10, 60)
"""Failures without a pause, and the longest pause in seconds. By user it is short: it may be
another's doing."""


class LoginPaused(Exception):
    """Not now: again after `seconds`. `busy`: it is not the caller's doing."""

    def __init__(self, seconds: int, *, busy: bool = False) -> None:
        super().__init__(f"again after {seconds} s")
        self.seconds = seconds
        self.busy = busy


@dataclass(slots=True)
class Try:
    """A try that was admitted. It counts as a failure until `right`."""

    username: str
    address: str
    subjects: list[str]
    right: bool = False


@contextmanager
def a_try(username: str, request: HttpRequest) -> Iterator[Try]:
    """Around the check of a password. Raises LoginPaused."""
    if not _WAITING.acquire(blocking=False):
        raise LoginPaused(5, busy=True)
    try:
        attempt = Try(username, address_of(request), _subjects(username, request))
        _admit(attempt)
        if not _HASHING.acquire(timeout=HASHING_SECONDS):
            _take_back(attempt)
            raise LoginPaused(5, busy=True)
        try:
            yield attempt
        except BaseException:  # the password was not checked: the database is away
            _take_back(attempt)
            raise
        finally:
            _HASHING.release()
    finally:
        _WAITING.release()
    if attempt.right:
        _take_back(attempt)
    else:
        _record(attempt)


def _subjects(username: str, request: HttpRequest) -> list[str]:
    device = _device(username, request)
    if device is not None:
        return [keys().login("device", device)]
    user = hashlib.sha256(username.encode("utf-8", "surrogatepass")).hexdigest()
    return [keys().login("address", _network(address_of(request))), keys().login("user", user)]


def _admit(attempt: Try) -> None:
    limits = [number for bounds in (_BY_ADDRESS, _BY_USER)[: len(attempt.subjects)] for number in bounds]
    try:
        wait = client().eval(_ADMIT, len(attempt.subjects), *attempt.subjects, KEPT_SECONDS, *limits)
    except redis.RedisError as error:
        log.warning("login not counted", error=str(error))
        return
    if wait:
        raise LoginPaused(-(-int(wait) // 1000))


def _take_back(attempt: Try) -> None:
    try:
        client().eval(_TAKE_BACK, len(attempt.subjects), *attempt.subjects)
    except redis.RedisError as error:
        log.warning("login not taken back", error=str(error))


def _record(attempt: Try) -> None:
    """In the audit trail. What was typed as the user's name may be a password: only who may read
    the trail sees it."""
    typed = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in attempt.username[:150])
    log.warning("login failed", address=attempt.address)
    try:
        with transaction.atomic():
            audit.record(actor="unknown", action="login.failed", details={"user": typed, "address": attempt.address})
    except DatabaseError as error:
        log.error("failed login not recorded", error=str(error))


def address_of(request: HttpRequest) -> str:
    """The caller's address; behind NOREGRET_PROXIES proxies, what the first of them saw. What a
    caller writes himself is not believed."""
    direct = str(request.META.get("REMOTE_ADDR") or "")
    proxies: int = settings.PROXIES
    told = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    text = told[-proxies] if 0 < proxies <= len(told) else direct
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").partition("]")[0]))
    except ValueError:
        return "unknown"


def _network(address: str) -> str:
    """What one subscriber has: an address, or of IPv6 a network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return address


def device_cookie(username: str) -> str:
    """For the browser that has just logged in as `username`."""
    return signing.dumps([username, secrets.token_urlsafe(16)], salt=_SALT)


def _device(username: str, request: HttpRequest) -> str | None:
    """The browser's number, if it bears a cookie of this user's."""
    try:
        whose, device = signing.loads(request.COOKIES.get(DEVICE_COOKIE, ""), salt=_SALT, max_age=DEVICE_SECONDS)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return str(device) if whose == username else None
