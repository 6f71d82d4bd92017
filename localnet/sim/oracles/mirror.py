"""An order book of our own: what orders must come to, worked out by rules written down here.

Price first, then the lower id; up to the limit; never with one's own orders; or all at one price
where a market calls auctions (`call`). Plain and slow: a sorted list for each side, and every order
by its id.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.instructions import Amend, Cancel, CancelAll, PlaceOrder, SelfTradeMode, Side
from engine.instructions import TimeInForce as Lasts
from engine.limits import CALL_AUCTION_ROUNDS_MAX
from engine.receipts import ReasonCode, Receipt, Status
from localnet.sim.oracles.call import Wish, find_price, pair_off, share_out


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

    def __init__(self, markets: Mapping[int, int]) -> None:
        """`markets`: how many orders may be open in each."""
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
            self._displace(order)
            self._add(Open(order_id, owner, order, left))
        if filled:
            status = Status.FILLED if filled == order.size_lots else Status.PARTIALLY_FILLED
        else:
            status = Status.RESTING if left else Status.CANCELLED
        return Receipt(
            receipt.envelope_id, receipt.index, status, code, order_id, filled, resting_lots=left
        )

    def _displace(self, order: PlaceOrder) -> None:
        """In a full book the last of the other side goes if that has more than half of the places,
        and otherwise the last of the order's own, which is worse."""
        own = self._sides[order.market, order.side]
        others = self._sides[order.market, Side(-order.side)]
        places = self._markets[order.market]
        if len(own) + len(others) < places:
            return
        chosen = others if len(others) > places - len(others) else own
        last = self.orders[chosen[-1][1]]
        self._lose(last, ReasonCode.ORDER_DISPLACED)
        is_worse = int(order.side) * (order.price_ticks - last.order.price_ticks) > 0
        assert chosen is others or is_worse, f"order {last.order_id} loses its place to a worse one"

    # ---- call auctions -------------------------------------------------------------------------

    def call(
        self, market: int, joined: Sequence[tuple[Receipt, bytes, PlaceOrder]], index_ticks: int
    ) -> list[Receipt]:
        """Let orders join an auction in turn and clear it; returns what their receipts must say,
        but for money."""
        asked = {receipt.order_id: order for receipt, _, order in joined}
        for receipt, owner, order in joined:
            self._join(receipt.order_id, owner, order)
        entered = {
            order_id: self.orders[order_id].lots if order_id in self.orders else 0
            for order_id in asked
        }
        killed, price, traded = self._clear(market, asked, index_ticks)
        wishes = self._list_wishes(market)
        if price is not None:
            for bid_id, ask_id, lots in pair_off(wishes, traded):
                self._trade(self.orders[bid_id], self.orders[ask_id], price, lots)
        receipts = []
        for receipt, _, order in joined:
            order_id, lots = receipt.order_id, entered[receipt.order_id]
            left = self.orders.get(order_id)
            if left is not None and order.tif is Lasts.IOC:
                self._remove(left)
                left = None
            filled, resting = traded.get(order_id, 0), 0 if left is None else left.lots
            code = ReasonCode.ORDER_SELF_TRADE if lots < order.size_lots else ReasonCode.OK
            if order_id in killed:
                code = ReasonCode.ORDER_FOK_UNFILLABLE
            elif filled + resting < lots:
                assert order.tif is Lasts.IOC, f"order {order_id} loses {lots - filled - resting}"
                code = ReasonCode.ORDER_IOC_REMAINDER
            if filled:
                status = Status.FILLED if filled == order.size_lots else Status.PARTIALLY_FILLED
            else:
                status = Status.RESTING if resting else Status.CANCELLED
            receipts.append(
                Receipt(
                    receipt.envelope_id,
                    receipt.index,
                    status,
                    code,
                    order_id,
                    filled,
                    resting_lots=resting,
                )
            )
        return receipts

    def _join(self, order_id: int, owner: bytes, order: PlaceOrder) -> None:
        """Stand in the book, with nothing of one's own on the other side at such a price."""
        mode, lots = order.self_trade, order.size_lots
        own = [
            each
            for each in self.of(owner)
            if each.order.market == order.market
            and each.order.side != order.side
            and int(order.side) * (order.price_ticks - each.order.price_ticks) >= 0
        ]
        for each in sorted(own, key=lambda each: each.place):
            if mode == SelfTradeMode.CANCEL_TAKER:
                return
            if mode == SelfTradeMode.DECREMENT:
                less = min(lots, each.lots)
                lots -= less
                self._lose(each, ReasonCode.ORDER_SELF_TRADE, less)
            else:
                self._lose(each, ReasonCode.ORDER_SELF_TRADE)
            if mode == SelfTradeMode.CANCEL_BOTH or not lots:
                return
        self._add(Open(order_id, owner, order, lots))

    def _clear(
        self, market: int, asked: Mapping[int, PlaceOrder], index_ticks: int
    ) -> tuple[set[int], int | None, dict[int, int]]:
        """Which orders were killed, the price, and who trades what: fill-or-kill orders that are
        not filled go, half of them at a time, who misses most first, later ids before earlier."""
        killed: set[int] = set()
        for rounds_left in range(CALL_AUCTION_ROUNDS_MAX, -1, -1):
            wishes = self._list_wishes(market)
            price = find_price(wishes, index_ticks)
            traded = {} if price is None else share_out(wishes, price)
            alive = [
                order_id
                for order_id, order in asked.items()
                if order.tif is Lasts.FOK and order_id in self.orders
            ]
            missing = sorted(
                (traded.get(each, 0) - asked[each].size_lots, -each)
                for each in alive
                if traded.get(each, 0) < asked[each].size_lots
            )
            if not missing:
                break
            chosen = [-each for _, each in missing[: (len(missing) + 1) // 2]]
            for order_id in chosen if rounds_left > 1 else alive:
                killed.add(order_id)
                self._remove(self.orders[order_id])
        return killed, price, traded

    def _list_wishes(self, market: int) -> list[Wish]:
        return [
            Wish(each.order_id, int(each.order.side), each.order.price_ticks, each.lots)
            for each in self.orders.values()
            if each.order.market == market
        ]

    def _trade(self, bid: Open, ask: Open, price: int, lots: int) -> None:
        """Whoever came first is the maker."""
        maker, taker = sorted((bid, ask), key=lambda each: each.order_id)
        self._reduce(bid, lots)
        self._reduce(ask, lots)
        self.trades.append(
            Trade(
                bid.order.market,
                price,
                lots,
                taker.order.side,
                maker.order_id,
                taker.order_id,
                maker.owner,
                taker.owner,
                maker.lots,
            )
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
