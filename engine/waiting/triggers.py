"""Conditional orders: placing them, seeing which triggers are reached, and running what fired.

Prices are looked at in one phase, after the cancels and before the post-only orders, in which also
new conditional orders are placed: so an order never fires by the index of its own block, and one
whose trigger is already reached fires in the next one (it is not refused: a stop that comes late
is needed most). What fires takes its turns among the takers of the block, before the other takers
of the same owner, by id. Ahead of all takers (rejected) it would be a way to the front of the
queue for everybody: a pair of triggers one tick above and below the index.

The trades of the takers may reach further triggers by LAST. These are run in rounds, each after the
whole one before, up to `TRIGGER_ROUNDS_MAX`. What is reached after that, or beyond
`WAKES_PER_MARKET_MAX` of one market, is marked as fired, whatever the price does then, and runs in
the next block.

LAST means the trades since an order was placed and nothing older. So no last price is part of the
state: what a trade has reached is committed with the order itself.
"""

from collections.abc import Sequence
from typing import Final

from crypto.digest import ZERO_DIGEST
from engine.accounts.account import Account
from engine.instructions import (
    ConditionalOrder,
    PlaceOrder,
    Side,
    TimeInForce,
    TrailingStop,
    TriggerKind,
    TriggerSource,
    TwapOrder,
)
from engine.limits import (
    PRICE_MAX_TICKS,
    TRAILING_PER_MARKET_MAX,
    TRAILING_PER_OWNER_MAX,
    WAITING_PER_ACCOUNT_MAX,
    WAITING_PER_MARKET_MAX,
    WAKES_PER_MARKET_MAX,
)
from engine.receipts import ReasonCode, Receipt, Status, WakeEvent
from engine.run import BlockRun
from engine.state import EngineState
from engine.trading.market import Market
from engine.trading.placement import check_amounts, check_client_id, check_good_til, place_order
from engine.trading.resting import expire_order
from engine.waiting.orders import Conditional, Twap, Waiting
from engine.waiting.waitlist import add_waiting, end_partner, remove_waiting, settle_pairs

WAKE_ID: Final = ZERO_DIGEST
"""Stands for the envelope in the receipt of what no envelope asked for; an event tells it."""

_OK: Final = ReasonCode.OK
_GTC: Final = TimeInForce.GTC
_INDEX: Final = TriggerSource.INDEX
_LAST: Final = TriggerSource.LAST
_MARK: Final = TriggerSource.MARK


def place_conditional(
    run: BlockRun,
    account: Account,
    order: ConditionalOrder | TrailingStop,
    envelope_id: bytes,
    index: int,
) -> Receipt:
    """Let a conditional order wait, or say why not."""
    market = run.state.markets.get(order.market)
    if market is None:
        code = ReasonCode.ORDER_UNKNOWN_MARKET
        return Receipt(envelope_id, index, Status.REFUSED, code)
    code = check_conditional(run, market, account, order)
    if code is _OK:
        code = check_room(market, account, [order])
    if code is not _OK:
        return Receipt(envelope_id, index, Status.REFUSED, code)
    waiting = make_conditional(run.state, market, account, order)
    add_waiting(run.state, waiting)
    return Receipt(envelope_id, index, Status.WAITING, _OK, waiting.order_id)


def check_conditional(
    run: BlockRun, market: Market, account: Account, order: ConditionalOrder | TrailingStop
) -> ReasonCode:
    """Why the order cannot wait, as far as it is the order's own fault."""
    # A trailing stop's limit price comes from its trigger; until then the index stands for it.
    price = max(market.index_price, 1) if isinstance(order, TrailingStop) else order.price_ticks
    code = check_waiting(market, account, price, order.size_lots, order.client_id)
    if code is not _OK:
        return code
    if isinstance(order, TrailingStop):
        if not 0 < order.offset_ticks <= PRICE_MAX_TICKS:
            return ReasonCode.TRIGGER_OFFSET_INVALID
        if not 0 <= order.slack_ticks <= PRICE_MAX_TICKS:
            return ReasonCode.TRIGGER_OFFSET_INVALID
    elif not 0 < order.trigger_ticks <= PRICE_MAX_TICKS:
        return ReasonCode.TRIGGER_PRICE_INVALID
    if order.tif == TimeInForce.POST_ONLY:
        return ReasonCode.TRIGGER_POST_ONLY
    return check_good_til(run, order.good_til_ms) if order.good_til_ms else _OK


