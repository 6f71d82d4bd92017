"""Session keys: the body of a `KEYS` envelope.

A session key signs envelopes in an account's name until it expires or is revoked, so that the root
key can stay offline. Only the root key changes keys, always in the clear, because who may sign
decides header validity, and that must never depend on sealed content.
"""

from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.codec import DecodeError, decode
from crypto.types import Ed25519PublicKey, Uint

KEY_CHANGES_MAX: Final = 8
"""Changes in one envelope; keeps the summary of a batch small."""


KEY_MARKETS_MAX: Final = 32
KEY_SUB_ACCOUNTS_MAX: Final = 33
"""What the engine takes: `SESSION_MARKETS_MAX`, and `SUB_ACCOUNTS_MAX` beside the main account."""

_Uint32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class KeyScope(IntEnum):
    """What a session key may do.

    Bodies are not open when the ledger decides, so it only records the scope: it says whether a key
    may sign at all. What its instructions may do is the engine's half (`engine.accounts.sessions`),
    which the same envelope tells it. No session key withdraws, gives to another owner, or changes
    keys.
    """

    TRADE = 0
    """Orders, cancels and settings of orders; nothing that moves money."""
    FULL = 1
    """All that a session key can: these, and transfers between the owner's own accounts."""
    CANCEL = 2
    """Cancels alone."""


class AuthorizeKey(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="authorize"
):
    """Let a key sign for the account."""

    key: Ed25519PublicKey
    expires_ms: Uint
    """The key is dead from the first block whose time reaches this, for ever."""
    scope: KeyScope
    markets: Annotated[tuple[_Uint32, ...], Meta(max_length=KEY_MARKETS_MAX)] = ()
    """Markets that it is confined to; empty: all."""
    subs: Annotated[tuple[_Uint32, ...], Meta(max_length=KEY_SUB_ACCOUNTS_MAX)] = ()
    """Numbers of the accounts that it is confined to, 0 for the main one; empty: all."""
    spend_max_microquote: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    """Notional of all the orders that it may place; None: as much as it likes."""


class RevokeKey(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="revoke"):
    """Take a key's right away, for ever."""

    key: Ed25519PublicKey


KeyChange = AuthorizeKey | RevokeKey


class KeyChanges(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The body of a `KEYS` envelope: all of it takes effect or none."""

    changes: Annotated[tuple[KeyChange, ...], Meta(min_length=1, max_length=KEY_CHANGES_MAX)]


def decode_key_changes(body: bytes) -> tuple[KeyChange, ...]:
    """Decode a `KEYS` body. Raises `DecodeError`, also when one key is named twice."""
    changes = decode(KeyChanges, body).changes
    if len({change.key for change in changes}) != len(changes):
        raise DecodeError("one key is changed twice in one envelope")
    return changes
