"""Counting what strangers do wrong, while nothing is known of them but their address."""

import ipaddress
from collections import OrderedDict
from typing import Final

ADDRESSES_MAX: Final = 4096
"""Addresses counted at once; the one that did nothing wrong for longest is forgotten first."""

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


class WindowCount:
    """How often something happened in the current window. A window begins with a first time and is
    forgotten when it is over. Times are in seconds of any one clock."""

    __slots__ = ("_count", "_started_s", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._count = 0
        self._started_s = 0.0

    def add(self, now_s: float, count: int = 1) -> None:
        """Count some more."""
        if self.within(now_s) == 0:
            self._count, self._started_s = 0, now_s
        self._count += count

    def within(self, now_s: float) -> int:
        """How many there are in the window of now."""
        return self._count if now_s < self._started_s + self._window_s else 0


class AddressCounts:
    """The same for each address (`group_address`), for a bounded number of them."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._counts: OrderedDict[str, WindowCount] = OrderedDict()
        """The address that was counted last comes last."""

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, address: str, now_s: float, count: int = 1) -> None:
        """Count some more of an address."""
        self._counts.setdefault(address, WindowCount(self._window_s)).add(now_s, count)
        self._counts.move_to_end(address)
        if len(self._counts) > ADDRESSES_MAX:
            self._counts.popitem(last=False)

    def within(self, address: str, now_s: float) -> int:
        """How many there are of an address in the window of now."""
        counted = self._counts.get(address)
        return 0 if counted is None else counted.within(now_s)
