"""One market's order book: price-time priority, both sides the same code.

A side keeps its prices as *keys*: the price itself for bids, its negative for asks. So the best
price is always the greatest key, a sorted list holds it last (taking it off is O(1), inserting
near it is cheap), and an incoming order crosses a level iff the level's key is at least the
incoming order's threshold. Inside a level orders form an intrusive doubly linked list, oldest
first: every removal is O(1).

The queue of a level is in the order of the ids: an id is given when an order is accepted, the
order rests in that same step or not at all, and whatever would change priority gives a new id.
Snapshots rely on it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.accounts.account import Exposure
    from engine.instructions import SelfTradeMode, TimeInForce


class Order:
    """A resting order."""

    __slots__ = (
        "client_id",
        "exposure",
        "good_til_ms",
        "lots",
        "newer",
        "older",
        "order_id",
        "price",
        "reduce_only",
        "self_trade",
        "side",
        "tif",
    )

    def __init__(
        self,
        order_id: int,
        exposure: Exposure,
        side: int,
        price: int,
        lots: int,
        client_id: int,
        tif: TimeInForce,
        self_trade: SelfTradeMode,
        reduce_only: bool,
        good_til_ms: int,
    ) -> None:
        self.order_id = order_id
        self.exposure = exposure
        self.side = side
        self.price = price
        self.lots = lots
        self.client_id = client_id
        self.tif = tif
        self.self_trade = self_trade
        self.reduce_only = reduce_only
        self.good_til_ms = good_til_ms
        self.older: Order | None = None
        self.newer: Order | None = None


class Level:
    """All orders at one price of one side: at least one, or the level is not there."""

    __slots__ = ("count", "head", "lots", "tail")

    def __init__(self, order: Order) -> None:
        self.head = order
        """The oldest order: the next to trade."""
        self.tail = order
        self.lots = order.lots
        self.count = 1


class BookSide:
    """All bids or all asks, for reading; `Book` changes them."""

    __slots__ = ("keys", "levels", "order_count", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        """+1 for bids, -1 for asks: key = sign * price."""
        self.keys: list[int] = []
        """Every price with orders, as keys in rising order: the best is last."""
        self.levels: dict[int, Level] = {}
        self.order_count = 0

    def crossed_orders(self, threshold: int) -> Iterator[Order]:
        """The orders at keys of at least `threshold`, in priority; the side must not change."""
        keys = self.keys
        for position in range(len(keys) - 1, -1, -1):
            key = keys[position]
            if key < threshold:
                return
            order: Order | None = self.levels[key].head
            while order is not None:
                yield order
                order = order.newer

    def compute_depth(self, threshold: int, lots: int, levels_max: int) -> tuple[int, int]:
        """Lots at keys of at least `threshold`, best first, and how many levels were read for it.

        The count ends once `lots` are found or `levels_max` levels were read.
        """
        keys = self.keys
        depth_lots = 0
        levels = 0
        while levels < min(levels_max, len(keys)) and depth_lots < lots:
            key = keys[-1 - levels]
            if key < threshold:
                break
            depth_lots += self.levels[key].lots
            levels += 1
        return depth_lots, levels

    def last_order(self) -> Order:
        """The order that would trade last, on a side that is not empty."""
        return self.levels[self.keys[0]].tail

    def best_price(self) -> int | None:
        """The best price in ticks, or None if the side is empty."""
        return self.sign * self.keys[-1] if self.keys else None


class Book:
    """Bids and asks of one market.

    Adding and removing are the most frequent steps of the engine, so each is one call that finds
    side and level itself.
    """

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = BookSide(1)
        self.asks = BookSide(-1)

    @property
    def order_count(self) -> int:
        """The orders of both sides."""
        return self.bids.order_count + self.asks.order_count

    def add(self, order: Order) -> None:
        """Append a new order to the queue of its price."""
        is_bid = order.side > 0
        side = self.bids if is_bid else self.asks
        key = order.price if is_bid else -order.price
        level = side.levels.get(key)
        if level is None:
            side.levels[key] = Level(order)
            insort(side.keys, key)
        else:
            tail = level.tail
            tail.newer = order
            order.older = tail
            level.tail = order
            level.lots += order.lots
            level.count += 1
        side.order_count += 1

    def remove(self, order: Order) -> None:
        """Take an order out of its queue, and its level away if it was the last."""
        is_bid = order.side > 0
        side = self.bids if is_bid else self.asks
        key = order.price if is_bid else -order.price
        side.order_count -= 1
        older = order.older
        newer = order.newer
        level = side.levels[key]
        if older is None:
            if newer is None:
                del side.levels[key]
                keys = side.keys
                if keys[-1] == key:
                    keys.pop()
                else:
                    del keys[bisect_left(keys, key)]
                return
            level.head = newer
            newer.older = None
        elif newer is None:
            level.tail = older
            older.newer = None
        else:
            older.newer = newer
            newer.older = older
        order.older = order.newer = None
        level.lots -= order.lots
        level.count -= 1

    def reduce(self, order: Order, lots: int) -> None:
        """Shrink an order in place by less than its size; it keeps its priority."""
        assert 0 < lots < order.lots
        is_bid = order.side > 0
        side = self.bids if is_bid else self.asks
        order.lots -= lots
        side.levels[order.price if is_bid else -order.price].lots -= lots

    def opposite(self, side: int) -> BookSide:
        """The side against which orders of `side` trade."""
        return self.asks if side > 0 else self.bids

    def find_displaced(self, side: int, price: int, orders_max: int) -> Order | None:
        """Which order of a full book gives its place to a new one at `price`, if any does.

        Half of the places are each side's. Where the other side has more it gives one back;
        otherwise the new order must be better than the last of its own side.
        """
        others = self.opposite(side)
        if 2 * others.order_count > orders_max:
            return others.last_order()
        own = self.opposite(-side)
        if own.keys and own.keys[0] < side * price:
            return own.last_order()
        return None

    def is_crossed(self) -> bool:
        """Whether the best bid reaches the best ask: never, after a block."""
        bids = self.bids.keys
        asks = self.asks.keys
        return bool(bids) and bool(asks) and bids[-1] >= -asks[-1]
