"""Transfers of collateral between accounts, at once and for ever.

They run after the cancels, which free margin, and before the orders, which may use what has come.
Of other people only accounts that exist receive: nobody can fill the state with accounts of one
micro-quote. Of one's own sub-accounts there are few, so a transfer opens them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.accounts.outflow import check_outflow, move_out
from engine.accounts.sub_accounts import find_sub_account, is_sub_account_number, open_sub_account
from engine.limits import BALANCE_ABS_MAX_MICROQUOTE
from engine.receipts import ReasonCode, Receipt, Status, TransferEvent

if TYPE_CHECKING:
    from engine.accounts.account import Account
    from engine.instructions import Transfer
    from engine.run import BlockRun
    from engine.state import EngineState

_OK: Final = ReasonCode.OK


def transfer(
    run: BlockRun, account: Account, order: Transfer, envelope_id: bytes, index: int
) -> Receipt:
    """Move collateral from one account to another, or say why not."""
    state = run.state
    owner_id = account.owner.account_id
    is_own_sub = not order.account and order.sub != 0
    code = _check_form(order)
    if code is not _OK:
        return Receipt(envelope_id, index, Status.REFUSED, code)
    if is_own_sub:
        target = find_sub_account(state, owner_id, order.sub)
    else:
        target = state.accounts.get(order.account or owner_id)
    amount = order.amount_microquote
    if target is account:
        code = ReasonCode.TRANSFER_TO_ITSELF
    elif target is None and not is_own_sub:
        code = ReasonCode.TRANSFER_ACCOUNT_UNKNOWN
    else:
        code = check_outflow(state, account, amount)
    if code is _OK and target is not None and target.quote + amount > BALANCE_ABS_MAX_MICROQUOTE:
        code = ReasonCode.COLLATERAL_OUT_OF_RANGE
    if code is not _OK:
        return Receipt(envelope_id, index, Status.REFUSED, code)
    if target is None:
        target = open_sub_account(state, owner_id, order.sub)
    _move(state, account, target, amount)
    run.events.append(TransferEvent(account.account_id, target.account_id, amount))
    return Receipt(envelope_id, index, Status.ACCEPTED, _OK)


def _check_form(order: Transfer) -> ReasonCode:
    if order.account:
        return ReasonCode.TRANSFER_DESTINATION_INVALID if order.sub else _OK
    if order.sub and not is_sub_account_number(order.sub):
        return ReasonCode.SUB_ACCOUNT_NUMBER_INVALID
    return _OK


def _move(state: EngineState, source: Account, target: Account, amount: int) -> None:
    move_out(state, source, amount)
    target.quote += amount
    target.equity += amount
    state.mark_dirty(target)
    if state.liquidations is not None:
        state.liquidations.hasten(target, state.time_ms)
