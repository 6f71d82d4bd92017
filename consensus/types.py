"""The objects of consensus: certificates, blocks and the exact bytes that each signature covers.

Everything that a certificate claims is in the bytes that its signers signed: domain, chain,
epoch, view, height and block id. `view` in a vote is the *vote view*, which may exceed the view
in which the block was first proposed once re-proposals are on (tail-fork resistance); the commit
rule compares certificate views, never block views.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from committee.committee import COMMITTEE_SIZE_MAX, Committee, MemberIndex
from crypto.bitmap import encode_bitmap
from crypto.codec import encode
from crypto.digest import Domain, digest
from crypto.types import BATCH_BODY_MAX_BYTES, Bitmap, BlsSignature, Digest, Ed25519Signature, Uint

GENESIS_VIEW: Final = 0
GENESIS_HEIGHT: Final = 0

EVIDENCE_MAX_PER_BLOCK: Final = 4
INBOX_MESSAGES_MAX_PER_BLOCK: Final = 64

NO_SIGNATURE: Final = bytes(96)
"""Stands in the genesis certificate alone, which is accepted by equality and never verified."""


class VoteData(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a vote says; a quorum of signatures over it is a QC."""

    epoch: Uint
    view: Uint
    """The view of the vote (and of the certificate), not the block's own view."""
    height: Uint
    block_id: Digest

    def signing_bytes(self, chain_id: bytes) -> bytes:
        """The 32 bytes that a voter signs."""
        return digest(Domain.VOTE, chain_id, encode(self))


