"""Replay: anybody with a node's data can repeat the whole chain and compare every root.

From genesis on, or from the certified snapshot that a node joined by, each height is rebuilt from
archived blocks and stored batches alone: the chain of blocks and their certificates, every batch's
digest, author and envelope signatures, the header ledger's verdicts, and the engine. Nothing that
the node computed is used; what it recorded (checkpoints) and what a quorum certified is only
compared. It may run beside a running node.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple, TypeVar

from msgspec import Struct

from committee.committee import Committee
from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE
from consensus.checkpoints import is_checkpoint
from consensus.effects import compute_key
from consensus.evidence import EvidenceError, decode_evidence, verify_evidence
from consensus.types import (
    QC,
    BatchHeader,
    Block,
    CheckpointHeader,
    StateCertificate,
    genesis_block_id,
)
from crypto.bitmap import BitmapError, decode_bitmap
from crypto.bls import BLS
from crypto.codec import DecodeError, decode, encode
from crypto.digest import ZERO_DIGEST, Domain, digest
from crypto.ed25519 import ED25519
from crypto.scheme import IdentityScheme, SignatureScheme
from engine.apply import apply_block
from engine.block import BlockOutput
from engine.state import EngineState, create_state
from mempool.batch import BatchSummary, check_batch
from node.batch_checks import make_checkable
from node.delivery import DeliveredBlock, Delivery, compute_block_seed
from node.engine_input import OrderedBatch, make_block_input, make_reporters
from node.execution import make_checkpoint_header
from node.exit_codes import ExitCode, OperatorError
from node.genesis import Genesis
from node.home import NodeHome
from node.offers import Joined, Offer, OfferError, restore_offer, verify_offer
from node.recovery import (
    CERTIFICATE_BY_HEIGHT_TABLE,
    CHECKPOINT_TABLE,
    Archive,
    Batches,
    make_genesis_order,
)
from node.storage.archive import ArchiveStore
from node.storage.batch_reader import BatchReader
from node.storage.join_files import JoinFiles

_T = TypeVar("_T")

OnBlock = Callable[[EngineState, BlockOutput], None]
"""Sees the state after a block, and what came of it."""


class Base(NamedTuple):
    """Where the replay of a node begins that joined by a snapshot."""

    offer: Offer
    joined: Joined


class ReplayError(OperatorError):
    """The replay came to another result than the node or the committee, or could not go on."""

    code = "replay.mismatch"
    exit_code = ExitCode.NONDETERMINISM


class ReplayReport(Struct, frozen=True):
    """What was repeated and compared."""

    chain_id: bytes
    base_height: int
    """Of the certified snapshot that the replay began with; 0: genesis."""
    heights: int
    batches: int
    envelopes: int
    """Checked signatures; refused ones included."""
    refused: int
    refused_codes: dict[str, int]
    """How many of the refused ones had which code."""
    instructions: int
    fills: int
    opaque_transactions: int
    checkpoints_compared: int
    """Own checkpoint headers that the replay reproduced byte for byte."""
    certificates_compared: int
    """State certificates whose signatures verify over the replayed header."""
    state_root: bytes
    state_root_height: int


class ChainReplay:
    """One run; see the module docstring. The simulator runs it, too, with schemes of its own."""

    def __init__(
        self,
        genesis: Genesis,
        archive: Archive,
        batches: Batches,
        *,
        check_roots: bool = True,
        scheme: SignatureScheme = BLS,
        identity_scheme: IdentityScheme = ED25519,
        on_block: OnBlock | None = None,
        base: Base | None = None,
    ) -> None:
        self._genesis = genesis
        self._chain_id = genesis.chain_id()
        self._committee: Committee = genesis.committee()
        self._archive = archive
        self._batches = batches
        self._check_roots = check_roots
        self._scheme = scheme
        self._identity_scheme = identity_scheme
        self._on_block = on_block
        self._bodies: dict[bytes, bytes] = {}
        if base is None:
            self._engine = create_state(genesis.engine)
            order_state, ledger = make_genesis_order(genesis, self._committee)
            self._parent_id = genesis_block_id(self._chain_id)
        else:
            self._engine = base.joined.state
            order_state, ledger = base.joined.order_state, base.joined.ledger
            self._parent_id = base.offer.certificate.header.block_id
        self._delivery = Delivery(order_state, ledger, self._batches_of)
        self._block: Block | None = None
        self._reporters = make_reporters(self._committee.members)
        self.counts = dict.fromkeys(
            (
                "heights",
                "batches",
                "envelopes",
                "refused",
                "instructions",
                "fills",
                "opaque_transactions",
                "checkpoints_compared",
                "certificates_compared",
            ),
            0,
        )
        self.refused_codes: Counter[str] = Counter()
        self.newest: CheckpointHeader | None = None
        """Of the newest checkpoint height so far."""

    def apply(self, height: int) -> bool:
        """Repeat one height; False when the archive ends below it. Raises `ReplayError`."""
        encoded = self._archive.read(ARCHIVE_BLOCK_TABLE, compute_key(height))
        if encoded is None:
            return False
        block = self._decoded(Block, encoded, "block", height)
        block_id = block.block_id(self._chain_id)
        if block.height != height or block.parent_id != self._parent_id:
            raise _mismatch(height, "the block does not follow the one before it")
        self._check_commit(height, block_id)
        self._block, self._parent_id = block, block_id
        batch_ids = self._batches_of(height)
        for batch_id in batch_ids:
            header, summary = self._summary(height, batch_id)
            self._delivery.add_summary(batch_id, header, summary)
        self._delivery.add_block(block_id, block, batch_ids)
        if block.evidence:
            self._delivery.judge_evidence(
                height, tuple(self._convicts(encoded) for encoded in block.evidence)
            )
        delivered = self._delivery.advance()
        assert delivered is not None, "its batches are all here"
        self._execute(delivered)
        self._bodies.clear()
        self.counts["heights"] += 1
        return True

    def _check_commit(self, height: int, block_id: bytes) -> None:
        commit = self._archive.read(ARCHIVE_COMMIT_TABLE, compute_key(height))
        if commit is None:
            raise _mismatch(height, "the block has no certificate")
        qc = self._decoded(QC, commit, "certificate", height)
        if qc.block_id != block_id or qc.height != height:
            raise _mismatch(height, "the certificate is for another block")
        message = qc.data.signing_bytes(self._chain_id)
        if not self._is_quorum(qc.signers, message, qc.signature):
            raise _mismatch(height, "the certificate does not verify")

    def _is_quorum(self, bitmap: bytes, message: bytes, signature: bytes) -> bool:
        try:
            signers = tuple(decode_bitmap(bitmap, len(self._committee)))
        except BitmapError:
            return False
        keys = [self._committee.members[index].consensus_key for index in signers]
        is_enough = self._committee.power_of(signers) >= self._committee.quorum_power
        return is_enough and self._scheme.verify_aggregate(keys, message, signature)

    def _batches_of(self, height: int) -> tuple[bytes, ...]:
        """Walk every lane from the block's tip down to the cursor, by digest."""
        assert self._block is not None
        delivered: list[bytes] = []
        for tip in self._block.lanes:
            cursor = self._delivery.order_state.lane_cursor(tip.data.author).sequence
            chain: list[bytes] = []
            batch_id, sequence = tip.data.batch_id, tip.data.sequence
            while sequence > cursor:
                stored = self._batches.get(batch_id)
                if stored is None or stored[0].header.sequence != sequence:
                    raise _mismatch(height, f"batch {batch_id.hex()[:16]} is not stored")
                if stored[0].header.batch_id(self._chain_id) != batch_id:
                    raise _mismatch(height, f"batch {batch_id.hex()[:16]} is another one")
                chain.append(batch_id)
                self._bodies[batch_id] = stored[1]
                batch_id, sequence = stored[0].header.parent, sequence - 1
            delivered.extend(reversed(chain))
        return tuple(delivered)

    def _convicts(self, encoded: bytes) -> bool:
        """The same verdict as every node gave when it delivered the block."""
        try:
            evidence = decode_evidence(encoded)
        except EvidenceError:
            return False
        return verify_evidence(
            evidence, self._committee, self._chain_id, self._scheme, self._identity_scheme
        )

    def _summary(self, height: int, batch_id: bytes) -> tuple[BatchHeader, BatchSummary]:
        stored = self._batches.get(batch_id)
        assert stored is not None, "the walk found it"
        signed, body = stored
        author_key = self._committee.members[signed.header.author].identity_key
        batch = make_checkable(signed, author_key, body, self._chain_id)
        verdict = check_batch(batch, self._identity_scheme, self._chain_id)
        if verdict.summary is None:
            raise _mismatch(height, f"batch {batch_id.hex()[:16]}: {verdict.error}")
        return signed.header, verdict.summary

    def _execute(self, delivered: DeliveredBlock) -> None:
        block, counts = delivered.block, self.counts
        batches: list[OrderedBatch] = []
        for batch in delivered.batches:
            refused = batch.refused()
            counts["batches"] += 1
            counts["envelopes"] += len(batch.verdicts)
            counts["refused"] += len(refused)
            self.refused_codes.update(code.value for code in batch.verdicts if code is not None)
            counts["opaque_transactions"] += sum(each.count for each in batch.summary.opaque)
            batches.append(OrderedBatch(self._bodies[batch.batch_id], refused))
        output = apply_block(
            self._engine,
            make_block_input(
                height=block.height,
                time_ms=block.time_ms,
                seed=compute_block_seed(self._chain_id, block.height),
                batches=batches,
                reporters=self._reporters,
            ),
        )
        counts["instructions"] += len(output.receipts)
        counts["fills"] += len(output.fills)
        if self._on_block is not None:
            self._on_block(self._engine, output)
        if is_checkpoint(block):
            self.newest = make_checkpoint_header(
                delivered.block_id,
                block,
                order_root=delivered.order_root,
                market_root=output.state_root,
                receipts_root=output.receipts_root,
            )
            if self._check_roots:
                self._compare(self.newest)

    def _compare(self, header: CheckpointHeader) -> None:
        """Hold the replayed header against what the node recorded and a quorum signed."""
        key = compute_key(header.height)
        own = self._archive.read(CHECKPOINT_TABLE, key)
        if own is not None:
            if self._decoded(CheckpointHeader, own, "checkpoint", header.height) != header:
                raise _mismatch(header.height, "the node recorded other roots")
            self.counts["checkpoints_compared"] += 1
        encoded = self._archive.read(CERTIFICATE_BY_HEIGHT_TABLE, key)
        if encoded is not None:
            certificate = self._decoded(
                StateCertificate, encoded, "state certificate", header.height
            )
            message = header.signing_bytes(self._chain_id)
            if certificate.header != header or not self._is_quorum(
                certificate.signers, message, certificate.signature
            ):
                raise _mismatch(header.height, "the committee certified other roots")
            self.counts["certificates_compared"] += 1

    def _decoded(self, type_: type[_T], data: bytes, what: str, height: int) -> _T:
        try:
            return decode(type_, data)
        except DecodeError as error:
            raise _mismatch(height, f"the archived {what} is damaged: {error}") from error


