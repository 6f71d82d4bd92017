"""The header ledger: which envelopes of a block count, decided at commit from clear headers only.

In block order each envelope either passes, which spends its nonce and its fee together, or is
refused for good. **A refused envelope changes nothing**: it costs nothing and spends no nonce.
Anything else could be turned against its sender, since whoever holds an old, expired or wrongly
signed envelope may put it into a lane again and again; what refused envelopes cost the network is
bounded at admission and by the lane of the member that carried them.

- *Keys.* An account is named by its root key, which always signs. Session keys come and go with
  `KEYS` envelopes, `KEY_ACTIVATION_DELAY_HEIGHTS` after the block that carries them. A session key
  that expired or was revoked is dead for ever: its nonces are forgotten, so it may never return.
- *Nonces.* See `mempool.nonce`; one window for each pair of account and signing key.
- *Fees.* Prepaid credit, apart from margin: an account without credit has no record at all and
  cannot cause one to be made. The registered oracle keys pay nothing for plain envelopes.

Only this decides. Admission asks the same `check` early, against a state that may change.
"""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.codec import DecodeError, decode, encode
from crypto.merkle import MerkleTree
from crypto.types import Uint
from mempool.account import (
    CREDIT_MAX_MICROQUOTE,
    NEVER_HEIGHT,
    Account,
    AccountSnapshot,
    Session,
)
from mempool.keys import AuthorizeKey, KeyScope
from mempool.refusal import RefusalCode
from mempool.validity import EnvelopeSummary

NONCE_PAST_MAX_MS: Final = 2 * 24 * 3600 * 1000
"""A nonce may lie this far behind the block's time: for envelopes signed offline."""

NONCE_FUTURE_MAX_MS: Final = 24 * 3600 * 1000
"""A nonce may lie this far ahead of the block's time: a wrong clock must not fill its own window
with nonces that shut out the right ones for years."""

EXPIRY_AHEAD_MAX_HEIGHTS: Final = 1 << 20
"""An envelope may be signed for at most this many heights ahead (about six hours at 20 ms), which
bounds how long one that somebody holds back can hang over its sender."""

KEY_ACTIVATION_DELAY_HEIGHTS: Final = 8
"""Key changes of the block at height h hold from h plus this on, so that every node can verify
the envelopes of a block before it has applied the blocks just below."""

_META_KEY: Final = b"ledger"
_DEAD_KEY_LEAF: Final = b"dead"


class LedgerError(Exception):
    """A genesis or a snapshot that cannot be a ledger; `code` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        """`ledger.credit_out_of_range` or `ledger.snapshot_invalid`."""


class FeeSchedule(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What room in the order costs, in micro-quote, exact: no rounding is involved."""

    base_microquote: Annotated[int, Meta(ge=0, le=2**40)] = 200
    """Each envelope: one signature check on every node and one nonce."""
    per_byte_microquote: Annotated[int, Meta(ge=0, le=2**40)] = 1
    """Each byte of body."""
    per_key_microquote: Annotated[int, Meta(ge=0, le=2**40)] = 100_000
    """Each change of a session key: it leaves a record that is kept for ever."""

    def compute_fee(self, envelope: EnvelopeSummary) -> int:
        """Return the fee of one envelope."""
        return (
            self.base_microquote
            + self.per_byte_microquote * envelope.header.body_size_bytes
            + self.per_key_microquote * len(envelope.key_changes)
        )


