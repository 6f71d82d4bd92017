"""What `NodeCore` adds to the events and effects of consensus: clients and execution.

The same rules for hosts apply (`consensus.effects`). A `source` is the host's handle for one client
connection; the core only hands it back.
"""

from msgspec import Struct

from consensus.effects import Effect, Event, Token
from consensus.types import Block, CheckpointHeader, StateCertificate
from crypto.scheme import Claim
from engine.block import Reporter
from mempool.batch import BatchVerdict
from node.protocol import ReceiptLevel, SubmitResult

# ---- events --------------------------------------------------------------------------------


class EnvelopesSubmitted(Struct, frozen=True):
    """A client hands in encoded envelopes. Answer: `SubmitReply`."""

    source: int
    request: int
    envelopes: tuple[bytes, ...]


class OpaqueSubmitted(Struct, frozen=True):
    """A client hands in transactions of another namespace. Answer: `OpaqueReply`."""

    source: int
    request: int
    namespace: int
    transaction_size_bytes: int
    data: bytes


class EnvelopesVerified(Struct, frozen=True):
    """Results of `VerifyEnvelopes`, in order."""

    token: Token
    results: tuple[bool, ...]


class Executed(Struct, frozen=True):
    """The engine finished a height. Heights arrive in order, each once."""

    height: int
    market_root: bytes
    receipts_root: bytes
    instructions: int
    fills: int


class BatchesOpened(Struct, frozen=True):
    """What the batches of `OpenBatches` contain, in order."""

    token: Token
    verdicts: tuple[BatchVerdict, ...]


NodeEvent = (
    Event | EnvelopesSubmitted | OpaqueSubmitted | EnvelopesVerified | Executed | BatchesOpened
)


# ---- effects -------------------------------------------------------------------------------


class VerifyEnvelopes(Struct, frozen=True):
    """Check Ed25519 signatures in a worker. Answer: `EnvelopesVerified`."""

    token: Token
    claims: tuple[Claim, ...]


class BatchToOpen(Struct, frozen=True):
    """A stored batch that passed its check in an earlier life of this node."""

    batch_id: bytes
    body_digest: bytes


class OpenBatches(Struct, frozen=True):
    """Say what stored batches contain (`mempool.batch.reopen_batch`). Answer: `BatchesOpened`."""

    token: Token
    batches: tuple[BatchToOpen, ...]


class SubmitReply(Struct, frozen=True):
    """Answer a client's envelopes, one result each."""

    source: int
    request: int
    results: tuple[SubmitResult, ...]


class OpaqueReply(Struct, frozen=True):
    """Answer a client's opaque transactions: all `count` taken, or none and a code."""

    source: int
    request: int
    count: int
    code: str | None


class BatchToExecute(Struct, frozen=True):
    """One stored batch of a height to execute."""

    batch_id: bytes
    refused: tuple[int, ...]
    """Positions of the envelopes that the header ledger refused, rising."""


class Execute(Struct, frozen=True):
    """Run the engine on one height's contents, in height order. Answer: `Executed`."""

    height: int
    time_ms: int
    seed: bytes
    batches: tuple[BatchToExecute, ...]
    """Only batches that hold envelopes."""
    reporters: tuple[Reporter, ...]


class SaveState(Struct, frozen=True):
    """Save the engine's state as of `height`, which was just given to execute."""

    height: int


class ReceiptUpdate(Struct, frozen=True):
    """An envelope reached a level; tell whoever watches its account or id."""

    envelope_id: bytes
    account: bytes
    level: ReceiptLevel
    height: int
    code: str | None


class BlockNotice(Struct, frozen=True):
    """A block was committed on this node."""

    block_id: bytes
    block: Block


class DeliveredNotice(Struct, frozen=True):
    """A committed block is complete here: its contents are known and went to execution."""

    height: int
    envelopes: int
    refused: int
    opaque: tuple[tuple[int, int, int], ...]
    """(namespace, transactions, bytes), by rising namespace."""


class CertifiedNotice(Struct, frozen=True):
    """A quorum certified the result of executing up to a height, and this node's own result agrees.

    Every height up to the certificate's is thereby final in its effects."""

    certificate: StateCertificate
    own: tuple[CheckpointHeader, ...]
    """This node's checkpoints up to that height that were not announced before, rising."""


class ServeOffer(Struct, frozen=True):
    """Offer a member the newest snapshot above a height in a `SnapshotOffer`, or none."""

    to: int
    above_height: int


class ServeChunk(Struct, frozen=True):
    """Send a member a piece of an offered snapshot in a `SnapshotChunk`, or say that there is
    none."""

    to: int
    name: bytes


NodeEffect = (
    Effect
    | VerifyEnvelopes
    | OpenBatches
    | SubmitReply
    | OpaqueReply
    | Execute
    | SaveState
    | ReceiptUpdate
    | BlockNotice
    | DeliveredNotice
    | CertifiedNotice
    | ServeOffer
    | ServeChunk
)
