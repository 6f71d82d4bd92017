"""Cancels and amends: what owners do to their own open and waiting orders, and what time does."""

from heapq import heappop
from typing import Final

from engine.accounts.account import Account
from engine.instructions import (
    Amend,
    Cancel,
    CancelAll,
    PlaceOrder,
    Side,
)
from engine.limits import EXPIRIES_PER_BLOCK_MAX
from engine.receipts import ReasonCode, Receipt, Status
from engine.run import BlockRun
from engine.trading.book import Order
from engine.trading.resting import expire_order, reduce_order, remove_order
from engine.waiting.orders import Conditional, Waiting
from engine.waiting.waitlist import (
    cancel_everything,
    end_partner,
    end_waiting_partner,
    remove_waiting,
)

_OK: Final = ReasonCode.OK
_CANCELLED: Final = Status.CANCELLED


def find_order(account: Account, order_id: int, client_id: int) -> Order | Waiting | ReasonCode:
    """The account's open or waiting order by exactly one of its names, or why not."""
    if bool(order_id) == bool(client_id):
        return ReasonCode.ORDER_REFERENCE_INVALID
    order: Order | Waiting | None
    if client_id:
        order = account.clients.get(client_id)
    else:
        order = account.orders.get(order_id)
        if order is None:
            order = account.waiting.get(order_id)
    return ReasonCode.ORDER_UNKNOWN if order is None else order


def cancel_order(
    run: BlockRun, account: Account, cancel: Cancel, envelope_id: bytes, index: int
) -> Receipt:
    """Cancel one order; the other one of its pair, if there is one, is reported as an event."""
    order = find_order(account, cancel.order_id, cancel.client_id)
    if isinstance(order, Order):
        remove_order(run.state, order)
        end_waiting_partner(run, order.order_id)
    elif isinstance(order, Waiting):
        partner_id = order.partner if isinstance(order, Conditional) else 0
        remove_waiting(run.state, order)
        end_partner(run, partner_id)
    else:
        return Receipt(envelope_id, index, Status.REFUSED, order)
    return Receipt(envelope_id, index, _CANCELLED, _OK, order.order_id, cancelled_count=1)


def cancel_all_orders(
    run: BlockRun, account: Account, cancel: CancelAll, envelope_id: bytes, index: int
) -> Receipt:
    """Cancel all open and waiting orders, of one market or of all; each is reported as an event."""
    if cancel.market is not None and cancel.market not in run.state.markets:
        code = ReasonCode.ORDER_UNKNOWN_MARKET
        return Receipt(envelope_id, index, Status.REFUSED, code)
    count = cancel_everything(run, account, ReasonCode.ORDER_CANCELLED_BY_OWNER, cancel.market)
    return Receipt(envelope_id, index, Status.CANCELLED, _OK, cancelled_count=count)


def amend_order(
    run: BlockRun, account: Account, amend: Amend, envelope_id: bytes, index: int
) -> Receipt | PlaceOrder:
    """Shrink an order in place, or cancel it and return the order to place instead.

    The replacement waits for the phase of its kind: a size-up must not jump the queue that a new
    order would have to join.
    """
    order = find_order(account, amend.order_id, amend.client_id)
    if isinstance(order, ReasonCode):
        return Receipt(envelope_id, index, Status.REFUSED, order)
    if isinstance(order, Waiting):
        code = ReasonCode.ORDER_NOT_AMENDABLE
        return Receipt(envelope_id, index, Status.REFUSED, code, order.order_id)
    if amend.size_lots <= 0:
        code = ReasonCode.ORDER_SIZE_NOT_POSITIVE
        return Receipt(envelope_id, index, Status.REFUSED, code, order.order_id)
    if amend.price_ticks == order.price and amend.size_lots <= order.lots:
        if amend.size_lots < order.lots:
            reduce_order(run.state, order, order.lots - amend.size_lots)
        return Receipt(
            envelope_id, index, Status.ACCEPTED, _OK, order.order_id, resting_lots=order.lots
        )
    run.report(order, ReasonCode.ORDER_CANCELLED_BY_OWNER, order.lots, 0)
    remove_order(run.state, order)
    return PlaceOrder(
        order.exposure.market.market_id,
        Side(order.side),
        amend.price_ticks,
        amend.size_lots,
        order.tif,
        order.reduce_only,
        order.self_trade,
        order.client_id,
        order.good_til_ms,
    )


def expire_orders(run: BlockRun) -> None:
    """Remove the orders whose `good_til_ms` the block's time has reached: as many as a block may,
    by that time and by id. What is left over is looked at wherever it could trade."""
    state = run.state
    expiries = state.expiries
    left = EXPIRIES_PER_BLOCK_MAX
    while left and expiries and expiries[0][0] <= run.time_ms:
        order = state.orders.get(heappop(expiries)[1])
        if order is not None:
            expire_order(run, order)
            left -= 1
    run.has_overdue = not left
