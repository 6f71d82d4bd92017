"""Call auctions: all takers of a block and the resting book of one market, at one price.

A market whose `matching` is AUCTION runs one auction in each block in which somebody takes, after
the takers of the continuous markets, by market id. Post-only orders and all that only waits are
placed before, as everywhere; so the book that an auction starts from is not crossed.

**Joining.** Orders join in turns, by the same ranks as takers elsewhere, and get their ids in that
order. Whatever has woken joins, too. Each is checked as if all of it traded at its limit price, on
top of all others of its account that have joined (`check_risk`); then it stands in the book until
the auction is over and counts as open. If it crosses orders of its own account, self-trade
prevention acts at once: they are cancelled, or it, or both, or they shrink by the smaller size, as
its mode says. So nobody has orders on both sides at any price, and no trade is with oneself.

**Clearing** (`clearing`). A resting order takes part only if its owner has the margin for a fill at
its limit price, on top of what else of the account comes before it. If not, it is cancelled when
the clearing price reaches it, as it would be at a match. Reduce-only orders bring at most what the
account's other orders ahead of them leave of the position.

**Fill-or-kill.** Filled means filled at the clearing price. If some are not, the half of them that
misses most lots (later ids first) is killed and the auction is cleared again without them, up to
`CALL_AUCTION_ROUNDS_MAX` times; then all are. So an order that is killed has no part in the price.

**Settling.** What traded goes to accounts at the clearing price. Orders that rested before pay the
maker's fee (or get the rebate), orders that joined the taker's, also where two of these met; checks
reckon with the market's own fees, of which an account's tier only takes away. What
immediate-or-cancel orders have left is cancelled; the rest of others rests in the queue of its
price by its id. What triggers a clearing price has reached is for the next block's auction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from engine.accounts.account import Account, Exposure
from engine.accounts.fees import compute_fee, find_tier, note_trade
from engine.instructions import PlaceOrder, SelfTradeMode, Side, TimeInForce
from engine.limits import BALANCE_ABS_MAX_MICROQUOTE, CALL_AUCTION_ROUNDS_MAX
from engine.margin import refresh_margin
from engine.receipts import Fill, ReasonCode, Receipt, Status
from engine.run import BlockRun
from engine.trading.book import BookSide, Order
from engine.trading.clearing import Offer, Queue, clear
from engine.trading.market import Market
from engine.trading.matching import compute_threshold, is_maker_fill_allowed
from engine.trading.placement import check_form, check_risk
from engine.trading.resting import (
    enforce_reduce_only,
    expire_order,
    prevent_self_trade,
    reduce_order,
    remove_order,
    rest_order,
)

_OK: Final = ReasonCode.OK
_BUY: Final = Side.BUY
_SELL: Final = Side.SELL
_FOK: Final = TimeInForce.FOK
_IOC: Final = TimeInForce.IOC


class Entry:
    """An order that has joined an auction."""

    __slots__ = ("asked_lots", "is_killed", "lots", "offer", "open_lots", "order")

    def __init__(self, order: Order, asked_lots: int, lots: int) -> None:
        self.order = order
        self.asked_lots = asked_lots
        self.lots = lots
        """What was admitted; less than was asked for if reduce-only has shrunk it."""
        self.open_lots = 0
        """What self-trade prevention has left of that when the auction is cleared."""
        self.offer: Offer | None = None
        self.is_killed = False


class _Reserve:
    """The worst that an account's orders of one side can do to it, all of them filled."""

    __slots__ = ("equity_change", "lots", "turnover")

    def __init__(self) -> None:
        self.lots = 0
        self.equity_change = 0
        """Fees, and losses against the mark; never positive, so it holds for any part of them."""
        self.turnover = 0
        """Bound of what the balance moves by, in either direction."""


