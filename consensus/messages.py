"""What members say to each other. One tagged union, two traffic classes.

`ControlMessage`s (votes, proposals, certificates, acknowledgements, small requests) and
`BulkMessage`s (batches, sync responses) travel on different connections, so that no amount of bulk
data delays a vote. The transport authenticates the sender; every message that others may forward
or use as proof carries its own signature as well.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from committee.committee import MemberIndex
from consensus.types import (
    QC,
    TC,
    AckData,
    AvailabilityCertificate,
    Block,
    CheckpointHeader,
    SignedBatchHeader,
    TimeoutData,
    VoteData,
)
from crypto.codec import encode
from crypto.digest import Domain, digest
from crypto.types import BATCH_BODY_MAX_BYTES, BlsSignature, Digest, Uint

BLOCKS_MAX_PER_RESPONSE: Final = 64
SYNC_RESPONSE_MAX_BYTES: Final = 4 << 20
"""A response stops adding items once it holds this much."""
BATCHES_MAX_PER_REQUEST: Final = 16

SNAPSHOT_OFFER_MAX_BYTES: Final = 4 << 20
"""More than a block, its certificates and the largest list of pieces have."""
SNAPSHOT_CHUNK_MAX_BYTES: Final = 262_144
"""One piece of a snapshot."""

CONTROL_FRAME_MAX_BYTES: Final = 1 << 20
BULK_FRAME_MAX_BYTES: Final = SYNC_RESPONSE_MAX_BYTES + BATCH_BODY_MAX_BYTES + (64 << 10)


class Proposal(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="proposal"):
    """A block proposed in a view by that view's leader."""

    block: Block
    view: Uint
    """The view of this proposal; equals `block.view` for a fresh block."""
    author: MemberIndex
    signature: BlsSignature

    def signing_bytes(self, chain_id: bytes) -> bytes:
        return proposal_signing_bytes(
            chain_id, self.block.epoch, self.view, self.block.block_id(chain_id)
        )


def proposal_signing_bytes(chain_id: bytes, epoch: int, view: int, block_id: bytes) -> bytes:
    """What a leader signs; the block itself stays out so that evidence is small."""
    return digest(
        Domain.PROPOSAL, chain_id, epoch.to_bytes(8, "big"), view.to_bytes(8, "big"), block_id
    )


class Vote(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="vote"):
    """One member's vote; sent to the leaders of this view and the next."""

    data: VoteData
    author: MemberIndex
    signature: BlsSignature


class ShownProposal(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="shown_proposal"
):
    """That a view's leader proposed a block, in its own signature: half of the proof that it
    proposed two. Anybody may show it, since it proves itself."""

    view: Uint
    block_id: Digest
    signature: BlsSignature


class Timeout(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="timeout"):
    """One member gives a view up; broadcast, and the same bytes again until the view ends."""

    data: TimeoutData
    high_qc: QC
    """The certificate that `data.high_qc_view` names."""
    last_tc: TC | None
    """Why its signer is in this view when `high_qc.view + 1 != data.view`."""
    author: MemberIndex
    signature: BlsSignature
    proposal: ShownProposal | None = None
    """What its signer saw proposed in this view. A leader that divides the members makes its view
    fail, and so the two halves of the proof meet."""


class Advance(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="advance"):
    """A certificate that lets the receiver enter a later view: from a leader that formed a QC,
    from whoever formed a TC, or in reply to a message of a view long past."""

    qc: QC
    tc: TC | None


class Ack(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="ack"):
    """One member's acknowledgement of a lane prefix; sent to the lane's author."""

    data: AckData
    signer: MemberIndex
    signature: BlsSignature


class LaneCertificate(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="lane_certificate"
):
    """A lane's author tells everybody its newest availability certificate."""

    certificate: AvailabilityCertificate


class StateVote(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="state_vote"):
    """One member's signature on the result of executing the chain to a height; broadcast."""

    header: CheckpointHeader
    author: MemberIndex
    signature: BlsSignature


class BlockRequest(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="block_request"
):
    """Ask for a block and its ancestors, newest first, down to (not including) `above_height`."""

    block_id: Digest
    above_height: Uint


class CommittedRequest(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="committed_request"
):
    """Ask for committed blocks of rising height from `from_height` on, each with its QC."""

    from_height: Uint


class BatchRequest(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="batch_request"
):
    """Ask for batches by id."""

    batch_ids: Annotated[tuple[Digest, ...], Meta(min_length=1, max_length=BATCHES_MAX_PER_REQUEST)]


class LaneRequest(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="lane_request"
):
    """Ask for a lane's batches that end in `tip`, newest first, down to (not including)
    `above_sequence`: for whoever holds a certificate but not the links behind it."""

    tip: Digest
    above_sequence: Uint


class SnapshotRequest(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="snapshot_request"
):
    """Ask for the newest snapshot of a certified state above a height: from a node that joins."""

    above_height: Uint


class ChunkRequest(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="chunk_request"
):
    """Ask for a piece of a snapshot that was offered, by its digest."""

    name: Digest


class SnapshotOffer(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="snapshot_offer"
):
    """The answer to a `SnapshotRequest`."""

    offer: Annotated[bytes, Meta(max_length=SNAPSHOT_OFFER_MAX_BYTES)]
    """An encoded `node.offers.Offer`; empty if there is none."""


class SnapshotChunk(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="snapshot_chunk"
):
    """The answer to a `ChunkRequest`."""

    name: Digest
    data: Annotated[bytes, Meta(max_length=SNAPSHOT_CHUNK_MAX_BYTES)]
    """Empty if the responder has no such piece, or no more."""


class BatchMessage(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="batch"):
    """A batch: from its author to all, or one of the answers to a request."""

    signed_header: SignedBatchHeader
    body: Annotated[bytes, Meta(min_length=1, max_length=BATCH_BODY_MAX_BYTES)]


class BlockResponse(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="block_response"
):
    """Blocks, newest first, each the parent of the one before."""

    blocks: Annotated[tuple[Block, ...], Meta(max_length=BLOCKS_MAX_PER_RESPONSE)]


class CommittedResponse(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="committed_response"
):
    """Committed blocks of rising height, each the parent of the next.

    The commit itself is not proved: the receiver replays the commit rule over the certificates
    inside, and the last blocks commit once it learns of their successors."""

    blocks: Annotated[tuple[Block, ...], Meta(max_length=BLOCKS_MAX_PER_RESPONSE)]
    proof: QC | None
    """A QC for the last block, which vouches for everything below it. None when the responder has
    nothing from `from_height` on."""
    committed_height: Uint
    """The responder's own committed height: advisory, for progress display only."""


ControlMessage = (
    Proposal
    | ShownProposal
    | Vote
    | Timeout
    | Advance
    | Ack
    | LaneCertificate
    | StateVote
    | BlockRequest
    | CommittedRequest
    | BatchRequest
    | LaneRequest
    | SnapshotRequest
    | ChunkRequest
)
BulkMessage = BatchMessage | BlockResponse | CommittedResponse | SnapshotOffer | SnapshotChunk
Message = ControlMessage | BulkMessage


def encode_message(message: Message) -> bytes:
    """The frame body of a message."""
    return encode(message)
