"""Which addresses a webhook may name: those of the internet, and private ones only where the operator says so.

A webhook makes this service send requests: without this check whoever may manage experiments could reach every server that the service
can. The name is resolved once, and the request goes to the address that was checked.
"""

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit


class AddressRefused(ValueError):
    """The address is none that may be called."""


@dataclass(frozen=True, slots=True)
class Target:
    """A checked address: `url` names the IP address, `host` what the Host header and the certificate have to say."""

    url: str
    host: str
    hostname: str


def check_form(url: str) -> None:
    """What can be said without resolving the name. Raises AddressRefused."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise AddressRefused("an http or https address was expected")
    if parts.username or parts.password:
        raise AddressRefused("an address without user and password was expected")


def resolve(url: str, *, allow_private: bool) -> Target:
    """Resolve and check. Raises AddressRefused, OSError where the name can't be resolved."""
    check_form(url)
    parts = urlsplit(url)
    hostname = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = socket.getaddrinfo(hostname, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(entry[4][0]).split("%")[0]) for entry in found]
    for address in addresses:
        # Every one of them: a name that also points inside is no name of the internet.
        if not allow_private and not _is_public(address):
            raise AddressRefused(f"{hostname} is {address}, which is not an address of the internet")
    if not addresses:
        raise AddressRefused(f"{hostname} has no address")
    ip = addresses[0]
    literal = f"[{ip}]" if ip.version == 6 else str(ip)
    return Target(
        urlunsplit((parts.scheme, f"{literal}:{port}", parts.path or "/", parts.query, "")), parts.netloc, hostname
    )


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast
