"""Offers of snapshots: what a node that joins must have, and how little of it is to be believed.

    certificate    a quorum executed the chain to this height with these roots: the anchor
    block, qc      the block that the certificate names, and a quorum's votes for it
    manifest       the engine's state in chunks (`engine.snapshots.chunks`), under the market root
    order          the order state and the header ledger in pieces, under the order root

A quorum signs a result only of blocks that are committed, so the certificate alone proves that the
block is; its QC is what consensus goes on from. Nobody has to be trusted for any of it: a list of
pieces that leads to other roots shows when the pieces are put together, and who gave it is named.
"""

from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from committee.committee import Committee
from committee.state import OrderState
from consensus.block_tree import CommittedTip
from consensus.chain import (
    ARCHIVE_BLOCK_TABLE,
    ARCHIVE_COMMIT_TABLE,
    ARCHIVE_TIP_KEY,
    ARCHIVE_TIP_TABLE,
)
from consensus.effects import Put, compute_key
from consensus.messages import SNAPSHOT_CHUNK_MAX_BYTES
from consensus.recovery import RecoveryError
from consensus.types import QC, Block, StateCertificate
from crypto.bitmap import BitmapError, decode_bitmap
from crypto.codec import DecodeError, decode, encode
from crypto.digest import Domain, digest
from crypto.scheme import Claim, SignatureScheme, verify_claim
from engine.commitment.root import compute_state_root
from engine.errors import ChunkError, SnapshotError
from engine.snapshots.chunks import (
    CHUNK_MAX_BYTES,
    MANIFEST_MAX_BYTES,
    ChunkName,
    Manifest,
    compute_chunk_name,
    decode_manifest,
    validate_manifest,
)
from engine.snapshots.whole import restore
from engine.state import EngineState
from mempool.ledger import HeaderLedger
from node.delivery import compute_order_root
from node.recovery import (
    BLOCK_ID_TABLE,
    CERTIFICATE_BY_HEIGHT_TABLE,
    CHECKPOINT_TABLE,
    ORDER_SNAPSHOT_TABLE,
    OrderSnapshot,
)

ORDER_PIECES_MAX: Final = 1_024
"""Pieces of the order state: 256 MiB."""

assert CHUNK_MAX_BYTES <= SNAPSHOT_CHUNK_MAX_BYTES, "every chunk fits into a message"


class OfferError(Exception):
    """An offer, or what it led to, is not what an honest node gives.

    | code | meaning |
    |---|---|
    | `offer.malformed` | the bytes are no offer, or it contradicts itself |
    | `offer.power` | less than a quorum signed |
    | `offer.signature` | the signatures do not verify |
    | `offer.chunk_false` | a piece is not the bytes of its digest |
    | `offer.false` | its pieces do not make the state that the certificate names |
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Offer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """See the module docstring."""

    certificate: StateCertificate
    block: Block
    qc: QC
    manifest: Annotated[bytes, Meta(max_length=MANIFEST_MAX_BYTES)]
    order: Annotated[tuple[ChunkName, ...], Meta(min_length=1, max_length=ORDER_PIECES_MAX)]
    """In the order of the bytes, which are an encoded `OrderSnapshot`."""

    @property
    def height(self) -> int:
        """Of the state."""
        return self.certificate.header.height

    def compute_name(self) -> bytes:
        """The digest of what honest nodes offer alike for one state, whoever signed it."""
        header = encode(self.certificate.header)
        return digest(Domain.SNAPSHOT_MANIFEST, header, self.manifest, encode(self.order))


class CheckedOffer(NamedTuple):
    """An offer in which everything fits but for signatures that must still verify."""

    offer: Offer
    manifest: Manifest
    claims: tuple[Claim, ...]

    def pieces(self) -> dict[bytes, int]:
        """Every piece by name, with its size, in the order of first use."""
        return {each.digest: each.size_bytes for each in (*self.manifest.chunks, *self.offer.order)}


def check_offer(encoded: bytes, chain_id: bytes, committee: Committee) -> CheckedOffer:
    """Read somebody's offer. Raises `OfferError`."""
    try:
        offer = decode(Offer, encoded)
        manifest = decode_manifest(offer.manifest)
        header, qc = offer.certificate.header, offer.qc
        validate_manifest(manifest, header.height, header.market_root)
        state_claim = _make_claim(
            committee,
            offer.certificate.signers,
            header.signing_bytes(chain_id),
            offer.certificate.signature,
        )
        vote_claim = _make_claim(
            committee, qc.signers, qc.data.signing_bytes(chain_id), qc.signature
        )
    except (DecodeError, ChunkError, BitmapError) as error:
        raise OfferError("offer.malformed", str(error)) from error
    block_id = offer.block.block_id(chain_id)
    fits = (
        header.epoch == qc.data.epoch == offer.block.epoch == committee.epoch
        and header.height == qc.height == offer.block.height >= 1
        and header.block_id == qc.block_id == block_id
        and header.time_ms == offer.block.time_ms
    )
    if not fits:
        raise OfferError("offer.malformed", "block, certificate and votes are not of one height")
    return CheckedOffer(offer, manifest, (state_claim, vote_claim))


