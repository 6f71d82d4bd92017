"""What waits outside the books for a price or a time, and the tables that find what is due.

Conditional orders (stop, take-profit, trailing) and TWAP orders have ids and client ids like open
orders, but no place in a queue and no margin. Each market keeps the fixed triggers in sorted
lists, so that a price that moves costs only what it reaches. Only trailing stops are read one by
one, for their triggers move along; that is why a market has fewer of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from engine.instructions import TriggerSource

if TYPE_CHECKING:
    from engine.accounts.account import Account
    from engine.instructions import SelfTradeMode, TimeInForce
    from engine.trading.market import Market

_LAST: Final = TriggerSource.LAST
_PLACE: Final = itemgetter(0, 1)

_CONDITIONAL: Final = Struct(">BQIbbBqQQQQQBBBQQB")
"""1, id, market, side, sense, source, trigger, price, offset, slack, lots, client id, time in
force, self-trade mode, reduce-only, good-til, partner, fired."""

_TWAP: Final = Struct(">BQIbQQQQQQQBBQ")
"""2, id, market, side, price, size, lots, start, interval, slices, next slice, self-trade mode,
reduce-only, client id."""

_DEADLINE: Final = Struct(">BQ")
"""3, the dead man's deadline."""

Key = TypeVar("Key", int, bytes, tuple[bytes, bytes])


class Waiting:
    """What all orders that wait have in common."""

    __slots__ = (
        "account",
        "client_id",
        "lots",
        "market",
        "order_id",
        "price",
        "reduce_only",
        "self_trade",
        "side",
    )

    def __init__(
        self,
        order_id: int,
        account: Account,
        market: Market,
        side: int,
        price: int,
        lots: int,
        client_id: int,
        self_trade: SelfTradeMode,
        reduce_only: bool,
    ) -> None:
        self.order_id = order_id
        self.account = account
        self.market = market
        self.side = side
        self.price = price
        """The worst acceptable price; 0 for a trailing stop, which has it from its trigger."""
        self.lots = lots
        """What is still to be traded."""
        self.client_id = client_id
        self.self_trade = self_trade
        self.reduce_only = reduce_only


class Conditional(Waiting):
    """A stop, take-profit or trailing order."""

    __slots__ = (
        "good_til_ms",
        "is_fired",
        "offset",
        "partner",
        "sense",
        "slack",
        "source",
        "tif",
        "trigger",
    )

    def __init__(
        self,
        order_id: int,
        account: Account,
        market: Market,
        side: int,
        price: int,
        lots: int,
        client_id: int,
        self_trade: SelfTradeMode,
        reduce_only: bool,
        sense: int,
        source: TriggerSource,
        trigger: int,
        offset: int,
        slack: int,
        tif: TimeInForce,
        good_til_ms: int,
    ) -> None:
        super().__init__(
            order_id, account, market, side, price, lots, client_id, self_trade, reduce_only
        )
        self.sense = sense
        """+1: fires at or below its trigger; -1: at or above it."""
        self.source = source
        self.trigger = trigger
        """Ticks. A trailing one's may be out of the range of prices: then it is out of reach."""
        self.offset = offset
        """Ticks between source and trigger of a trailing stop; 0 for all others."""
        self.slack = slack
        self.tif = tif
        self.good_til_ms = good_til_ms
        self.partner = 0
        """The id of the other leg of a pair, which waits or rests; 0 for none."""
        self.is_fired = False
        """Its trigger was reached, but so many were that it is for the next block to run it."""


class Twap(Waiting):
    """A time-weighted order: slices at equal intervals."""

    __slots__ = ("interval_ms", "next_slice", "size", "slices", "start_ms")

    def __init__(
        self,
        order_id: int,
        account: Account,
        market: Market,
        side: int,
        price: int,
        lots: int,
        client_id: int,
        self_trade: SelfTradeMode,
        reduce_only: bool,
        size: int,
        start_ms: int,
        interval_ms: int,
        slices: int,
        next_slice: int,
    ) -> None:
        super().__init__(
            order_id, account, market, side, price, lots, client_id, self_trade, reduce_only
        )
        self.size = size
        """Of the whole order."""
        self.start_ms = start_ms
        self.interval_ms = interval_ms
        self.slices = slices
        self.next_slice = next_slice
        """From 1 to `slices`."""

    def due_ms(self) -> int:
        """When the next slice runs."""
        return self.start_ms + self.next_slice * self.interval_ms


