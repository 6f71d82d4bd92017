"""Resting orders coming, shrinking and going: the book, the owner's tables and margin in one step.

Nothing else changes these together, so they cannot drift apart.
"""

from heapq import heapify, heappush
from typing import Final

from engine.accounts.account import Exposure
from engine.instructions import SelfTradeMode
from engine.margin import update_exposure_margin
from engine.receipts import ReasonCode
from engine.run import BlockRun
from engine.state import EngineState
from engine.trading.book import Order

EXPIRY_SLACK: Final = 1024
"""How many cancelled entries the expiry heap may hold beyond twice the open orders."""


def rest_order(state: EngineState, order: Order) -> None:
    """Put a new order into its queue and on its owner's tables."""
    exposure = order.exposure
    account = exposure.account
    exposure.market.book.add(order)
    order_id = order.order_id
    state.orders[order_id] = order
    account.orders[order_id] = order
    account.order_records.note(order)
    if order.client_id:
        account.clients[order.client_id] = order
    exposure.order_count += 1
    if order.side > 0:
        exposure.open_buy += order.lots
    else:
        exposure.open_sell += order.lots
    if order.reduce_only:
        exposure.reduce_orders[order_id] = order
        exposure.reduce_only_lots += order.lots
    update_exposure_margin(exposure)
    if order.good_til_ms:
        expiries = state.expiries
        if len(expiries) > 2 * len(state.orders) + EXPIRY_SLACK:
            expiries[:] = [entry for entry in expiries if entry[1] in state.orders]
            heapify(expiries)
        heappush(expiries, (order.good_til_ms, order_id))
    state.mark_dirty(account)


def remove_order(state: EngineState, order: Order) -> None:
    """Take an order out of everything."""
    exposure = order.exposure
    account = exposure.account
    exposure.market.book.remove(order)
    order_id = order.order_id
    del state.orders[order_id]
    del account.orders[order_id]
    account.order_records.remove(order)
    if order.client_id:
        del account.clients[order.client_id]
    exposure.order_count -= 1
    if order.side > 0:
        exposure.open_buy -= order.lots
    else:
        exposure.open_sell -= order.lots
    if order.reduce_only:
        del exposure.reduce_orders[order_id]
        exposure.reduce_only_lots -= order.lots
    update_exposure_margin(exposure)
    state.mark_dirty(account)


def expire_order(run: BlockRun, order: Order) -> None:
    """Take out an order whose time is over, and tell its owner."""
    run.report(order, ReasonCode.ORDER_EXPIRED, order.lots, 0)
    remove_order(run.state, order)


def reduce_order(state: EngineState, order: Order, lots: int) -> None:
    """Take `lots` off an order, and the order away if nothing is left. Priority is kept."""
    if lots == order.lots:
        remove_order(state, order)
        return
    exposure = order.exposure
    exposure.market.book.reduce(order, lots)
    exposure.account.order_records.note(order)
    if order.side > 0:
        exposure.open_buy -= lots
    else:
        exposure.open_sell -= lots
    if order.reduce_only:
        exposure.reduce_only_lots -= lots
    update_exposure_margin(exposure)
    state.mark_dirty(exposure.account)


def prevent_self_trade(run: BlockRun, mode: SelfTradeMode, maker: Order, lots: int) -> int:
    """An order of `lots` has met a resting order of its own account: act as its mode says, and
    return what is left of it."""
    if mode == SelfTradeMode.DECREMENT:
        less = min(lots, maker.lots)
        run.report(maker, ReasonCode.ORDER_SELF_TRADE, less, maker.lots - less)
        reduce_order(run.state, maker, less)
        return lots - less
    if mode in (SelfTradeMode.CANCEL_MAKER, SelfTradeMode.CANCEL_BOTH):
        run.report(maker, ReasonCode.ORDER_SELF_TRADE, maker.lots, 0)
        remove_order(run.state, maker)
    return lots if mode == SelfTradeMode.CANCEL_MAKER else 0


def enforce_reduce_only(run: BlockRun, exposure: Exposure) -> None:
    """Shrink resting reduce-only orders until together they do not exceed the position.

    The least aggressive goes first (the one that would trade last), then the youngest. An order
    on a side that no longer closes goes altogether.
    """
    if not exposure.reduce_orders:
        return
    closing = -1 if exposure.lots > 0 else 1
    for order in [o for o in exposure.reduce_orders.values() if o.side != closing]:
        run.report(order, ReasonCode.ORDER_REDUCE_ONLY_SHRUNK, order.lots, 0)
        remove_order(run.state, order)
    excess = exposure.reduce_only_lots - abs(exposure.lots)
    if excess <= 0:
        return
    farthest_first = sorted(
        exposure.reduce_orders.values(),
        key=lambda order: (order.side * order.price, -order.order_id),
    )
    for order in farthest_first:
        lots = min(excess, order.lots)
        run.report(order, ReasonCode.ORDER_REDUCE_ONLY_SHRUNK, lots, order.lots - lots)
        reduce_order(run.state, order, lots)
        excess -= lots
        if excess == 0:
            return
