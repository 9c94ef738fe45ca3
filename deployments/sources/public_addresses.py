"""Which addresses belong to the public internet, and connections that go to a checked one."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from aiohttp.abc import AbstractResolver, ResolveResult

LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
"""Where the IPv4 address stands in it is up to each network."""

EMBEDDED = {
    ipaddress.IPv6Network("64:ff9b::/96"): 0,
    ipaddress.IPv6Network("2002::/16"): 80,
}
"""IPv6 networks whose addresses hold an IPv4 address → how many bits lie below it."""

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port → its addresses."""


def is_public(address: str) -> bool:
    """Whether an address is a unicast one of the public internet, also inside IPv6 ones.

    Args:
        address: IPv4 or IPv6.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found.teredo is not None or found in LOCAL_NAT64:
            return False
        for network, n_below in EMBEDDED.items():
            if found in network:
                inside = (int(found) >> n_below) & 0xFFFFFFFF
                return is_public(str(ipaddress.IPv4Address(inside)))
        if int(found) >> 32 == 0:  # ::a.b.c.d, no longer in use
            return False
    return found.is_global and not (found.is_multicast or found.is_reserved)


class Pinned(AbstractResolver):
    """Knows the addresses that were checked, and looks nothing up.

    Args:
        addresses: IPv4 or IPv6.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses that were checked, whatever the name."""
        return [
            ResolveResult(
                hostname=host, host=address, port=port, proto=0,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]  # fmt: skip

    async def close(self) -> None:
        """There is nothing to close."""


async def system_lookup(host: str, port: int) -> list[str]:
    """The addresses that the system knows.

    Raises:
        OSError: none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]
