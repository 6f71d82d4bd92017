"""An incoming order against the book: price-time priority, self-trade prevention, maker checks.

The trade price is always the resting order's. The taker was margin-checked at its limit price
before it came here, so only makers are checked, each at its match: a maker that fails is cancelled
and the taker goes on. What one sender's takers may meet in a block is bounded, since each match is
work for everybody and the resting orders may be the sender's own, under other keys.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from engine.accounts.account import Account, Exposure
from engine.accounts.fees import compute_fee, find_tier, note_trade
from engine.cross_margin import compute_orders_margin
from engine.instructions import SelfTradeMode, Side
from engine.limits import (
    BALANCE_ABS_MAX_MICROQUOTE,
    FOK_READS_PER_SENDER_MAX,
    MATCHES_PER_SENDER_MAX,
    PORTFOLIO_MATCH_WEIGHT,
)
from engine.margin import is_reducing_transition, refresh_margin, update_exposure_margin
from engine.portfolio.margin import is_portfolio_fill_allowed
from engine.receipts import Fill, ReasonCode
from engine.run import BlockRun
from engine.trading.book import Order
from engine.trading.resting import (
    enforce_reduce_only,
    expire_order,
    prevent_self_trade,
    reduce_order,
    remove_order,
)

_BUY: Final = Side.BUY
_SELL: Final = Side.SELL


class Taker:
    """An incoming order while it trades."""

    __slots__ = (
        "absorbed_lots",
        "exposure",
        "fee",
        "fee_ppm",
        "filled_lots",
        "lots",
        "matches_left",
        "notional",
        "order_id",
        "price",
        "self_trade",
        "side",
    )

    def __init__(
        self,
        order_id: int,
        exposure: Exposure,
        side: int,
        price: int,
        lots: int,
        self_trade: SelfTradeMode,
        fee_ppm: int,
        matches_left: int,
    ) -> None:
        self.order_id = order_id
        self.exposure = exposure
        self.side = side
        self.price = price
        self.lots = lots
        """What is left to trade."""
        self.self_trade = self_trade
        self.fee_ppm = fee_ppm
        """Of the market and the account's tier."""
        self.matches_left = matches_left
        """What it may still meet, weighed (`weigh_match`); it ends once none is left."""
        self.filled_lots = 0
        self.absorbed_lots = 0
        """Lots taken away by self-trade prevention."""
        self.notional = 0
        self.fee = 0
        """Always the ceiling of the signed fee on `notional`: one rounding for the whole order."""


def compute_threshold(side: int, price: int) -> int:
    """The least key of the opposite side that an order at `price` crosses (see
    `engine.trading.book`)."""
    return -price if side > 0 else price


def match_order(run: BlockRun, taker: Taker) -> None:
    """Trade until the taker is done, may meet no more or crosses nothing; then settle its
    account."""
    exposure = taker.exposure
    account = exposure.account
    opposite = exposure.market.book.opposite(taker.side)
    keys = opposite.keys
    threshold = compute_threshold(taker.side, taker.price)
    while taker.lots and keys and keys[-1] >= threshold and taker.matches_left > 0:
        maker = opposite.levels[keys[-1]].head
        taker.matches_left -= weigh_match(maker)
        if run.has_overdue and run.is_overdue(maker):
            expire_order(run, maker)
        elif maker.exposure.account is account:
            left = prevent_self_trade(run, taker.self_trade, maker, taker.lots)
            taker.absorbed_lots += taker.lots - left
            taker.lots = left
        else:
            _trade(run, taker, maker)
    if taker.filled_lots:
        _settle_taker(run, taker)


def weigh_match(maker: Order) -> int:
    """What it counts to meet a resting order. Its owner's mode is state, what is cached is not."""
    return 1 if maker.exposure.account.portfolio is None else PORTFOLIO_MATCH_WEIGHT


def count_matches_left(run: BlockRun, account: Account) -> int:
    """What the orders of an account may still meet in this block. Senders do not share it and each
    one's orders run in a fixed order, so a block's order of envelopes cannot matter."""
    return MATCHES_PER_SENDER_MAX - run.matches.get(account.owner.account_id, 0)


def note_matches(run: BlockRun, taker: Taker) -> None:
    """Charge a sender with what its order has met."""
    sender = taker.exposure.account.owner.account_id
    run.matches[sender] = MATCHES_PER_SENDER_MAX - taker.matches_left


def _trade(run: BlockRun, taker: Taker, maker: Order) -> None:
    """One match: the maker's account settles at once, the taker's at the end."""
    state = run.state
    exposure = maker.exposure
    account = exposure.account
    market = exposure.market
    lots = min(taker.lots, maker.lots)
    notional = maker.price * lots * market.unit
    maker_side = maker.side
    maker_fee = compute_fee(notional, market.maker_fees[find_tier(state, account)])
    quote_change = -maker_side * notional - maker_fee
    equity_change = quote_change + maker_side * lots * market.mark_value
    if account.margin_epoch != state.margin_epoch:
        refresh_margin(state, account)
    if not is_maker_fill_allowed(exposure, maker_side, lots, quote_change, equity_change):
        run.report(maker, ReasonCode.MARGIN_INSUFFICIENT, maker.lots, 0)
        remove_order(state, maker)
        return
    resting = maker.lots - lots
    maker_id = maker.order_id
    account.quote += quote_change
    account.equity += equity_change
    account.position_record = None
    exposure.trade(maker_side * lots, maker_side * notional)
    reduce_order(state, maker, lots)
    enforce_reduce_only(run, exposure)

    taker.lots -= lots
    taker.filled_lots += lots
    taker.notional += notional
    fee = compute_fee(taker.notional, taker.fee_ppm)
    run.fills.append(
        Fill(
            market.market_id,
            maker.price,
            lots,
            _BUY if taker.side > 0 else _SELL,
            maker_id,
            taker.order_id,
            account.account_id,
            taker.exposure.account.account_id,
            maker_fee,
            fee - taker.fee,
            resting,
        )
    )
    taker.fee = fee
    state.fees += maker_fee
    if state.fee_epoch:
        note_trade(state, account.owner, taker.exposure.account.owner, notional)


