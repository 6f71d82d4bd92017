"""Decoders of what a node reads back: records, snapshots, segments, and what its workers say.

Checksums stand in front of most of these, so no outside bytes reach them as they are; a bug, an
old version or somebody who can write a checksum may.
"""

import copy
from collections.abc import Mapping
from contextlib import redirect_stderr
from functools import lru_cache
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import blake3

from committee.state import OrderState, OrderStateError
from consensus.block_tree import CommittedTip
from consensus.effects import Store
from consensus.evidence import Evidence
from consensus.recovery import RecoveryError
from consensus.safety import SafetyState
from consensus.types import (
    QC,
    AvailabilityCertificate,
    Block,
    CheckpointHeader,
    StateCertificate,
    TimeoutData,
    VoteData,
)
from crypto.codec import DecodeError, decode, decode_lenient, encode
from crypto.digest import DIGEST_SIZE_BYTES, Domain, bulk_digest, digest
from engine.block import BlockOutput
from engine.commitment.root import compute_state_root
from engine.commitment.solvency import validate_equity_proof
from engine.errors import SnapshotError
from engine.snapshots.whole import restore, snapshot
from localnet.fuzz.contract import RefusedError, Target, require
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.ground import prepare_ground
from localnet.fuzz.trees import BYTES
from localnet.fuzz.wire_targets import require_stable
from localnet.sim.disk import NodeDisk
from mempool.ledger import HeaderLedger, LedgerError
from node.delivery import DeliveryRecord
from node.recovery import OrderSnapshot, recover_node
from node.storage.errors import StorageError
from node.storage.segments import decode_record, encode_record
from node.workers import crypto_messages, engine_messages
from node.workers.snapshots import SnapshotHeader, SnapshotStore
from node.workers.statements import STATEMENT_SUFFIX, StatementStore, encode_head

_PREFIX_BYTES: Final = 52
"""Of a segment's record: magic (4), sizes (8), checksum (8), batch id (32)."""

RECORDS: Final[Mapping[str, Any]] = {
    "archive.block": Block,
    "archive.certificate": StateCertificate,
    "archive.checkpoint": CheckpointHeader,
    "archive.commit": QC,
    "archive.delivery": DeliveryRecord,
    "archive.evidence": Evidence,
    "archive.lane_certificate": AvailabilityCertificate,
    "archive.order_snapshot": OrderSnapshot,
    "archive.output": BlockOutput,
    "archive.tip": CommittedTip,
    "safety.pending_block": Block,
    "safety.safety": SafetyState,
    "safety.state_vote": CheckpointHeader,
    "safety.timeout": TimeoutData,
    "safety.vote": VoteData,
}
"""What each table holds; the others hold plain numbers, ids and codes."""


def wrap_records(corpus: Corpus) -> None:
    """Give each record its table's name, which an input of `record` and `recovery` carries."""
    for name in RECORDS:
        for value in corpus.select((f"record.{name}",)):
            corpus.add(f"stored.{name}", encode((name, value)))


def read_stored(data: bytes) -> tuple[str, bytes]:
    """The table and the bytes of one record."""
    name, value = decode_lenient(tuple[str, bytes], data)
    if name not in RECORDS:
        raise DecodeError("no such table")
    return name, value


def read_record(data: bytes) -> None:
    """A record by its table."""
    name, value = read_stored(data)
    found = decode(RECORDS[name], value)
    require(encode(found) == value, "two encodings of one record")
    if isinstance(found, OrderSnapshot):
        found.restore()


def recover_with(data: bytes) -> None:
    """A node's start from its own disk, on which one record is another."""
    name, value = read_stored(data)
    ground = prepare_ground()
    cluster = ground.cluster
    disk = copy.copy(cluster.world.disk(0))
    disk.stores = {store: dict(tables) for store, tables in disk.stores.items()}
    store_name, _, table_name = name.partition(".")
    store = Store(store_name)
    table = disk.stores[store][table_name] = dict(disk.table(store, table_name))
    table[max(table, default=bytes(8))] = value
    assert isinstance(disk, NodeDisk)
    height = max(disk.engine_snapshots, default=0)
    recover_node(cluster.genesis, 0, disk.stores[Store.SAFETY], disk, disk, height)


def read_snapshot(data: bytes) -> None:
    """An engine's state."""
    require(snapshot(restore(data)) == data, "two encodings of one state")


@lru_cache(maxsize=1)
def _snapshot_directory() -> Path:
    return Path(mkdtemp(prefix="rota-fuzz-"))


@lru_cache(maxsize=1)
def _statement_directory() -> Path:
    return Path(mkdtemp(prefix="rota-fuzz-"))