def _mismatch(height: int, detail: str) -> ReplayError:
    return ReplayError(
        f"height {height}: {detail}",
        advice="compare with another node's home; keep both homes as they are",
    )


def _load_base(home: NodeHome, genesis: Genesis, archive: Archive) -> Base | None:
    """What the node joined by; None if its chain begins at genesis. Its signatures are verified and
    its pieces compared with the certified roots, as when it joined. Raises `ReplayError`."""
    files = JoinFiles(home.join_dir)
    encoded = files.read_offer()
    if encoded is None or archive.read(ARCHIVE_BLOCK_TABLE, compute_key(1)) is not None:
        return None
    try:
        checked = verify_offer(encoded, genesis.chain_id(), genesis.committee(), BLS)
        missing = checked.pieces().keys() - files.find_held()
        if missing:
            raise OfferError("offer.false", f"{len(missing)} pieces are not in {home.join_dir}")
        joined = restore_offer(
            checked.offer,
            files.read_chunks(each.digest for each in checked.manifest.chunks),
            files.read_chunks(each.digest for each in checked.offer.order),
            chain_id=genesis.chain_id(),
            genesis_digest=digest(Domain.GENESIS, encode(genesis.engine)),
        )
    except OfferError as error:
        raise _mismatch(0, f"the snapshot that this node joined by: {error}") from error
    return Base(checked.offer, joined)


