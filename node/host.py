"""The trio host of one `NodeCore`: carries out its effects and brings back the events.

Everything that touches the core runs on the one trio thread, inside `dispatch`, which never blocks:
what takes time is an effect, carried out elsewhere, whose result comes back as an event: writes and
the sends that wait for them (`node.durability`), timers (`node.timers`), answers to members that
lag (`node.serving`), execution (`node.executor`), and cryptography (`node.workers`).
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

import structlog
import trio

from consensus.effects import (
    Aggregate,
    Aggregated,
    Alarm,
    BatchChecked,
    BatchStored,
    CheckBatch,
    Halt,
    Misbehaviour,
    Persist,
    Received,
    Send,
    ServeBatches,
    ServeCommitted,
    SetTimer,
    Sign,
    Signed,
    SignIdentity,
    StoreBatch,
    TimerFired,
    Verified,
    Verify,
    VerifyIdentities,
)
from consensus.messages import (
    BulkMessage,
    ControlMessage,
    Message,
    encode_message,
)
from crypto.aggregation import Aggregation
from crypto.codec import DecodeError, decode, decode_lenient
from mempool.batch import BatchVerdict, CheckableBatch, is_cheap_to_check
from node.batch_checks import make_checkable
from node.clock import Clock
from node.core import NodeCore
from node.durability import Durability
from node.events import (
    BatchesOpened,
    BlockNotice,
    CertifiedNotice,
    DeliveredNotice,
    EnvelopesVerified,
    Execute,
    NodeEffect,
    NodeEvent,
    OpaqueReply,
    OpenBatches,
    ReceiptUpdate,
    SaveState,
    ServeChunk,
    ServeOffer,
    SubmitReply,
    VerifyEnvelopes,
)
from node.executor import Executor, read_bodies
from node.keystores import NodeKeys
from node.logs import is_doubling
from node.serving import Serving
from node.snapshot_library import SnapshotLibrary
from node.storage.archive import ArchiveStore
from node.storage.batches import BatchStore, StoredBatch
from node.storage.errors import SafetyError
from node.storage.group_commit import GroupCommitter
from node.storage.records import RecordWrite
from node.timers import Timers
from node.transport.queues import Traffic
from node.workers.crypto import CryptoPool
from node.workers.engine import EngineWorker
from node.workers.threads import ConsensusCrypto

INLINE_CLAIMS_MAX: Final = 4
"""Envelopes of one submission verified at once, 45 us each: handing over so few to another process
costs the event loop as much, and the client two wake-ups."""

_log = structlog.get_logger()


def decode_frame(traffic: Traffic, frame: bytes) -> Message:
    """What another member says. Raises `DecodeError`."""
    if traffic is Traffic.BULK:
        # A batch is bound by its digest and a response by the ids asked for, so the costly
        # canonical check of large frames would add nothing.
        bulk: BulkMessage = decode_lenient(BulkMessage, frame)  # type: ignore[arg-type]  # a union
        return bulk
    control: ControlMessage = decode(ControlMessage, frame)  # type: ignore[arg-type]  # a union
    return control


class HaltError(Exception):
    """The core demands a stop for good: going on could violate safety."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def _refuse_to_sign(_: NodeEffect) -> None:
    """The last guard of a node that only follows."""
    raise SafetyError(
        "a node that follows was asked to sign: a bug",
        advice="report it; nothing was signed",
        code="safety.following",
    )


class Network(Protocol):
    """What the host needs of the connections to the other members."""

    def send(self, to: int, traffic: Traffic, frame: bytes) -> bool:
        """Queue a frame, never waiting; False if it was dropped."""
        ...


class Audience(Protocol):
    """Who hears of what happens (`node.streams.Streams`)."""

    def on_block(self, notice: BlockNotice) -> None: ...

    def on_delivered(self, notice: DeliveredNotice) -> None: ...

    def on_output(self, height: int, output: bytes) -> None: ...

    def on_certified(self, notice: CertifiedNotice) -> None: ...

    def on_receipt(self, update: ReceiptUpdate) -> None: ...

    def on_submit_reply(self, reply: SubmitReply) -> None: ...

    def on_opaque_reply(self, reply: OpaqueReply) -> None: ...


