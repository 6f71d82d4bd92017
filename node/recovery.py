"""What a node resumes from: everything durable, read once at start and handed to the pure core.

Three stores answer for three things. The safety store says what this node signed; the archive
holds the committed chain, delivery records and now and then a snapshot of the order state; the
batch store holds batches. The engine keeps its own snapshots. None of them has to be in step with
another: the newest order snapshot that is not ahead of the engine is taken, and the committed
blocks above it are delivered again, which yields the same verdicts and roots.

Damage that cannot be told from amnesia is fatal: `RecoveryError` keeps the node from signing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from committee.committee import COMMITTEE_SIZE_MAX, Committee
from committee.state import EVIDENCE_KINDS_MAX, OrderState, OrderStateError
from consensus.chain import (
    ARCHIVE_BLOCK_TABLE,
    ARCHIVE_TIP_KEY,
    ARCHIVE_TIP_TABLE,
)
from consensus.checkpoints import RecoveredCheckpoints
from consensus.effects import Delete, compute_key
from consensus.evidence import EvidenceError, decode_evidence
from consensus.lane_certificates import CERTIFICATE_TABLE
from consensus.lane_chain import LanePoint
from consensus.lane_recovery import RecoveredLanes, recover_lanes
from consensus.recovery import Recovered, RecoveryError, recover, recover_observer
from consensus.state_signer import STATE_VOTE_TABLE
from consensus.types import (
    AckData,
    AvailabilityCertificate,
    BatchHeader,
    Block,
    CheckpointHeader,
    SignedBatchHeader,
    StateCertificate,
)
from crypto.bitmap import is_member_set
from crypto.codec import DecodeError, decode
from crypto.types import Digest
from mempool.ledger import HeaderLedger, LedgerError
from node.delivery import DeliveryRecord
from node.genesis import Genesis
from node.offences import EVIDENCE_TABLE

BLOCK_ID_TABLE: Final = "block_id"
"""Block id -> height."""
DELIVERY_TABLE: Final = "delivery"
"""Height (8 bytes big-endian, as for all tables by height) -> `DeliveryRecord`."""
OUTPUT_TABLE: Final = "output"
"""Height -> encoded `engine.block.BlockOutput`, for heights with instructions."""
CHECKPOINT_TABLE: Final = "checkpoint"
"""Height -> this node's own `CheckpointHeader`."""
CERTIFICATE_BY_HEIGHT_TABLE: Final = "certificate"
"""Height -> `StateCertificate`."""
ORDER_SNAPSHOT_TABLE: Final = "order_snapshot"
"""Height -> `OrderSnapshot`."""
ENVELOPE_TABLE: Final = "envelope"
"""Envelope id -> height at which it passed the header ledger."""
REFUSED_TABLE: Final = "refused"
"""Envelope id -> the header ledger's refusal code."""

ORDER_SNAPSHOTS_KEPT: Final = 8
"""At or below the engine's height. A restart takes the newest one that is not ahead of the state
which the engine loads: its newest saved one, or the one before if that is damaged. States are saved
at the same heights, but not while an earlier one is still being written, so there are a few more.
Without any the whole chain would be delivered again."""

EVIDENCE_RECOVERED_MAX: Final = COMMITTEE_SIZE_MAX * EVIDENCE_KINDS_MAX
"""One piece for each member and kind of offence."""

LAST_KEY: Final = b"\xff" * 8
"""At or above every height's key."""


class Archive(Protocol):
    """Archived records (`node.storage.archive.ArchiveStore`)."""

    def read(self, table: str, key: bytes) -> bytes | None: ...

    def read_range(
        self, table: str, from_key: bytes, limit: int, *, reverse: bool = False
    ) -> Sequence[tuple[bytes, bytes]]: ...


class Batches(Protocol):
    """Stored batches by id (`node.storage.batch_reader.BatchReader`)."""

    def get(self, batch_id: bytes, /) -> tuple[SignedBatchHeader, bytes] | None: ...


