"""TWAP orders: a large order cut into slices by an integer schedule.

Of `n` slices the k-th aims at `floor(size * k / n)` lots in all: the shares differ by one lot at
most, and their sum is exact. What a slice could not trade (the price limit, a thin book, margin)
is caught up by those that follow, each at most `TWAP_CATCH_UP_FACTOR` shares in size: a whole
backlog at once would be the very market impact that the order exists to avoid. Slices whose time
passed between two blocks are one: the last of them, with that rule.

A slice that is refused is told and changes nothing: the next one tries again.
"""

from typing import Final

from engine.accounts.account import Account
from engine.instructions import PlaceOrder, Side, TimeInForce, TwapOrder
from engine.limits import (
    TWAP_CATCH_UP_FACTOR,
    TWAP_DURATION_MAX_MS,
    TWAP_INTERVAL_MAX_MS,
    TWAP_INTERVAL_MIN_MS,
)
from engine.receipts import ReasonCode, Receipt, Status
from engine.run import BlockRun
from engine.waiting.orders import Twap
from engine.waiting.triggers import check_room, check_waiting, make_taker, run_as_taker
from engine.waiting.waitlist import add_waiting, end_waiting

_OK: Final = ReasonCode.OK


def place_twap(
    run: BlockRun, account: Account, order: TwapOrder, envelope_id: bytes, index: int
) -> Receipt:
    """Let a TWAP order wait for its first slice, or say why not."""
    state = run.state
    market = state.markets.get(order.market)
    if market is None:
        code = ReasonCode.ORDER_UNKNOWN_MARKET
        return Receipt(envelope_id, index, Status.REFUSED, code)
    code = check_waiting(market, account, order.price_ticks, order.size_lots, order.client_id)
    if code is _OK:
        code = _check_schedule(order)
    if code is _OK:
        code = check_room(market, account, [order])
    if code is not _OK:
        return Receipt(envelope_id, index, Status.REFUSED, code)
    order_id = state.next_order_id
    state.next_order_id = order_id + 1
    twap = Twap(
        order_id,
        account,
        market,
        1 if order.side == Side.BUY else -1,
        order.price_ticks,
        order.size_lots,
        order.client_id,
        order.self_trade,
        order.reduce_only,
        order.size_lots,
        run.time_ms,
        order.interval_ms,
        order.duration_ms // order.interval_ms,
        1,
    )
    add_waiting(state, twap)
    return Receipt(envelope_id, index, Status.WAITING, _OK, order_id)


def _check_schedule(order: TwapOrder) -> ReasonCode:
    """Whole intervals in bounds, and at least one lot for each slice."""
    if not TWAP_INTERVAL_MIN_MS <= order.interval_ms <= TWAP_INTERVAL_MAX_MS:
        return ReasonCode.TWAP_SCHEDULE_INVALID
    if not order.interval_ms <= order.duration_ms <= TWAP_DURATION_MAX_MS:
        return ReasonCode.TWAP_SCHEDULE_INVALID
    if order.duration_ms % order.interval_ms:
        return ReasonCode.TWAP_SCHEDULE_INVALID
    if order.duration_ms // order.interval_ms > order.size_lots:
        return ReasonCode.TWAP_SCHEDULE_INVALID
    return _OK


def compute_slice_lots(size: int, slices: int, number: int, traded: int) -> int:
    """How many lots slice `number` asks for when `traded` lots are done; rounding as above."""
    target = size * number // slices
    share = -(-size // slices)
    return min(target - traded, TWAP_CATCH_UP_FACTOR * share)


def run_slice(run: BlockRun, twap: Twap) -> None:
    """Run the slice that is due, and end the order if it was the last."""
    placed = cut_slice(run, twap)
    end_slice(run, twap, 0 if placed is None else run_as_taker(run, twap, placed))


def _find_number(run: BlockRun, twap: Twap) -> int:
    """Which slice is due."""
    elapsed = (run.time_ms - twap.start_ms) // twap.interval_ms
    return min(elapsed, twap.slices)


def cut_slice(run: BlockRun, twap: Twap) -> PlaceOrder | None:
    """The slice that is due; None if it has nothing to trade."""
    number = _find_number(run, twap)
    lots = compute_slice_lots(twap.size, twap.slices, number, twap.size - twap.lots)
    return make_taker(twap, lots, twap.price, TimeInForce.IOC, 0, 0) if lots > 0 else None


def end_slice(run: BlockRun, twap: Twap, filled_lots: int) -> None:
    """Count what the slice has traded, and wait for the next one or end."""
    state = run.state
    twap.lots -= filled_lots
    number = _find_number(run, twap)
    if number == twap.slices:
        end_waiting(run, twap, ReasonCode.TWAP_ENDED)
        return
    state.slices.remove(twap.due_ms(), twap.order_id)
    twap.next_slice = number + 1
    state.slices.add(twap.due_ms(), twap.order_id)
    state.mark_dirty(twap.account)