class NodeHost:
    """See the module docstring. `run` must be running before `dispatch` is called."""

    def __init__(
        self,
        *,
        me: int,
        core: NodeCore,
        clock: Clock,
        keys: NodeKeys,
        network: Network,
        audience: Audience,
        safety: GroupCommitter[RecordWrite],
        archive: ArchiveStore,
        archive_writes: GroupCommitter[RecordWrite],
        batches: BatchStore,
        batch_writes: GroupCommitter[StoredBatch],
        pool: CryptoPool,
        crypto: ConsensusCrypto,
        engine: EngineWorker,
        library: SnapshotLibrary,
        is_signing: bool = True,
    ) -> None:
        """A node that is not signing has nothing to sign with: one that is asked to ends."""
        self.core = core
        self.clock = clock
        self._me = me
        self._keys = keys
        self._network = network
        self._batches = batches
        self._pool = pool
        self._crypto = crypto

        self._events: deque[NodeEvent] = deque()
        self._is_stepping = False
        self._nursery: trio.Nursery | None = None
        self._timers = Timers(clock, lambda name: self.dispatch(TimerFired(name)))
        self._durability = Durability(
            safety=safety, archive=archive_writes, batches=batch_writes, send_now=self._send_now
        )
        self._serving = Serving(
            batches, archive, library, lambda to, frame: network.send(to, Traffic.BULK, frame)
        )
        self._executor = Executor(
            engine, batches, archive_writes, audience.on_output, self.dispatch
        )
        self.misbehaviours: dict[str, int] = {}
        """How often peers broke which rule."""
        self.alarms: dict[str, str] = {}
        """What an operator must look at, by code: the newest detail of each."""
        self._handlers: dict[type, Callable[[Any], None]] = {
            Send: self._durability.send,
            Persist: self._durability.persist,
            StoreBatch: self._store_batch,
            SetTimer: lambda effect: self._timers.set(effect.name, effect.deadline_ms),
            Misbehaviour: self._note_misbehaviour,
            Alarm: self._raise_alarm,
            Halt: self._halt,
            Execute: self._executor.submit,
            SaveState: self._executor.submit,
            BlockNotice: audience.on_block,
            DeliveredNotice: audience.on_delivered,
            CertifiedNotice: audience.on_certified,
            ReceiptUpdate: audience.on_receipt,
            SubmitReply: audience.on_submit_reply,
            OpaqueReply: audience.on_opaque_reply,
            Verify: self._verify,
            Sign: self._sign,
            SignIdentity: self._sign_identity,
            Aggregate: self._aggregate,
            CheckBatch: self._check_batch,
            VerifyEnvelopes: self._verify_envelopes,
            VerifyIdentities: self._verify_identities,
            OpenBatches: lambda effect: self._start(self._open_batches, effect),
            ServeBatches: self._serving.serve,
            ServeCommitted: self._serving.serve,
            ServeOffer: self._serving.serve,
            ServeChunk: self._serving.serve,
        }
        if not is_signing:
            self._handlers |= {Sign: _refuse_to_sign, SignIdentity: _refuse_to_sign}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the core and carry out its effects until cancelled.

        Raises `HaltError`, and whatever a store or worker raises: each of these ends the node.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._crypto.run)
            nursery.start_soon(self._timers.run)
            nursery.start_soon(self._executor.run)
            nursery.start_soon(self.clock.run)
            await nursery.start(self._serving.run)
            self._is_stepping = True
            self._perform_all(self.core.start(self.clock.now_ms()))
            self._drain_events()
            task_status.started()

    @property
    def answers_dropped(self) -> int:
        """Answers to members that lag which found no room."""
        return self._serving.dropped

    def dispatch(self, event: NodeEvent) -> None:
        """Give the core an event and begin to carry out what it answers."""
        self._events.append(event)
        if not self._is_stepping:
            self._drain_events()

    def receive(self, sender: int, traffic: Traffic, frame: bytes) -> None:
        """Give the core a frame from an authenticated member."""
        try:
            message = decode_frame(traffic, frame)
        except DecodeError as error:
            self._note_misbehaviour(Misbehaviour(sender, error.code, str(error)))
            return
        self.dispatch(Received(sender, message))

    # ---- stepping ---------------------------------------------------------------------------

    def _drain_events(self) -> None:
        self._is_stepping = True
        try:
            while self._events:
                event = self._events.popleft()
                self._perform_all(self.core.step(self.clock.now_ms(), event))
        finally:
            self._is_stepping = False

    def _perform_all(self, effects: Iterable[NodeEffect]) -> None:
        for effect in effects:
            self._handlers[type(effect)](effect)

    def _start(self, function: Callable[[Any], Awaitable[None]], effect: NodeEffect) -> None:
        assert self._nursery is not None, "effects come only while running"
        self._nursery.start_soon(function, effect)

    # ---- sending and storing -----------------------------------------------------------------

    def _send_now(self, effect: Send) -> None:
        others = [to for to in effect.to if to != self._me]
        if others:
            frame = encode_message(effect.message)
            is_bulk = isinstance(effect.message, BulkMessage)
            traffic = Traffic.BULK if is_bulk else Traffic.CONTROL
            for to in others:
                self._network.send(to, traffic, frame)
        if len(others) < len(effect.to):
            self.dispatch(Received(self._me, effect.message))

    def _store_batch(self, effect: StoreBatch) -> None:
        self._durability.store_batch(effect, lambda: self.dispatch(BatchStored(effect.token)))

    # ---- cryptography -----------------------------------------------------------------------

    def _verify(self, effect: Verify) -> None:
        self._crypto.verify(
            effect.claims, lambda results: self.dispatch(Verified(effect.token, results))
        )

    def _sign(self, effect: Sign) -> None:
        signature = self._crypto.sign(self._keys.consensus, effect.message)
        self.dispatch(Signed(effect.token, signature))

    def _sign_identity(self, effect: SignIdentity) -> None:
        signature = self._crypto.sign_identity(self._keys.identity, effect.message)
        self.dispatch(Signed(effect.token, signature))

    def _aggregate(self, effect: Aggregate) -> None:
        def on_done(done: Aggregation) -> None:
            self.dispatch(Aggregated(effect.token, done.signers, done.signature, done.culprits))

        self._crypto.aggregate(effect.message, effect.partials, on_done)

    def _verify_identities(self, effect: VerifyIdentities) -> None:
        results = tuple(self._crypto.verify_identity(claim) for claim in effect.claims)
        self.dispatch(Verified(effect.token, results))

    def _verify_envelopes(self, effect: VerifyEnvelopes) -> None:
        if len(effect.claims) <= INLINE_CLAIMS_MAX:
            results = tuple(self._crypto.verify_identity(claim) for claim in effect.claims)
            self.dispatch(EnvelopesVerified(effect.token, results))
        else:
            self._start(self._verify_many_envelopes, effect)

    async def _verify_many_envelopes(self, effect: VerifyEnvelopes) -> None:
        results = await self._pool.verify_identities(effect.claims)
        self.dispatch(EnvelopesVerified(effect.token, results))

    # ---- batches and blocks -----------------------------------------------------------------

    def _check_batch(self, effect: CheckBatch) -> None:
        if effect.body is not None and is_cheap_to_check(effect.body):
            # Few large native calls: a thread does, and the bytes need not cross a pipe.
            self._crypto.check_batch(
                self._checkable(effect, effect.body),
                lambda verdict: self._on_batch_checked(effect, verdict),
            )
        else:
            self._start(self._check_batch_elsewhere, effect)

    async def _check_batch_elsewhere(self, effect: CheckBatch) -> None:
        body = effect.body
        if body is None:
            stored = await trio.to_thread.run_sync(self._batches.get, effect.batch_id)
            assert stored is not None, "only stored batches are checked without a body"
            body = stored[1]
        verdict = await self._pool.check_batch(self._checkable(effect, body))
        self._on_batch_checked(effect, verdict)

    async def _open_batches(self, effect: OpenBatches) -> None:
        ids = tuple(batch.batch_id for batch in effect.batches)
        bodies = await trio.to_thread.run_sync(read_bodies, self._batches, ids)
        digests = (batch.body_digest for batch in effect.batches)
        verdicts = await self._pool.reopen_batches(tuple(zip(digests, bodies, strict=True)))
        self.dispatch(BatchesOpened(effect.token, verdicts))

    def _checkable(self, effect: CheckBatch, body: bytes) -> CheckableBatch:
        return make_checkable(effect.signed_header, effect.author_key, body, self.core.chain_id)

    def _on_batch_checked(self, effect: CheckBatch, verdict: BatchVerdict) -> None:
        error = None if verdict.error is None else verdict.error.value
        self.dispatch(BatchChecked(effect.token, error, verdict.summary, verdict.detail))

    # ---- faults -----------------------------------------------------------------------------

    def _note_misbehaviour(self, effect: Misbehaviour) -> None:
        count = self.misbehaviours[effect.code] = self.misbehaviours.get(effect.code, 0) + 1
        if is_doubling(count):
            _log.warning(
                "peer_misbehaviour",
                member=effect.member,
                rule=effect.code,
                detail=effect.detail[:200],
                count=count,
            )

    def _raise_alarm(self, effect: Alarm) -> None:
        self.alarms[effect.code] = effect.detail
        _log.error("alarm", code=effect.code, detail=effect.detail)

    def _halt(self, effect: Halt) -> None:
        raise HaltError(effect.code, effect.detail)
