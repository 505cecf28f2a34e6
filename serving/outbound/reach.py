"""Whom models on other machines may be called at: the hosts that the operator lists, at addresses
of the internet or of the networks that the operator lists besides.

A name is resolved anew for each connection, and the connection goes to the address that was
checked: a name that leads elsewhere later on gains nothing.
"""

import ipaddress
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .addresses import AddressRefused, check_form, is_public

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Whoever reads these has the credentials of the machine: no list of networks opens them.
_METADATA = tuple(
    map(
        ipaddress.ip_address,
        (
            "168.63.129.16",  # Azure
            "100.100.100.200",  # Alibaba Cloud
            "192.0.0.192",  # Oracle Cloud
            "fd00:ec2::254",  # Amazon
            "fd20:ce::254",  # Google
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Reach:
    """`hosts`: names, `*.` before a domain for all below it, or addresses, each with a port or
    without; an empty list reaches nobody. `networks`: besides the internet's addresses, those that
    the hosts may have. `tokens`: what is sent as Bearer token, by host name.
    """

    hosts: Sequence[str] = ()
    networks: Sequence[Network] = ()
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)

    def check(self, url: str, schemes: Collection[str] = ("http", "https")) -> None:
        """What can be said without resolving the name. Raises AddressRefused."""
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise AddressRefused("no address can be read in it") from error
        if not url.isascii() or not url.isprintable() or " " in url:
            raise AddressRefused("an address of printable ASCII without spaces was expected")
        check_form(url, schemes)
        if parts.scheme.startswith("grpc") and (parts.port is None or not parts.path.strip("/")):
            raise AddressRefused(f"an address as {parts.scheme}://host:8001/model was expected")
        self.check_host(parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme))

    def check_host(self, hostname: str, port: int | None) -> None:
        """Raises AddressRefused for a host that the operator has not listed."""
        name = hostname.lower().rstrip(".")
        if not any(_is_meant(entry.lower(), name, port) for entry in self.hosts):
            raise AddressRefused(f"{hostname} is not on the list NOREGRET_REMOTE_HOSTS")

    def addresses(self, hostname: str, port: int) -> list[str]:
        """The addresses of a host that may be called, resolved now. Raises AddressRefused, OSError
        where the name can't be resolved.

        Takes as long as the system's resolver does.
        """
        self.check_host(hostname, port)
        entries = socket.getaddrinfo(hostname, port, type=socket.SOCK_STREAM)
        texts = list(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in entries))
        for text in texts:
            # Every one of them: a name that also points inside is no name of the internet.
            if not self._may_be_called(ipaddress.ip_address(text)):
                raise AddressRefused(
                    f"{hostname} is {text}, which is neither an address of the internet nor in NOREGRET_REMOTE_NETWORKS"
                )
        return texts

    def headers(self, url: str) -> dict[str, str]:
        """What is sent to this address besides: the token of its host, and of no other."""
        token = self.tokens.get((urlsplit(url).hostname or "").lower())
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    @classmethod
    def of(cls, settings: Any) -> "Reach":
        """As the deployment's settings say."""
        return cls(settings.REMOTE_HOSTS, settings.REMOTE_NETWORKS, settings.REMOTE_TOKENS)

    def _may_be_called(self, address: Address) -> bool:
        inner = _plain(address)
        if inner.is_link_local or inner.is_multicast or inner.is_unspecified or inner in _METADATA:
            return False
        if any(inner in network for network in self.networks if network.version == inner.version):
            return True
        return is_public(address)


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_meant(entry: str, name: str, port: int | None) -> bool:
    host, _, wanted = entry.rpartition(":") if _has_port(entry) else (entry, "", "")
    host = host.strip("[]")
    if wanted and port is not None and int(wanted) != port:
        return False
    return name.endswith(host[1:]) if host.startswith("*.") else name == host.rstrip(".")


def _has_port(entry: str) -> bool:
    """Is there a port behind the last colon? An IPv6 address with one has brackets."""
    before, colon, after = entry.rpartition(":")
    return bool(colon) and after.isdecimal() and (":" not in before or before.endswith("]"))