def is_maker_fill_allowed(
    exposure: Exposure, side: int, lots: int, quote_change: int, equity_change: int
) -> bool:
    """Does the owner of a resting order have the margin for this fill? The caches are fresh."""
    account = exposure.account
    if abs(account.quote + quote_change) > BALANCE_ABS_MAX_MICROQUOTE:
        return False
    equity = account.equity + equity_change
    if equity >= account.im:
        return True
    filled = side * lots
    if account.portfolio is not None:
        return is_portfolio_fill_allowed(exposure, filled, equity_change)
    position = exposure.lots + filled
    im = account.im - exposure.im
    im += compute_orders_margin(
        exposure.market,
        position + exposure.open_buy - max(filled, 0),
        exposure.open_sell + min(filled, 0) - position,
    )
    return equity >= im or is_reducing_transition(exposure, side, lots, equity_change)


def _settle_taker(run: BlockRun, taker: Taker) -> None:
    """Book all fills of the taker on its account."""
    state = run.state
    exposure = taker.exposure
    account = exposure.account
    market = exposure.market
    quote_change = -taker.side * taker.notional - taker.fee
    account.quote += quote_change
    account.equity += quote_change + taker.side * taker.filled_lots * market.mark_value
    account.position_record = None
    exposure.trade(taker.side * taker.filled_lots, taker.side * taker.notional)
    update_exposure_margin(exposure)
    state.fees += taker.fee
    state.mark_dirty(account)
    enforce_reduce_only(run, exposure)


def is_fok_fillable(run: BlockRun, taker: Taker) -> bool:
    """Can the whole size trade at once, with others, within the limit price?

    True is a promise: `match_order` will then fill everything. The totals of the levels refuse
    most orders that cannot be filled; only then single orders are read (`_read_fillable`).

    What is read is charged to the sender's `FOK_READS_PER_SENDER_MAX` for the block, whatever the
    answer; once that is used up, nothing is fillable. Senders do not share it and each one's
    orders run in a fixed order, so a block's order of envelopes cannot matter.
    """
    opposite = taker.exposure.market.book.opposite(taker.side)
    threshold = compute_threshold(taker.side, taker.price)
    sender = taker.exposure.account.owner.account_id
    spent = run.fok_reads.get(sender, 0)
    budget = FOK_READS_PER_SENDER_MAX - spent
    # A level holds at least one order, so what lies behind so many levels is out of reach.
    depth_lots, levels = opposite.compute_depth(threshold, taker.lots, budget)
    is_fillable = False
    orders = 0
    if depth_lots >= taker.lots:
        is_fillable, orders = _read_fillable(
            run, taker, islice(opposite.crossed_orders(threshold), budget)
        )
    run.fok_reads[sender] = spent + max(levels, orders)
    return is_fillable


def _read_fillable(run: BlockRun, taker: Taker, crossed: Iterable[Order]) -> tuple[bool, int]:
    """Do these orders surely fill the taker? And how many of them were read to know it?

    An order counts only if its owner surely passes the maker check later. An owner of whom an
    order was not counted is left out from there on, because that order may still trade and change
    the owner's margin; and a reduce-only order is not counted after another fill of its owner,
    which may shrink it. The last order may fill in part only, so equity must exceed IM before and
    after it, by more than the rounding of one fee. All this can only understate what is fillable.

    Whatever is read may be met, so all of it must be within the matches that are left.

    Own orders never count: in mode CANCEL_MAKER they are passed over; in any other mode the first
    one ends the search, for it would end the order.
    """
    state = run.state
    market = taker.exposure.market
    missing = taker.lots
    reads = 0
    matches_left = taker.matches_left
    changes: dict[bytes, tuple[int, int]] = {}
    left_out: dict[bytes, bool] = {}
    for order in crossed:
        if matches_left <= 0:
            break
        matches_left -= weigh_match(order)
        reads += 1
        exposure = order.exposure
        account = exposure.account
        if run.has_overdue and run.is_overdue(order):
            continue
        if account is taker.exposure.account:
            if taker.self_trade != SelfTradeMode.CANCEL_MAKER:
                return False, reads
            continue
        if account.account_id in left_out:
            continue
        if account.margin_epoch != state.margin_epoch:
            refresh_margin(state, account)
        lots = min(missing, order.lots)
        notional = order.price * lots * market.unit
        quote, equity_before = changes.get(account.account_id, (0, 0))
        fee = compute_fee(notional, market.maker_fees[find_tier(state, account)])
        change = -order.side * notional - fee
        shrinkable = order.reduce_only and account.account_id in changes
        quote += change
        equity = equity_before + change + order.side * lots * market.mark_value
        if (
            shrinkable
            or account.equity + min(equity_before, equity) <= account.im
            or abs(account.quote + quote) > BALANCE_ABS_MAX_MICROQUOTE
        ):
            left_out[account.account_id] = True
            continue
        changes[account.account_id] = (quote, equity)
        missing -= lots
        if missing == 0:
            return True, reads
    return False, reads
