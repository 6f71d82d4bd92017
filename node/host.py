"""The trio host of one `NodeCore`: carries out its effects and brings back the events.

Everything that touches the core runs on the one trio thread, inside `dispatch`, which never blocks:
what takes time is an effect, carried out by a short task or by a store's committer, whose result
comes back as an event. "Durable first" is decided here and nowhere else: a `Send` whose `after`
names records that are not durable yet waits in `_waiting` until the group commit that holds them
returns.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

import structlog
import trio

from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE
from consensus.effects import (
    Alarm,
    Aggregate,
    Aggregated,
    BatchChecked,
    BatchStored,
    CheckBatch,
    Halt,
    Misbehaviour,
    Persist,
    Put,
    Received,
    Send,
    ServeBatches,
    ServeCommitted,
    SetTimer,
    Sign,
    Signed,
    SignIdentity,
    Store,
    StoreBatch,
    TimerFired,
    Token,
    Verified,
    Verify,
)
from consensus.messages import (
    BLOCKS_MAX_PER_RESPONSE,
    SYNC_RESPONSE_MAX_BYTES,
    BatchMessage,
    BlockResponse,
    BulkMessage,
    CommittedResponse,
    ControlMessage,
    Message,
    encode_message,
)
from consensus.types import QC, Block
from crypto.aggregation import Aggregation
from crypto.codec import DecodeError, decode, decode_lenient
from mempool.batch import BatchVerdict, is_cheap_to_check
from node.core import NodeCore
from node.events import (
    BlockNotice,
    CertifiedNotice,
    DeliveredNotice,
    EnvelopesVerified,
    Execute,
    Executed,
    NodeEffect,
    NodeEvent,
    OpaqueReply,
    ReceiptUpdate,
    SaveState,
    SubmitReply,
    VerifyEnvelopes,
)
from node.execution import EXECUTION_AHEAD_MAX
from node.home import NodeKeys
from node.recovery import OUTPUT_TABLE, height_key
from node.storage.archive import ArchiveStore
from node.storage.batches import BatchStore, StoredBatch
from node.storage.group_commit import GroupCommitter
from node.storage.safety import RecordWrite
from node.transport.queues import Traffic
from node.workers.crypto import CryptoPool
from node.workers.engine import EngineWorker, ExecuteRequest
from node.workers.threads import CheckableBatch, ConsensusCrypto

BULK_MESSAGES: Final = (BatchMessage, BlockResponse, CommittedResponse)
"""What travels on the bulk connection; the rest is control."""

INLINE_CLAIMS_MAX: Final = 4
"""Envelopes of one submission verified at once, 45 us each: handing over so few to another process
costs the event loop as much, and the client two wake-ups."""

EXECUTION_QUEUE_MAX: Final = 2 * EXECUTION_AHEAD_MAX
"""Requests to the engine that wait: the core hands out `EXECUTION_AHEAD_MAX` heights ahead of
results, each with at most one order to save."""

_log = structlog.get_logger()


class HaltError(Exception):
    """The core demands a stop for good: going on could violate safety."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


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


