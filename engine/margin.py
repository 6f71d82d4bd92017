"""An account's margin: equity, initial and maintenance margin, and what one below may still do.

    equity = quote + sum(position x mark x unit)

The margin is cross margin (`engine.cross_margin` has its formulas) unless the account has chosen
portfolio margin (`engine.portfolio.margin`); the pure function behind that one is
`compute_portfolio_margin`, out of `engine.portfolio.sums`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.accounts.account import Account, Exposure
from engine.cross_margin import compute_orders_margin, compute_position_margin
from engine.portfolio.margin import (
    compute_requirements,
    refresh_portfolio,
    update_portfolio_exposure,
)
from engine.portfolio.sums import compute_portfolio_margin as compute_portfolio_margin
from engine.prices.funding import compute_settlement, settle_funding
from engine.products import multiply

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
