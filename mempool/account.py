"""One account of the header ledger: credit, nonce windows, session keys living and dead.

What is kept has a canonical form beside it, the records: leaves of the ledger's tree, and what a
snapshot holds.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.types import Ed25519PublicKey, Uint
from mempool.envelope import EnvelopeHeader
from mempool.keys import AuthorizeKey, KeyScope
from mempool.nonce import NONCE_WINDOW, NonceWindow
from mempool.refusal import RefusalCode
from mempool.validity import EnvelopeSummary

SESSION_KEYS_MAX: Final = 16
"""Living session keys of one account, those not yet active or being revoked included."""

SESSION_KEY_LIFETIME_MAX_MS: Final = 400 * 24 * 3600 * 1000
"""A session key expires at the latest this long after the block that authorises it."""

CREDIT_MAX_MICROQUOTE: Final = 2**62
"""Credit of one account."""

NEVER_HEIGHT: Final = 2**63 - 1
"""From where a session key is revoked that nobody has revoked."""


class SessionRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A living session key in canonical form: a leaf of the ledger's tree."""

    scope: KeyScope
    active_from_height: Uint
    revoked_from_height: Uint
    expires_ms: Uint
    watermark: Uint
    nonces: Annotated[bytes, Meta(max_length=8 * NONCE_WINDOW)]


class AccountRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An account in canonical form, without its session keys: a leaf of the ledger's tree."""

    credit_microquote: Annotated[int, Meta(ge=0, le=CREDIT_MAX_MICROQUOTE)]
    is_fee_exempt: bool
    watermark: Uint
    nonces: Annotated[bytes, Meta(max_length=8 * NONCE_WINDOW)]


class AccountSnapshot(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everything the ledger keeps of one account."""

    account: Ed25519PublicKey
    record: AccountRecord
    sessions: Annotated[
        tuple[tuple[Ed25519PublicKey, SessionRecord], ...], Meta(max_length=SESSION_KEYS_MAX)
    ]
    """By rising key."""
    dead_keys: tuple[Ed25519PublicKey, ...]
    """Rising."""


class Session:
    """A living session key."""

    __slots__ = ("active_from_height", "expires_ms", "revoked_from_height", "scope", "window")

    def __init__(self, scope: KeyScope, active_from_height: int, expires_ms: int) -> None:
        self.scope = scope
        self.active_from_height = active_from_height
        self.revoked_from_height = NEVER_HEIGHT
        self.expires_ms = expires_ms
        self.window = NonceWindow()

    def is_active(self, height: int, time_ms: int) -> bool:
        """May the key sign for a block of this height and time?"""
        is_in_force = self.active_from_height <= height < self.revoked_from_height
        return is_in_force and time_ms < self.expires_ms

    def record(self) -> SessionRecord:
        """The canonical form."""
        return SessionRecord(
            self.scope,
            self.active_from_height,
            self.revoked_from_height,
            self.expires_ms,
            self.window.watermark,
            self.window.pack(),
        )

    @classmethod
    def from_record(cls, record: SessionRecord) -> "Session":
        """The session with this record. Raises `ValueError` if there is none."""
        session = cls(record.scope, record.active_from_height, record.expires_ms)
        session.revoked_from_height = record.revoked_from_height
        session.window = NonceWindow.unpack(record.watermark, record.nonces)
        return session


class Account:
    """One account. Its root key, which names it, always signs."""

    __slots__ = ("credit_microquote", "dead_keys", "is_fee_exempt", "sessions", "window")

    def __init__(self) -> None:
        self.credit_microquote = 0
        self.is_fee_exempt = False
        self.window = NonceWindow()
        """Of the root key."""
        self.sessions: dict[bytes, Session] = {}
        self.dead_keys: set[bytes] = set()

    def find_window(self, header: EnvelopeHeader, height: int, time_ms: int) -> NonceWindow | None:
        """Return the nonce window of the header's signer, None if it may not sign."""
        if header.signer == header.sender:
            return self.window
        session = self.sessions.get(header.signer)
        if session is None or not session.is_active(height, time_ms):
            return None
        return session.window

    def check_key_changes(self, envelope: EnvelopeSummary, time_ms: int) -> RefusalCode | None:
        """Return why the changes cannot all take effect, or None. No key is named twice."""
        count = len(self.sessions)
        for change in envelope.key_changes:
            session = self.sessions.get(change.key)
            if not isinstance(change, AuthorizeKey):
                if session is None or session.revoked_from_height != NEVER_HEIGHT:
                    return RefusalCode.KEY_UNKNOWN
                continue
            if change.key in self.dead_keys:
                return RefusalCode.KEY_DEAD
            if session is not None or change.key == envelope.header.sender:
                return RefusalCode.KEY_EXISTS
            if not time_ms < change.expires_ms <= time_ms + SESSION_KEY_LIFETIME_MAX_MS:
                return RefusalCode.KEY_EXPIRY_INVALID
            count += 1
            # Only a change that adds is held to the limit, so a full account can still revoke.
            if count > SESSION_KEYS_MAX:
                return RefusalCode.KEY_TOO_MANY
        return None

    def record(self) -> AccountRecord:
        """The canonical form, without session keys."""
        return AccountRecord(
            self.credit_microquote, self.is_fee_exempt, self.window.watermark, self.window.pack()
        )

    def snapshot(self, name: bytes) -> AccountSnapshot:
        """The canonical form of everything."""
        sessions = tuple((key, self.sessions[key].record()) for key in sorted(self.sessions))
        return AccountSnapshot(name, self.record(), sessions, tuple(sorted(self.dead_keys)))

    @classmethod
    def from_snapshot(cls, snapshot: AccountSnapshot) -> "Account":
        """The account with this snapshot. Raises `ValueError` if there is none."""
        record = snapshot.record
        account = cls()
        account.credit_microquote = record.credit_microquote
        account.is_fee_exempt = record.is_fee_exempt
        account.window = NonceWindow.unpack(record.watermark, record.nonces)
        account.sessions = {key: Session.from_record(each) for key, each in snapshot.sessions}
        account.dead_keys = set(snapshot.dead_keys)
        return account