class Clock:
    """Milliseconds since the Unix epoch that never jump while the process lives: the wall clock
    once, at start, then the monotonic clock."""

    def __init__(self, wall_ms: int) -> None:
        self._wall_ms = wall_ms
        self._started_at = trio.current_time()

    def now_ms(self) -> int:
        """The time that the core is told."""
        return self._wall_ms + int((trio.current_time() - self._started_at) * 1000)

    def sleep_deadline(self, time_ms: float) -> float:
        """When trio's clock will say `time_ms`, and no rounding makes it one less."""
        return self._started_at + (time_ms - self._wall_ms + 0.1) / 1000


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
    ) -> None:
        self.core = core
        self.clock = clock
        self._me = me
        self._keys = keys
        self._network = network
        self._audience = audience
        self._safety = safety
        self._archive = archive
        self._archive_writes = archive_writes
        self._batches = batches
        self._batch_writes = batch_writes
        self._pool = pool
        self._crypto = crypto
        self._engine = engine

        self._events: deque[NodeEvent] = deque()
        self._is_stepping = False
        self._nursery: trio.Nursery | None = None
        self._not_durable: set[Token] = set()
        self._waiting: dict[Token, list[_WaitingSend]] = {}
        self._timers: dict[str, int] = {}
        self._timers_changed = trio.Event()
        self._sleeps_until_ms: float = math.inf
        send, receive = trio.open_memory_channel[Execute | SaveState](EXECUTION_QUEUE_MAX)
        self._to_execute, self._executing = send, receive
        self.misbehaviours: dict[str, int] = {}
        """How often peers broke which rule."""
        self._handlers: dict[type, Callable[[Any], None]] = {
            Send: self._send,
            Persist: self._persist,
            StoreBatch: self._store_batch,
            SetTimer: self._set_timer,
            Misbehaviour: self._note_misbehaviour,
            Alarm: self._raise_alarm,
            Halt: self._halt,
            Execute: self._to_execute.send_nowait,
            SaveState: self._to_execute.send_nowait,
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
            ServeBatches: self._task(self._serve_batches),
            ServeCommitted: self._task(self._serve_committed),
        }

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the core and carry out its effects until cancelled.

        Raises `HaltError`, and whatever a store or worker raises: each of these ends the node.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._crypto.run)
            nursery.start_soon(self._run_timers)
            nursery.start_soon(self._run_executor)
            self._is_stepping = True
            self._perform_all(self.core.start(self.clock.now_ms()))
            self._drain_events()
            task_status.started()

    def dispatch(self, event: NodeEvent) -> None:
        """Give the core an event and begin to carry out what it answers."""
        self._events.append(event)
        if not self._is_stepping:
            self._drain_events()

    def receive(self, sender: int, traffic: Traffic, frame: bytes) -> None:
        """Give the core a frame from an authenticated member."""
        try:
            message: Message
            if traffic is Traffic.BULK:
                # A batch is bound by its digest and a response by the ids asked for, so the costly
                # canonical check of large frames would add nothing.
                message = decode_lenient(BulkMessage, frame)  # type: ignore[arg-type]  # a union
            else:
                message = decode(ControlMessage, frame)  # type: ignore[arg-type]  # a union
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

    def _task(self, function: Callable[[Any], Awaitable[None]]) -> Callable[[Any], None]:
        return lambda effect: self._start(function, effect)

    def _start(self, function: Callable[[Any], Awaitable[None]], effect: NodeEffect) -> None:
        assert self._nursery is not None, "effects come only while running"
        self._nursery.start_soon(function, effect)

    # ---- sending and durability -------------------------------------------------------------

    def _send(self, effect: Send) -> None:
        missing = {token for token in effect.after if token in self._not_durable}
        if not missing:
            self._send_now(effect)
            return
        waiting = _WaitingSend(effect, missing)
        for token in missing:
            self._waiting.setdefault(token, []).append(waiting)

    def _send_now(self, effect: Send) -> None:
        others = [to for to in effect.to if to != self._me]
        if others:
            frame = encode_message(effect.message)
            is_bulk = isinstance(effect.message, BULK_MESSAGES)
            traffic = Traffic.BULK if is_bulk else Traffic.CONTROL
            for to in others:
                self._network.send(to, traffic, frame)
        if len(others) < len(effect.to):
            self.dispatch(Received(self._me, effect.message))

    def _persist(self, effect: Persist) -> None:
        write = RecordWrite(effect.puts, effect.deletes)
        self._not_durable.add(effect.token)
        store = self._safety if effect.store is Store.SAFETY else self._archive_writes
        store.submit(write, lambda: self._on_durable(effect.token))

    def _store_batch(self, effect: StoreBatch) -> None:
        stored = StoredBatch(effect.batch_id, effect.signed_header, effect.body)
        self._not_durable.add(effect.token)

        def on_durable() -> None:
            self._on_durable(effect.token)
            self.dispatch(BatchStored(effect.token))

        self._batch_writes.submit(stored, on_durable)

    def _on_durable(self, token: Token) -> None:
        self._not_durable.discard(token)
        for waiting in self._waiting.pop(token, ()):
            waiting.missing.discard(token)
            if not waiting.missing:
                self._send_now(waiting.effect)

    # ---- timers -----------------------------------------------------------------------------

    def _set_timer(self, effect: SetTimer) -> None:
        if effect.deadline_ms is None:
            self._timers.pop(effect.name, None)
            return
        self._timers[effect.name] = effect.deadline_ms
        if effect.deadline_ms < self._sleeps_until_ms:
            self._timers_changed.set()

    async def _run_timers(self) -> None:
        while True:
            self._timers_changed = trio.Event()
            self._sleeps_until_ms = min(self._timers.values(), default=math.inf)
            with trio.CancelScope(deadline=self.clock.sleep_deadline(self._sleeps_until_ms)):
                await self._timers_changed.wait()
            now_ms = self.clock.now_ms()
            due = sorted(
                (deadline_ms, name)
                for name, deadline_ms in self._timers.items()
                if deadline_ms <= now_ms
            )
            for deadline_ms, name in due:
                if self._timers.get(name) == deadline_ms:
                    del self._timers[name]
                    self.dispatch(TimerFired(name))

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
        verdict = await self._pool.check_batch(**self._checkable(effect, body)._asdict())
        self._on_batch_checked(effect, verdict)

    def _checkable(self, effect: CheckBatch, body: bytes) -> CheckableBatch:
        signed = effect.signed_header
        return CheckableBatch(
            author_key=effect.author_key,
            author_signing_bytes=signed.author_signing_bytes(self.core.chain_id),
            signature=signed.signature,
            body_digest=signed.header.body_digest,
            size_bytes=signed.header.size_bytes,
            body=body,
        )

    def _on_batch_checked(self, effect: CheckBatch, verdict: BatchVerdict) -> None:
        error = None if verdict.error is None else verdict.error.value
        self.dispatch(BatchChecked(effect.token, error, verdict.summary))

    async def _serve_batches(self, effect: ServeBatches) -> None:
        for batch_id in effect.batch_ids:
            stored = await trio.to_thread.run_sync(self._batches.get, batch_id)
            if stored is not None:
                frame = encode_message(BatchMessage(*stored))
                self._network.send(effect.to, Traffic.BULK, frame)

    async def _serve_committed(self, effect: ServeCommitted) -> None:
        response = await trio.to_thread.run_sync(self._read_committed, effect)
        self._network.send(effect.to, Traffic.BULK, encode_message(response))

    def _read_committed(self, effect: ServeCommitted) -> CommittedResponse:
        """Blocks of rising height, until a response's worth; a thread runs this."""
        records = self._archive.read_range(
            ARCHIVE_BLOCK_TABLE, height_key(effect.from_height), BLOCKS_MAX_PER_RESPONSE
        )
        blocks: list[Block] = []
        size_bytes = 0
        for record in records:
            size_bytes += len(record.value)
            if blocks and size_bytes > SYNC_RESPONSE_MAX_BYTES:
                break
            blocks.append(decode(Block, record.value))
        proof = None
        if blocks:
            commit = self._archive.read(ARCHIVE_COMMIT_TABLE, height_key(blocks[-1].height))
            proof = None if commit is None else decode(QC, commit)
        return CommittedResponse(tuple(blocks), proof, effect.committed_height)

    # ---- execution --------------------------------------------------------------------------

    async def _run_executor(self) -> None:
        async for request in self._executing:
            # What was begun is finished also when the node stops: the engine must not get ahead of
            # what is archived about its heights.
            with trio.CancelScope(shield=True):
                if isinstance(request, SaveState):
                    await self._archive_writes.drain()
                    await self._engine.save(request.height)
                else:
                    await self._execute(request)

    async def _execute(self, request: Execute) -> None:
        batches = []
        for batch in request.batches:
            stored = await trio.to_thread.run_sync(self._batches.get, batch.batch_id)
            assert stored is not None, "a delivered batch is stored"
            refused = tuple(
                position for position, code in enumerate(batch.verdicts) if code is not None
            )
            batches.append((stored[1], refused))
        result = await self._engine.execute(
            ExecuteRequest(
                request.height, request.time_ms, request.seed, tuple(batches), request.reporters
            )
        )
        if result.instructions:
            self._archive_writes.submit(
                RecordWrite((Put(OUTPUT_TABLE, height_key(result.height), result.output),))
            )
            self._audience.on_output(result.height, result.output)
        self.dispatch(
            Executed(
                result.height,
                result.market_root,
                result.receipts_root,
                result.instructions,
                result.fills,
            )
        )

    # ---- faults -----------------------------------------------------------------------------

    def _note_misbehaviour(self, effect: Misbehaviour) -> None:
        count = self.misbehaviours[effect.code] = self.misbehaviours.get(effect.code, 0) + 1
        # Every doubling is logged, so that a peer cannot fill the disk with its own faults.
        if count & (count - 1) == 0:
            _log.warning(
                "peer_misbehaviour",
                member=effect.member,
                rule=effect.code,
                detail=effect.detail[:200],
                count=count,
            )

    def _raise_alarm(self, effect: Alarm) -> None:
        _log.error("alarm", code=effect.code, detail=effect.detail)

    def _halt(self, effect: Halt) -> None:
        raise HaltError(effect.code, effect.detail)


class _WaitingSend:
    __slots__ = ("effect", "missing")

    def __init__(self, effect: Send, missing: set[Token]) -> None:
        self.effect = effect
        self.missing = missing