def _make_claim(committee: Committee, bitmap: bytes, message: bytes, signature: bytes) -> Claim:
    signers = decode_bitmap(bitmap, len(committee))
    if committee.power_of(signers) < committee.quorum_power:
        raise OfferError("offer.power", "less than a quorum signed")
    keys = tuple(committee.members[index].consensus_key for index in signers)
    return Claim(keys, message, signature)


class Joined(NamedTuple):
    """A state that is what a quorum certified, and what a node's archive begins with."""

    state: EngineState
    order_state: OrderState
    ledger: HeaderLedger
    puts: tuple[Put, ...]


def verify_offer(
    encoded: bytes, chain_id: bytes, committee: Committee, scheme: SignatureScheme
) -> CheckedOffer:
    """Read an offer and verify its signatures, at once. Raises `OfferError`."""
    checked = check_offer(encoded, chain_id, committee)
    if not all(verify_claim(scheme, claim) for claim in checked.claims):
        raise OfferError("offer.signature", "the signatures do not verify")
    return checked


def restore_offer(
    offer: Offer, engine: bytes, order: bytes, *, chain_id: bytes, genesis_digest: bytes
) -> Joined:
    """Put a node's beginning together from the bytes of all pieces. Raises `OfferError`.

    Takes seconds for a large state. Signatures were verified before.
    """
    header = offer.certificate.header
    try:
        state = restore(engine)
        snapshot = decode(OrderSnapshot, order)
        order_state, ledger = snapshot.restore()
    except (SnapshotError, DecodeError, RecoveryError) as error:
        raise OfferError("offer.false", str(error)) from error
    market_root = compute_state_root(state)
    is_market_true = (
        state.height == header.height
        and state.genesis_digest == genesis_digest
        and market_root == header.market_root
    )
    is_order_true = (
        order_state.height == header.height
        and compute_order_root(order_state, ledger) == header.order_root
    )
    if not (is_market_true and is_order_true):
        raise OfferError("offer.false", "the pieces make another state than was certified")
    cursors = [order_state.lane_cursor(author) for author in range(len(order_state.committee))]
    tip = CommittedTip(
        header.block_id,
        header.height,
        offer.block.view,
        header.time_ms,
        tuple((author, each.sequence) for author, each in enumerate(cursors) if each.sequence),
        order_state.certified_height,
        # No child is told apart by when there was work last, only by whether there was any since.
        header.height,
        offer.qc,
    )
    key = compute_key(header.height)
    return Joined(
        state,
        order_state,
        ledger,
        (
            Put(ARCHIVE_BLOCK_TABLE, key, encode(offer.block)),
            Put(ARCHIVE_COMMIT_TABLE, key, encode(offer.qc)),
            Put(BLOCK_ID_TABLE, header.block_id, key),
            Put(CERTIFICATE_BY_HEIGHT_TABLE, key, encode(offer.certificate)),
            Put(CHECKPOINT_TABLE, key, encode(header)),
            Put(ORDER_SNAPSHOT_TABLE, key, order),
            Put(ARCHIVE_TIP_TABLE, ARCHIVE_TIP_KEY, encode(tip)),
        ),
    )


def cut_order(order: bytes) -> tuple[ChunkName, ...]:
    """The pieces of an encoded `OrderSnapshot`."""
    return tuple(
        ChunkName(compute_chunk_name(piece), len(piece))
        for start in range(0, len(order), CHUNK_MAX_BYTES)
        for piece in (order[start : start + CHUNK_MAX_BYTES],)
    )
