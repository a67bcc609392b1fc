"""Networks: whom a list of addresses means."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Network: TypeAlias = IPv4Network | IPv6Network


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address that is dressed as one of IPv6 (RFC 4291 section 2.5.5.2) is meant to be IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """ADDRESS or ADDRESS/BITS each. Raises ValueError, also where bits are set that the mask leaves out."""
    return tuple(ip_network(text) for text in texts)


def trusted(address: str, networks: Iterable[Network]) -> bool:
    """Whether `address` is in one of `networks`. None of them trusts nobody, and what is no IP address is in none.

    An IPv4 address that is mapped into IPv6 counts as IPv4, and a scope ("%eth0") does not count.
    """
    try:
        parsed = unmapped(ip_address(address))
    except ValueError:
        return False
    return any(parsed in network for network in networks)
