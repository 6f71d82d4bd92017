"""What accounts have besides balance, positions and orders, as snapshots hold it."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Annotated

from msgspec import Meta, Struct

from crypto.types import Digest, Uint
from engine.accounts.fees import Volume
from engine.accounts.sessions import Session, add_session
from engine.accounts.sub_accounts import compute_sub_account_id, link_sub_account
from engine.accounts.withdrawals import Withdrawal, add_withdrawal
from engine.block import SessionGrant
from engine.errors import SnapshotError
from engine.limits import (
    DEPOSITS_TOTAL_MAX_MICROQUOTE,
    FEE_EPOCHS_MAX,
    SUB_ACCOUNTS_MAX,
    VOLUME_MAX_MICROQUOTE,
    WITHDRAWAL_DESTINATION_BYTES,
)
from engine.snapshots.checks import require_rising
from engine.state import EngineState

_Destination = Annotated[
    bytes, Meta(min_length=WITHDRAWAL_DESTINATION_BYTES, max_length=WITHDRAWAL_DESTINATION_BYTES)
]
_Amount = Annotated[int, Meta(ge=1, le=DEPOSITS_TOTAL_MAX_MICROQUOTE)]
_EpochVolume = Annotated[int, Meta(ge=0, le=VOLUME_MAX_MICROQUOTE)]
_Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]

_BY_ID = itemgetter(0)


class SnapshotWithdrawal(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One withdrawal that L1 has not settled."""

    withdrawal_id: _Positive
    account: Digest
    destination: _Destination
    amount_microquote: _Amount
    height: Uint


class SnapshotSubAccount(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Whose sub-account an account is."""

    account: Digest
    owner: Digest
    sub: Annotated[int, Meta(ge=1, le=SUB_ACCOUNTS_MAX)]


class SnapshotSession(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A session key and what it has spent."""

    grant: SessionGrant
    spent_microquote: Annotated[int, Meta(ge=0, le=2**62)]


def pack_sessions(state: EngineState) -> tuple[SnapshotSession, ...]:
    """All session keys, by account and key."""
    return tuple(
        SnapshotSession(
            SessionGrant(
                account_id,
                key,
                session.scope,
                session.expires_ms,
                session.markets,
                session.subs,
                session.spend_max,
            ),
            session.spent,
        )
        for account_id, account in sorted(state.accounts.items(), key=_BY_ID)
        for key, session in sorted(account.sessions.items(), key=_BY_ID)
    )


def unpack_sessions(state: EngineState, packed: Sequence[SnapshotSession]) -> None:
    """Put them back, once all accounts are there. Raises `SnapshotError`."""
    require_rising([each.grant.account + each.grant.key for each in packed], "sessions")
    for each in packed:
        grant = each.grant
        account = state.accounts.get(grant.account)
        if account is None:
            raise SnapshotError("a session key of nobody")
        session = Session(
            grant.key,
            grant.scope,
            grant.expires_ms,
            grant.markets,
            grant.subs,
            grant.spend_max_microquote,
            each.spent_microquote,
        )
        add_session(state, account, session)


class SnapshotVolume(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What an owner has traded: (epoch, micro-quote), by epoch."""

    account: Digest
    epochs: Annotated[
        tuple[tuple[_Positive, _EpochVolume], ...],
        Meta(min_length=1, max_length=FEE_EPOCHS_MAX + 1),
    ]


def pack_sub_accounts(state: EngineState) -> tuple[SnapshotSubAccount, ...]:
    """All sub-accounts, by id."""
    return tuple(
        SnapshotSubAccount(account_id, account.owner.account_id, account.sub)
        for account_id, account in sorted(state.accounts.items(), key=_BY_ID)
        if account.sub
    )


def unpack_sub_accounts(state: EngineState, packed: Sequence[SnapshotSubAccount]) -> None:
    """Link them again, once all accounts are there. Raises `SnapshotError`."""
    require_rising([each.account for each in packed], "sub-accounts")
    for each in packed:
        account = state.accounts.get(each.account)
        if account is None or each.owner not in state.accounts:
            raise SnapshotError("a sub-account of nobody, or that is none")
        if each.account != compute_sub_account_id(each.owner, each.sub):
            raise SnapshotError("a sub-account of another owner or number")
        link_sub_account(state, account, each.owner, each.sub)


def pack_volumes(state: EngineState) -> tuple[SnapshotVolume, ...]:
    """What counts for fee tiers, by account."""
    return tuple(
        SnapshotVolume(
            account_id, tuple(zip(account.volume.epochs, account.volume.amounts, strict=True))
        )
        for account_id, account in sorted(state.accounts.items(), key=_BY_ID)
        if account.volume is not None
    )


def unpack_volumes(state: EngineState, packed: Sequence[SnapshotVolume]) -> None:
    """Put them back, once all accounts are there. Raises `SnapshotError`."""
    require_rising([each.account for each in packed], "volumes")
    if packed and state.genesis.fee_tiers is None:
        raise SnapshotError("volume where its genesis has no fee tiers")
    for each in packed:
        account = state.accounts.get(each.account)
        epochs = [epoch for epoch, _ in each.epochs]
        if account is None:
            raise SnapshotError("a volume of nobody")
        require_rising(epochs, "epochs")
        account.volume = Volume()
        account.volume.epochs = epochs
        account.volume.amounts = [amount for _, amount in each.epochs]
        state.mark_dirty(account)


def pack_withdrawals(state: EngineState) -> tuple[SnapshotWithdrawal, ...]:
    """All pending withdrawals, by number."""
    return tuple(
        SnapshotWithdrawal(
            withdrawal_id,
            withdrawal.account.account_id,
            withdrawal.destination,
            withdrawal.amount,
            withdrawal.height,
        )
        for withdrawal_id, withdrawal in sorted(state.withdrawals.items())
    )


def unpack_withdrawals(
    state: EngineState, next_withdrawal_id: int, packed: Sequence[SnapshotWithdrawal]
) -> None:
    """Put them back, once all accounts are there. Raises `SnapshotError`."""
    state.next_withdrawal_id = next_withdrawal_id
    numbers = [each.withdrawal_id for each in packed]
    require_rising([*numbers, next_withdrawal_id], "withdrawals and the next number")
    for each in packed:
        account = state.accounts.get(each.account)
        if account is None:
            raise SnapshotError("a withdrawal of nobody")
        withdrawal = Withdrawal(
            each.withdrawal_id, account, each.destination, each.amount_microquote, each.height
        )
        add_withdrawal(state, withdrawal)
