"""What the state root says about an open order, and all such records of one account in one piece.

The records stand in a buffer, ready to be hashed; what a block changes in it is noted and written
when the root is computed, once for each order. An account may have hundreds of open orders that
were made at different times and lie all over the memory: collecting all of their records for every
block (rejected) took longer than executing the block.
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engine.trading.book import Order

_ORDER: Final = Struct(">QIbQQQBBBQ")
"""id, market, side, price, lots, client id, time in force, self-trade mode, reduce-only,
good-til."""

_SIZE: Final = _ORDER.size


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

    __slots__ = ("_changed", "_data", "_ids")

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._data = bytearray()
        """One record after the other, nothing between."""
        self._changed: dict[int, Order | None] = {}
        """Orders that are new or have changed since then, and None for those that are gone."""

    def note(self, order: Order) -> None:
        """An order is new, with the highest id of all, or has changed."""
        self._changed[order.order_id] = order

    def remove(self, order: Order) -> None:
        """An order is gone."""
        self._changed[order.order_id] = None

    def collect(self) -> bytearray:
        """All records, up to date; not to be kept."""
        ids, data = self._ids, self._data
        for order_id, order in self._changed.items():
            if order is not None and (not ids or ids[-1] < order_id):
                ids.append(order_id)
                data += encode_order(order)
                continue
            position = bisect_left(ids, order_id)
            place = slice(_SIZE * position, _SIZE * (position + 1))
            if order is not None:
                assert ids[position] == order_id, "ids count up"
                data[place] = encode_order(order)
            elif position < len(ids) and ids[position] == order_id:
                del ids[position]
                del data[place]
        self._changed.clear()
        return data

    def forget(self) -> None:
        """Drop what was noted: only of a state that gives no root any more."""
        self._changed.clear()