def check_waiting(
    market: Market, account: Account, price: int, lots: int, client_id: int
) -> ReasonCode:
    """Checks of every order that waits. The price band, position and margin come when it acts."""
    code = check_amounts(market, price, lots)
    return check_client_id(account, client_id) if code is _OK and client_id else code


def check_room(
    market: Market,
    account: Account,
    orders: Sequence[ConditionalOrder | TrailingStop | TwapOrder],
) -> ReasonCode:
    """May these orders of the account wait in the market as well?"""
    if len(account.waiting) + len(orders) > WAITING_PER_ACCOUNT_MAX:
        return ReasonCode.WAITING_TOO_MANY
    watch = market.watch
    if watch is None:
        return _OK
    if watch.count + len(orders) > WAITING_PER_MARKET_MAX:
        return ReasonCode.WAITING_MARKET_FULL
    trailing = sum(1 for order in orders if isinstance(order, TrailingStop))
    if not trailing:
        return _OK
    if len(watch.trailing) + trailing > TRAILING_PER_MARKET_MAX:
        return ReasonCode.WAITING_MARKET_FULL
    owner = account.owner
    own = sum(1 for each in watch.trailing.values() if each.account.owner is owner)
    return ReasonCode.WAITING_TOO_MANY if own + trailing > TRAILING_PER_OWNER_MAX else _OK


def make_conditional(
    state: EngineState, market: Market, account: Account, order: ConditionalOrder | TrailingStop
) -> Conditional:
    """The order, with the next id, ready to wait."""
    order_id = state.next_order_id
    state.next_order_id = order_id + 1
    side = 1 if order.side == Side.BUY else -1
    if isinstance(order, TrailingStop):
        sense, price = -side, 0
        offset, slack = order.offset_ticks, order.slack_ticks
        start = market.mark_price if order.source == _MARK else market.index_price
        trigger = start - sense * offset
    else:
        sense = -side if order.kind == TriggerKind.STOP else side
        price, trigger = order.price_ticks, order.trigger_ticks
        offset = slack = 0
    return Conditional(
        order_id,
        account,
        market,
        side,
        price,
        order.size_lots,
        order.client_id,
        order.self_trade,
        order.reduce_only,
        sense,
        order.source,
        trigger,
        offset,
        slack,
        order.tif,
        order.good_til_ms,
    )


class Wakes:
    """What wakes in one block: who acts among its takers, round by round."""

    __slots__ = ("_counts", "_fills_seen", "_run")

    def __init__(self, run: BlockRun) -> None:
        self._run = run
        self._counts: dict[int, int] = {}
        """Orders that have fired or sliced, by market."""
        self._fills_seen = 0

    def by_index_and_time(self) -> list[Waiting]:
        """The trigger phase: what runs among the block's takers, by id."""
        state = self._run.state
        if not state.waiting:
            return []
        slices: dict[int, list[Waiting]] = {}
        for order_id in state.slices.due(self._run.time_ms):
            order = state.waiting[order_id]
            slices.setdefault(order.market.market_id, []).append(order)
        woken: list[Waiting] = []
        for market in state.markets.values():
            watch = market.watch
            if watch is None or watch.count == 0:
                continue
            if market.index_price and not market.stale:
                for source, price in ((_INDEX, market.index_price), (_MARK, market.mark_price)):
                    self._reach(market, source, price, price, price)
            woken += self._choose(market, slices.get(market.market_id, []))
        return sorted(woken, key=_order_id)

    def by_trades(self) -> list[Waiting]:
        """What the trades since the last call have reached and may still run, by id."""
        woken: list[Waiting] = []
        for market in self.mark_by_trades():
            # An auction has one price a block: what that has reached is for the next one.
            if not market.has_call_auctions:
                woken += self._choose(market, [])
        return sorted(woken, key=_order_id)

    def mark_by_trades(self) -> list[Market]:
        """Mark what the trades since the last call have reached; return where there were any."""
        run = self._run
        if not run.state.waiting:
            return []
        prices: dict[int, tuple[int, int, int]] = {}
        markets = run.state.markets
        for position in range(self._fills_seen, len(run.fills)):
            fill = run.fills[position]
            watch = markets[fill.market].watch
            if watch is None or watch.last_count == 0:
                continue
            price = fill.price_ticks
            low, high, _ = prices.get(fill.market, (price, price, price))
            prices[fill.market] = (min(low, price), max(high, price), price)
        self._fills_seen = len(run.fills)
        traded: list[Market] = []
        for market_id, (low, high, last) in sorted(prices.items()):
            self._reach(markets[market_id], _LAST, low, high, last)
            traded.append(markets[market_id])
        return traded

    def _reach(self, market: Market, source: TriggerSource, low: int, high: int, last: int) -> None:
        assert market.watch is not None
        for order in market.watch.reach(source, low, high, last):
            self._run.state.mark_dirty(order.account)

    def _choose(self, market: Market, slices: list[Waiting]) -> list[Waiting]:
        """What fired in a market and these slices, as many as may still run in this block.

        If that is not all, owners take turns for the places, each with its oldest order first:
        otherwise a few accounts full of old orders, which cost them nothing, could keep everybody
        else's from acting for many blocks.
        """
        assert market.watch is not None
        ready: list[Waiting] = [*market.watch.fired.values(), *slices]
        if not ready:
            return []
        count = self._counts.get(market.market_id, 0)
        room = min(len(ready), WAKES_PER_MARKET_MAX - count)
        self._counts[market.market_id] = count + room
        if room == len(ready):
            return ready
        turns: dict[bytes, int] = {}
        queue: list[tuple[int, int, Waiting]] = []
        for order in sorted(ready, key=_order_id):
            owner_id = order.account.owner.account_id
            turn = turns.get(owner_id, 0)
            turns[owner_id] = turn + 1
            queue.append((turn, order.order_id, order))
        return [entry[2] for entry in sorted(queue)[:room]]


