"""A block as the engine sees it: what goes in and what comes out."""

from enum import IntEnum
from typing import Annotated

from msgspec import Meta, Struct

from crypto.types import Digest, Uint
from engine.limits import (
    DEPOSITS_TOTAL_MAX_MICROQUOTE,
    POWER_MAX,
    REPORTERS_MAX,
    SESSION_MARKETS_MAX,
    SUB_ACCOUNTS_MAX,
)
from engine.receipts import Event, Fill, Receipt


class EngineEnvelope(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One opened envelope whose signature and header are already checked.

    The caller gives each envelope id at most once, in this block and ever.
    """

    envelope_id: Digest
    sender: Digest
    """The account."""
    nonce: Uint
    """Orders the sender's envelopes inside the block (ties by envelope id)."""
    body: bytes
    """Canonical encoding of `engine.instructions.Bundle`; hostile, bounded by the caller."""
    signer: bytes = b""
    """The session key that signed, which the caller found to be in force; empty: the account's
    own key."""


class Deposit(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Collateral that arrived from L1. It opens the account if there is none."""

    account: Digest
    amount_microquote: Annotated[int, Meta(ge=1, le=DEPOSITS_TOTAL_MAX_MICROQUOTE)]
    source_id: Digest
    """Names the L1 message; the caller delivers each once."""


class WithdrawalSettlement(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What became of a withdrawal on L1. The caller delivers each number once."""

    withdrawal_id: Uint
    is_paid: bool
    """False: L1 has rejected it for good, so the amount is the account's again."""


class SessionScope(IntEnum):
    """How much a session key may do. Append-only."""

    TRADE = 0
    """Orders, cancels and dead man's switches."""
    FULL = 1
    """These, and transfers between the owner's own accounts."""
    CANCEL = 2
    """Cancels alone."""


_Uint32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class SessionGrant(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An account's own key has authorised another one. The caller lets no key come twice."""

    account: Digest
    key: Digest
    scope: SessionScope
    expires_ms: Uint
    markets: Annotated[tuple[_Uint32, ...], Meta(max_length=SESSION_MARKETS_MAX)] = ()
    """Empty: all."""
    subs: Annotated[tuple[_Uint32, ...], Meta(max_length=SUB_ACCOUNTS_MAX + 1)] = ()
    """Numbers of the owner's accounts, 0 for the main one; empty: all."""
    spend_max_microquote: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    """Notional of all its orders together, of options that it sells what they may have to pay;
    None: as much as it likes."""


class SessionRevocation(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An account's own key has taken another one's right away."""

    account: Digest
    key: Digest


class Reporter(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A committee member as oracle reporter."""

    key: Digest
    """The Ed25519 key whose envelopes may carry reports."""
    power: Annotated[int, Meta(ge=1, le=POWER_MAX)]


class BlockInput(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everything that `engine.apply.apply_block` may depend on, besides the state."""

    height: Uint
    """One above the state's height."""
    time_ms: Uint
    """Block time; never below the state's."""
    seed: Digest
    """The block beacon, fixed after the contents: it orders the senders inside each phase."""
    envelopes: tuple[EngineEnvelope, ...] = ()
    deposits: tuple[Deposit, ...] = ()
    reporters: Annotated[tuple[Reporter, ...], Meta(max_length=REPORTERS_MAX)] = ()
    """The whole committee of the block's epoch, with distinct keys."""
    withdrawals_settled: tuple[WithdrawalSettlement, ...] = ()
    session_grants: tuple[SessionGrant, ...] = ()
    """Of all the block's changes of keys that the ledger let through."""
    session_revocations: tuple[SessionRevocation, ...] = ()


class BlockStats(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one block amounted to, for whoever measures."""

    instructions: int
    refused: int
    fills: int


class BlockOutput(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The result of a block; equal on every node and in every replay."""

    height: int
    state_root: Digest
    receipts_root: Digest
    """Merkle root over receipts, then fills, then events, each leaf its canonical encoding."""
    receipts: tuple[Receipt, ...]
    """In canonical order of envelopes (sender by seed, then nonce), then index."""
    fills: tuple[Fill, ...]
    """In the order of execution."""
    events: tuple[Event, ...]
    """In the order of execution."""
    stats: BlockStats

    @property
    def is_empty(self) -> bool:
        """Did nothing happen? Orders expire, funding is paid and what waits acts without any
        instruction, too."""
        return not (self.receipts or self.fills or self.events)