def load_snapshot(data: bytes) -> None:
    """A snapshot's file, with a good header in front of any state. What cannot be read is passed
    over for genesis."""
    cluster = prepare_ground().cluster
    store = SnapshotStore(_snapshot_directory(), cluster.chain_id, cluster.genesis.engine)
    state = restore(prepare_ground().state)
    header = encode(
        SnapshotHeader(
            cluster.chain_id,
            state.genesis_digest,
            state.height,
            compute_state_root(state),
            len(data),
            bulk_digest(Domain.SNAPSHOT, data),
        )
    )
    size = len(header).to_bytes(4, "big")
    content = b"ROTASNAP" + size + header + digest(Domain.SNAPSHOT, header) + data
    path = _snapshot_directory() / f"{state.height:020d}.snapshot"
    path.write_bytes(content)
    with redirect_stderr(StringIO()):
        store.load_newest()


def read_statement(data: bytes) -> None:
    """A statement of solvency and the tree behind it, as it is and under a digest that fits."""
    cluster = prepare_ground().cluster
    end = 12 + int.from_bytes(data[8:12], "big")
    store = StatementStore(_statement_directory(), cluster.chain_id)
    path = _statement_directory() / f"{1:020d}{STATEMENT_SUFFIX}"
    for content in (data, encode_head(data[12:end]) + data[end + DIGEST_SIZE_BYTES :]):
        path.write_bytes(content)
        stored = store.load(1)
        for account in (*cluster.world.engines[0].state.accounts, bytes(32)):
            proof = store.prove(1, account)
            if stored is not None and proof is not None:
                validate_equity_proof(stored.statement, account, proof)


def read_segment(data: bytes) -> None:
    """A batch in a segment file, as it is and under a checksum that fits."""
    record = decode_record(data)
    if record is None and len(data) >= _PREFIX_BYTES:
        checksum = blake3.blake3(data[4:12] + data[20:]).digest(8)
        data = data[:12] + checksum + data[20:]
        record = decode_record(data)
    if record is None:
        raise RefusedError("none")
    again = b"".join(encode_record(record.batch_id, record.signed_header, record.body))
    require(again == data, "two encodings of one record")


def _restore_order_state(data: bytes) -> None:
    state, root = decode_lenient(tuple[bytes, bytes], data)
    require(OrderState.restore(state, root).snapshot() == state, "two encodings of one state")


def _restore_ledger(data: bytes) -> None:
    ledger, root = decode_lenient(tuple[bytes, bytes], data)
    require(HeaderLedger.restore(ledger, root).snapshot() == ledger, "two encodings of one ledger")


STORED_TARGETS: Final = (
    Target(
        "record",
        ("stored.*",),
        read_record,
        (DecodeError, RecoveryError),
        types=tuple(
            sorted({type_.__name__ for type_ in RECORDS.values() if type_ is not Evidence})
        ),
    ),
    Target(
        "recovery",
        ("stored.*",),
        recover_with,
        (DecodeError, RecoveryError),
        weight=30,
    ),
    Target(
        "snapshot",
        ("snapshot",),
        read_snapshot,
        (SnapshotError,),
        types=("EngineSnapshot",),
        weight=40,
    ),
    Target(
        "snapshot_file",
        ("snapshot",),
        load_snapshot,
        (),
        types=("SnapshotHeader",),
        weight=80,
    ),
    Target(
        "statement_file",
        ("statement",),
        read_statement,
        (StorageError,),
        BYTES,
        types=("StatementHeader",),
        weight=40,
    ),
    Target(
        "order_state",
        ("order_state",),
        _restore_order_state,
        (DecodeError, OrderStateError),
        types=("OrderStateRecord",),
        weight=4,
    ),
    Target(
        "ledger",
        ("ledger",),
        _restore_ledger,
        (DecodeError, LedgerError),
        types=("LedgerSnapshot",),
        weight=10,
    ),
    Target(
        "segment",
        ("segment",),
        read_segment,
        (RefusedError,),
        BYTES,
        types=("SignedBatchHeader",),
    ),
    Target(
        "engine_worker",
        ("engine_request.*", "engine_reply.*"),
        lambda data: _read_either(data, engine_messages.Request, engine_messages.Reply),
        (DecodeError,),
        types=("Request", "Reply"),
    ),
    Target(
        "crypto_worker",
        ("crypto_request.*", "crypto_reply.*"),
        lambda data: _read_either(data, crypto_messages.Request, crypto_messages.Reply),
        (DecodeError,),
        types=("Request", "Reply"),
    ),
)


def _read_either(data: bytes, request: Any, reply: Any) -> None:
    """One of two languages: a request, else an answer."""
    try:
        found, union = decode_lenient(request, data), request
    except DecodeError:
        found, union = decode_lenient(reply, data), reply
    require_stable(union, found)