class CallAuction:
    """One market's auction of one block."""

    __slots__ = ("_entries", "_failing", "_first_id", "_market", "_reserves", "_run", "_state")

    def __init__(self, run: BlockRun, market: Market) -> None:
        self._run = run
        self._state = run.state
        self._market = market
        self._first_id = run.state.next_order_id
        self._entries: dict[int, Entry] = {}
        """By order id, which is the order of joining."""
        self._reserves: dict[tuple[bytes, int], _Reserve] = {}
        """By account and side."""
        self._failing: list[Order] = []
        """Resting orders whose owners have not the margin for them, or whose time is over."""

    # ---- joining -------------------------------------------------------------------------------

    def join(
        self, account: Account, order: PlaceOrder, envelope_id: bytes, index: int
    ) -> Receipt | Entry:
        """Check an order and let it stand in the book, or say what became of it."""
        state = self._state
        market = self._market
        code = check_form(self._run, market, account, order, is_joining=True)
        if code is not _OK:
            return Receipt(envelope_id, index, Status.REFUSED, code)
        exposure = account.exposure(market)
        side = 1 if order.side is _BUY else -1
        lots = order.size_lots
        if order.reduce_only:
            lots = min(lots, max(-side * exposure.lots, 0))
            if lots == 0:
                code = ReasonCode.ORDER_REDUCE_ONLY_WOULD_INCREASE
                account.forget_exposure(exposure)
                return Receipt(envelope_id, index, Status.REFUSED, code)
        reserve = self._reserve_of(account, side)
        turnover = self._bound_turnover(side, order.price_ticks, lots, market.taker_fee_ppm)
        if abs(account.quote) + reserve.turnover + turnover > BALANCE_ABS_MAX_MICROQUOTE:
            code = ReasonCode.ORDER_BALANCE_OVERFLOW
        else:
            code = check_risk(state, exposure, order, lots, reserve.equity_change, reserve.lots)
        own = self._find_own(exposure, side, order.price_ticks)
        gives_way = order.self_trade != SelfTradeMode.CANCEL_MAKER
        if code is _OK and own and gives_way and order.tif is _FOK:
            code = ReasonCode.ORDER_FOK_UNFILLABLE
        if code is not _OK:
            account.forget_exposure(exposure)
            return Receipt(envelope_id, index, Status.REFUSED, code)
        order_id = state.next_order_id
        state.next_order_id = order_id + 1
        left = lots
        for maker in own:
            left = prevent_self_trade(self._run, order.self_trade, maker, left)
            if left == 0:
                break
        if left == 0:
            code = ReasonCode.ORDER_SELF_TRADE
            return Receipt(envelope_id, index, Status.CANCELLED, code, order_id)
        placed = Order(
            order_id,
            exposure,
            side,
            order.price_ticks,
            left,
            order.client_id,
            order.tif,
            order.self_trade,
            order.reduce_only,
            order.good_til_ms,
        )
        rest_order(state, placed)
        self._reserve(placed)
        entry = Entry(placed, order.size_lots, lots)
        self._entries[order_id] = entry
        return entry

    def _reserve_of(self, account: Account, side: int) -> _Reserve:
        key = (account.account_id, side)
        reserve = self._reserves.get(key)
        if reserve is None:
            reserve = self._reserves[key] = _Reserve()
        return reserve

    def _reserve(self, order: Order) -> None:
        """Count an order that has joined: what `check_risk` says that it may cost."""
        market = self._market
        side = order.side
        lots = order.lots
        notional = order.price * lots * market.unit
        reserve = self._reserve_of(order.exposure.account, side)
        reserve.lots += lots
        reserve.equity_change += min(side * (lots * market.mark_value - notional), 0)
        reserve.equity_change -= compute_fee(notional, market.taker_fee_ppm)
        reserve.turnover += self._bound_turnover(side, order.price, lots, market.taker_fee_ppm)

    def _bound_turnover(self, side: int, price: int, lots: int, fee_ppm: int) -> int:
        """Buys pay their limit at most; no auction clears above the best bid, nor does anybody join
        with a bid above the band."""
        if side < 0:
            best = self._market.book.bids.best_price()
            price = max(price, self._market.band_high, 0 if best is None else best)
        notional = price * lots * self._market.unit
        return notional + abs(compute_fee(notional, fee_ppm))

    def _find_own(self, exposure: Exposure, side: int, price: int) -> list[Order]:
        """The account's own orders that an order would cross, best and oldest first."""
        if not (exposure.open_sell if side > 0 else exposure.open_buy):
            return []
        own = [
            order
            for order in exposure.account.orders.values()
            if order.exposure is exposure
            and order.side != side
            and side * (price - order.price) >= 0
        ]
        return sorted(own, key=lambda order: (-order.side * order.price, order.order_id))

    # ---- clearing ------------------------------------------------------------------------------

    def conclude(self) -> None:
        """Clear, settle, and bring the book back in order."""
        state = self._state
        for entry in self._entries.values():
            order = entry.order
            entry.open_lots = order.lots if order.order_id in state.orders else 0
        rounds_left = CALL_AUCTION_ROUNDS_MAX
        price, buys, sells = self._clear()
        while self._kill(rounds_left):
            rounds_left -= 1
            price, buys, sells = self._clear()
        if price is not None:
            self._settle(price, buys, sells)
        self._cancel_failing(price)
        for entry in self._entries.values():
            order = entry.order
            if order.order_id in state.orders and order.tif is _IOC:
                remove_order(state, order)
        for offer in (*buys.offers, *sells.offers):
            if offer.filled:
                enforce_reduce_only(self._run, offer.order.exposure)
        for entry in self._entries.values():
            if entry.order.reduce_only:
                enforce_reduce_only(self._run, entry.order.exposure)

    def _clear(self) -> tuple[int | None, Queue, Queue]:
        """One round: the price and who trades what. Nothing else changes."""
        state = self._state
        self._failing = []
        self._reserves = {}
        for entry in self._entries.values():
            entry.offer = None
            if entry.order.order_id in state.orders:
                self._reserve(entry.order)
        book = self._market.book
        buys = Queue(self._offer(book.bids, book.asks))
        sells = Queue(self._offer(book.asks, book.bids))
        price = clear(buys, sells, self._market.index_price)
        for offer in (*buys.offers, *sells.offers):
            if offer.is_taker:
                self._entries[offer.order.order_id].offer = offer
        return price, buys, sells

    def _offer(self, side: BookSide, opposite: BookSide) -> Iterator[Offer]:
        """What the orders of one side bring that cross the best of the other one."""
        best = opposite.best_price()
        if best is None:
            return
        ahead: dict[bytes, int] = {}
        for order in side.crossed_orders(compute_threshold(-side.sign, best)):
            exposure = order.exposure
            account_id = exposure.account.account_id
            if self._run.has_overdue and self._run.is_overdue(order):
                self._failing.append(order)
                continue
            lots = order.lots
            if order.reduce_only:
                position = max(-order.side * exposure.lots, 0)
                lots = min(lots, max(position - ahead.get(account_id, 0), 0))
                if lots == 0:
                    continue
            is_taker = order.order_id >= self._first_id
            if not is_taker and not self._has_margin(order, lots):
                self._failing.append(order)
                continue
            if exposure.reduce_orders:
                ahead[account_id] = ahead.get(account_id, 0) + lots
            yield Offer(order, lots, is_taker)

    def _has_margin(self, order: Order, lots: int) -> bool:
        """Has a resting order's owner the margin for it at its limit price? Then reserve that."""
        market = self._market
        exposure = order.exposure
        account = exposure.account
        side = order.side
        if account.margin_epoch != self._state.margin_epoch:
            refresh_margin(self._state, account)
        reserve = self._reserve_of(account, side)
        turnover = self._bound_turnover(side, order.price, lots, market.maker_fee_ppm)
        if abs(account.quote) + reserve.turnover + turnover > BALANCE_ABS_MAX_MICROQUOTE:
            return False
        notional = order.price * lots * market.unit
        # A rebate is left out: it would grow less than the notional if the price were better.
        quote_change = -side * notional - max(compute_fee(notional, market.maker_fee_ppm), 0)
        equity_change = quote_change + side * lots * market.mark_value
        worst_change = equity_change + reserve.equity_change
        # The others may trade or not, and an order that closes is judged by what it leaves open.
        for total in (lots, lots + reserve.lots) if reserve.lots else (lots,):
            if not is_maker_fill_allowed(exposure, side, total, quote_change, worst_change):
                return False
        reserve.lots += lots
        reserve.equity_change += min(equity_change, 0)
        reserve.turnover += turnover
        return True

    def _kill(self, rounds_left: int) -> bool:
        """End fill-or-kill orders that are not filled; return whether there were any."""
        state = self._state
        alive = [
            entry
            for order_id, entry in self._entries.items()
            if entry.order.tif is _FOK and order_id in state.orders
        ]
        missing: list[tuple[int, int, Entry]] = []
        for entry in alive:
            filled = 0 if entry.offer is None else entry.offer.filled
            if filled < entry.lots:
                missing.append((filled - entry.lots, -entry.order.order_id, entry))
        if not missing:
            return False
        missing.sort(key=lambda each: (each[0], each[1]))
        killed = [each[2] for each in missing[: (len(missing) + 1) // 2]]
        for entry in killed if rounds_left > 1 else alive:
            entry.is_killed = True
            remove_order(state, entry.order)
        return True

    def _cancel_failing(self, price: int | None) -> None:
        """Cancel what the price has reached, or what still crosses if there was none."""
        for order in self._failing:
            limit = price if price is not None else self._find_best_opposite(order)
            if limit is not None and order.side * (order.price - limit) >= 0:
                if self._run.is_overdue(order):
                    expire_order(self._run, order)
                    continue
                self._run.report(order, ReasonCode.MARGIN_INSUFFICIENT, order.lots, 0)
                remove_order(self._state, order)

    def _find_best_opposite(self, order: Order) -> int | None:
        return self._market.book.opposite(order.side).best_price()

    # ---- settling ------------------------------------------------------------------------------

    def _settle(self, price: int, buys: Queue, sells: Queue) -> None:
        """Pair what traded, and book each order's trades at once on its account."""
        bought = [offer for offer in buys.offers if offer.filled]
        sold = [offer for offer in sells.offers if offer.filled]
        position = buy_done = sell_done = 0
        for buy in bought:
            buy_done = 0
            while buy_done < buy.filled:
                sell = sold[position]
                lots = min(buy.filled - buy_done, sell.filled - sell_done)
                buy_done += lots
                sell_done += lots
                self._trade(
                    price, lots, buy, sell, buy.order.lots - buy_done, sell.order.lots - sell_done
                )
                if sell_done == sell.filled:
                    position, sell_done = position + 1, 0
        assert position == len(sold), "both sides trade the same volume"
        for offer in (*bought, *sold):
            self._book(offer)

    def _trade(
        self, price: int, lots: int, buy: Offer, sell: Offer, buy_left: int, sell_left: int
    ) -> None:
        """Tell one trade; in it, who came first is the maker."""
        notional = price * lots * self._market.unit
        buy_fee = self._charge(buy, notional)
        sell_fee = self._charge(sell, notional)
        if self._state.fee_epoch:
            buyer, seller = buy.order.exposure.account, sell.order.exposure.account
            note_trade(self._state, buyer.owner, seller.owner, notional)
        if buy.order.order_id < sell.order.order_id:
            maker, taker, side = buy.order, sell.order, _SELL
            left, maker_fee, taker_fee = buy_left, buy_fee, sell_fee
        else:
            maker, taker, side = sell.order, buy.order, _BUY
            left, maker_fee, taker_fee = sell_left, sell_fee, buy_fee
        self._run.fills.append(
            Fill(
                self._market.market_id,
                price,
                lots,
                side,
                maker.order_id,
                taker.order_id,
                maker.exposure.account.account_id,
                taker.exposure.account.account_id,
                maker_fee,
                taker_fee,
                left,
            )
        )

    def _charge(self, offer: Offer, notional: int) -> int:
        """The fee of one more trade: rounded up for each trade of a maker, for all of a taker's
        together."""
        offer.notional += notional
        tier = find_tier(self._state, offer.order.exposure.account)
        if offer.is_taker:
            fee = compute_fee(offer.notional, self._market.taker_fees[tier]) - offer.fee
        else:
            fee = compute_fee(notional, self._market.maker_fees[tier])
        offer.fee += fee
        return fee

    def _book(self, offer: Offer) -> None:
        order = offer.order
        exposure = order.exposure
        account = exposure.account
        quote_change = -order.side * offer.notional - offer.fee
        account.quote += quote_change
        account.equity += quote_change + order.side * offer.filled * self._market.mark_value
        account.position_record = None
        exposure.trade(order.side * offer.filled, order.side * offer.notional)
        self._state.fees += offer.fee
        reduce_order(self._state, order, offer.filled)

    # ---- answers -------------------------------------------------------------------------------

    def answer(self, entry: Entry, envelope_id: bytes, index: int) -> Receipt:
        """What became of an order that had joined."""
        order = entry.order
        offer = entry.offer
        filled = notional = fee = 0
        if offer is not None:
            filled, notional, fee = offer.filled, offer.notional, offer.fee
        resting = order.lots if order.order_id in self._state.orders else 0
        code = _OK if entry.lots == entry.asked_lots else ReasonCode.ORDER_REDUCE_ONLY_SHRUNK
        if entry.open_lots < entry.lots:
            code = ReasonCode.ORDER_SELF_TRADE
        if entry.is_killed:
            code = ReasonCode.ORDER_FOK_UNFILLABLE
        elif filled + resting < entry.open_lots:
            code = ReasonCode.ORDER_REDUCE_ONLY_SHRUNK
            if order.tif is _IOC:
                code = ReasonCode.ORDER_IOC_REMAINDER
        if filled:
            status = Status.FILLED if filled == entry.lots else Status.PARTIALLY_FILLED
        else:
            status = Status.RESTING if resting else Status.CANCELLED
        return Receipt(
            envelope_id, index, status, code, order.order_id, filled, resting, notional, fee
        )