class BatchIndex(Protocol):
    """What recovery reads of the batch store (`node.storage.batches.BatchStore`)."""

    def headers_above(
        self, cursors: Mapping[int, int]
    ) -> list[tuple[bytes, SignedBatchHeader]]: ...

    def find_header(self, batch_id: bytes) -> SignedBatchHeader | None: ...


class OrderSnapshot(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Order state and header ledger at one height, with the roots they must restore to."""

    order_state: bytes
    order_state_root: Digest
    ledger: bytes
    ledger_root: Digest

    @classmethod
    def take(cls, order_state: OrderState, ledger: HeaderLedger) -> "OrderSnapshot":
        """Snapshot both."""
        return cls(order_state.snapshot(), order_state.root(), ledger.snapshot(), ledger.root())

    def restore(self) -> tuple[OrderState, HeaderLedger]:
        """Rebuild both; raises `RecoveryError` if the bytes do not match their roots."""
        try:
            order_state = OrderState.restore(self.order_state, self.order_state_root)
            ledger = HeaderLedger.restore(self.ledger, self.ledger_root)
        except (OrderStateError, LedgerError) as error:
            raise RecoveryError("recovery.damaged", str(error)) from error
        return order_state, ledger


class OrderSnapshots:
    """Which order snapshots in the archive a restart may still need, by their heights."""

    def __init__(self, heights: Iterable[int]) -> None:
        """`heights` are the newest that were found at start, rising."""
        self._heights = list(heights)

    def add(self, height: int, executed_height: int) -> tuple[Delete, ...]:
        """Note one that is written now, and return what may go with the same write."""
        self._heights.append(height)
        reached = sum(each <= executed_height for each in self._heights)
        if reached <= ORDER_SNAPSHOTS_KEPT:
            return ()
        del self._heights[: reached - ORDER_SNAPSHOTS_KEPT]
        return (Delete(ORDER_SNAPSHOT_TABLE, compute_key(self._heights[0])),)


class ReplayedBlock(NamedTuple):
    """A committed block to deliver again."""

    block_id: bytes
    block: Block
    record: DeliveryRecord | None
    """None if it was committed but not delivered before."""

    @property
    def batch_ids(self) -> tuple[bytes, ...] | None:
        """Its batches in execution order, if a record names them."""
        if self.record is None:
            return None
        return tuple(each.batch_id for each in self.record.batches)


class DeliveredHeader(NamedTuple):
    """A batch of a delivered height, whose contents are to be read again."""

    height: int
    batch_id: bytes
    header: BatchHeader


class RecoveredNode(NamedTuple):
    """The start of a node's life, first or later."""

    consensus: Recovered
    lanes: RecoveredLanes
    checkpoints: RecoveredCheckpoints
    order_state: OrderState
    ledger: HeaderLedger
    order_snapshots: tuple[int, ...]
    """The heights of the newest order snapshots in the archive, rising."""
    blocks: tuple[ReplayedBlock, ...]
    """Committed blocks above the order state, by rising height."""
    delivered_batches: tuple[DeliveredHeader, ...]
    """Batches of delivered blocks among them, in the order of their delivery."""
    engine_height: int
    own_checkpoint: CheckpointHeader | None
    """The newest at or below the engine's height."""
    evidence: tuple[bytes, ...]
    """Found in earlier lives, whether or not it has convicted since."""


def make_genesis_order(genesis: Genesis, committee: Committee) -> tuple[OrderState, HeaderLedger]:
    """Order state and header ledger before the first block."""
    order_state = OrderState(committee, genesis.time_ms)
    ledger = HeaderLedger(genesis.time_ms)
    for credit in genesis.fee_credits:
        ledger.apply_credit(credit.account, credit.amount_microquote)
    ledger.apply_oracle_keys(member.oracle_key for member in committee.members)
    return order_state, ledger


def recover_node(
    genesis: Genesis,
    me: int,
    safety_records: Mapping[str, Mapping[bytes, bytes]] | None,
    archive: Archive,
    batches: BatchIndex,
    engine_height: int,
) -> RecoveredNode:
    """Read the stores. Raises `RecoveryError` if they contradict each other.

    Without `safety_records`, which is another thing than with empty ones, it is the start of a node
    that signs nothing (`NodeCoreConfig.is_following`).
    """
    try:
        return _recover(genesis, me, safety_records, archive, batches, engine_height)
    except (DecodeError, EvidenceError) as error:
        raise RecoveryError("recovery.damaged", str(error)) from error


def _recover(
    genesis: Genesis,
    me: int,
    safety_records: Mapping[str, Mapping[bytes, bytes]] | None,
    archive: Archive,
    batches: BatchIndex,
    engine_height: int,
) -> RecoveredNode:
    chain_id, committee = genesis.chain_id(), genesis.committee()
    archived_tip = archive.read(ARCHIVE_TIP_TABLE, ARCHIVE_TIP_KEY)
    if safety_records is None:
        consensus = recover_observer(chain_id, committee, genesis.time_ms, archived_tip)
    else:
        consensus = recover(chain_id, committee, genesis.time_ms, safety_records, archived_tip)
        _validate_memory(consensus, me)
    order_state, ledger = _restore_order(genesis, committee, archive, engine_height)
    blocks = _read_blocks(chain_id, archive, order_state.height, consensus.tip.height)
    cursors: dict[int, LanePoint] = {}
    for author in range(len(committee)):
        cursor = order_state.lane_cursor(author)
        if cursor.sequence:
            cursors[author] = LanePoint(cursor.sequence, cursor.batch_id)
    delivered: list[DeliveredHeader] = []
    for replayed in blocks:
        batch_ids = replayed.batch_ids
        if batch_ids is None:
            break
        for tip in replayed.block.lanes:
            cursors[tip.data.author] = LanePoint(tip.data.sequence, tip.data.batch_id)
        for batch_id in batch_ids:
            header = _read_header(chain_id, batches, batch_id)
            delivered.append(DeliveredHeader(replayed.block.height, batch_id, header))
    certificates = [
        decode(AvailabilityCertificate, value)
        for _, value in archive.read_range(CERTIFICATE_TABLE, b"", len(committee))
    ]
    if safety_records is not None:
        in_blocks = (*consensus.blocks, *(replayed.block for replayed in blocks))
        named = (tip for block in in_blocks for tip in block.lanes)
        _validate_acknowledged(me, (*certificates, *named), batches)
    lanes = recover_lanes(
        committee.epoch,
        cursors,
        batches.headers_above({author: point.sequence for author, point in cursors.items()}),
        certificates,
    )
    own = archive.read_range(CHECKPOINT_TABLE, compute_key(engine_height), 1, reverse=True)
    snapshots = archive.read_range(
        ORDER_SNAPSHOT_TABLE, LAST_KEY, ORDER_SNAPSHOTS_KEPT, reverse=True
    )
    evidence = archive.read_range(EVIDENCE_TABLE, b"", EVIDENCE_RECOVERED_MAX)
    for _, encoded in evidence:
        decode_evidence(encoded)
    return RecoveredNode(
        consensus=consensus,
        lanes=lanes,
        checkpoints=_recover_checkpoints(safety_records or {}, archive),
        order_state=order_state,
        ledger=ledger,
        order_snapshots=tuple(int.from_bytes(key, "big") for key, _ in reversed(snapshots)),
        blocks=blocks,
        delivered_batches=tuple(delivered),
        engine_height=engine_height,
        own_checkpoint=decode(CheckpointHeader, own[0][1]) if own else None,
        evidence=tuple(value for _, value in evidence),
    )


def _validate_memory(consensus: Recovered, me: int) -> None:
    """An archive that holds this node's own vote, above any that the safety records remember, means
    that they were restored from an older day."""
    qc = consensus.tip.qc
    if is_member_set(qc.signers, me) and qc.view > consensus.safety.last_voted_view:
        raise RecoveryError(
            "recovery.amnesia",
            f"the archive holds a vote of view {qc.view}, the safety records end at"
            f" {consensus.safety.last_voted_view}",
        )


def _validate_acknowledged(
    me: int, certificates: Iterable[AvailabilityCertificate], batches: BatchIndex
) -> None:
    """A batch that this node acknowledged was stored before (`consensus.lanes`), and batches are
    never removed: one that is missing means that the batch store, or a part of it, was lost or is
    of an older day. The stored batches are also the only record of which batch was signed at which
    place of a lane, so such a node might acknowledge another one there, and give its own lane a
    second batch at a place that has one. Of each lane the newest acknowledged batch is looked up:
    stores lose all or what is newest, and lesser losses are `storage.corrupt`."""
    newest: dict[int, AckData] = {}
    for certificate in certificates:
        data = certificate.data
        known = newest.get(data.author)
        if known is not None and known.sequence >= data.sequence:
            continue
        if is_member_set(certificate.signers, me):
            newest[data.author] = data
    for author, data in sorted(newest.items()):
        if batches.find_header(data.batch_id) is None:
            raise RecoveryError(
                "recovery.amnesia",
                f"this node acknowledged batch {data.batch_id.hex()[:16]}, number {data.sequence} "
                f"of lane {author}, which the batch store lacks",
            )


def _recover_checkpoints(
    safety_records: Mapping[str, Mapping[bytes, bytes]], archive: Archive
) -> RecoveredCheckpoints:
    newest = archive.read_range(CERTIFICATE_BY_HEIGHT_TABLE, LAST_KEY, 1, reverse=True)
    return RecoveredCheckpoints(
        {
            int.from_bytes(key, "big"): decode(CheckpointHeader, value)
            for key, value in safety_records.get(STATE_VOTE_TABLE, {}).items()
        },
        decode(StateCertificate, newest[0][1]) if newest else None,
    )


def _restore_order(
    genesis: Genesis, committee: Committee, archive: Archive, engine_height: int
) -> tuple[OrderState, HeaderLedger]:
    """The newest snapshot not ahead of the engine, whose blocks must be delivered to it again."""
    newest = archive.read_range(ORDER_SNAPSHOT_TABLE, compute_key(engine_height), 1, reverse=True)
    if not newest:
        return make_genesis_order(genesis, committee)
    return decode(OrderSnapshot, newest[0][1]).restore()


def _read_blocks(
    chain_id: bytes, archive: Archive, above_height: int, tip_height: int
) -> tuple[ReplayedBlock, ...]:
    replayed: list[ReplayedBlock] = []
    delivered_before = True
    for height in range(above_height + 1, tip_height + 1):
        encoded = archive.read(ARCHIVE_BLOCK_TABLE, compute_key(height))
        if encoded is None:
            raise RecoveryError("recovery.gap", f"the archive has no block at height {height}")
        block = decode(Block, encoded)
        encoded_record = archive.read(DELIVERY_TABLE, compute_key(height))
        record = None
        if delivered_before and encoded_record is not None:
            record = decode(DeliveryRecord, encoded_record)
        delivered_before = record is not None
        replayed.append(ReplayedBlock(block.block_id(chain_id), block, record))
    return tuple(replayed)


def _read_header(chain_id: bytes, batches: BatchIndex, batch_id: bytes) -> BatchHeader:
    """The header of a batch that was delivered: what it says of the body goes without signatures
    from here on, so it must be the one that the id names."""
    signed_header = batches.find_header(batch_id)
    if signed_header is None:
        raise RecoveryError("recovery.gap", f"the batch store lacks batch {batch_id.hex()}")
    if signed_header.header.batch_id(chain_id) != batch_id:
        detail = f"the batch store has another header for batch {batch_id.hex()}"
        raise RecoveryError("recovery.damaged", detail)
    return signed_header.header
