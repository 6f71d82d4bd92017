"""Events and effects: the whole interface between the pure cores and whoever hosts them.

A core is `step(now_ms, event) -> list[Effect]`. It never waits: slow or outside work (signing,
verifying, storing, fetching) is an effect, and its result comes back later as an event that
carries the effect's token. Results may arrive late, in any order, or (after a crash) never.

Rules for hosts:

- effects of one step are carried out in order, but only `Send.after` makes one wait for another;
- a `Send` leaves only when every `Persist` it names is durable (fsync), and waits for no other;
- a `Send` addressed to the node itself loops back as `Received`, under the same rule;
- the same timer name set again replaces the earlier deadline; `None` cancels;
- a failed `Persist` ends the process: a node that cannot remember must not sign.
"""

from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from consensus.messages import Message
from consensus.types import QC, Block, SignedBatchHeader, StateCertificate
from crypto.scheme import Claim


class Token(Struct, frozen=True, order=True, array_like=True, gc=False):
    """Names one outstanding effect: which component asked, and its running number."""

    component: str
    number: int


class Store(StrEnum):
    """Where a record lives, and thereby what its durability costs."""

    SAFETY = "safety"
    """Votes, timeouts, proposals, state votes: fsync before what they guard leaves; a key of a
    write-once table can never get a second value."""
    ARCHIVE = "archive"
    """Committed blocks and what can be rebuilt from them: durable soon, nothing waits for it."""


class Put(NamedTuple):
    """One record. Keys sort as bytes, so heights and views are 8 bytes big-endian."""

    table: str
    key: bytes
    value: bytes


def compute_key(number: int) -> bytes:
    """A view, height or member index as a key whose byte order is its numeric order."""
    return number.to_bytes(8, "big")


class Delete(NamedTuple):
    """Drop every record of a table with a key strictly below `below`."""

    table: str
    below: bytes


# ---- effects -------------------------------------------------------------------------------


class Persist(Struct, frozen=True):
    """Write records to one store, atomically. Each store keeps the order in which it was asked."""

    token: Token
    store: Store
    puts: tuple[Put, ...]
    deletes: tuple[Delete, ...] = ()


class StoreBatch(Struct, frozen=True):
    """Append a batch to the segment files, durably and in the order of the effects: of two copies
    with one id the later one is what is kept. Answer: `BatchStored`."""

    token: Token
    batch_id: bytes
    signed_header: SignedBatchHeader
    body: bytes


class CheckBatch(Struct, frozen=True):
    """Check body digest, author signature and every envelope in a worker. Answer:
    `BatchChecked`."""

    token: Token
    batch_id: bytes
    signed_header: SignedBatchHeader
    author_key: bytes
    body: bytes | None
    """None for a batch that is in the store already (after a restart)."""


class ServeBatches(Struct, frozen=True):
    """Read stored batches and send each to a peer as a `BatchMessage` on its bulk connection."""

    to: int
    batch_ids: tuple[bytes, ...]


class ServeCommitted(Struct, frozen=True):
    """Read archived blocks of rising height and answer with one `CommittedResponse`."""

    to: int
    from_height: int
    committed_height: int


class Send(Struct, frozen=True):
    """Send a message to members by index, once everything in `after` is durable."""

    to: tuple[int, ...]
    message: Message
    after: tuple[Token, ...] = ()


class SetTimer(Struct, frozen=True):
    """Deliver `TimerFired(name)` at `deadline_ms`; None cancels."""

    name: str
    deadline_ms: int | None


class Verify(Struct, frozen=True):
    """Check signatures off the loop. Answer: `Verified`, one result a claim, in order."""

    token: Token
    claims: tuple[Claim, ...]


class VerifyIdentities(Struct, frozen=True):
    """Check a few Ed25519 signatures of members, one key a claim. Answer: `Verified`."""

    token: Token
    claims: tuple[Claim, ...]


class Sign(Struct, frozen=True):
    """Sign with the node's consensus key. Answer: `Signed`."""

    token: Token
    message: bytes


class SignIdentity(Struct, frozen=True):
    """Sign with the node's Ed25519 identity key. Answer: `Signed`."""

    token: Token
    message: bytes


class Aggregate(Struct, frozen=True):
    """Aggregate optimistically, verify once, bisect on failure. Answer: `Aggregated`."""

    token: Token
    message: bytes
    partials: tuple[tuple[int, bytes, bytes], ...]
    """(member index, public key, signature), by rising index."""


class Committed(Struct, frozen=True):
    """A block became final. Emitted oldest first, each height exactly once, no gaps."""

    block_id: bytes
    block: Block
    qc: QC
    """A certificate for the block itself."""


class LanesAdvanced(Struct, frozen=True):
    """A lane's own certificate moved on: everything of that lane up to `sequence` is available."""

    author: int
    sequence: int


class StateCertified(Struct, frozen=True):
    """A state certificate newer than any before was verified."""

    certificate: StateCertificate


class Misbehaviour(Struct, frozen=True):
    """A peer broke a rule: counted, logged, perhaps disconnected. Proof is `EvidenceFound`."""

    member: int
    code: str
    detail: str = ""


class Alarm(Struct, frozen=True):
    """Something that an operator must see and nobody can be blamed for. It stops nothing."""

    code: str
    detail: str


class EvidenceFound(Struct, frozen=True):
    """Two contradicting signatures verified: self-contained proof, to be ordered in a block."""

    offender: int
    encoded: bytes
    """An encoded `consensus.evidence.Evidence`."""


class Halt(Struct, frozen=True):
    """Stop at once and stay down: going on could violate safety (exit code 70)."""

    code: str
    detail: str


Effect = (
    Persist
    | StoreBatch
    | CheckBatch
    | ServeBatches
    | ServeCommitted
    | Send
    | SetTimer
    | Verify
    | VerifyIdentities
    | Sign
    | SignIdentity
    | Aggregate
    | Committed
    | LanesAdvanced
    | StateCertified
    | Misbehaviour
    | Alarm
    | EvidenceFound
    | Halt
)


# ---- events --------------------------------------------------------------------------------


class Received(Struct, frozen=True):
    """A message from an authenticated member (possibly the node itself)."""

    sender: int
    message: Message


class TimerFired(Struct, frozen=True):
    """A timer's deadline passed. May be stale: the core compares with the deadline it keeps."""

    name: str


class Verified(Struct, frozen=True):
    token: Token
    results: tuple[bool, ...]


class Signed(Struct, frozen=True):
    token: Token
    signature: bytes


class Aggregated(Struct, frozen=True):
    token: Token
    signers: tuple[int, ...]
    signature: bytes
    """Over exactly `signers`; empty when there are none."""
    culprits: tuple[int, ...]


class BatchStored(Struct, frozen=True):
    """The batch is durable."""

    token: Token


class BatchChecked(Struct, frozen=True):
    """The verdict on a batch."""

    token: Token
    error: str | None
    """A stable code, or None for a good batch."""
    summary: object | None = None
    """What the composition keeps of a good batch (`mempool.batch.BatchSummary`); lanes do not look
    inside."""
    detail: str = ""
    """Which part of a bad batch is at fault and why, for whoever reads the log."""


Event = Received | TimerFired | Verified | Signed | Aggregated | BatchStored | BatchChecked
