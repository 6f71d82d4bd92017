"""Which connections count as one sender's, while nothing is known of them but their address."""

import ipaddress
from typing import Final

IPV6_PREFIX_BITS: Final = 64
"""What one customer of a network gets, at least."""


def group_address(host: str) -> str:
    """What a host is counted as: its IPv4 address, or the IPv6 network that one customer gets, as a
    single machine may use any address of it."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_PREFIX_BITS), strict=False))
