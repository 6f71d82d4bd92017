"""Sub-accounts: accounts of their own, with the owner's key.

The id of a sub-account follows from the owner's id and a number, and no key belongs to it. So
nothing in the ordering path knows of it: the owner signs, pays and counts nonces as ever, and an
instruction says for which of its accounts it is (`instructions.OnBehalf`). Here it is an account
like any other, with balance, positions, margin and orders of its own; what it loses, nobody else
pays. Only two things are the owner's: its turns in the queues (`schedule`), so that numbers buy no
places, and its volume (`fees`).

A transfer from the owner's accounts opens it, or a deposit to its id; then it is linked to the
owner when the owner first names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto.digest import Domain, digest
from engine.limits import SUB_ACCOUNTS_MAX

if TYPE_CHECKING:
    from engine.accounts.account import Account
    from engine.state import EngineState


def compute_sub_account_id(owner_id: bytes, number: int) -> bytes:
    """The id of a sub-account."""
    return digest(Domain.SUB_ACCOUNT, owner_id, number.to_bytes(4, "big"))


def compute_account_id(owner_id: bytes, number: int) -> bytes:
    """The id of one of an owner's accounts: the main one, 0, or a sub-account."""
    return compute_sub_account_id(owner_id, number) if number else owner_id


def is_sub_account_number(number: int) -> bool:
    """Can there be a sub-account of this number?"""
    return 1 <= number <= SUB_ACCOUNTS_MAX


def find_sub_account(state: EngineState, owner_id: bytes, number: int) -> Account | None:
    """The owner's sub-account of this number, linked to it; None: nobody has opened it."""
    owner = state.accounts.get(owner_id)
    if owner is not None:
        known = owner.subs.get(number)
        if known is not None:
            return known
    account = state.accounts.get(compute_sub_account_id(owner_id, number))
    if account is not None:
        link_sub_account(state, account, owner_id, number)
    return account


def find_account(state: EngineState, sender: bytes, number: int) -> Account | None:
    """For which account an instruction is: the sender's own, or its sub-account of a number."""
    return find_sub_account(state, sender, number) if number else state.accounts.get(sender)


def open_sub_account(state: EngineState, owner_id: bytes, number: int) -> Account:
    """The owner's sub-account of this number, opened empty if there is none."""
    account = find_sub_account(state, owner_id, number)
    if account is None:
        account = state.open_account(compute_sub_account_id(owner_id, number))
        link_sub_account(state, account, owner_id, number)
    return account


def link_sub_account(state: EngineState, account: Account, owner_id: bytes, number: int) -> None:
    """Make an account the owner's; an owner of whom nothing is known yet is opened empty."""
    owner = state.open_account(owner_id)
    account.owner = owner
    account.sub = number
    owner.subs[number] = account
    state.mark_dirty(owner)
    state.mark_dirty(account)