class QC(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Quorum certificate: members of at least Q power voted for one block in one view."""

    data: VoteData
    signers: Bitmap
    signature: BlsSignature

    @property
    def view(self) -> int:
        return self.data.view

    @property
    def block_id(self) -> bytes:
        return self.data.block_id

    @property
    def height(self) -> int:
        return self.data.height


class TimeoutData(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a timeout says: the view is given up, and the newest certificate its signer knows."""

    epoch: Uint
    view: Uint
    high_qc_view: Uint
    tip_view: Uint
    """View of the newest fresh block its signer voted for above `high_qc_view`; 0 for none."""

    def signing_bytes(self, chain_id: bytes) -> bytes:
        """The 32 bytes that the giver-up signs."""
        return digest(Domain.TIMEOUT, chain_id, encode(self))


class TimeoutGroup(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The signers of one TC who named the same high QC view and tip view."""

    high_qc_view: Uint
    tip_view: Uint
    signers: Bitmap
    signature: BlsSignature


class TC(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Timeout certificate: members of at least Q power gave up one view."""

    epoch: Uint
    view: Uint
    groups: Annotated[tuple[TimeoutGroup, ...], Meta(min_length=1, max_length=COMMITTEE_SIZE_MAX)]
    """By rising (high_qc_view, tip_view), each pair once, signer sets disjoint."""
    high_qc: QC
    """The certificate of the highest `high_qc_view` among the groups."""


class BatchHeader(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One link of a member's lane."""

    epoch: Uint
    author: MemberIndex
    sequence: Uint
    """1 for a lane's first batch, then without gaps, never reset within the chain's life."""
    parent: Digest
    """`batch_id` of the lane's previous batch; ZERO_DIGEST for sequence 1."""
    body_digest: Digest
    """`bulk_digest(Domain.BATCH_BODY, body)`."""
    size_bytes: Annotated[int, Meta(ge=1, le=BATCH_BODY_MAX_BYTES)]
    """Length of the body."""

    def batch_id(self, chain_id: bytes) -> bytes:
        """The digest by which the batch is acknowledged, certified and fetched."""
        return digest(Domain.BATCH, chain_id, encode(self))


class SignedBatchHeader(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A batch header signed by its author's identity key, so that two at one place convict."""

    header: BatchHeader
    signature: Ed25519Signature
    """Over `author_signing_bytes`."""

    def author_signing_bytes(self, chain_id: bytes) -> bytes:
        return digest(Domain.BATCH_AUTHOR, chain_id, encode(self.header))


class AckData(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What an acknowledgement says: I durably hold and have checked this batch and every batch
    before it in its lane back to the committed cursor."""

    epoch: Uint
    author: MemberIndex
    sequence: Uint
    batch_id: Digest

    def signing_bytes(self, chain_id: bytes) -> bytes:
        return digest(Domain.AVAILABILITY, chain_id, encode(self))


class AvailabilityCertificate(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """AC: members of at least H power hold a lane prefix, hence it can be fetched."""

    data: AckData
    signers: Bitmap
    signature: BlsSignature


class CheckpointHeader(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The result of executing the chain up to one height: what L1 verifies."""

    epoch: Uint
    height: Uint
    block_id: Digest
    time_ms: Uint
    order_root: Digest
    """Root of the order state (header ledger, registry, cursors) after this height."""
    market_root: Digest
    """Root of the market state after this height."""
    receipts_root: Digest

    def header_bytes(self, chain_id: bytes) -> bytes:
        """Fixed layout of 32-byte big-endian words, cheap to rebuild in an L1 contract."""
        words = (
            chain_id,
            self.epoch.to_bytes(32, "big"),
            self.height.to_bytes(32, "big"),
            self.block_id,
            self.time_ms.to_bytes(32, "big"),
            self.order_root,
            self.market_root,
            self.receipts_root,
        )
        return b"".join(words)

    def signing_bytes(self, chain_id: bytes) -> bytes:
        return digest(Domain.CHECKPOINT, self.header_bytes(chain_id))

    @property
    def state_root(self) -> bytes:
        """One digest for order and market state together: what operators compare."""
        return digest(Domain.STATE, self.order_root, self.market_root)


class StateCertificate(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Members of at least Q power executed the chain to the same checkpoint header."""

    header: CheckpointHeader
    signers: Bitmap
    signature: BlsSignature


class Block(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A leader's proposal: what to add to the order, and why it may follow its parent.

    The block id covers every field, certificates included, so no part is malleable. The fields
    that later stages fill (L1 inbox, openings) are part of the format from the start.
    """

    epoch: Uint
    height: Uint
    view: Uint
    """The view in which the block was first proposed."""
    author: MemberIndex
    parent_id: Digest
    time_ms: Uint
    """Strictly above the parent's."""
    lanes: Annotated[tuple[AvailabilityCertificate, ...], Meta(max_length=COMMITTEE_SIZE_MAX)]
    """At most one certified tip per lane, by rising author, each above that lane's cursor."""
    inbox: Annotated[tuple[bytes, ...], Meta(max_length=INBOX_MESSAGES_MAX_PER_BLOCK)]
    openings: Annotated[bytes, Meta(max_length=BATCH_BODY_MAX_BYTES)]
    evidence: Annotated[tuple[bytes, ...], Meta(max_length=EVIDENCE_MAX_PER_BLOCK)]
    """Encoded `consensus.evidence.Evidence`, self-contained."""
    state_certificate: StateCertificate | None
    """The newest one its author knows, if newer than the newest in its ancestry."""
    qc: QC
    """Certifies the parent."""
    tc: TC | None
    """Present iff `view > qc.view + 1`: shows why the views between were given up."""

    def block_id(self, chain_id: bytes) -> bytes:
        return digest(Domain.BLOCK, chain_id, encode(self))


def genesis_block_id(chain_id: bytes) -> bytes:
    """The id that stands for genesis: there is no genesis block object to forge."""
    return digest(Domain.GENESIS, chain_id)


def make_genesis_qc(chain_id: bytes, committee: Committee) -> QC:
    """The one certificate that needs no signatures, accepted by equality alone (G1)."""
    data = VoteData(committee.epoch, GENESIS_VIEW, GENESIS_HEIGHT, genesis_block_id(chain_id))
    return QC(data, encode_bitmap((), len(committee)), NO_SIGNATURE)
