"""Placing orders: every check, in one order, then trading and resting.

The first check that fails names the reason. Nothing changes until all have passed, except that a
refused amend has already cancelled the order that it replaces.
"""

from typing import Final

from engine.accounts.account import Account, Exposure
from engine.accounts.fees import compute_fee, find_taker_fee_ppm
from engine.cross_margin import compute_orders_margin
from engine.instructions import MarketOrder, PlaceOrder, SelfTradeMode, Side, TimeInForce
from engine.limits import (
    BALANCE_ABS_MAX_MICROQUOTE,
    CLIENT_ID_MAX,
    ORDER_NOTIONAL_MAX_MICROQUOTE,
    POSITION_MAX_LOTS,
    PRICE_MAX_TICKS,
    TIME_MAX_MS,
)
from engine.margin import is_reducing_transition, refresh_margin
from engine.portfolio.margin import check_portfolio_order
from engine.receipts import ReasonCode, Receipt, Status
from engine.run import BlockRun
from engine.state import EngineState
from engine.trading.book import Order
from engine.trading.market import Market
from engine.trading.matching import (
    Taker,
    compute_threshold,
    count_matches_left,
    is_fok_fillable,
    match_order,
    note_matches,
    weigh_match,
)
from engine.trading.resting import enforce_reduce_only, expire_order, remove_order, rest_order

_OK: Final = ReasonCode.OK
# Enum members are looked up once: on this path an attribute of an enum class costs as much as a
# whole check.
_BUY: Final = Side.BUY
_GTC: Final = TimeInForce.GTC
_IOC: Final = TimeInForce.IOC
_FOK: Final = TimeInForce.FOK
_POST_ONLY: Final = TimeInForce.POST_ONLY
_REFUSED: Final = Status.REFUSED
_RESTING: Final = Status.RESTING
_CANCELLED: Final = Status.CANCELLED


def place_market_order(
    run: BlockRun, account: Account, order: MarketOrder, envelope_id: bytes, index: int
) -> Receipt:
    """Run one market order to its end."""
    return place_order(run, account, make_limit(order), envelope_id, index)


def make_limit(order: MarketOrder) -> PlaceOrder:
    """A market order is an IOC limit order at its protective price."""
    return PlaceOrder(
        order.market,
        order.side,
        order.protective_price_ticks,
        order.size_lots,
        TimeInForce.IOC,
        order.reduce_only,
        order.self_trade,
        order.client_id,
    )


def place_order(
    run: BlockRun, account: Account, order: PlaceOrder, envelope_id: bytes, index: int
) -> Receipt:
    """Run one limit order to its end: refused, traded, resting."""
    state = run.state
    market = state.markets.get(order.market)
    if market is None:
        code = ReasonCode.ORDER_UNKNOWN_MARKET
        return Receipt(envelope_id, index, _REFUSED, code)
    code = check_form(run, market, account, order)
    if code is not _OK:
        return Receipt(envelope_id, index, _REFUSED, code)
    exposure = account.exposure(market)
    receipt = _place(run, exposure, order, envelope_id, index)
    if not (exposure.lots or exposure.order_count):
        account.forget_exposure(exposure)
    return receipt


def _place(
    run: BlockRun, exposure: Exposure, order: PlaceOrder, envelope_id: bytes, index: int
) -> Receipt:
    """The order is well formed: what it may do, and doing it."""
    lots = order.size_lots
    if order.reduce_only:
        # A reduce-only order is at most as large as the position that it closes.
        lots = min(lots, max(-order.side * exposure.lots, 0))
        if lots == 0:
            code = ReasonCode.ORDER_REDUCE_ONLY_WOULD_INCREASE
            return Receipt(envelope_id, index, _REFUSED, code)
    code = check_risk(run.state, exposure, order, lots)
    if code is not _OK:
        return Receipt(envelope_id, index, _REFUSED, code)
    return _execute(run, exposure, order, lots, envelope_id, index)


def check_form(
    run: BlockRun,
    market: Market,
    account: Account,
    order: PlaceOrder,
    *,
    is_joining: bool = False,
) -> ReasonCode:
    """Checks that need neither position nor margin. Who joins a call auction takes nobody's place
    in a full book: what stands there until the auction is over is not what will rest."""
    price = order.price_ticks
    code = check_amounts(market, price, order.size_lots)
    if code is not _OK:
        return code
    if not market.band_low <= price <= market.band_high:
        return ReasonCode.ORDER_PRICE_BAND
    client_id = order.client_id
    if client_id:
        code = check_client_id(account, client_id)
        if code is not _OK:
            return code
    good_til_ms = order.good_til_ms
    tif = order.tif
    if tif is _GTC or tif is _POST_ONLY:
        if good_til_ms:
            code = check_good_til(run, good_til_ms)
            if code is not _OK:
                return code
        if len(account.orders) >= run.state.account_open_orders_max:
            return ReasonCode.ORDER_TOO_MANY_OPEN
        book = market.book
        if book.order_count >= market.open_orders_max and (
            is_joining or book.find_displaced(order.side, price, market.open_orders_max) is None
        ):
            return ReasonCode.ORDER_MARKET_FULL
    elif good_til_ms:
        return ReasonCode.ORDER_GOOD_TIL_INVALID
    return _OK