class LedgerMeta(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the ledger keeps apart from accounts: one leaf of its tree."""

    height: Uint
    time_ms: Uint
    fees: FeeSchedule
    fees_collected_microquote: Uint


class LedgerSnapshot(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A whole ledger."""

    meta: LedgerMeta
    accounts: tuple[AccountSnapshot, ...]
    """By rising account."""


class HeaderLedger:
    """Accounts, keys, nonces and fee credit after the block at `height`."""

    def __init__(self, time_ms: int, fees: FeeSchedule | None = None) -> None:
        """An empty ledger before the first block; credit it before use."""
        self.height = 0
        """Height of the last block applied."""
        self.time_ms = time_ms
        """Time of that block."""
        self.fees = fees or FeeSchedule()
        self.fees_collected_microquote = 0
        """All fees ever paid: credits plus this equal all credit ever given."""
        self._accounts: dict[bytes, Account] = {}
        self._expiries: list[tuple[int, bytes, bytes]] = []
        # Heap of (expires_ms, account, session key); an entry may outlive its key.
        self._revocations: list[tuple[int, bytes, bytes]] = []
        # Heap of (revoked_from_height, account, session key), likewise.
        self._tree = MerkleTree()
        self._dirty_accounts: set[bytes] = set()
        self._dirty_keys: set[tuple[bytes, bytes]] = set()

    # ---- questions -------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._accounts)

    def credit_of(self, account: bytes) -> int:
        """Return the account's prepaid credit in micro-quote, 0 for an unknown account."""
        record = self._accounts.get(account)
        return record.credit_microquote if record is not None else 0

    def compute_fee(self, envelope: EnvelopeSummary) -> int:
        """Return what the envelope would cost its sender: 0 for an oracle key.

        Key changes are never free, because each leaves a record for ever.
        """
        account = self._accounts.get(envelope.header.sender)
        if account is not None and account.is_fee_exempt and not envelope.key_changes:
            return 0
        return self.fees.compute_fee(envelope)

    def scope_of(self, sender: bytes, signer: bytes) -> KeyScope | None:
        """Return what a key may do for an account as of the last block; None for nothing. Its own
        key may do more than any scope says."""
        account = self._accounts.get(sender)
        if account is None:
            return None
        if signer == sender:
            return KeyScope.FULL
        session = account.sessions.get(signer)
        if session is None or not session.is_active(self.height, self.time_ms):
            return None
        return session.scope

    def check(self, envelope: EnvelopeSummary, height: int, time_ms: int) -> RefusalCode | None:
        """Return why the envelope would be refused in a block of this height and time, or None."""
        header = envelope.header
        if height >= header.expiry_height:
            return RefusalCode.EXPIRED
        if header.expiry_height - height > EXPIRY_AHEAD_MAX_HEIGHTS:
            return RefusalCode.EXPIRY_TOO_FAR
        account = self._accounts.get(header.sender)
        if account is None:
            return RefusalCode.ACCOUNT_UNKNOWN
        window = account.find_window(header, height, time_ms)
        if window is None:
            return RefusalCode.KEY_UNAUTHORISED
        if header.nonce < time_ms - NONCE_PAST_MAX_MS:
            return RefusalCode.NONCE_TOO_OLD
        if header.nonce > time_ms + NONCE_FUTURE_MAX_MS:
            return RefusalCode.NONCE_TOO_FAR
        refusal = window.check(header.nonce)
        if refusal is not None:
            return refusal
        if self.compute_fee(envelope) > account.credit_microquote:
            return RefusalCode.FEE_INSUFFICIENT
        return account.check_key_changes(envelope, time_ms) if envelope.key_changes else None

    # ---- changes ---------------------------------------------------------------------------

    def apply_credit(self, account: bytes, amount_microquote: int) -> None:
        """Add prepaid credit, making the account's record if there is none.

        Raises `LedgerError` unless the amount is at least 0 and the sum stays in range.
        """
        credit = self.credit_of(account) + amount_microquote
        if amount_microquote < 0 or credit > CREDIT_MAX_MICROQUOTE:
            raise LedgerError("ledger.credit_out_of_range", f"credit {amount_microquote}")
        if amount_microquote:
            self._require_account(account).credit_microquote = credit

    def apply_oracle_keys(self, keys: Iterable[bytes]) -> None:
        """Make exactly these accounts exempt from fees: the oracle keys of the committee."""
        exempt = frozenset(keys)
        for name, account in self._accounts.items():
            if account.is_fee_exempt and name not in exempt:
                account.is_fee_exempt = False
                self._dirty_accounts.add(name)
        for name in sorted(exempt):
            self._require_account(name).is_fee_exempt = True

    def apply_block(
        self, height: int, time_ms: int, envelopes: Sequence[EnvelopeSummary]
    ) -> tuple[RefusalCode | None, ...]:
        """Apply a committed block's envelopes in order; return one verdict each, None to pass.

        The envelopes come from checked batches, so that they are valid in themselves and their
        signatures are right. Heights follow one another and times rise: consensus sees to it.
        """
        assert height == self.height + 1, "blocks are applied in order, each once"
        assert time_ms > self.time_ms, "block time rises"
        self.height = height
        self.time_ms = time_ms
        self._bury_dead_keys()
        return tuple(self._apply_envelope(envelope) for envelope in envelopes)

    def _apply_envelope(self, envelope: EnvelopeSummary) -> RefusalCode | None:
        refusal = self.check(envelope, self.height, self.time_ms)
        if refusal is not None:
            return refusal
        header = envelope.header
        account = self._accounts[header.sender]
        window = account.find_window(header, self.height, self.time_ms)
        assert window is not None, "the check above found it"
        window.apply_nonce(header.nonce)
        if header.signer != header.sender:
            self._dirty_keys.add((header.sender, header.signer))
        fee = self.compute_fee(envelope)
        account.credit_microquote -= fee
        self.fees_collected_microquote += fee
        if fee or header.signer == header.sender:
            self._dirty_accounts.add(header.sender)
        if envelope.key_changes:
            self._apply_key_changes(account, envelope)
        return None

    def _apply_key_changes(self, account: Account, envelope: EnvelopeSummary) -> None:
        sender = envelope.header.sender
        from_height = self.height + KEY_ACTIVATION_DELAY_HEIGHTS
        for change in envelope.key_changes:
            self._dirty_keys.add((sender, change.key))
            if isinstance(change, AuthorizeKey):
                session = Session(change.scope, from_height, change.expires_ms)
                account.sessions[change.key] = session
                heappush(self._expiries, (change.expires_ms, sender, change.key))
            else:
                account.sessions[change.key].revoked_from_height = from_height
                heappush(self._revocations, (from_height, sender, change.key))

    def _bury_dead_keys(self) -> None:
        """Forget the windows of keys that died, and remember for ever that they did."""
        for heap, now in ((self._expiries, self.time_ms), (self._revocations, self.height)):
            while heap and heap[0][0] <= now:
                _, name, key = heappop(heap)
                account = self._accounts[name]
                if account.sessions.pop(key, None) is not None:
                    account.dead_keys.add(key)
                    self._dirty_keys.add((name, key))

    def _require_account(self, name: bytes) -> Account:
        self._dirty_accounts.add(name)
        return self._accounts.setdefault(name, Account())

    # ---- commitment and snapshots ----------------------------------------------------------

    def root(self) -> bytes:
        """Return the Merkle root over every account, session key and dead key.

        Leaves: an account's key -> `AccountRecord`; account and session key, concatenated ->
        `SessionRecord`, or the word `dead`; `ledger` -> `LedgerMeta`.
        """
        changes: dict[bytes, bytes | None] = {_META_KEY: encode(self._meta())}
        for name in sorted(self._dirty_accounts):
            changes[name] = encode(self._accounts[name].record())
        for name, key in sorted(self._dirty_keys):
            session = self._accounts[name].sessions.get(key)
            changes[name + key] = encode(session.record()) if session else _DEAD_KEY_LEAF
        self._tree.update_many(changes)
        self._dirty_accounts.clear()
        self._dirty_keys.clear()
        return self._tree.root()

    def snapshot(self) -> bytes:
        """Return the canonical bytes of the whole ledger."""
        accounts = tuple(self._accounts[name].snapshot(name) for name in sorted(self._accounts))
        return encode(LedgerSnapshot(self._meta(), accounts))

    @classmethod
    def restore(cls, data: bytes, root: bytes) -> "HeaderLedger":
        """Rebuild a ledger from somebody's snapshot and the root that a certificate names.

        Raises `LedgerError` unless the bytes are exactly those of the ledger with this root.
        """
        try:
            snapshot = decode(LedgerSnapshot, data)
            ledger = cls(snapshot.meta.time_ms, snapshot.meta.fees)
            ledger.height = snapshot.meta.height
            ledger.fees_collected_microquote = snapshot.meta.fees_collected_microquote
            for account in snapshot.accounts:
                ledger._restore_account(account)
        except (DecodeError, ValueError) as error:
            raise LedgerError("ledger.snapshot_invalid", str(error)) from error
        heapify(ledger._expiries)
        heapify(ledger._revocations)
        # The second condition catches repetitions and orders that the tree cannot see.
        if ledger.root() != root or ledger.snapshot() != data:
            raise LedgerError("ledger.snapshot_invalid", "the snapshot is not of this root")
        return ledger

    def _meta(self) -> LedgerMeta:
        return LedgerMeta(self.height, self.time_ms, self.fees, self.fees_collected_microquote)

    def _restore_account(self, snapshot: AccountSnapshot) -> None:
        name = snapshot.account
        account = self._accounts[name] = Account.from_snapshot(snapshot)
        self._dirty_accounts.add(name)
        for key, session in account.sessions.items():
            self._expiries.append((session.expires_ms, name, key))
            if session.revoked_from_height != NEVER_HEIGHT:
                self._revocations.append((session.revoked_from_height, name, key))
            self._dirty_keys.add((name, key))
        self._dirty_keys.update((name, key) for key in snapshot.dead_keys)
