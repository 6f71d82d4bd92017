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
thread. `node.host` hosts it on trio, `localnet.sim` in a virtual world.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace
from mypy_extensions import mypyc_attr

from consensus.certificates import CertificateCache
from consensus.checkpoints import Checkpoints
from consensus.core import ConsensusCore
from consensus.effects import (
    Aggregated,
    BatchChecked,
    BatchStored,
    CheckBatch,
    Committed,
    Delete,
    Event,
    EvidenceFound,
    Halt,
    LanesAdvanced,
    Persist,
    Put,
    Received,
    SetTimer,
    Signed,
    StateCertified,
    Store,
    TimerFired,
    Token,
    Verified,
    compute_key,
)
from consensus.lanes import Lanes
from consensus.messages import (
    Ack,
    BatchMessage,
    BatchRequest,
    ChunkRequest,
    LaneCertificate,
    LaneRequest,
    SnapshotChunk,
    SnapshotOffer,
    SnapshotRequest,
    StateVote,
)
from consensus.ownership import Component, Tokens, find_timer_owner, make_timer_name
from consensus.types import (
    AvailabilityCertificate,
    BatchHeader,
    Block,
    StateCertificate,
)
from crypto.codec import encode
from mempool.admission import Admission
from mempool.batch import BatchSummary
from mempool.batcher import Batcher
from mempool.ledger import HeaderLedger
from node.batch_checks import Openings
from node.clerk import Clerk
from node.core_config import NodeCoreConfig, NodeStatistics
from node.delivery import (
    DeliveredBlock,
    Delivery,
)
from node.events import (
    BatchesOpened,
    BlockNotice,
    EnvelopesSubmitted,
    EnvelopesVerified,
    Executed,
    NodeEffect,
    NodeEvent,
    OpaqueReply,
    OpaqueSubmitted,
    SaveState,
)
from node.execution import Execution
from node.genesis import Genesis
from node.offences import Judge, PendingEvidence
from node.protocol import ReceiptLevel
from node.recovery import (
    BLOCK_ID_TABLE,
    CERTIFICATE_BY_HEIGHT_TABLE,
    CHECKPOINT_TABLE,
    ORDER_SNAPSHOT_TABLE,
    OrderSnapshot,
    OrderSnapshots,
    RecoveredNode,
)
from node.results import Results
from node.snapshot_giver import SnapshotGiver
from node.snapshot_schedule import SnapshotSchedule
from node.submissions import Submissions

_OWNERS: Final[Mapping[type, Component]] = {
    BatchMessage: Component.LANES,
    Ack: Component.LANES,
    LaneCertificate: Component.LANES,
    BatchRequest: Component.LANES,
    LaneRequest: Component.LANES,
    StateVote: Component.CHECKPOINTS,
    SnapshotRequest: Component.SNAPSHOTS,
    ChunkRequest: Component.SNAPSHOTS,
    SnapshotOffer: Component.SNAPSHOTS,
    SnapshotChunk: Component.SNAPSHOTS,
}
"""Whom a message is for; all others are for consensus."""

_ABSORBED: Final = frozenset(
    (Committed, EvidenceFound, LanesAdvanced, StateCertified, CheckBatch, Halt)
)
"""Effects that other parts must hear of."""

_Answer = Signed | Verified | Aggregated | BatchStored
"""What a part waits for."""

_Handler = Callable[[int, Any, list[NodeEffect]], None]

_BATCH_TIMER: Final = make_timer_name(Component.NODE, "batch")


