"""Cross margin: equity, initial and maintenance margin, and what an account below may still do.

    equity = quote + sum(position x mark x unit)
    IM     = sum over markets of ceil(max(longs x im_rate, shorts x im_rate_short) / 10^6)
    MM     = sum over markets of ceil(|position| x mm_rate / 10^6)

`longs = p + buys` and `shorts = sells - p` are the ends of what open orders can make of the
position: all buys filled, or all sells. Whenever one of these is negative the other is larger than
its absolute value. The rates of a market are those of a long and of a short lot: a perpetual's
are the same, its mark value times the market's ppm. Marks and ppm are set before the instructions
of a block and hold through it, also where initial margin grows with open interest
(`engine.prices.open_interest`).

Two facts keep the hot path short, and every change to the formulas must keep them true:

* A fill of a resting order never raises the account's IM: one end stays, the other moves towards
  it. So a maker whose equity after the fill still covers its IM *before* the fill passes.
* An incoming order is checked once, as if all of it traded at its limit price and paid the taker
  fee there. Every possible fill is at least as good, so it needs no check while it trades.

Portfolio margin is another way to margin an account (`engine.portfolio.margin`); the pure
function behind it is `compute_portfolio_margin`, out of `engine.portfolio.sums`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.accounts.account import Account, Exposure
from engine.limits import PPM
from engine.portfolio.margin import (
    compute_requirements,
    refresh_portfolio,
    update_portfolio_exposure,
)
from engine.portfolio.sums import compute_portfolio_margin as compute_portfolio_margin
from engine.prices.funding import compute_settlement, settle_funding
from engine.products import multiply
from engine.trading.market import compute_orders_margin as compute_orders_margin
from engine.trading.market import compute_position_margin as compute_position_margin

if TYPE_CHECKING:
    from engine.state import EngineState


def refresh_margin(state: EngineState, account: Account) -> None:
    """Settle what funding is owed, and recompute the account's caches for the present marks."""
    if state.is_funded:
        settle_funding(state, account)
    equity = account.quote
    total = 0
    for exposure in account.exposures.values():
        market = exposure.market
        lots = exposure.lots
        equity += multiply(lots, market.mark_value)
        im = compute_orders_margin(market, lots + exposure.open_buy, exposure.open_sell - lots)
        exposure.im = im
        total += im
    account.equity = equity
    account.im = total
    if account.portfolio is not None:
        refresh_portfolio(account)
    account.margin_epoch = state.margin_epoch


def update_exposure_margin(exposure: Exposure) -> None:
    """Bring the account's cached IM in line with a changed exposure."""
    account = exposure.account
    if account.portfolio is not None:
        update_portfolio_exposure(exposure)
        return
    lots = exposure.lots
    im = compute_orders_margin(exposure.market, lots + exposure.open_buy, exposure.open_sell - lots)
    account.im += im - exposure.im
    exposure.im = im


def compute_equity(state: EngineState, account: Account) -> int:
    """The account's equity at mark in micro-quote, what funding is owed included; changes
    nothing."""
    equity = account.quote
    if state.is_funded:
        equity += compute_settlement(account)
    for exposure in account.exposures.values():
        equity += multiply(exposure.lots, exposure.market.mark_value)
    return equity


def compute_maintenance_margin(account: Account) -> int:
    """The account's MM in micro-quote."""
    if account.portfolio is not None:
        return compute_requirements(account)[1]
    return sum(
        compute_position_margin(exposure.market, exposure.lots)
        for exposure in account.exposures.values()
    )


def compute_weight(exposure: Exposure) -> int:
    """The share of a position in the risk of its account, to compare with those of the others."""
    return max(compute_position_margin(exposure.market, exposure.lots), 1) if exposure.lots else 0


def compute_total_weight(account: Account) -> int:
    """The weights of all positions of an account."""
    return sum(compute_weight(exposure) for exposure in account.exposures.values())


def compute_fee(notional_microquote: int, fee_ppm: int) -> int:
    """The signed fee, rounded up: the user pays more or receives less."""
    return -(-multiply(fee_ppm, notional_microquote) // PPM)


def is_reducing_transition(exposure: Exposure, side: int, lots: int, equity_change: int) -> bool:
    """May an account below its IM trade `lots`, given what that does to its equity?

    The trade must only close, and must not lower the ratio of equity to maintenance margin:
    `equity' x MM >= equity x MM'`, in integers (the rule of dYdX v4 for undercollateralised
    accounts). An account whose equity is negative can close only at a gain that makes up for it;
    the rest is the liquidation's work. The caches must be fresh.
    """
    position = exposure.lots
    if position * side >= 0 or lots > abs(position):
        return False
    account = exposure.account
    market = exposure.market
    before = compute_maintenance_margin(account)
    after = before - compute_position_margin(market, position)
    after += compute_position_margin(market, position + side * lots)
    return (account.equity + equity_change) * before >= account.equity * after
