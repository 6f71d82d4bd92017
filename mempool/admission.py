"""The door: what a node lets into its own pool, decided early, cheaply and for this node only.

Admission repeats the header ledger's questions against the state of today plus what is pending,
so that a lane carries little that will be refused. It is advisory: another node may decide
otherwise, and the ledger decides alone. What is authoritative here are the bounds; everything
that a stranger can make this node hold is counted.

`precheck` runs on the event loop and verifies no signature. The host verifies the candidates'
claims in a worker, many at once, then calls `admit`, which asks again what may have changed
meanwhile. Until then nothing is reserved: a forged envelope cannot block its supposed sender.

An admitted envelope stays *pending* until it is ordered, made pointless or expired; it reserves
its fee and its nonce for that long.
"""

from collections.abc import Hashable, Iterable
from heapq import heapify, heappop, heappush
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.scheme import Claim
from crypto.types import BATCH_BODY_MAX_BYTES
from mempool.batch import OPAQUE_TRANSACTION_MAX_BYTES
from mempool.batcher import ITEM_OVERHEAD_BYTES, Batcher, QueuedEnvelope
from mempool.ledger import HeaderLedger
from mempool.refusal import RefusalCode
from mempool.validity import EnvelopeInvalidError, EnvelopeSummary, validate_envelope

SENDER_PENDING_MAX_COUNT: Final = 1024
"""Pending envelopes of one account."""

SENDER_PENDING_MAX_BYTES: Final = 8 << 20
"""Pending envelopes of one account, encoded."""

OPAQUE_SOURCE_SHARE: Final = 4
"""One source may fill one part in this many of the room for opaque transactions, so that a flood
cannot shut the door on the others."""

OPAQUE_SUBMISSION_MAX_BYTES: Final = BATCH_BODY_MAX_BYTES
"""One opaque submission."""


class AdmissionConfig(Struct, frozen=True):
    """This node's own choice; no other node needs to agree."""

    pool_size_bytes: Annotated[int, Meta(ge=1)] = 64 << 20
    """Pending envelopes, encoded; as much again may wait in opaque transactions."""
    pool_count: Annotated[int, Meta(ge=1)] = 1 << 16
    """Pending envelopes."""
    is_open: bool = True
    """Does this node order anything? One that only follows refuses all as `node.follows`."""


class Refusal(Struct, frozen=True):
    """An envelope that is not let in."""

    envelope_id: bytes
    """Empty when the bytes could not be read as an envelope of this chain."""
    code: RefusalCode


class Candidate(Struct, frozen=True):
    """An envelope that passed everything but the check of its signature."""

    summary: EnvelopeSummary
    data: bytes
    """The encoded envelope."""
    claim: Claim
    """To be verified by the identity scheme before `admit`."""


class _Pending:
    """An admitted envelope that is not ordered yet."""

    __slots__ = ("fee_microquote", "queued", "summary")

    def __init__(
        self, summary: EnvelopeSummary, fee_microquote: int, queued: QueuedEnvelope
    ) -> None:
        self.summary = summary
        self.fee_microquote = fee_microquote
        self.queued = queued


class _SenderPending:
    """What one account has pending."""

    __slots__ = ("count", "fees_microquote", "size_bytes")

    def __init__(self) -> None:
        self.count = 0
        self.size_bytes = 0
        self.fees_microquote = 0


_STALE_EXPIRIES_MAX: Final = 1024
# Rebuilding the heap at this many entries too many costs each envelope a constant.

_NonceKey = tuple[bytes, bytes, int]