def check_amounts(market: Market, price: int, lots: int) -> ReasonCode:
    """Price and size of any order, now or later, in a market that has an index."""
    if lots <= 0:
        return ReasonCode.ORDER_SIZE_NOT_POSITIVE
    if lots > market.order_size_max_lots:
        return ReasonCode.ORDER_SIZE_OVERFLOW
    if price <= 0:
        return ReasonCode.ORDER_PRICE_NOT_POSITIVE
    if price > PRICE_MAX_TICKS:
        return ReasonCode.ORDER_PRICE_OVERFLOW
    if price * lots * market.unit > ORDER_NOTIONAL_MAX_MICROQUOTE:
        return ReasonCode.ORDER_NOTIONAL_OVERFLOW
    if market.index_price == 0:
        is_option = market.series is not None
        return ReasonCode.OPTION_NOT_TRADING if is_option else ReasonCode.ORACLE_NO_INDEX
    return _OK


def check_client_id(account: Account, client_id: int) -> ReasonCode:
    """A client id that is given is in range, and names nothing else of the account."""
    if not 0 < client_id <= CLIENT_ID_MAX:
        return ReasonCode.ORDER_CLIENT_ID_INVALID
    if client_id in account.clients:
        return ReasonCode.ORDER_DUPLICATE_CLIENT_ID
    return _OK


def check_good_til(run: BlockRun, good_til_ms: int) -> ReasonCode:
    """A time of expiry that is given is one, and is yet to come."""
    if not 0 < good_til_ms <= TIME_MAX_MS:
        return ReasonCode.ORDER_GOOD_TIL_INVALID
    if good_til_ms <= run.time_ms:
        return ReasonCode.ORDER_EXPIRED
    return _OK


def check_risk(
    state: EngineState,
    exposure: Exposure,
    order: PlaceOrder,
    lots: int,
    reserved: int = 0,
    joined_lots: int = 0,
) -> ReasonCode:
    """Stale index, position and balance bounds, margin: as if all traded at the limit price.

    `reserved` is what the account's equity may yet change by through orders that were checked and
    have not traded; never positive. `joined_lots` are these, as many as are on the order's side:
    they are open, which cross margin counts, but a hedge is judged by all that may trade.
    """
    market = exposure.market
    account = exposure.account
    is_buy = order.side is _BUY
    position = exposure.lots
    buys = exposure.open_buy
    sells = exposure.open_sell
    added = lots
    if order.reduce_only:
        # Reduce-only orders are shrunk to the position together, so only so much comes on top.
        added = min(abs(position), exposure.reduce_only_lots + lots) - exposure.reduce_only_lots
    if is_buy:
        buys += added
        is_closing = position < 0 and buys <= -position
    else:
        sells += added
        is_closing = position > 0 and sells <= position
    if market.stale and not is_closing:
        return ReasonCode.ORACLE_STALE
    longs = position + buys
    shorts = sells - position
    if max(longs, shorts) > POSITION_MAX_LOTS:
        return ReasonCode.ORDER_POSITION_OVERFLOW
    if account.margin_epoch != state.margin_epoch:
        refresh_margin(state, account)
    notional = order.price_ticks * lots * market.unit
    fee = compute_fee(notional, find_taker_fee_ppm(state, account, market))
    # A sell may trade at any better price, so its proceeds are bounded by the best bid.
    bids = market.book.bids.keys
    exchanged = notional
    if not is_buy and bids:
        exchanged = max(notional, bids[-1] * lots * market.unit)
    if max(account.quote, -account.quote) + exchanged + fee > BALANCE_ABS_MAX_MICROQUOTE:
        return ReasonCode.ORDER_BALANCE_OVERFLOW
    # Trading at a limit price that is worse than the mark loses the difference at once.
    gain = lots * market.mark_value - notional
    change = min(gain if is_buy else -gain, 0) - fee + reserved
    if account.portfolio is not None:
        sign = 1 if is_buy else -1
        return check_portfolio_order(exposure, sign * lots, change, sign * joined_lots)
    im = account.im - exposure.im
    im += compute_orders_margin(market, longs, shorts)
    if account.equity + change >= im:
        return _OK
    if is_closing and is_reducing_transition(exposure, 1 if is_buy else -1, lots, change):
        return _OK
    return ReasonCode.MARGIN_INSUFFICIENT


