"""What the state root says about an open order, and all such records of one account in one piece.

The records stand in a buffer, ready to be hashed. An account may have hundreds of open orders
that were made at different times and lie all over the memory: collecting their records for every
block (rejected) took longer than executing the block.
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.book import Order

_ORDER = Struct(">QIbQQQBBBQ")
"""id, market, side, price, lots, client id, time in force, self-trade mode, reduce-only,
good-til."""

_SIZE = _ORDER.size


def encode_order(order: Order) -> bytes:
    """The committed form of one open order."""
    return _ORDER.pack(
        order.order_id,
        order.exposure.market.market_id,
        order.side,
        order.price,
        order.lots,
        order.client_id,
        order.tif,
        order.self_trade,
        order.reduce_only,
        order.good_til_ms,
    )


class OrderRecords:
    """The records of an account's open orders, by id."""

    __slots__ = ("_ids", "data")

    def __init__(self) -> None:
        self._ids: list[int] = []
        self.data = bytearray()
        """One record after the other, nothing between."""

    def add(self, order: Order) -> None:
        """Append a new order: the newest has the highest id."""
        assert not self._ids or self._ids[-1] < order.order_id, "ids count up"
        self._ids.append(order.order_id)
        self.data += encode_order(order)

    def remove(self, order: Order) -> None:
        """Take out the record of an order."""
        position = bisect_left(self._ids, order.order_id)
        del self._ids[position]
        del self.data[_SIZE * position : _SIZE * (position + 1)]

    def replace(self, order: Order) -> None:
        """Write the record of an order that has changed."""
        position = bisect_left(self._ids, order.order_id)
        self.data[_SIZE * position : _SIZE * (position + 1)] = encode_order(order)
