"""`NodeCore`: one whole sequencer node as a pure state machine.

It composes the parts and owns only what lies between them:

    clients -> admission -> batcher -> lanes -> (certificates) -> consensus -> delivery -> engine
                                                     ^                            |
                                                     +------- checkpoints <-------+

- an admitted envelope goes into the next batch of this node's lane;
- a certified lane tip ends the idling of the leader, which puts it into a block;
- a committed block advances the lanes' cursors and, once its contents are here, the order state;
- a delivered height goes to the engine; its result becomes a checkpoint vote;
- a state certificate moves receipts to `executed` and rides in a later block.

Like its parts, the node is `step(now_ms, event) -> list[NodeEffect]`: no clock, network, disk or
thread. `node.runtime` hosts it on trio, `localnet.sim` in a virtual world.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from msgspec import Struct

from consensus.certificates import CertificateCache
from consensus.checkpoints import Checkpoints, is_checkpoint
from consensus.config import ConsensusConfig
from consensus.core import ConsensusCore
from consensus.effects import (
    BatchChecked,
    CheckBatch,
    Committed,
    Effect,
    Event,
    EvidenceFound,
    LanesAdvanced,
    Persist,
    Put,
    Received,
    SetTimer,
    StateCertified,
    Store,
    TimerFired,
    Token,
)
from consensus.evidence import compute_evidence_id
from consensus.lane_limits import LanesConfig
from consensus.lanes import Lanes, LaneStatistics
from consensus.messages import (
    Ack,
    BatchMessage,
    BatchRequest,
    LaneCertificate,
    LaneRequest,
    StateVote,
)
from consensus.statistics import ConsensusStatistics
from consensus.types import (
    AvailabilityCertificate,
    Block,
    CheckpointHeader,
    StateCertificate,
)
from crypto.codec import encode
from mempool.admission import Admission, AdmissionConfig, Candidate, Refusal
from mempool.batch import BatchSummary
from mempool.batcher import Batcher, BatcherConfig
from mempool.validity import EnvelopeSummary
from node.delivery import DeliveredBlock, Delivery, compute_block_seed
from node.events import (
    BatchToExecute,
    BlockNotice,
    CertifiedNotice,
    DeliveredNotice,
    EnvelopesSubmitted,
    EnvelopesVerified,
    Execute,
    Executed,
    NodeEffect,
    NodeEvent,
    OpaqueReply,
    OpaqueSubmitted,
    ReceiptUpdate,
    SaveState,
    SubmitReply,
    VerifyEnvelopes,
)
from node.genesis import Genesis
from node.protocol import ReceiptLevel, SubmitResult
from node.recovery import (
    BLOCK_ID_TABLE,
    CERTIFICATE_BY_HEIGHT_TABLE,
    CHECKPOINT_TABLE,
    DELIVERY_TABLE,
    ENVELOPE_TABLE,
    ORDER_SNAPSHOT_TABLE,
    REFUSED_TABLE,
    OrderSnapshot,
    RecoveredNode,
    height_key,
)
from node.tracking import EnvelopeTracker

_LANE_MESSAGES = (BatchMessage, Ack, LaneCertificate, BatchRequest, LaneRequest)

_BATCH_TIMER = "node/batch"

UNSETTLED_CHECKPOINTS_MAX: Final = 1024
"""Checkpoints, certified by a quorum or executed here but not both, that are remembered."""

_T = TypeVar("_T")


class NodeCoreConfig(Struct, frozen=True):
    """The tunables of a node's parts."""

    consensus: ConsensusConfig
    lanes: LanesConfig = LanesConfig()
    admission: AdmissionConfig = AdmissionConfig()
    batcher: BatcherConfig = BatcherConfig()
    snapshot_interval_blocks: int = 1000
    """Order and market state are saved every so many heights; a restart replays the rest."""


