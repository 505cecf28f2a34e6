"""Which addresses this service may call for others: those of the internet, and private ones only
where the operator says so.

A webhook, or a model on another machine, makes this service send requests: without this check
whoever may manage experiments could reach every server that the service can. The name is resolved
once, and the request goes to the address that was checked.
"""

import ipaddress
import socket
import threading
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit


class AddressRefused(ValueError):
    """The address is none that may be called."""


@dataclass(frozen=True, slots=True)
class Target:
    """A checked address: `url` names the IP address, `host` what the Host header and the
    certificate have to say."""

    url: str
    host: str
    hostname: str


def check_form(url: str, schemes: Collection[str] = ("http", "https")) -> None:
    """What can be said without resolving the name. Raises AddressRefused."""
    parts = urlsplit(url)
    if parts.scheme not in schemes or not parts.hostname:
        raise AddressRefused(f"an {' or '.join(schemes)} address was expected")
    if parts.username or parts.password:
        raise AddressRefused("an address without user and password was expected")
    try:
        port = parts.port
    except ValueError as error:
        raise AddressRefused("a port from 1 to 65535 was expected") from error
    if port == 0:
        raise AddressRefused("a port from 1 to 65535 was expected")


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
        if not allow_private and not is_public(address):
            raise AddressRefused(f"{hostname} is {address}, which is not an address of the internet")
    if not addresses:
        raise AddressRefused(f"{hostname} has no address")
    ip = addresses[0]
    literal = f"[{ip}]" if ip.version == 6 else str(ip)
    return Target(
        urlunsplit((parts.scheme, f"{literal}:{port}", parts.path or "/", parts.query, "")), parts.netloc, hostname
    )


def check(url: str, *, allow_private: bool, seconds: float) -> None:
    """Resolve and check for whoever waits: a name that is not resolved within so long may pass, for
    each request checks it anew.

    Raises AddressRefused.
    """
    refusals: list[AddressRefused] = []

    def look() -> None:
        try:
            resolve(url, allow_private=allow_private)
        except AddressRefused as refusal:
            refusals.append(refusal)
        except (OSError, UnicodeError):
            pass  # not known today

    check_form(url)
    # The resolver can't be given a deadline, only left.
    looking = threading.Thread(target=look, name="resolve", daemon=True)
    looking.start()
    looking.join(seconds)
    if refusals:
        raise refusals[0]


# What Python's registry calls global and no host of the internet has: relays and mechanisms that
# lead to an IPv4 address inside.
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.0.0.0/24",  # protocol assignments, RFC 6890
        "192.31.196.0/24",  # AS112, RFC 7535
        "192.175.48.0/24",  # AS112, RFC 7534
        "168.63.129.16/32",  # a cloud's platform services, on the public side of the number plan
        "3fff::/20",  # documentation, RFC 9637
    )
)
_INTERNET_6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ISATAP = {0x5EFE, 0x02005EFE}  # the upper half of an interface identifier that holds an IPv4 address, RFC 5214


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Is it an address of the internet, and leads nowhere else?"""
    if any(address in network for network in _SPECIAL if network.version == address.version):
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _NAT64 or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address not in _INTERNET_6:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
