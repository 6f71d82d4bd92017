"""What an account may give away: the one check of withdrawals and transfers.

What is left must cover the initial margin of all positions and open orders, at fresh mark prices
and with all funding settled. So unrealised gains may leave as far as no margin needs them, as at
every exchange with cross margin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.limits import BALANCE_ABS_MAX_MICROQUOTE, DEPOSITS_TOTAL_MAX_MICROQUOTE
from engine.margin import refresh_margin
from engine.receipts import ReasonCode

if TYPE_CHECKING:
    from engine.accounts.account import Account
    from engine.state import EngineState


def check_outflow(state: EngineState, account: Account, amount: int) -> ReasonCode:
    """Why so much micro-quote may not leave the account, or OK."""
    if not 0 < amount <= DEPOSITS_TOTAL_MAX_MICROQUOTE:
        return ReasonCode.COLLATERAL_AMOUNT_INVALID
    for exposure in account.exposures.values():
        if exposure.market.stale and (exposure.lots or exposure.order_count):
            return ReasonCode.COLLATERAL_ORACLE_STALE
    if account.margin_epoch != state.margin_epoch:
        refresh_margin(state, account)
    if account.equity - amount < account.im:
        return ReasonCode.COLLATERAL_INSUFFICIENT
    if account.quote - amount < -BALANCE_ABS_MAX_MICROQUOTE:
        return ReasonCode.COLLATERAL_OUT_OF_RANGE
    return ReasonCode.OK


def move_out(state: EngineState, account: Account, amount: int) -> None:
    """Take from the balance what `check_outflow` has let go."""
    account.quote -= amount
    account.equity -= amount
    state.mark_dirty(account)