def _execute(
    run: BlockRun, exposure: Exposure, order: PlaceOrder, lots: int, envelope_id: bytes, index: int
) -> Receipt:
    """The order is admissible: trade what crosses, rest or cancel what is left."""
    state = run.state
    side = 1 if order.side is _BUY else -1
    tif = order.tif
    price = order.price_ticks
    keys = exposure.market.book.opposite(side).keys
    filled = notional = fee = 0
    remaining = lots
    code = _OK if lots == order.size_lots else ReasonCode.ORDER_REDUCE_ONLY_SHRUNK
    threshold = compute_threshold(side, price)
    if tif is _FOK or (keys and keys[-1] >= threshold):
        taker = Taker(
            state.next_order_id,
            exposure,
            side,
            price,
            lots,
            order.self_trade,
            find_taker_fee_ppm(state, exposure.account, exposure.market),
            count_matches_left(run, exposure.account),
        )
        if tif is _FOK:
            if not is_fok_fillable(run, taker):
                code = ReasonCode.ORDER_FOK_UNFILLABLE
                return Receipt(envelope_id, index, _REFUSED, code)
        elif tif is _POST_ONLY:
            if run.has_overdue:
                _clear_overdue(run, taker)
            refusal = _find_post_only_refusal(exposure, taker)
            if refusal is not _OK:
                return Receipt(envelope_id, index, _REFUSED, refusal)
        match_order(run, taker)
        note_matches(run, taker)
        filled, notional, fee = taker.filled_lots, taker.notional, taker.fee
        remaining = taker.lots
        if taker.absorbed_lots:
            code = ReasonCode.ORDER_SELF_TRADE
        if remaining and taker.matches_left <= 0 and keys and keys[-1] >= threshold:
            remaining = 0
            code = ReasonCode.ORDER_TOO_MANY_MATCHES
    order_id = state.next_order_id
    state.next_order_id = order_id + 1
    resting = 0
    if remaining:
        if tif is _IOC:
            code = ReasonCode.ORDER_IOC_REMAINDER
        else:
            rest = Order(
                order_id,
                exposure,
                side,
                price,
                remaining,
                order.client_id,
                tif,
                order.self_trade,
                order.reduce_only,
                order.good_til_ms,
            )
            resting = _rest(run, rest)
            if resting < remaining:
                code = ReasonCode.ORDER_REDUCE_ONLY_SHRUNK
    if filled:
        status = Status.FILLED if filled == lots else Status.PARTIALLY_FILLED
    else:
        status = _RESTING if resting else _CANCELLED
    return Receipt(envelope_id, index, status, code, order_id, filled, resting, notional, fee)


def _clear_overdue(run: BlockRun, taker: Taker) -> None:
    """Take orders whose time is over out of the way of a post-only order. Each is met, so it counts
    among the sender's matches; behind one of the sender's own they are in the way."""
    opposite = taker.exposure.market.book.opposite(taker.side)
    threshold = compute_threshold(taker.side, taker.price)
    keys = opposite.keys
    while keys and keys[-1] >= threshold and taker.matches_left > 0:
        order = opposite.levels[keys[-1]].head
        if not run.is_overdue(order):
            break
        taker.matches_left -= weigh_match(order)
        expire_order(run, order)
    note_matches(run, taker)


def _find_post_only_refusal(exposure: Exposure, taker: Taker) -> ReasonCode:
    """Why a crossing post-only order may not rest; OK if self-trade prevention clears its way.

    Nothing is cancelled for an order that is refused in the end: the whole crossed part of the
    book that it would reach is read first.
    """
    crossed = exposure.market.book.opposite(taker.side).crossed_orders(
        compute_threshold(taker.side, taker.price)
    )
    own_lots = 0
    for order in crossed:
        if order.exposure is not exposure:
            return ReasonCode.ORDER_POST_ONLY_WOULD_CROSS
        if taker.self_trade in (SelfTradeMode.CANCEL_TAKER, SelfTradeMode.CANCEL_BOTH):
            return _OK
        own_lots += order.lots
        if taker.self_trade == SelfTradeMode.DECREMENT and own_lots >= taker.lots:
            return _OK
    return _OK


def _make_room(run: BlockRun, order: Order) -> None:
    """Let the order that a new one displaces go, if the book is full. Whatever the new one has met
    until here has left the book, or the book is as it was when `check_form` found room."""
    market = order.exposure.market
    if market.book.order_count < market.open_orders_max:
        return
    last = market.book.find_displaced(order.side, order.price, market.open_orders_max)
    assert last is not None, "that there is one was checked"
    run.report(last, ReasonCode.ORDER_DISPLACED, last.lots, 0)
    remove_order(run.state, last)


def _rest(run: BlockRun, order: Order) -> int:
    """Rest what is left and return how much of it still rests."""
    lots = order.lots
    if not order.reduce_only:
        _make_room(run, order)
        rest_order(run.state, order)
        return lots
    # The fills of this very order may have shrunk the position that it may close.
    exposure = order.exposure
    order.lots = min(lots, max(-order.side * exposure.lots, 0))
    if order.lots == 0:
        return 0
    _make_room(run, order)
    rest_order(run.state, order)
    enforce_reduce_only(run, exposure)
    return order.lots if order.order_id in run.state.orders else 0
