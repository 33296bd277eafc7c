"""Whom a request counts for: the address of its connection, or what a trusted proxy says in its place."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_of(address: str | None) -> str:
    """Return whom an address counts for: itself, or its network of 64 bits, which one machine has to itself in IPv6.

    Example:
        >>> client_of("192.0.2.7"), client_of("2001:db8::7:7"), client_of(None)
        ('192.0.2.7', '2001:db8::', '')
    """
    ip = _address(address or "")
    if ip is None:
        return (address or "")[:100]
    return str(ip) if isinstance(ip, ipaddress.IPv4Address) else str(ipaddress.IPv6Address(int(ip) >> 64 << 64))


class Proxies:
    """The proxies that are trusted to say whose requests they pass on; none by default.

    Args:
        networks: their addresses or networks.

    Raises:
        ValueError: for what is neither.

    Example:
        >>> proxies = Proxies(["10.0.0.0/8"])
        >>> proxies.speaker("10.0.0.1", [(b"x-forwarded-for", b"192.0.2.66, 192.0.2.7, 10.0.0.2")])
        '192.0.2.7'
        >>> proxies.speaker("192.0.2.7", [(b"x-forwarded-for", b"192.0.2.8")])
        '192.0.2.7'
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[_Network] = [ipaddress.ip_network(network, strict=False) for network in networks]

    def trusts(self, address: str | None) -> bool:
        """Return whether an address is that of a trusted proxy."""
        ip = _address(address or "") if self._networks else None
        return ip is not None and any(ip in network for network in self._networks)

    def speaker(self, address: str | None, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
        """Return the address of who asks, or whatever a trusted proxy says in its place.

        Of the addresses in X-Forwarded-For the last one that is no trusted proxy's: what stands before it was written
        by whoever it belongs to.

        Args:
            address: of the connection.
            headers: of the request, names in lower case.
        """
        if not self.trusts(address):
            return address
        forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
        hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
        return next((hop for hop in reversed(hops) if not self.trusts(hop)), address)


def _address(text: str) -> _Address | None:
    """Return an address, with or without a zone or a port; an IPv4 address written as IPv6 is the former."""
    bare = text.partition("%")[0]
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        ip = ipaddress.ip_address(bare)
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
