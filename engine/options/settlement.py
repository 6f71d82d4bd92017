"""The options' part of the system phase, and how an expiry ends.

    samples    the index, once in each interval of the window before the expiry, at the first block
               that reaches it; while the index is stale none, and one for all that were missed
    expiry     the first block that reaches it cancels every order of its series; from then on they
               take none, and positions keep their margin
    price      the mean of the samples, an exact fraction. With no more than half of a window's
               samples, or a stale index, the settlement waits, and sampling goes on
    payment    lots x max(price - strike, 0) x unit for a call, of max(strike - price, 0) for a
               put: one rounding, down, of what one account receives for one series (so whoever
               pays, pays up)

The other side of all payments is the settlement pool, a part of the identity of conservation: since
positions sum to zero it keeps what rounding took, never less than nothing; only where a balance
would leave its bound it stands in for what is not booked. Settled series leave the state, with all
that stood in them. What each position came to is an event.

*The price at the expiry itself* (rejected): whoever moves the index for a moment would decide.
*Rounding the price to a tick first* (rejected): it would be off by half a tick for every lot.
"""

from engine.accounts.account import Account
from engine.limits import BALANCE_ABS_MAX_MICROQUOTE, PRICE_MAX_TICKS
from engine.options.chains import Expiry, OptionChain
from engine.options.listing import list_series
from engine.options.marks import update_option_marks
from engine.options.surface import update_surface
from engine.receipts import ExpiryEvent, ReasonCode, SettlementEvent
from engine.run import BlockRun
from engine.state import EngineState
from engine.trading.book import Order
from engine.trading.market import Market
from engine.trading.resting import remove_order
from engine.waiting.waitlist import end_waiting


def run_options(run: BlockRun) -> None:
    """System phase, after the indices: sample, expire, settle, list and mark."""
    state = run.state
    for chain in state.chains.values():
        update_surface(chain, state.reporters, run.time_ms)
        underlying = chain.underlying
        if underlying.index_price == 0:
            continue
        for expiry in list(chain.expiries.values()):
            _run_expiry(run, chain, expiry)
        if not underlying.stale:
            list_series(run, chain)
        if update_option_marks(chain, run.time_ms):
            state.margin_epoch += 1


def _run_expiry(run: BlockRun, chain: OptionChain, expiry: Expiry) -> None:
    is_over = run.time_ms >= expiry.expiry_ms
    if is_over and not expiry.is_closed:
        _close_expiry(run, expiry)
    if chain.underlying.stale:
        return
    samples_min = chain.settlement_samples_min
    if run.time_ms >= expiry.sample_due_ms and not (is_over and expiry.sample_count >= samples_min):
        take_sample(chain, expiry, run.time_ms)
    if is_over and expiry.sample_count >= samples_min:
        _settle_expiry(run, chain, expiry)


def take_sample(chain: OptionChain, expiry: Expiry, time_ms: int) -> None:
    """Note the index, one time, whatever was missed; the next one is due at the next interval."""
    interval_ms = chain.params.sample_interval_ms
    expiry.sample_sum += chain.underlying.index_price
    expiry.sample_count += 1
    missed_ms = (time_ms - expiry.sample_due_ms) // interval_ms * interval_ms
    expiry.sample_due_ms += missed_ms + interval_ms
    chain.dirty = True


def _close_expiry(run: BlockRun, expiry: Expiry) -> None:
    """Cancel everything that is open or waiting in the series, and tell the owners."""
    state = run.state
    expiry.is_closed = True
    markets = {market.market_id: market for market in expiry.markets()}
    for waiting_id in [
        order.order_id for order in state.waiting.values() if order.market.market_id in markets
    ]:
        waiting = state.waiting.get(waiting_id)
        # The other leg of its pair may have taken it along.
        if waiting is not None:
            end_waiting(run, waiting, ReasonCode.OPTION_EXPIRED)
    for market in markets.values():
        # A block that listed a series marks it, too: without an index price no order can come.
        market.index_price = 0
        for order in _open_orders(market):
            run.report(order, ReasonCode.OPTION_EXPIRED, order.lots, 0)
            remove_order(state, order)


def _open_orders(market: Market) -> list[Order]:
    """All orders in the book of a market, by id."""
    sides = (market.book.bids, market.book.asks)
    orders = [order for side in sides for order in side.crossed_orders(-PRICE_MAX_TICKS)]
    return sorted(orders, key=lambda order: order.order_id)


def _settle_expiry(run: BlockRun, chain: OptionChain, expiry: Expiry) -> None:
    """Pay every position of every series, and let the series go."""
    state = run.state
    run.events.append(
        ExpiryEvent(
            chain.underlying.market_id,
            expiry.expiry_ms,
            expiry.sample_sum,
            expiry.sample_count,
        )
    )
    markets = expiry.markets()
    for account_id, market in _find_holders(state, markets):
        _settle_position(run, expiry, state.accounts[account_id], market)
    for market in markets:
        assert market.book.order_count == 0, "its orders went when it expired"
        del state.markets[market.market_id]
        state.removed_markets.append(market.market_id)
    del chain.expiries[expiry.expiry_ms]
    chain.dirty = True
    # Every equity was computed with these positions in it.
    state.margin_epoch += 1


def _find_holders(state: EngineState, markets: list[Market]) -> list[tuple[bytes, Market]]:
    """Who has been in these markets, in an order that no table's history decides."""
    found = [
        (market.market_id, account_id)
        for account_id, account in state.accounts.items()
        if account.exposures
        for market in markets
        if market.market_id in account.exposures
    ]
    return [(account_id, state.markets[market_id]) for market_id, account_id in sorted(found)]


def _settle_position(run: BlockRun, expiry: Expiry, account: Account, market: Market) -> None:
    state = run.state
    exposure = account.exposures.pop(market.market_id)
    assert exposure.order_count == 0, "its orders went when it expired"
    if exposure.lots == 0:
        return
    due = compute_payoff(market, expiry.sample_sum, expiry.sample_count, exposure.lots)
    bound = BALANCE_ABS_MAX_MICROQUOTE
    change = max(-bound, min(bound, account.quote + due)) - account.quote
    account.quote += change
    state.settlement_pool -= change
    account.position_record = None
    state.mark_dirty(account)
    run.events.append(SettlementEvent(account.account_id, market.market_id, exposure.lots, change))


def compute_payoff(market: Market, price_sum: int, price_count: int, lots: int) -> int:
    """What a position receives at a settlement price of `price_sum / price_count` ticks of the
    underlying, in micro-quote, rounded down; negative for a short that pays."""
    series = market.series
    assert series is not None, "only options pay off"
    above = price_sum - price_count * series.strike_ticks
    value = max(above if series.is_call else -above, 0)
    return lots * value * series.underlying.unit // price_count
