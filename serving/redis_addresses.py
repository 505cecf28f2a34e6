"""Addresses of Redis and Valkey Clusters: several servers, of which the others are learned."""

import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

SCHEMES = ("redis+cluster", "rediss+cluster")
_SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s\[\]:/?#@,]+):[0-9]{1,5}")


class Address(NamedTuple):
    """Of one server. `host` is a name or an address, an IPv6 one without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """What `redis+cluster://user:password@host:port,host:port/?option=value` says."""

    scheme: str
    """Of each server: `redis`, or `rediss` over TLS."""
    credentials: str
    servers: tuple[Address, ...]
    """Those that are asked first. The others are learned from them."""
    query: str

    def of(self, server: Address) -> str:
        """The URL of one server, as redis-py reads it."""
        signs = f"{self.credentials}@" if self.credentials else ""
        return f"{self.scheme}://{signs}{server}/0" + (f"?{self.query}" if self.query else "")


def is_cluster(url: str) -> bool:
    """Does an address name a cluster?"""
    return url.partition(":")[0] in SCHEMES


def parse(url: str) -> ClusterUrl:
    """Raises ValueError, which says nothing of what `url` holds: a password may be in it."""
    scheme, _, rest = url.partition("://")
    body, _, query = rest.partition("?")
    authority, _, path = body.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    named = hosts.split(",")
    if scheme not in SCHEMES or path not in {"", "0"} or not all(map(_SERVER.fullmatch, named)):
        raise ValueError("servers as host:port, separated by commas, were expected")
    parts = [urlsplit(f"//{one}") for one in named]
    servers = tuple(Address(str(part.hostname), int(part.port or 0)) for part in parts)
    return ClusterUrl(scheme.partition("+")[0], credentials, servers, query)
