"""Positions that change hands outside the books: slices of auctions, and deleveraging."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from engine.accounts.account import Account
from engine.limits import (
    BALANCE_ABS_MAX_MICROQUOTE,
    PORTFOLIO_POSITIONS_MAX,
    POSITION_MAX_LOTS,
)
from engine.margin import compute_maintenance_margin, refresh_margin
from engine.portfolio.margin import count_markets
from engine.receipts import ReasonCode
from engine.trading.resting import enforce_reduce_only

if TYPE_CHECKING:
    from engine.run import BlockRun
    from engine.state import EngineState


class Needs(Enum):
    """What whoever takes lots has to cover with them."""

    EQUITY = "equity"
    """It may not owe more than it has."""
    MAINTENANCE = "maintenance"
    INITIAL = "initial"


def check_taking(
    state: EngineState, account: Account, changes: dict[int, int], quote_change: int, needs: Needs
) -> ReasonCode:
    """May the account's positions change by these signed lots, by market, and its balance so?

    Margin is computed on the account as it would be, whatever way it is margined; then it is as it
    was, with fresh caches and no market that it did not know.
    """
    refresh_margin(state, account)
    unknown = [market_id for market_id in changes if market_id not in account.exposures]
    for market_id in changes:
        account.exposure(state.markets[market_id])
    code = _try_taking(state, account, changes, quote_change, needs)
    for market_id in unknown:
        del account.exposures[market_id]
    return code


def _try_taking(
    state: EngineState, account: Account, changes: dict[int, int], quote_change: int, needs: Needs
) -> ReasonCode:
    for market_id, lots in changes.items():
        exposure = account.exposures[market_id]
        position = exposure.lots + lots
        if max(position + exposure.open_buy, exposure.open_sell - position) > POSITION_MAX_LOTS:
            return ReasonCode.ORDER_POSITION_OVERFLOW
    if abs(account.quote + quote_change) > BALANCE_ABS_MAX_MICROQUOTE:
        return ReasonCode.ORDER_BALANCE_OVERFLOW
    if account.portfolio is not None and _has_too_many_markets(account, changes):
        return ReasonCode.PORTFOLIO_TOO_MANY_MARKETS
    for market_id, lots in changes.items():
        account.exposures[market_id].lots += lots
    account.quote += quote_change
    refresh_margin(state, account)
    if needs is Needs.INITIAL:
        needed = account.im
    else:
        needed = compute_maintenance_margin(account) if needs is Needs.MAINTENANCE else 0
    is_covered = account.equity >= needed
    for market_id, lots in changes.items():
        account.exposures[market_id].lots -= lots
    account.quote -= quote_change
    refresh_margin(state, account)
    return ReasonCode.OK if is_covered else ReasonCode.MARGIN_INSUFFICIENT


def _has_too_many_markets(account: Account, changes: dict[int, int]) -> bool:
    """Would an account with portfolio margin be in more markets than it may?"""
    new = sum(
        1
        for market_id in changes
        if not account.exposures[market_id].lots and not account.exposures[market_id].order_count
    )
    return new > 0 and count_markets(account) + new > PORTFOLIO_POSITIONS_MAX


def hand_over(
    run: BlockRun, giver: Account, taker: Account, lots: dict[int, int], paid: dict[int, int]
) -> None:
    """Move signed lots, by market, from one account to another, and what the taker pays for them
    (signed) the other way. Both have fresh caches before and after."""
    state = run.state
    for account, sign in ((giver, -1), (taker, 1)):
        account.position_record = None
        state.mark_dirty(account)
        for market_id, size in lots.items():
            exposure = account.exposure(state.markets[market_id])
            exposure.trade(sign * size, sign * paid[market_id])
            account.quote -= sign * paid[market_id]
            enforce_reduce_only(run, exposure)
        # Once for all of them: every position is read for it.
        refresh_margin(state, account)
