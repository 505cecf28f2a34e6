"""Where the platform is, with which key, and the pools of connections to it."""

import os
import ssl
from dataclasses import dataclass, field

import httpx

from . import transport
from .retrying import Retries

URL_VARIABLE = "NOREGRET_URL"
KEY_VARIABLE = "NOREGRET_KEY"


@dataclass(frozen=True, slots=True)
class Address:
    """`url` and `key`; where one is not given the environment's NOREGRET_URL and NOREGRET_KEY are
    read."""

    url: str
    key: str = field(repr=False)

    @classmethod
    def of(cls, url: str | None, key: str | None) -> "Address":
        """Raises ValueError."""
        url = url or os.environ.get(URL_VARIABLE, "")
        key = key or os.environ.get(KEY_VARIABLE, "")
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url, or {URL_VARIABLE}: an address as https://noregret.example.com was expected")
        if not key.isascii() or not key.isprintable() or not key:
            raise ValueError(f"key, or {KEY_VARIABLE}: an API key was expected")
        return cls(url.rstrip("/"), key)


@dataclass(frozen=True, slots=True)
class Settings:
    """`timeout`: seconds of a whole call, tries and pauses included."""

    address: Address
    timeout: float
    retries: Retries
    connections: int
    verify: bool | ssl.SSLContext

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.address.key}",
            "Accept": "application/json",
            "User-Agent": "noregret-client-python",
        }


class Pool:
    """Kept-alive connections of this process. A child that was forked opens its own: two processes
    on one connection would read each other's answers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http: httpx.Client | None = None
        self._pid = 0

    def http(self) -> httpx.Client:
        if self._http is None or self._pid != os.getpid():
            self._http = httpx.Client(
                base_url=self._settings.address.url,
                headers=self._settings.headers,
                limits=transport.limits(self._settings.connections),
                verify=self._settings.verify,
            )
            self._pid = os.getpid()
        return self._http

    def close(self) -> None:
        if self._http is not None and self._pid == os.getpid():
            self._http.close()


class AsyncPool:
    """As Pool, for one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http: httpx.AsyncClient | None = None
        self._pid = 0

    def http(self) -> httpx.AsyncClient:
        if self._http is None or self._pid != os.getpid():
            self._http = httpx.AsyncClient(
                base_url=self._settings.address.url,
                headers=self._settings.headers,
                limits=transport.limits(self._settings.connections),
                verify=self._settings.verify,
            )
            self._pid = os.getpid()
        return self._http

    async def close(self) -> None:
        if self._http is not None and self._pid == os.getpid():
            await self._http.aclose()
