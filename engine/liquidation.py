"""Accounts that are worth less than nothing, and what waits until somebody has made up for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.funding import compute_settlement

if TYPE_CHECKING:
    from engine.state import EngineState


def is_withdrawal_gated(state: EngineState) -> bool:
    """Must collateral stay, because some account's equity is negative?

    What is missing there may have to come from everybody, so nobody may leave before that is
    decided (the rule of dYdX v4 and Derive). It goes over all accounts: to be asked once a block,
    and only when somebody wants to withdraw.
    """
    for account in state.accounts.values():
        equity = account.quote + (compute_settlement(account) if state.is_funded else 0)
        for exposure in account.exposures.values():
            equity += exposure.lots * exposure.market.mark_value
        if equity < 0:
            return True
    return False