def _order_id(order: Waiting) -> int:
    return order.order_id


def fire(run: BlockRun, order: Conditional) -> None:
    """Run an order whose trigger was reached, and end the other leg of its pair before."""
    placed = release(run, order)
    if placed is not None:
        run_as_taker(run, order, placed)


def release(run: BlockRun, order: Conditional) -> PlaceOrder | None:
    """Let an order whose trigger was reached wait no more, and return what it is to place.

    It may be gone by now: the other leg of its pair may have traded or fired in this block.
    """
    state = run.state
    if run.has_overdue:
        partner = state.orders.get(order.partner)
        if partner is not None and run.is_overdue(partner):
            expire_order(run, partner)
    settle_pairs(run)
    if order.order_id not in state.waiting:
        return None
    partner_id = order.partner
    remove_waiting(state, order)
    end_partner(run, partner_id)
    price = order.price
    if order.offset:
        price = min(max(order.trigger + order.side * order.slack, 1), PRICE_MAX_TICKS)
    good_til_ms = order.good_til_ms if order.tif == _GTC else 0
    return make_taker(order, order.lots, price, order.tif, order.client_id, good_til_ms)


def make_taker(
    order: Waiting, lots: int, price: int, tif: TimeInForce, client_id: int, good_til_ms: int
) -> PlaceOrder:
    """The limit order that a waiting order, or a part of one, becomes."""
    return PlaceOrder(
        order.market.market_id,
        Side.BUY if order.side > 0 else Side.SELL,
        price,
        lots,
        tif,
        order.reduce_only,
        order.self_trade,
        client_id,
        good_til_ms,
    )


def run_as_taker(run: BlockRun, order: Waiting, placed: PlaceOrder) -> int:
    """Place what a waiting order became, and tell what came of it; return what traded."""
    return report_wake(run, order, place_order(run, order.account, placed, WAKE_ID, 0))


def report_wake(run: BlockRun, order: Waiting, receipt: Receipt) -> int:
    """Tell what became of an order that woke; return what traded."""
    waiting_lots = order.lots - receipt.filled_lots if isinstance(order, Twap) else 0
    run.events.append(
        WakeEvent(
            order.market.market_id,
            order.order_id,
            order.client_id,
            order.account.account_id,
            receipt.status,
            receipt.code,
            receipt.order_id,
            receipt.filled_lots,
            receipt.resting_lots,
            receipt.filled_notional_microquote,
            receipt.fee_microquote,
            waiting_lots,
        )
    )
    return receipt.filled_lots