class Admission:
    """The pool of one node. It fills the batcher and reads the ledger; it changes neither's
    decisions."""

    def __init__(
        self, config: AdmissionConfig, chain_id: bytes, ledger: HeaderLedger, batcher: Batcher
    ) -> None:
        self._config = config
        self._chain_id = chain_id
        self._ledger = ledger
        self._batcher = batcher
        self._pending: dict[_NonceKey, _Pending] = {}
        self._senders: dict[bytes, _SenderPending] = {}
        self._expiries: list[tuple[int, _NonceKey, bytes]] = []
        # Heap of (expiry height, nonce key, envelope id); an entry may outlive its envelope, until
        # `_drop` clears them out.
        self.pending_bytes = 0
        """Pending envelopes, encoded."""

    @property
    def pending_count(self) -> int:
        """Pending envelopes."""
        return len(self._pending)

    def precheck(self, now_ms: int, data: bytes) -> Candidate | Refusal:
        """Check everything but the signature. `now_ms` stands for the next block's time."""
        try:
            envelope, summary = validate_envelope(self._chain_id, data)
        except EnvelopeInvalidError as error:
            return Refusal(b"", error.code)
        if not self._config.is_open:
            return Refusal(summary.envelope_id, RefusalCode.NODE_FOLLOWS)
        refusal = self._check(now_ms, summary, len(data))
        if refusal is not None:
            return Refusal(summary.envelope_id, refusal)
        header = envelope.header
        claim = Claim((header.signer,), header.signing_bytes(), envelope.signature)
        return Candidate(summary, data, claim)

    def admit(
        self, now_ms: int, candidate: Candidate, is_signature_valid: bool
    ) -> RefusalCode | None:
        """Let a candidate in, or return why not, once its claim was verified or not."""
        if not is_signature_valid:
            return RefusalCode.SIGNATURE_INVALID
        summary, size_bytes = candidate.summary, len(candidate.data)
        refusal = self._check(now_ms, summary, size_bytes)
        if refusal is not None:
            return refusal
        header = summary.header
        queued = self._batcher.add_envelope(now_ms, header.sender, candidate.data)
        pending = _Pending(summary, self._ledger.compute_fee(summary), queued)
        key = _nonce_key(summary)
        self._pending[key] = pending
        heappush(self._expiries, (header.expiry_height, key, summary.envelope_id))
        sender = self._senders.setdefault(header.sender, _SenderPending())
        sender.count += 1
        sender.size_bytes += size_bytes
        sender.fees_microquote += pending.fee_microquote
        self.pending_bytes += size_bytes
        return None

    def admit_opaque(
        self,
        now_ms: int,
        source: Hashable,
        namespace: int,
        transaction_size_bytes: int,
        data: bytes,
    ) -> RefusalCode | None:
        """Queue opaque transactions, all or none; return why not, or None.

        `source` names the connection: sources take turns in the node's batches.
        """
        if (
            not 1 <= namespace < 2**32
            or not 1 <= transaction_size_bytes <= OPAQUE_TRANSACTION_MAX_BYTES
            or not 1 <= len(data) <= OPAQUE_SUBMISSION_MAX_BYTES
            or len(data) % transaction_size_bytes
        ):
            return RefusalCode.OPAQUE_MALFORMED
        if not self._config.is_open:
            return RefusalCode.NODE_FOLLOWS
        cost_bytes = len(data) + ITEM_OVERHEAD_BYTES
        limit_bytes = self._config.pool_size_bytes
        if self._batcher.waiting_opaque_bytes + cost_bytes > limit_bytes:
            return RefusalCode.POOL_FULL
        waiting_bytes = self._batcher.waiting_opaque_bytes_of(source)
        if waiting_bytes + cost_bytes > limit_bytes // OPAQUE_SOURCE_SHARE:
            return RefusalCode.SENDER_FULL
        self._batcher.add_opaque(now_ms, source, namespace, transaction_size_bytes, data)
        return None

    def on_ordered(self, envelopes: Iterable[EnvelopeSummary]) -> None:
        """Drop what a committed block settles; call it right after the ledger applied the block.

        That is: the block's own envelopes, passed or refused; those whose nonce another envelope
        spent; and those that expire with the next block.
        """
        ledger = self._ledger
        for envelope in envelopes:
            key = _nonce_key(envelope)
            pending = self._pending.get(key)
            if pending is None:
                continue
            is_ordered = pending.summary.envelope_id == envelope.envelope_id
            if is_ordered or ledger.check(pending.summary, ledger.height, ledger.time_ms):
                self._drop(key)
        while self._expiries and self._expiries[0][0] <= ledger.height + 1:
            _, key, envelope_id = heappop(self._expiries)
            pending = self._pending.get(key)
            if pending is not None and pending.summary.envelope_id == envelope_id:
                self._drop(key)

    def _check(self, now_ms: int, summary: EnvelopeSummary, size_bytes: int) -> RefusalCode | None:
        ledger, header = self._ledger, summary.header
        time_ms = max(now_ms, ledger.time_ms + 1)
        refusal = ledger.check(summary, ledger.height + 1, time_ms)
        if refusal is not None:
            return refusal
        pending = self._pending.get(_nonce_key(summary))
        if pending is not None:
            is_same = pending.summary.envelope_id == summary.envelope_id
            return RefusalCode.ENVELOPE_PENDING if is_same else RefusalCode.NONCE_DUPLICATE
        is_full = (
            len(self._pending) >= self._config.pool_count
            or self.pending_bytes + size_bytes > self._config.pool_size_bytes
        )
        if is_full:
            return RefusalCode.POOL_FULL
        sender = self._senders.get(header.sender)
        if sender is None:
            return None
        if (
            sender.count >= SENDER_PENDING_MAX_COUNT
            or sender.size_bytes + size_bytes > SENDER_PENDING_MAX_BYTES
        ):
            return RefusalCode.SENDER_FULL
        fee = ledger.compute_fee(summary)
        if fee and sender.fees_microquote + fee > ledger.credit_of(header.sender):
            return RefusalCode.FEE_INSUFFICIENT
        return None

    def _drop(self, key: _NonceKey) -> None:
        pending = self._pending.pop(key)
        size_bytes = pending.queued.size_bytes
        self._batcher.withdraw(pending.queued)
        self.pending_bytes -= size_bytes
        name = pending.summary.header.sender
        sender = self._senders[name]
        sender.count -= 1
        sender.size_bytes -= size_bytes
        sender.fees_microquote -= pending.fee_microquote
        if not sender.count:
            del self._senders[name]
        if len(self._expiries) > 2 * len(self._pending) + _STALE_EXPIRIES_MAX:
            self._expiries = [
                (each.summary.header.expiry_height, each_key, each.summary.envelope_id)
                for each_key, each in self._pending.items()
            ]
            heapify(self._expiries)


def _nonce_key(summary: EnvelopeSummary) -> _NonceKey:
    header = summary.header
    return (header.sender, header.signer, header.nonce)