@mypyc_attr(allow_interpreted_subclasses=True)
class NodeCore:
    """One node. See the module docstring."""

    def __init__(
        self, config: NodeCoreConfig, genesis: Genesis, me: int, recovered: RecoveredNode
    ) -> None:
        committee = genesis.committee()
        self.chain_id = genesis.chain_id()
        self._config = config
        self._recovered: RecoveredNode | None = recovered
        certificates = CertificateCache()
        is_signing = not config.is_following
        self._lanes = Lanes(
            config.lanes,
            self.chain_id,
            committee,
            me,
            recovered.lanes,
            certificates,
            is_signing=is_signing,
        )
        self._checkpoints = Checkpoints(
            self.chain_id, committee, me, recovered.checkpoints, is_signing=is_signing
        )
        self._consensus = ConsensusCore(
            config.consensus,
            self.chain_id,
            committee,
            me if is_signing else None,
            self,
            recovered.consensus,
            certificates,
            seat=me,
        )
        self._parts: Mapping[str, Callable[[int, Event], Sequence[NodeEffect]]] = {
            Component.CONSENSUS: self._consensus.step,
            Component.LANES: self._lanes.step,
            Component.CHECKPOINTS: self._checkpoints.step,
            Component.SNAPSHOTS: SnapshotGiver(len(committee)).step,
        }
        self._handlers: Mapping[type, _Handler] = {
            Received: self._on_received,
            TimerFired: self._on_timer,
            Verified: self._on_verified,
            BatchStored: self._on_batch_stored,
            BatchChecked: self._on_batch_checked,
            BatchesOpened: self._on_batches_opened,
            Executed: self._on_executed,
            EnvelopesSubmitted: self._on_envelopes_submitted,
            EnvelopesVerified: self._on_envelopes_verified,
            OpaqueSubmitted: self._on_opaque_submitted,
            Signed: self._on_answer,
            Aggregated: self._on_answer,
        }
        """What is done about an event."""
        self._delivery = Delivery(
            recovered.order_state,
            recovered.ledger,
            self._lanes.delivery,
            config.queued_blocks_max,
            config.queued_loaded_blocks_max,
        )
        self._batcher = Batcher(config.batcher)
        self._admission = Admission(
            replace(config.admission, is_open=is_signing),
            self.chain_id,
            recovered.ledger,
            self._batcher,
        )
        self._submissions = Submissions(self._admission)
        self._evidence = PendingEvidence(recovered.order_state.convictions(), recovered.evidence)
        self._judge = Judge(self.chain_id, committee)
        self._clerk = Clerk(recovered.ledger)
        self._order_snapshots = OrderSnapshots(recovered.order_snapshots)
        self._snapshot_schedule = SnapshotSchedule(
            config.snapshot_interval_blocks, config.snapshot_interval_ms
        )
        self.tracker = self._clerk.tracker
        self._execution = Execution(
            self.chain_id, committee.members, recovered.engine_height, config.execution_ahead_max
        )
        self._results = Results(
            recovered.engine_height, recovered.own_checkpoint, recovered.checkpoints.certificate
        )

        self._me = me
        self._tokens = Tokens(Component.NODE)
        self._checks: dict[Token, tuple[bytes, BatchHeader]] = {}
        """Batches whose check is under way."""
        self._openings = Openings(self._tokens, recovered.delivered_batches)
        self._commits: deque[Committed] = deque()
        self._available = [0] * len(committee)
        self._awaited = set(range(len(committee)))
        """Lanes with a certificate above what is available, as far as is known."""
        self._batch_deadline_ms: int | None = None
        self._is_started = False
        self._is_halted = False
        self._is_delivery_due = True
        self._replayed_roots: dict[int, bytes] = {
            each.record.height: each.record.order_root
            for each in recovered.blocks
            if each.record is not None
        }

    # ---- the payload that a leader proposes (consensus.payload.PayloadSource) ------------------

    def certified_tips(self) -> Mapping[int, AvailabilityCertificate]:
        """Each lane's newest availability certificate."""
        return self._lanes.certified_tips()

    def newest_state_certificate(self) -> StateCertificate | None:
        """The newest state certificate that this node verified."""
        return self._checkpoints.newest()

    def pending_evidence(self) -> tuple[bytes, ...]:
        """Encoded evidence against members that do not stand convicted yet."""
        return self._evidence.offered()

    # ---- the machine ------------------------------------------------------------------------

    def start(self, now_ms: int) -> list[NodeEffect]:
        """Begin, or resume from what was durable. Called once, before any `step`."""
        assert self._recovered is not None, "a node starts once"
        recovered, self._recovered = self._recovered, None
        out: list[NodeEffect] = []
        for replayed in recovered.blocks:
            self._queue_block(replayed.block_id, replayed.block, replayed.batch_ids, out)
        self._absorb(now_ms, self._lanes.start(now_ms), out)
        for replayed in recovered.blocks:
            if replayed.record is None:
                self._put(out, Put(BLOCK_ID_TABLE, replayed.block_id, _key_of(replayed.block)))
                self._tell_parts_committed(now_ms, replayed.block, out)
        self._absorb(now_ms, self._checkpoints.start(now_ms), out)
        self._is_started = True
        self._absorb(now_ms, self._consensus.start(now_ms), out)
        self._settle(now_ms, out)
        return out

    def step(self, now_ms: int, event: NodeEvent) -> list[NodeEffect]:
        """Take one event; return what is to be done about it."""
        out: list[NodeEffect] = []
        if self._is_halted:
            return out
        self._handlers[type(event)](now_ms, event, out)
        self._settle(now_ms, out)
        return out

    @property
    def view(self) -> int:
        """The view that consensus is in."""
        return self._consensus.view

    @property
    def committed_height(self) -> int:
        """The highest committed block's height."""
        return self._consensus.committed_height

    @property
    def certified_height(self) -> int:
        """The highest height whose result a quorum certified and this node confirmed."""
        return self._results.certified_height

    @property
    def ledger(self) -> HeaderLedger:
        """What envelopes are admitted and charged by, after the delivered height. To be asked, not
        to be changed."""
        return self._delivery.ledger

    @property
    def is_catching_up(self) -> bool:
        """Is it so far behind its own commits that it takes no part in consensus?"""
        return self._delivery.is_full

    def statistics(self) -> NodeStatistics:
        """A snapshot of counters and heights."""
        own = self._results.own
        return NodeStatistics(
            committed_height=self.committed_height,
            delivered_height=self._delivery.delivered_height,
            executed_height=self._results.executed_height,
            certified_height=self.certified_height,
            state_root=own.state_root if own else bytes(32),
            state_root_height=own.height if own else 0,
            pool_envelopes=self._admission.pending_count,
            pool_bytes=self._admission.pending_bytes,
            queued_blocks=self._delivery.queued_blocks,
            summaries_held=self._delivery.summaries_held,
            is_catching_up=self.is_catching_up,
            is_following=self._config.is_following,
            verifying_bytes=self._submissions.size_bytes,
            convictions=tuple(
                (record.offender, record.kind)
                for record in self._delivery.order_state.convictions()
            ),
            consensus=self._consensus.statistics(),
            lanes=self._lanes.statistics(),
            checkpoints=self._checkpoints.statistics(),
        )

    # ---- routing ----------------------------------------------------------------------------

    def _put(self, out: list[NodeEffect], *puts: Put, deletes: tuple[Delete, ...] = ()) -> None:
        out.append(Persist(self._tokens.issue(), Store.ARCHIVE, puts, deletes))

    def _route(self, now_ms: int, owner: str, event: Event, out: list[NodeEffect]) -> None:
        step = self._parts.get(owner)
        if step is None:
            raise ValueError(f"the node never asked for {event!r}")
        effects = step(now_ms, event)
        if effects:
            self._absorb(now_ms, effects, out)

    def _on_received(self, now_ms: int, event: Received, out: list[NodeEffect]) -> None:
        owner = _OWNERS.get(type(event.message), Component.CONSENSUS)
        is_for_consensus = owner is Component.CONSENSUS
        if is_for_consensus and event.sender != self._me and self.is_catching_up:
            return
        self._route(now_ms, owner, event, out)

    def _on_timer(self, now_ms: int, event: TimerFired, out: list[NodeEffect]) -> None:
        if event.name == _BATCH_TIMER:
            self._batch_deadline_ms = None
        else:
            self._route(now_ms, find_timer_owner(event.name), event, out)

    def _on_answer(self, now_ms: int, event: _Answer, out: list[NodeEffect]) -> None:
        self._route(now_ms, event.token.component, event, out)

    def _on_verified(self, now_ms: int, event: Verified, out: list[NodeEffect]) -> None:
        if event.token.component == Component.NODE:
            self._on_judged(event.token, event.results)
        else:
            self._on_answer(now_ms, event, out)

    def _absorb(self, now_ms: int, effects: Sequence[NodeEffect], out: list[NodeEffect]) -> None:
        """Pass a part's effects on, acting on those that other parts must hear of.

        Commits wait for the end of the step: a block's own archive record then precedes whatever
        its delivery writes there, and no part is called from within its own call.
        """
        if _ABSORBED.isdisjoint(map(type, effects)):
            out += effects
            return
        for effect in effects:
            match effect:
                case Committed():
                    self._commits.append(effect)
                    continue
                case EvidenceFound(_, encoded):
                    put = self._evidence.add(encoded)
                    if put is not None:
                        self._put(out, put)
                        self._offer_payload(now_ms, out)
                    continue
                case LanesAdvanced(author):
                    self._awaited.add(author)
                    self._update_available(out)
                    self._offer_payload(now_ms, out)
                    continue
                case StateCertified(certificate):
                    self._on_certificate(certificate, out)
                    self._offer_payload(now_ms, out)
                    continue
                case CheckBatch():
                    header = effect.signed_header.header
                    self._checks[effect.token] = (effect.batch_id, header)
                case Halt():
                    self._is_halted = True
            out.append(effect)

    def _offer_payload(self, now_ms: int, out: list[NodeEffect]) -> None:
        """Tell consensus that there is something new to order, once it has begun."""
        if self._is_started:
            self._absorb(now_ms, self._consensus.on_payload(now_ms), out)

    def _settle(self, now_ms: int, out: list[NodeEffect]) -> None:
        """Everything that an event may have made possible."""
        while self._commits and not self._is_halted:
            self._on_committed(now_ms, self._commits.popleft(), out)
        if self._is_delivery_due:
            self._deliver(out)
            if self._openings.are_waiting and not self._is_halted:
                out.extend(self._openings.begin(self._delivery.delivered_height))
        is_batch_due = self._batcher.waiting_bytes or self._batch_deadline_ms is not None
        if is_batch_due and not self._is_halted:
            self._make_batches(now_ms, out)

    # ---- clients ----------------------------------------------------------------------------

    def _on_envelopes_submitted(
        self, now_ms: int, event: EnvelopesSubmitted, out: list[NodeEffect]
    ) -> None:
        out.append(self._submissions.submit(now_ms, event, self._tokens.issue()))

    def _on_envelopes_verified(
        self, now_ms: int, event: EnvelopesVerified, out: list[NodeEffect]
    ) -> None:
        reply, admitted = self._submissions.on_verified(now_ms, event)
        self._clerk.tell_received(admitted, out)
        out.append(reply)

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
        deadline_ms = None
        while self._batcher.waiting_bytes and self._lanes.can_propose():
            body = self._batcher.take(now_ms)
            if body is None:
                deadline_ms = self._batcher.next_deadline_ms()
                break
            self._absorb(now_ms, self._lanes.propose_batch(now_ms, body), out)
        if deadline_ms != self._batch_deadline_ms:
            self._batch_deadline_ms = deadline_ms
            out.append(SetTimer(_BATCH_TIMER, deadline_ms))

    # ---- batches ----------------------------------------------------------------------------

    def _on_batch_stored(self, now_ms: int, event: BatchStored, out: list[NodeEffect]) -> None:
        self._is_delivery_due = True
        self._on_answer(now_ms, event, out)
        self._update_available(out)

    def _on_batch_checked(self, now_ms: int, event: BatchChecked, out: list[NodeEffect]) -> None:
        self._is_delivery_due = True
        batch_id, header = self._checks.pop(event.token)
        if event.error is None:
            assert isinstance(event.summary, BatchSummary), "a good batch comes with its summary"
            self._delivery.add_summary(batch_id, header, event.summary)
        self._absorb(now_ms, self._lanes.step(now_ms, event), out)
        self._update_available(out)

    def _on_batches_opened(self, now_ms: int, event: BatchesOpened, out: list[NodeEffect]) -> None:
        self._is_delivery_due = True
        batches = self._openings.finish(event.token)
        for (_, batch_id, header), verdict in zip(batches, event.verdicts, strict=True):
            if verdict.summary is None:
                error = "" if verdict.error is None else verdict.error.value
                detail = f"batch {batch_id.hex()}, delivered before: {error} {verdict.detail}"
                self._halt("node.stored_batch_invalid", detail.rstrip(), out)
                return
            self._delivery.add_summary(batch_id, header, verdict.summary)

    def _update_available(self, out: list[NodeEffect]) -> None:
        """Give `available` to the envelopes under each lane's newest certificate, oldest first."""
        for author in sorted(self._awaited):
            certificate = self._lanes.certified_tip(author)
            if certificate is not None and certificate.data.sequence > self._available[author]:
                above = max(self._available[author], self._lanes.cursor(author).sequence)
                chain = self._lanes.chain_for(author, certificate.data.batch_id, above)
                if chain is None:
                    continue
                for sequence, batch_id in enumerate(chain, start=above + 1):
                    summary = self._delivery.summary(batch_id)
                    assert summary is not None, "a checked batch above the cursor has its summary"
                    self._available[author] = sequence
                    self._clerk.tell_available(summary.envelopes, out)
            self._awaited.discard(author)

    # ---- commits and delivery ---------------------------------------------------------------

    def _queue_block(
        self,
        block_id: bytes,
        block: Block,
        known_batches: tuple[bytes, ...] | None,
        out: list[NodeEffect],
    ) -> None:
        self._is_delivery_due = True
        self._delivery.add_block(block_id, block, known_batches)
        if block.evidence:
            self._evidence.on_committed(block.evidence)
            tokens = (self._tokens.issue(), self._tokens.issue())
            out.extend(self._judge.open(block.height, block.evidence, tokens))

    def _on_judged(self, token: Token, results: Sequence[bool]) -> None:
        verdict = self._judge.on_verified(token, results)
        if verdict is not None:
            self._is_delivery_due = True
            self._delivery.judge_evidence(*verdict)

    def _on_committed(self, now_ms: int, effect: Committed, out: list[NodeEffect]) -> None:
        block = effect.block
        self._queue_block(effect.block_id, block, None, out)
        self._put(out, Put(BLOCK_ID_TABLE, effect.block_id, _key_of(block)))
        out.append(BlockNotice(effect.block_id, block))
        self._tell_parts_committed(now_ms, block, out)

    def _tell_parts_committed(self, now_ms: int, block: Block, out: list[NodeEffect]) -> None:
        self._absorb(now_ms, self._lanes.on_committed(now_ms, block), out)
        if block.state_certificate is not None:
            self._absorb(
                now_ms,
                self._checkpoints.on_block_certificate(now_ms, block.state_certificate),
                out,
            )

    def _deliver(self, out: list[NodeEffect]) -> None:
        """Deliver what is complete, as far ahead of the engine as it may be."""
        self._is_delivery_due = False
        while (
            not self._is_halted
            and self._execution.has_room()
            and (delivered := self._delivery.advance()) is not None
        ):
            height = delivered.block.height
            is_saved = self._snapshot_schedule.take_due(delivered.block, delivered.parent_time_ms)
            self._evidence.on_convicted(delivered.convictions)
            self._admission.on_ordered(
                entry for batch in delivered.batches for entry in batch.summary.envelopes
            )
            passed = delivered.passed()
            self._clerk.tell_passed(height, passed, ReceiptLevel.ORDERED, out)
            if passed:
                self._results.add_passed(height, passed)
                self._clerk.tell_settled(self._results.take_settled(), out)
            refusals = self._clerk.tell_refused(delivered, out)
            replayed_root = self._replayed_roots.pop(height, None)
            if replayed_root is None:
                self._lanes.on_delivered(height)
                self._archive(delivered, refusals, out, is_saved=is_saved)
            elif replayed_root != delivered.order_root:
                detail = f"height {height}: order root {delivered.order_root.hex()}, delivered"
                self._halt("node.nondeterministic", f"{detail} as {replayed_root.hex()}", out)
                return
            execute = self._execution.submit(delivered)
            if execute is not None:
                out.append(execute)
                if is_saved:
                    out.append(SaveState(height))

    def _archive(
        self,
        delivered: DeliveredBlock,
        refusals: list[Put],
        out: list[NodeEffect],
        *,
        is_saved: bool,
    ) -> None:
        height = delivered.block.height
        puts = self._clerk.record(delivered, out) + refusals
        deletes: tuple[Delete, ...] = ()
        if is_saved:
            snapshot = OrderSnapshot.take(self._delivery.order_state, self._delivery.ledger)
            puts.append(Put(ORDER_SNAPSHOT_TABLE, compute_key(height), encode(snapshot)))
            deletes = self._order_snapshots.add(height, self._results.executed_height)
        self._put(out, *puts, deletes=deletes)

    # ---- results ----------------------------------------------------------------------------

    def _on_executed(self, now_ms: int, event: Executed, out: list[NodeEffect]) -> None:
        self._is_delivery_due = True
        header = self._execution.on_executed(event)
        self._results.executed_height = event.height
        if header is None:
            return
        self._put(out, Put(CHECKPOINT_TABLE, compute_key(header.height), encode(header)))
        self._results.add_own(header)
        self._absorb(now_ms, self._checkpoints.on_executed(now_ms, header), out)
        self._announce_settled(out)

    def _on_certificate(self, certificate: StateCertificate, out: list[NodeEffect]) -> None:
        key = compute_key(certificate.header.height)
        self._put(out, Put(CERTIFICATE_BY_HEIGHT_TABLE, key, encode(certificate)))
        self._results.add_certificate(certificate)
        self._announce_settled(out)

    def _announce_settled(self, out: list[NodeEffect]) -> None:
        if self._is_halted:
            return
        settled = self._results.settle()
        if settled is not None:
            notice, envelopes = settled
            out.append(notice)
            self._clerk.tell_settled(envelopes, out)

    def _halt(self, code: str, detail: str, out: list[NodeEffect]) -> None:
        self._is_halted = True
        out.append(Halt(code, detail))


def _key_of(block: Block) -> bytes:
    return compute_key(block.height)


CoreFactory = Callable[[NodeCoreConfig, Genesis, int, RecoveredNode], NodeCore]
"""Builds a node's core; `NodeCore` itself is one."""