class NodeStatistics(Struct, frozen=True):
    """What an operator wants to know first, and the parts' own statistics."""

    committed_height: int
    delivered_height: int
    executed_height: int
    certified_height: int
    state_root: bytes
    """Of `state_root_height`, this node's own newest checkpoint."""
    state_root_height: int
    pool_envelopes: int
    pool_bytes: int
    queued_blocks: int
    consensus: ConsensusStatistics
    lanes: LaneStatistics


class _Pending(Struct):
    """An envelope submission on its way through signature checks."""

    source: int
    request: int
    results: list[SubmitResult | None]
    candidates: list[tuple[int, Candidate]]
    """With its position in the request, each that passed the cheap checks."""


class NodeCore:
    """One node. See the module docstring."""

    def __init__(
        self, config: NodeCoreConfig, genesis: Genesis, me: int, recovered: RecoveredNode
    ) -> None:
        committee = genesis.committee()
        self.chain_id = genesis.chain_id()
        self._config = config
        self._recovered: RecoveredNode | None = recovered
        self._reporters = tuple((member.oracle_key, member.power) for member in committee.members)
        certificates = CertificateCache()
        self._lanes = Lanes(
            config.lanes, self.chain_id, committee, me, recovered.lanes, certificates
        )
        self._checkpoints = Checkpoints(self.chain_id, committee, me, recovered.checkpoints)
        self._consensus = ConsensusCore(
            config.consensus, self.chain_id, committee, me, self, recovered.consensus, certificates
        )
        self._delivery = Delivery(recovered.order_state, recovered.ledger, self._lanes.delivery)
        self._batcher = Batcher(config.batcher)
        self._admission = Admission(
            config.admission, self.chain_id, recovered.ledger, self._batcher
        )
        self.tracker = EnvelopeTracker()

        self._token_numbers = 0
        self._timer_owners: dict[str, str] = {}
        self._checks: dict[Token, bytes] = {}
        self._pending: dict[Token, _Pending] = {}
        self._available = [0] * len(committee)
        self._batch_deadline_ms: int | None = None
        self._evidence: dict[bytes, bytes] = {}

        self._replayed_height = max(
            (each.block.height for each in recovered.blocks if each.batch_ids is not None),
            default=recovered.order_state.height,
        )
        self._engine_height = recovered.engine_height
        self._executed_height = recovered.engine_height
        self._awaiting_execution: deque[tuple[bytes, Block, bytes]] = deque()
        self._own_checkpoint: CheckpointHeader | None = recovered.own_checkpoint
        self._own_checkpoints: dict[int, CheckpointHeader] = {}
        self._certificates: dict[int, StateCertificate] = {}
        self._certified_height = recovered.engine_height
        self._uncertified: deque[tuple[int, tuple[tuple[bytes, bytes], ...]]] = deque()

    # ---- the payload that a leader proposes (consensus.core.PayloadSource) ------------------

    def certified_tips(self) -> Mapping[int, AvailabilityCertificate]:
        """Each lane's newest availability certificate."""
        return self._lanes.certified_tips()

    def newest_state_certificate(self) -> StateCertificate | None:
        """The newest state certificate that this node verified."""
        return self._checkpoints.newest()

    def pending_evidence(self) -> tuple[bytes, ...]:
        """Encoded evidence that no committed block holds yet, by id."""
        return tuple(self._evidence[key] for key in sorted(self._evidence))

    # ---- the machine ------------------------------------------------------------------------

    def start(self, now_ms: int) -> list[NodeEffect]:
        """Begin, or resume from what was durable. Called once, before any `step`."""
        assert self._recovered is not None, "a node starts once"
        recovered, self._recovered = self._recovered, None
        out: list[NodeEffect] = []
        for replayed in recovered.blocks:
            self._delivery.add_block(replayed.block_id, replayed.block, replayed.batch_ids)
        for stored in recovered.unchecked_batches:
            token = self._token()
            self._checks[token] = stored.batch_id
            out.append(
                CheckBatch(
                    token, stored.batch_id, stored.signed_header, stored.author_key, body=None
                )
            )
        self._absorb(now_ms, "lanes", self._lanes.start(now_ms), out)
        for replayed in recovered.blocks:
            if replayed.batch_ids is None:
                self._absorb(now_ms, "lanes", self._lanes.on_committed(now_ms, replayed.block), out)
        self._absorb(now_ms, "checkpoints", self._checkpoints.start(now_ms), out)
        self._absorb(now_ms, "consensus", self._consensus.start(now_ms), out)
        self._deliver(now_ms, out)
        return out

    def step(self, now_ms: int, event: NodeEvent) -> list[NodeEffect]:
        """Take one event; return what is to be done about it."""
        out: list[NodeEffect] = []
        match event:
            case EnvelopesSubmitted():
                self._on_submitted(now_ms, event, out)
            case OpaqueSubmitted():
                self._on_opaque_submitted(now_ms, event, out)
            case EnvelopesVerified():
                self._on_envelopes_verified(now_ms, event, out)
            case Executed():
                self._on_executed(now_ms, event, out)
            case TimerFired(name) if name == _BATCH_TIMER:
                self._batch_deadline_ms = None
            case BatchChecked():
                self._on_batch_checked(now_ms, event, out)
            case _:
                self._route(now_ms, event, out)
        self._make_batches(now_ms, out)
        return out

    def statistics(self) -> NodeStatistics:
        """A snapshot of counters and heights."""
        consensus = self._consensus.statistics()
        own = self._own_checkpoint
        return NodeStatistics(
            committed_height=consensus.committed_height,
            delivered_height=self._delivery.delivered_height,
            executed_height=self._executed_height,
            certified_height=self._certified_height,
            state_root=own.state_root if own else bytes(32),
            state_root_height=own.height if own else 0,
            pool_envelopes=self._admission.pending_count,
            pool_bytes=self._admission.pending_bytes,
            queued_blocks=self._delivery.queued_blocks,
            consensus=consensus,
            lanes=self._lanes.statistics(),
        )

    # ---- routing ----------------------------------------------------------------------------

    def _token(self) -> Token:
        self._token_numbers += 1
        return Token("node", self._token_numbers)

    def _route(self, now_ms: int, event: Event, out: list[NodeEffect]) -> None:
        match event:
            case Received(_, message) if isinstance(message, _LANE_MESSAGES):
                owner = "lanes"
            case Received(_, StateVote()):
                owner = "checkpoints"
            case Received():
                owner = "consensus"
            case TimerFired(name):
                owner = self._timer_owners.get(name, "")
            case _:
                owner = event.token.component
        if owner == "consensus":
            self._absorb(now_ms, owner, self._consensus.step(now_ms, event), out)
        elif owner == "lanes":
            self._absorb(now_ms, owner, self._lanes.step(now_ms, event), out)
        elif owner == "checkpoints":
            self._absorb(now_ms, owner, self._checkpoints.step(now_ms, event), out)

    def _absorb(
        self, now_ms: int, owner: str, effects: Sequence[Effect], out: list[NodeEffect]
    ) -> None:
        """Pass a part's effects on, acting on those that other parts must hear of.

        Commits are acted on last, so that a block's own archive record precedes whatever its
        delivery writes there.
        """
        committed = []
        for effect in effects:
            match effect:
                case Committed():
                    committed.append(effect)
                case EvidenceFound(_, encoded):
                    self._evidence[compute_evidence_id(encoded)] = encoded
                case LanesAdvanced(author, _):
                    self._update_available(author, out)
                    self._absorb(now_ms, "consensus", self._consensus.on_payload(now_ms), out)
                case StateCertified(certificate):
                    self._on_certificate(certificate, out)
                    self._absorb(now_ms, "consensus", self._consensus.on_payload(now_ms), out)
                case SetTimer(name, _):
                    self._timer_owners[name] = owner
                    out.append(effect)
                case CheckBatch(token, batch_id):
                    self._checks[token] = batch_id
                    out.append(effect)
                case _:
                    out.append(effect)
        for effect in committed:
            self._on_committed(now_ms, effect, out)

    # ---- clients ----------------------------------------------------------------------------

    def _on_submitted(self, now_ms: int, event: EnvelopesSubmitted, out: list[NodeEffect]) -> None:
        results: list[SubmitResult | None] = []
        candidates: list[tuple[int, Candidate]] = []
        for position, data in enumerate(event.envelopes):
            checked = self._admission.precheck(now_ms, data)
            if isinstance(checked, Refusal):
                results.append(SubmitResult(checked.envelope_id, checked.code.value))
            else:
                results.append(None)
                candidates.append((position, checked))
        pending = _Pending(event.source, event.request, results, candidates)
        if not candidates:
            out.append(_reply(pending))
            return
        token = self._token()
        self._pending[token] = pending
        out.append(VerifyEnvelopes(token, tuple(each.claim for _, each in candidates)))

    def _on_envelopes_verified(
        self, now_ms: int, event: EnvelopesVerified, out: list[NodeEffect]
    ) -> None:
        pending = self._pending.pop(event.token)
        for (position, candidate), is_valid in zip(pending.candidates, event.results, strict=True):
            envelope_id = candidate.summary.envelope_id
            code = self._admission.admit(now_ms, candidate, is_valid)
            pending.results[position] = SubmitResult(envelope_id, code.value if code else None)
            if code is None:
                sender = candidate.summary.header.sender
                self._raise(out, envelope_id, sender, ReceiptLevel.RECEIVED)
        out.append(_reply(pending))

    def _on_opaque_submitted(
        self, now_ms: int, event: OpaqueSubmitted, out: list[NodeEffect]
    ) -> None:
        size_bytes = event.transaction_size_bytes
        code = self._admission.admit_opaque(
            now_ms, event.source, event.namespace, size_bytes, event.data
        )
        count = 0 if code else len(event.data) // size_bytes
        out.append(OpaqueReply(event.source, event.request, count, code.value if code else None))

    def _make_batches(self, now_ms: int, out: list[NodeEffect]) -> None:
        """Turn what waits into batches of this node's lane, as far as its backlog allows."""
        while self._lanes.can_propose():
            body = self._batcher.take(now_ms)
            if body is None:
                break
            self._absorb(now_ms, "lanes", self._lanes.propose_batch(now_ms, body), out)
        deadline_ms = self._batcher.next_deadline_ms() if self._lanes.can_propose() else None
        if deadline_ms != self._batch_deadline_ms:
            self._batch_deadline_ms = deadline_ms
            out.append(SetTimer(_BATCH_TIMER, deadline_ms))

    # ---- contents and commits ---------------------------------------------------------------

    def _on_batch_checked(self, now_ms: int, event: BatchChecked, out: list[NodeEffect]) -> None:
        batch_id = self._checks.pop(event.token, None)
        if batch_id is not None and event.error is None:
            assert isinstance(event.summary, BatchSummary), "a good batch comes with its summary"
            self._delivery.add_summary(batch_id, event.summary)
        if event.token.component == "lanes":
            self._absorb(now_ms, "lanes", self._lanes.step(now_ms, event), out)
        for author in range(len(self._available)):
            self._update_available(author, out)
        self._deliver(now_ms, out)

    def _update_available(self, author: int, out: list[NodeEffect]) -> None:
        """Give `available` to the envelopes under a lane's newest certificate, oldest first."""
        certificate = self._lanes.certified_tips().get(author)
        above = max(
            self._available[author], self._delivery.order_state.lane_cursor(author).sequence
        )
        if certificate is None or certificate.data.sequence <= above:
            return
        chain = self._lanes.chain_for(author, certificate.data.batch_id, above)
        for sequence, batch_id in enumerate(chain or (), start=above + 1):
            summary = self._delivery.summary(batch_id)
            if summary is None:
                return
            self._available[author] = sequence
            for entry in summary.envelopes:
                self._raise(out, entry.envelope_id, entry.header.sender, ReceiptLevel.AVAILABLE)

    def _on_committed(self, now_ms: int, effect: Committed, out: list[NodeEffect]) -> None:
        block = effect.block
        self._delivery.add_block(effect.block_id, block)
        out.append(
            Persist(
                self._token(),
                Store.ARCHIVE,
                (Put(BLOCK_ID_TABLE, effect.block_id, height_key(block.height)),),
            )
        )
        out.append(BlockNotice(effect.block_id, block))
        for encoded in block.evidence:
            self._evidence.pop(compute_evidence_id(encoded), None)
        self._absorb(now_ms, "lanes", self._lanes.on_committed(now_ms, block), out)
        if block.state_certificate is not None:
            self._absorb(
                now_ms,
                "checkpoints",
                self._checkpoints.on_block_certificate(now_ms, block.state_certificate),
                out,
            )
        self._deliver(now_ms, out)

    def _deliver(self, now_ms: int, out: list[NodeEffect]) -> None:
        while (delivered := self._delivery.advance()) is not None:
            if delivered.block.height > self._replayed_height:
                self._lanes.on_delivered(delivered.block.height)
            self._on_delivered(now_ms, delivered, out)

    def _on_delivered(self, now_ms: int, delivered: DeliveredBlock, out: list[NodeEffect]) -> None:
        block = delivered.block
        height = block.height
        puts = [Put(DELIVERY_TABLE, height_key(height), encode(delivered.record()))]
        opaque: dict[int, tuple[int, int]] = {}
        refused = 0
        envelopes: list[EnvelopeSummary] = []
        passed: list[tuple[bytes, bytes]] = []
        for batch in delivered.batches:
            for each in batch.summary.opaque:
                count, size = opaque.get(each.namespace, (0, 0))
                opaque[each.namespace] = (count + each.count, size + each.size_bytes)
            for entry, code in zip(batch.summary.envelopes, batch.verdicts, strict=True):
                envelopes.append(entry)
                if code is None:
                    puts.append(Put(ENVELOPE_TABLE, entry.envelope_id, height_key(height)))
                    passed.append((entry.envelope_id, entry.header.sender))
                    self._raise(
                        out, entry.envelope_id, entry.header.sender, ReceiptLevel.ORDERED, height
                    )
                else:
                    refused += 1
                    if not self._has_passed(entry.envelope_id):
                        puts.append(Put(REFUSED_TABLE, entry.envelope_id, code.value.encode()))
                        self._raise(
                            out,
                            entry.envelope_id,
                            entry.header.sender,
                            ReceiptLevel.REFUSED,
                            height,
                            code.value,
                        )
        self._admission.on_ordered(envelopes)
        out.append(
            DeliveredNotice(
                height,
                len(envelopes),
                refused,
                tuple((namespace, *opaque[namespace]) for namespace in sorted(opaque)),
            )
        )
        if height > self._engine_height:
            self._awaiting_execution.append((delivered.block_id, block, delivered.order_root))
            out.append(self._execute(delivered))
            if passed:
                self._uncertified.append((height, tuple(passed)))
        if height % self._config.snapshot_interval_blocks == 0:
            snapshot = OrderSnapshot.take(self._delivery.order_state, self._delivery.ledger)
            puts.append(Put(ORDER_SNAPSHOT_TABLE, height_key(height), encode(snapshot)))
            if height > self._engine_height:
                out.append(SaveState(height))
        out.append(Persist(self._token(), Store.ARCHIVE, tuple(puts)))

    def _execute(self, delivered: DeliveredBlock) -> Execute:
        block = delivered.block
        batches = tuple(
            BatchToExecute(
                batch.batch_id,
                tuple(None if code is None else code.value for code in batch.verdicts),
            )
            for batch in delivered.batches
            if batch.verdicts
        )
        seed = compute_block_seed(self.chain_id, block.height)
        return Execute(block.height, block.time_ms, seed, batches, self._reporters)

    # ---- results ----------------------------------------------------------------------------

    def _on_executed(self, now_ms: int, event: Executed, out: list[NodeEffect]) -> None:
        block_id, block, order_root = self._awaiting_execution.popleft()
        assert event.height == block.height, "the engine answers in height order"
        self._executed_height = event.height
        if not is_checkpoint(block):
            return
        header = CheckpointHeader(
            epoch=block.epoch,
            height=block.height,
            block_id=block_id,
            time_ms=block.time_ms,
            order_root=order_root,
            market_root=event.market_root,
            receipts_root=event.receipts_root,
        )
        self._own_checkpoint = header
        _remember(self._own_checkpoints, header.height, header)
        out.append(
            Persist(
                self._token(),
                Store.ARCHIVE,
                (Put(CHECKPOINT_TABLE, height_key(header.height), encode(header)),),
            )
        )
        self._absorb(now_ms, "checkpoints", self._checkpoints.on_executed(now_ms, header), out)
        self._settle(out)

    def _on_certificate(self, certificate: StateCertificate, out: list[NodeEffect]) -> None:
        _remember(self._certificates, certificate.header.height, certificate)
        out.append(
            Persist(
                self._token(),
                Store.ARCHIVE,
                (
                    Put(
                        CERTIFICATE_BY_HEIGHT_TABLE,
                        height_key(certificate.header.height),
                        encode(certificate),
                    ),
                ),
            )
        )
        self._settle(out)

    def _settle(self, out: list[NodeEffect]) -> None:
        """Announce the newest height that both a quorum certified and this node executed itself.

        It settles every height below it too: roots are cumulative. (A certificate that contradicts
        the node's own root halts the node in `Checkpoints`, before it gets here.)
        """
        common = self._certificates.keys() & self._own_checkpoints.keys()
        if not common:
            return
        height = max(common)
        certificate = self._certificates[height]
        own = tuple(
            self._own_checkpoints.pop(each)
            for each in sorted(self._own_checkpoints)
            if each <= height
        )
        for old in [each for each in self._certificates if each <= height]:
            del self._certificates[old]
        self._certified_height = height
        out.append(CertifiedNotice(certificate, own))
        while self._uncertified and self._uncertified[0][0] <= height:
            ordered_height, envelopes = self._uncertified.popleft()
            for envelope_id, account in envelopes:
                self._raise(out, envelope_id, account, ReceiptLevel.EXECUTED, ordered_height)

    # ---- receipts ---------------------------------------------------------------------------

    def _raise(
        self,
        out: list[NodeEffect],
        envelope_id: bytes,
        account: bytes,
        level: ReceiptLevel,
        height: int = 0,
        code: str | None = None,
    ) -> None:
        if self.tracker.raise_level(envelope_id, account, level, height, code):
            out.append(ReceiptUpdate(envelope_id, account, level, height, code))

    def _has_passed(self, envelope_id: bytes) -> bool:
        """Did it pass at an earlier position? Then a second one is no refusal of it."""
        known = self.tracker.status(envelope_id)
        return known is not None and known.level in (ReceiptLevel.ORDERED, ReceiptLevel.EXECUTED)


def _remember(known: dict[int, _T], height: int, value: _T) -> None:
    """Keep the newest `UNSETTLED_CHECKPOINTS_MAX` heights."""
    known[height] = value
    if len(known) > UNSETTLED_CHECKPOINTS_MAX:
        del known[min(known)]


def _reply(pending: _Pending) -> SubmitReply:
    results = tuple(result for result in pending.results if result is not None)
    assert len(results) == len(pending.results), "every envelope was answered"
    return SubmitReply(pending.source, pending.request, results)
