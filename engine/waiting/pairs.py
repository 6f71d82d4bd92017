"""One cancels the other: placing two orders that live and end together.

Any trade of either ends the other, however small, and so does the end of either by its owner, by
time or by anything else. *Shrinking the other by what was traded* (rejected) leaves two orders that
can both trade in one block before either has shrunk the other, for more than was meant.

At most one leg rests in the book, for a taker that sweeps two of them trades with both at once. It
is post-only, because a leg that takes when it is placed makes no pair.
"""

from typing import Final

from engine.accounts.account import Account
from engine.instructions import (
    ConditionalOrder,
    OneCancelsOther,
    PlaceOrder,
    TimeInForce,
    TrailingStop,
)
from engine.receipts import ReasonCode, Receipt, Status
from engine.run import BlockRun
from engine.trading.market import Market
from engine.trading.placement import place_order
from engine.waiting.triggers import check_conditional, check_room, make_conditional
from engine.waiting.waitlist import add_waiting, link

_OK: Final = ReasonCode.OK


def place_pair(
    run: BlockRun, account: Account, pair: OneCancelsOther, envelope_id: bytes, index: int
) -> Receipt:
    """Place both legs, or neither and say why."""
    state = run.state
    market = state.markets.get(pair.first.market)
    if market is None:
        code = ReasonCode.ORDER_UNKNOWN_MARKET
        return Receipt(envelope_id, index, Status.REFUSED, code)
    legs = (pair.first, pair.second)
    conditionals = [leg for leg in legs if not isinstance(leg, PlaceOrder)]
    limits = [leg for leg in legs if isinstance(leg, PlaceOrder)]
    code = _check_legs(pair, limits)
    for leg in conditionals:
        if code is _OK:
            code = check_conditional(run, market, account, leg)
    if code is _OK:
        code = check_room(market, account, conditionals)
    if code is not _OK:
        return Receipt(envelope_id, index, Status.REFUSED, code)
    if limits:
        receipt = place_order(run, account, limits[0], envelope_id, index)
        if receipt.order_id not in state.orders:
            # Refused, or ended by self-trade prevention: the pair has ended with it.
            return receipt
    else:
        first_id = _wait(run, market, account, conditionals[0], 0)
        receipt = Receipt(envelope_id, index, Status.WAITING, _OK, first_id)
    _wait(run, market, account, conditionals[-1], receipt.order_id)
    return receipt


def _check_legs(pair: OneCancelsOther, limits: list[PlaceOrder]) -> ReasonCode:
    """Do the legs fit each other?"""
    first, second = pair.first, pair.second
    if first.market != second.market:
        return ReasonCode.OCO_MARKETS_DIFFER
    if len(limits) > 1 or any(leg.tif != TimeInForce.POST_ONLY for leg in limits):
        return ReasonCode.OCO_LEGS_INVALID
    if first.client_id and first.client_id == second.client_id:
        return ReasonCode.ORDER_DUPLICATE_CLIENT_ID
    return _OK


def _wait(
    run: BlockRun,
    market: Market,
    account: Account,
    leg: ConditionalOrder | TrailingStop,
    partner_id: int,
) -> int:
    """Let a leg wait, beside its partner if that is placed already; return its id."""
    waiting = make_conditional(run.state, market, account, leg)
    add_waiting(run.state, waiting)
    if partner_id:
        link(run.state, waiting, partner_id)
    return waiting.order_id
