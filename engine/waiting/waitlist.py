"""Waiting orders coming and going: the owner's tables, the market's and the clock's in one step.

Nothing else changes these together, so they cannot drift apart. An order of a pair takes the other
one with it when it ends; where the other one rests in a book, `settle_pairs` learns of its trades
and of its end from the block's fills and events.
"""

from engine.accounts.account import Account
from engine.receipts import OrderEvent, ReasonCode
from engine.run import BlockRun
from engine.state import EngineState
from engine.trading.book import Order
from engine.trading.resting import remove_order
from engine.waiting.orders import Conditional, Twap, Waiting, Watch


def add_waiting(state: EngineState, order: Waiting) -> None:
    """Put an order on all tables."""
    account = order.account
    order_id = order.order_id
    state.waiting[order_id] = order
    account.waiting[order_id] = order
    if order.client_id:
        account.clients[order.client_id] = order
    watch = order.market.watch
    if watch is None:
        watch = order.market.watch = Watch()
    watch.add(order)
    if isinstance(order, Conditional):
        if order.good_til_ms:
            state.waiting_expiries.add(order.good_til_ms, order_id)
    else:
        assert isinstance(order, Twap)
        state.slices.add(order.due_ms(), order_id)
    state.mark_dirty(account)


def remove_waiting(state: EngineState, order: Waiting) -> None:
    """Take an order off all tables, and out of its pair."""
    account = order.account
    order_id = order.order_id
    del state.waiting[order_id]
    del account.waiting[order_id]
    if order.client_id:
        del account.clients[order.client_id]
    watch = order.market.watch
    assert watch is not None, "its market has known it"
    watch.remove(order)
    if isinstance(order, Conditional):
        unlink(state, order)
        if order.good_til_ms:
            state.waiting_expiries.remove(order.good_til_ms, order_id)
    else:
        assert isinstance(order, Twap)
        state.slices.remove(order.due_ms(), order_id)
    state.mark_dirty(account)


def link(state: EngineState, order: Conditional, partner_id: int) -> None:
    """Make a pair of a waiting order and another one that waits or rests."""
    order.partner = partner_id
    other = state.waiting.get(partner_id)
    if other is None:
        state.pairs[partner_id] = order.order_id
    else:
        assert isinstance(other, Conditional)
        other.partner = order.order_id


def unlink(state: EngineState, order: Conditional) -> None:
    """Part a pair: neither ends with the other any more."""
    partner_id = order.partner
    if not partner_id:
        return
    order.partner = 0
    other = state.waiting.get(partner_id)
    if other is None:
        del state.pairs[partner_id]
    else:
        assert isinstance(other, Conditional)
        other.partner = 0


def end_waiting(run: BlockRun, order: Waiting, code: ReasonCode) -> None:
    """End an order and the other one of its pair, and tell their owner."""
    partner_id = order.partner if isinstance(order, Conditional) else 0
    run.report_waiting(order, code)
    remove_waiting(run.state, order)
    end_partner(run, partner_id)


def end_partner(run: BlockRun, partner_id: int) -> None:
    """End what was the other leg of a pair that is parted; 0 for none."""
    state = run.state
    code = ReasonCode.ORDER_PARTNER_ENDED
    other = state.waiting.get(partner_id)
    if other is not None:
        run.report_waiting(other, code)
        remove_waiting(state, other)
        return
    resting = state.orders.get(partner_id)
    if resting is not None:
        run.report(resting, code, resting.lots, 0)
        remove_order(state, resting)


def end_waiting_partner(run: BlockRun, order_id: int) -> None:
    """End the order that waits beside a resting one, if there is one."""
    waiting_id = run.state.pairs.get(order_id)
    if waiting_id is not None:
        waiting = run.state.waiting[waiting_id]
        assert isinstance(waiting, Conditional)
        unlink(run.state, waiting)
        end_waiting(run, waiting, ReasonCode.ORDER_PARTNER_ENDED)


def settle_pairs(run: BlockRun) -> None:
    """End the partner of every resting order that has traded or ended since the last call."""
    fills = run.fills
    events = run.events
    if run.state.pairs:
        for position in range(run.settled_fills, len(fills)):
            end_waiting_partner(run, fills[position].maker_order_id)
        # What ending them tells is of orders that wait: it need not be read.
        for position in range(run.settled_events, len(events)):
            event = events[position]
            if isinstance(event, OrderEvent) and event.resting_lots == 0:
                end_waiting_partner(run, event.order_id)
    run.settled_fills = len(fills)
    run.settled_events = len(events)


def expire_waiting(run: BlockRun) -> None:
    """End every conditional order whose `good_til_ms` the block's time has reached, or whose
    partner in a book has expired."""
    settle_pairs(run)
    state = run.state
    for order_id in state.waiting_expiries.due(run.time_ms):
        order = state.waiting.get(order_id)
        if order is not None:
            end_waiting(run, order, ReasonCode.ORDER_EXPIRED)


def cancel_everything(
    run: BlockRun, account: Account, code: ReasonCode, market_id: int | None
) -> int:
    """Cancel all that an account has open or waiting, in one market or in all; return how much.

    Each is reported as an event. Both legs of a pair are in one market, so both are among them.
    """
    state = run.state
    resting: list[Order] = [
        order
        for order in account.orders.values()
        if market_id is None or order.exposure.market.market_id == market_id
    ]
    waiting = [
        order
        for order in account.waiting.values()
        if market_id is None or order.market.market_id == market_id
    ]
    for order in waiting:
        if isinstance(order, Conditional):
            unlink(state, order)
    for each in resting:
        run.report(each, code, each.lots, 0)
        remove_order(state, each)
    for order in waiting:
        run.report_waiting(order, code)
        remove_waiting(state, order)
    return len(resting) + len(waiting)
