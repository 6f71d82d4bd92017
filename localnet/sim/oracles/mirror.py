"""An order book of our own: what orders must come to, worked out by rules written down here.

Price first, then the lower id; up to the limit; never with one's own orders. Plain and slow: a
sorted list for each side, and every order by its id.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from typing import NamedTuple

from engine.instructions import Amend, Cancel, CancelAll, PlaceOrder, SelfTradeMode, Side
from engine.instructions import TimeInForce as Lasts
from engine.receipts import ReasonCode, Receipt, Status


@dataclass(slots=True)
class Open:
    """An order that waits."""

    order_id: int
    owner: bytes
    order: PlaceOrder
    lots: int

    @property
    def place(self) -> tuple[int, int]:
        """The best comes first."""
        return (-int(self.order.side) * self.order.price_ticks, self.order_id)


class Trade(NamedTuple):
    """What a fill must say, but for the fees."""

    market: int
    price_ticks: int
    size_lots: int
    taker_side: Side
    maker_order_id: int
    taker_order_id: int
    maker: bytes
    taker: bytes
    maker_resting_lots: int


class Loss(NamedTuple):
    """What an event of an order must say."""

    order_id: int
    code: ReasonCode
    removed_lots: int
    resting_lots: int


class Mirror:
    """All open orders, with what the height in hand has done so far."""

    def __init__(self, markets: Container[int]) -> None:
        self._markets = markets
        self.orders: dict[int, Open] = {}
        self._sides: defaultdict[tuple[int, Side], list[tuple[int, int]]] = defaultdict(list)
        self.trades: list[Trade] = []
        self.losses: list[Loss] = []

    def begin(self) -> None:
        """Forget what the last height did."""
        self.trades.clear()
        self.losses.clear()

    def of(self, owner: bytes) -> list[Open]:
        """An owner's open orders, oldest first."""
        return [each for _, each in sorted(self.orders.items()) if each.owner == owner]

    # ---- what owners and time do ---------------------------------------------------------------

    def expire(self, time_ms: int) -> None:
        """End what was good until now."""
        ended = [
            (each.order.good_til_ms, order_id)
            for order_id, each in self.orders.items()
            if 0 < each.order.good_til_ms <= time_ms
        ]
        for _, order_id in sorted(ended):
            self._lose(self.orders[order_id], ReasonCode.ORDER_EXPIRED)

    def cancel(
        self, owner: bytes, ask: Cancel | CancelAll | Amend
    ) -> tuple[Status, ReasonCode, int, int] | PlaceOrder:
        """Carry out a cancel or an amend: status, reason, order and number of cancelled orders of
        the receipt, or the order that is to be placed instead."""
        if isinstance(ask, CancelAll):
            if ask.market is not None and ask.market not in self._markets:
                return Status.REFUSED, ReasonCode.ORDER_UNKNOWN_MARKET, 0, 0
            chosen = [each for each in self.of(owner) if ask.market in (None, each.order.market)]
            for each in chosen:
                self._lose(each, ReasonCode.ORDER_CANCELLED_BY_OWNER)
            return Status.CANCELLED, ReasonCode.OK, 0, len(chosen)
        if bool(ask.order_id) == bool(ask.client_id):
            return Status.REFUSED, ReasonCode.ORDER_REFERENCE_INVALID, 0, 0
        found = next(
            (
                each
                for each in self.of(owner)
                if (ask.order_id or ask.client_id)
                == (each.order_id if ask.order_id else each.order.client_id)
            ),
            None,
        )
        if found is None:
            return Status.REFUSED, ReasonCode.ORDER_UNKNOWN, 0, 0
        if isinstance(ask, Cancel):
            self._remove(found)
            return Status.CANCELLED, ReasonCode.OK, found.order_id, 1
        if ask.size_lots <= 0:
            return Status.REFUSED, ReasonCode.ORDER_SIZE_NOT_POSITIVE, found.order_id, 0
        if ask.price_ticks == found.order.price_ticks and ask.size_lots <= found.lots:
            found.lots = ask.size_lots
            return Status.ACCEPTED, ReasonCode.OK, found.order_id, 0
        self._lose(found, ReasonCode.ORDER_CANCELLED_BY_OWNER)
        old = found.order
        return PlaceOrder(
            old.market,
            old.side,
            ask.price_ticks,
            ask.size_lots,
            old.tif,
            old.reduce_only,
            old.self_trade,
            old.client_id,
            old.good_til_ms,
        )

    # ---- trading -------------------------------------------------------------------------------

    def place(self, receipt: Receipt, owner: bytes, order: PlaceOrder) -> Receipt:
        """Match an order that was admitted; returns what its receipt must say, but for money."""
        order_id, lots = receipt.order_id, order.size_lots
        filled, absorbed, is_stopped = 0, 0, False
        opposite = self._sides[order.market, Side(-order.side)]
        while lots and not is_stopped and opposite:
            best = self.orders[opposite[0][1]]
            if int(order.side) * (order.price_ticks - best.order.price_ticks) < 0:
                break
            traded = min(lots, best.lots)
            if best.owner == owner:
                is_stopped = order.self_trade in (
                    SelfTradeMode.CANCEL_TAKER,
                    SelfTradeMode.CANCEL_BOTH,
                )
                if order.self_trade == SelfTradeMode.DECREMENT:
                    lots -= traded
                    absorbed += traded
                    self._lose(best, ReasonCode.ORDER_SELF_TRADE, traded)
                elif order.self_trade != SelfTradeMode.CANCEL_TAKER:
                    self._lose(best, ReasonCode.ORDER_SELF_TRADE)
                continue
            assert order.tif is not Lasts.POST_ONLY, f"post-only order {order_id} would trade"
            lots -= traded
            filled += traded
            self._reduce(best, traded)
            self.trades.append(
                Trade(
                    order.market,
                    best.order.price_ticks,
                    traded,
                    order.side,
                    best.order_id,
                    order_id,
                    best.owner,
                    owner,
                    best.lots,
                )
            )
        code = ReasonCode.ORDER_SELF_TRADE if is_stopped or absorbed else ReasonCode.OK
        left = 0 if is_stopped else lots
        assert not left or order.tif is not Lasts.FOK, (
            f"fill-or-kill order {order_id} fills in part"
        )
        if left and order.tif is Lasts.IOC:
            code, left = ReasonCode.ORDER_IOC_REMAINDER, 0
        if left:
            self._add(Open(order_id, owner, order, left))
        if filled:
            status = Status.FILLED if filled == order.size_lots else Status.PARTIALLY_FILLED
        else:
            status = Status.RESTING if left else Status.CANCELLED
        return Receipt(
            receipt.envelope_id, receipt.index, status, code, order_id, filled, resting_lots=left
        )

    # ---- the lists -----------------------------------------------------------------------------

    def _side(self, each: Open) -> list[tuple[int, int]]:
        return self._sides[each.order.market, each.order.side]

    def _add(self, each: Open) -> None:
        self.orders[each.order_id] = each
        insort(self._side(each), each.place)

    def _remove(self, each: Open) -> None:
        del self.orders[each.order_id]
        side = self._side(each)
        del side[bisect_left(side, each.place)]

    def _reduce(self, each: Open, lots: int) -> None:
        each.lots -= lots
        if not each.lots:
            self._remove(each)

    def _lose(self, each: Open, code: ReasonCode, lots: int | None = None) -> None:
        removed = each.lots if lots is None else lots
        self.losses.append(Loss(each.order_id, code, removed, each.lots - removed))
        self._reduce(each, removed)