def replay(
    home: NodeHome,
    *,
    check_roots: bool = True,
    on_progress: Callable[[int], None] | None = None,
    on_block: OnBlock | None = None,
) -> ReplayReport:
    """Repeat the chain that a home holds, from where it begins. Raises `OperatorError` with what
    differed where.

    `on_progress` is told each height done, `on_block` sees what each block made of the engine and
    is to change nothing.
    """
    genesis = home.load_genesis()
    with ExitStack() as opened:
        archive = ArchiveStore(home.chain_path, owner=genesis.chain_id())
        opened.callback(archive.close)
        batches = BatchReader(home.segments_dir)
        opened.callback(batches.close)
        base = _load_base(home, genesis, archive)
        base_height = 0 if base is None else base.offer.height
        run = ChainReplay(
            genesis, archive, batches, check_roots=check_roots, on_block=on_block, base=base
        )
        height = base_height + 1
        while run.apply(height):
            if on_progress is not None:
                on_progress(height)
            height += 1
    newest = run.newest
    return ReplayReport(
        chain_id=genesis.chain_id(),
        base_height=base_height,
        state_root=newest.state_root if newest else ZERO_DIGEST,
        state_root_height=newest.height if newest else 0,
        refused_codes=dict(sorted(run.refused_codes.items())),
        **run.counts,
    )
