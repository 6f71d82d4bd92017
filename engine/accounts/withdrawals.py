"""Withdrawals: collateral on its way back to L1, from the request to what L1 says became of it.

    pending     the amount has left the balance and stands in `pending_withdrawals`; a record with a
                number of its own is a leaf under the state root, which L1 pays against
    paid        L1 has paid: `withdrawals_total` counts it, the record is gone
    refunded    L1 could not or would not pay: the amount is the account's again, the record is gone

Requests are the last thing in a block, after all trades, so that what leaves is what nothing of
this block needs. None is taken while accounts below zero lack more than insurance fund and fees
hold: it may yet have to come from everybody else (`engine.liquidation.phase`). What L1 has done
reaches the engine like a deposit, each number once.

Numbers count up and are never used again, so that a contract can remember which ones it has paid.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from engine.accounts.outflow import check_outflow, move_out
from engine.limits import WITHDRAWAL_DESTINATION_BYTES, WITHDRAWALS_MAX, WITHDRAWALS_PER_ACCOUNT_MAX
from engine.receipts import ReasonCode, Receipt, Status, WithdrawalEvent, WithdrawalState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.accounts.account import Account
    from engine.block import WithdrawalSettlement
    from engine.instructions import Withdraw
    from engine.run import BlockRun
    from engine.state import EngineState

_OK: Final = ReasonCode.OK

_RECORD: Final = Struct(">32s20sQQ")
"""account, destination, amount, height."""

_NOBODY: Final = bytes(32)
_NOWHERE: Final = bytes(WITHDRAWAL_DESTINATION_BYTES)


class Withdrawal:
    """One withdrawal that L1 has not settled."""

    __slots__ = ("account", "amount", "destination", "height", "withdrawal_id")

    def __init__(
        self, withdrawal_id: int, account: Account, destination: bytes, amount: int, height: int
    ) -> None:
        self.withdrawal_id = withdrawal_id
        self.account = account
        self.destination = destination
        """An address on L1."""
        self.amount = amount
        """Micro-quote."""
        self.height = height
        """Of the block that took the request."""


def encode_withdrawal(withdrawal: Withdrawal) -> bytes:
    """The value of a withdrawal's leaf."""
    return _RECORD.pack(
        withdrawal.account.account_id,
        withdrawal.destination,
        withdrawal.amount,
        withdrawal.height,
    )


def decode_withdrawal(value: bytes) -> tuple[bytes, bytes, int, int]:
    """Account, destination, micro-quote and height of a withdrawal's leaf, which was proven."""
    account_id, destination, amount, height = _RECORD.unpack(value)
    return account_id, destination, amount, height


def add_withdrawal(state: EngineState, withdrawal: Withdrawal) -> None:
    """Put a withdrawal on all tables; its amount has left the balance."""
    withdrawal_id = withdrawal.withdrawal_id
    state.withdrawals[withdrawal_id] = withdrawal
    withdrawal.account.withdrawals[withdrawal_id] = withdrawal
    state.dirty_withdrawals.append(withdrawal_id)


def request_withdrawal(
    run: BlockRun,
    account: Account,
    withdraw: Withdraw,
    is_gated: bool,
    envelope_id: bytes,
    index: int,
) -> Receipt:
    """Let collateral leave, or say why not. The receipt names the withdrawal's number."""
    state = run.state
    code = _check(state, account, withdraw, is_gated)
    if code is not _OK:
        return Receipt(envelope_id, index, Status.REFUSED, code)
    amount = withdraw.amount_microquote
    withdrawal_id = state.next_withdrawal_id
    state.next_withdrawal_id = withdrawal_id + 1
    move_out(state, account, amount)
    state.pending_withdrawals += amount
    withdrawal = Withdrawal(withdrawal_id, account, withdraw.destination, amount, state.height)
    add_withdrawal(state, withdrawal)
    _report(run, withdrawal, WithdrawalState.PENDING)
    return Receipt(envelope_id, index, Status.ACCEPTED, _OK, withdrawal_id)


def _check(state: EngineState, account: Account, withdraw: Withdraw, is_gated: bool) -> ReasonCode:
    destination = withdraw.destination
    if len(destination) != WITHDRAWAL_DESTINATION_BYTES or destination == _NOWHERE:
        return ReasonCode.WITHDRAW_DESTINATION_INVALID
    if withdraw.amount_microquote < state.genesis.withdrawal_min_microquote:
        return ReasonCode.WITHDRAW_TOO_SMALL
    if len(account.withdrawals) >= WITHDRAWALS_PER_ACCOUNT_MAX:
        return ReasonCode.WITHDRAW_TOO_MANY
    if len(state.withdrawals) >= WITHDRAWALS_MAX:
        return ReasonCode.WITHDRAW_FULL
    code = check_outflow(state, account, withdraw.amount_microquote)
    return ReasonCode.WITHDRAW_GATED if code is _OK and is_gated else code


def settle_withdrawals(run: BlockRun, settlements: Sequence[WithdrawalSettlement]) -> None:
    """Deposit phase: what L1 says it has paid is gone, what it rejected comes back.

    A number that is not pending changes nothing and is reported: the money is where it was.
    """
    state = run.state
    for settlement in settlements:
        withdrawal = state.withdrawals.get(settlement.withdrawal_id)
        if withdrawal is None:
            unknown = WithdrawalState.UNKNOWN
            run.events.append(
                WithdrawalEvent(settlement.withdrawal_id, _NOBODY, _NOWHERE, 0, unknown)
            )
            continue
        amount = withdrawal.amount
        account = withdrawal.account
        del state.withdrawals[withdrawal.withdrawal_id]
        del account.withdrawals[withdrawal.withdrawal_id]
        state.dirty_withdrawals.append(withdrawal.withdrawal_id)
        state.pending_withdrawals -= amount
        if settlement.is_paid:
            state.withdrawals_total += amount
            _report(run, withdrawal, WithdrawalState.PAID)
        else:
            account.quote += amount
            account.equity += amount
            state.mark_dirty(account)
            _report(run, withdrawal, WithdrawalState.REFUNDED)


def _report(run: BlockRun, withdrawal: Withdrawal, state: WithdrawalState) -> None:
    run.events.append(
        WithdrawalEvent(
            withdrawal.withdrawal_id,
            withdrawal.account.account_id,
            withdrawal.destination,
            withdrawal.amount,
            state,
        )
    )