def encode_waiting(order: Waiting) -> bytes:
    """The committed form of one order that waits."""
    if isinstance(order, Conditional):
        return _CONDITIONAL.pack(
            1,
            order.order_id,
            order.market.market_id,
            order.side,
            order.sense,
            order.source,
            order.trigger,
            order.price,
            order.offset,
            order.slack,
            order.lots,
            order.client_id,
            order.tif,
            order.self_trade,
            order.reduce_only,
            order.good_til_ms,
            order.partner,
            order.is_fired,
        )
    assert isinstance(order, Twap)
    return _TWAP.pack(
        2,
        order.order_id,
        order.market.market_id,
        order.side,
        order.price,
        order.size,
        order.lots,
        order.start_ms,
        order.interval_ms,
        order.slices,
        order.next_slice,
        order.self_trade,
        order.reduce_only,
        order.client_id,
    )


def encode_deadline(deadline_ms: int) -> bytes:
    """The committed form of a dead man's deadline."""
    return _DEADLINE.pack(3, deadline_ms)


class Agenda(Generic[Key]):
    """Keys by the time at which they are due: a sorted list, so nothing in it is ever stale."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: list[tuple[int, Key]] = []

    def entries(self) -> list[tuple[int, Key]]:
        """All of it, by time and key."""
        return list(self._entries)

    def add(self, time_ms: int, key: Key) -> None:
        """Note a key, once for each time."""
        insort(self._entries, (time_ms, key))

    def remove(self, time_ms: int, key: Key) -> None:
        """Take out what was added."""
        position = bisect_left(self._entries, (time_ms, key))
        assert self._entries[position] == (time_ms, key), "only what was added is removed"
        del self._entries[position]

    def due(self, time_ms: int) -> list[Key]:
        """The keys of this time and before, by time and key; they stay until they are removed."""
        keys: list[Key] = []
        for due_ms, key in self._entries:
            if due_ms > time_ms:
                break
            keys.append(key)
        return keys

    def due_first(self, time_ms: int, count: int) -> list[Key]:
        """Like `due`, but at most so many of them."""
        return [key for due_ms, key in self._entries[:count] if due_ms <= time_ms]


class Watch:
    """All that waits in one market."""

    __slots__ = ("count", "fired", "last_count", "standing", "trailing")

    def __init__(self) -> None:
        self.count = 0
        """Conditional and TWAP orders."""
        self.last_count = 0
        """Those of them that watch the trades."""
        self.fired: dict[int, Conditional] = {}
        """Conditional orders that have been reached and not run yet, by id."""
        self.trailing: dict[int, Conditional] = {}
        """Trailing stops that have not been reached, by id."""
        self.standing: list[list[tuple[int, int, Conditional]]] = [
            [] for _ in range(2 * len(TriggerSource))
        ]
        """(sense x trigger, id, order) of the others, by source and sense: reached from the end."""

    def add(self, order: Waiting) -> None:
        """Take up an order."""
        self.count += 1
        if not isinstance(order, Conditional):
            return
        if order.is_fired:
            self.fired[order.order_id] = order
            return
        if order.source == _LAST:
            self.last_count += 1
        if order.offset:
            self.trailing[order.order_id] = order
        else:
            entries = self.standing[2 * order.source + (order.sense < 0)]
            insort(entries, (order.sense * order.trigger, order.order_id, order))

    def remove(self, order: Waiting) -> None:
        """Let go of an order."""
        self.count -= 1
        if not isinstance(order, Conditional):
            return
        if order.is_fired:
            del self.fired[order.order_id]
            return
        if order.source == _LAST:
            self.last_count -= 1
        if order.offset:
            del self.trailing[order.order_id]
        else:
            entries = self.standing[2 * order.source + (order.sense < 0)]
            place = (order.sense * order.trigger, order.order_id)
            del entries[bisect_left(entries, place, key=_PLACE)]

    def reach(self, source: TriggerSource, low: int, high: int, last: int) -> list[Conditional]:
        """A source was at prices from `low` to `high`, at last at `last`: return what changed.

        What is reached by one of these prices has fired. A trailing stop is held against its
        trigger as it was, and only then moves on.
        """
        fired: list[Conditional] = []
        moved: list[Conditional] = []
        for sense, price in ((1, low), (-1, high)):
            entries = self.standing[2 * source + (sense < 0)]
            while entries and entries[-1][0] >= sense * price:
                fired.append(entries.pop()[2])
        for order in self.trailing.values():
            if order.source != source:
                continue
            sense = order.sense
            if sense * order.trigger >= sense * (low if sense > 0 else high):
                fired.append(order)
                continue
            trigger = last - sense * order.offset
            if sense * trigger > sense * order.trigger:
                order.trigger = trigger
                moved.append(order)
        for order in fired:
            order.is_fired = True
            self.fired[order.order_id] = order
            if order.source == _LAST:
                self.last_count -= 1
            if order.offset:
                del self.trailing[order.order_id]
        return fired + moved
