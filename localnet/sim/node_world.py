"""A virtual world for whole nodes: batch stores, archives, engines and clients beside the network.

What `World` does for the effects of consensus, `NodeWorld` does for those that only a whole node
has. A batch is durable some time after it was handed over, checks come back out of order, and the
engine is a worker with a state of its own that dies with its node and begins again from a
snapshot. A crash keeps an arbitrary prefix of what each store had yet to write; a power loss also
takes back the newest archive writes that were already reported, since nothing waits for those.
"""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from consensus.effects import (
    BatchChecked,
    BatchStored,
    CheckBatch,
    Persist,
    Put,
    Send,
    ServeBatches,
    Signed,
    SignIdentity,
    Store,
    StoreBatch,
    Token,
    Verified,
    VerifyIdentities,
    compute_key,
)
from consensus.messages import BatchMessage, SnapshotChunk, SnapshotOffer
from crypto.codec import encode
from crypto.scheme import Claim, IdentityScheme, SignatureScheme
from engine.apply import apply_block
from engine.errors import SnapshotError
from engine.genesis import EngineGenesis
from engine.snapshots.whole import snapshot
from engine.state import EngineState, create_state
from localnet.sim.disk import Batch, Disk, NodeDisk
from localnet.sim.joining import open_library, restore_joined
from localnet.sim.network import Conditions, Host, World
from localnet.sim.oracles.watchers import Execution
from mempool.batch import BatchVerdict, check_batch, decode_batch_body, reopen_batch
from mempool.envelope import decode_envelope
from node.batch_checks import make_checkable
from node.core import NodeCore
from node.engine_input import OrderedBatch, make_block_input
from node.events import (
    BatchesOpened,
    EnvelopesVerified,
    Execute,
    Executed,
    NodeEvent,
    OpenBatches,
    SaveState,
    ServeChunk,
    ServeOffer,
    VerifyEnvelopes,
)
from node.joining import JoinEnded, Joiner, KeepChunk, KeepOffer, Restore, Restored
from node.recovery import OUTPUT_TABLE
from node.snapshot_library import SnapshotLibrary
from node.storage.errors import StorageError
from node.workers.snapshots import SNAPSHOTS_KEPT, decode_snapshot, encode_header

LISTED_BODIES_MAX: Final = 256
"""Batches whose envelopes the oracles remember; no node gets anything of it."""


@dataclass(slots=True)
class Engine:
    """One node's engine worker: it carries out its queue one by one and dies with the node."""

    state: EngineState
    queue: deque[Execute | SaveState] = field(default_factory=deque)
    is_busy: bool = False

    @classmethod
    def load(cls, disk: NodeDisk, genesis: EngineGenesis, chain_id: bytes) -> "Engine":
        """Begin from the newest snapshot that is whole, or from genesis."""
        state = create_state(genesis)
        for height, content in sorted(disk.engine_snapshots.items(), reverse=True):
            with suppress(SnapshotError):
                return cls(
                    decode_snapshot(content, chain_id, state.genesis_digest, f"height {height}")
                )
        return cls(state)

    def save(self, disk: NodeDisk, chain_id: bytes) -> None:
        """Write a snapshot, atomically. What is newer was passed over, and goes, too."""
        kept = disk.engine_snapshots
        kept[self.state.height] = self.encode(chain_id)
        older = [height for height in sorted(kept) if height < self.state.height]
        newer = [height for height in kept if height > self.state.height]
        for height in (*older[: -(SNAPSHOTS_KEPT - 1)], *newer):
            del kept[height]

    def encode(self, chain_id: bytes) -> bytes:
        """The state as a file."""
        body = snapshot(self.state)
        return encode_header(chain_id, self.state, body) + body


@dataclass(slots=True, kw_only=True)
class NodeConditions(Conditions):
    """How stores, checkers and engines behave besides."""

    store_ms: tuple[int, int] = (0, 6)
    check_ms: tuple[int, int] = (0, 12)
    """Wide, so that verdicts come back out of order."""
    engine_ms: tuple[int, int] = (0, 3)
    save_ms: tuple[int, int] = (0, 20)


class NodeWorld(World):
    """See the module docstring."""

    def __init__(
        self,
        seed: int,
        scheme: SignatureScheme,
        identity_scheme: IdentityScheme,
        chain_id: bytes,
        conditions: NodeConditions | None = None,
    ) -> None:
        self.node_conditions = conditions if conditions is not None else NodeConditions()
        super().__init__(seed, scheme, self.node_conditions)
        self.engines: dict[int, Engine] = {}
        self._identity_scheme = identity_scheme
        self._chain_id = chain_id
        self._identity_secrets: dict[int, bytes] = {}
        self._genesis_digests: dict[int, bytes] = {}
        self._storing: dict[int, deque[StoreBatch]] = {}
        self._stored_at_ms: dict[int, int] = {}
        self._host_tokens = 0
        self._list_envelopes = lru_cache(maxsize=LISTED_BODIES_MAX)(_list_envelopes)
        self._actions |= {
            SignIdentity: self._sign_identity,
            StoreBatch: self._store_batch,
            CheckBatch: self._check_batch,
            OpenBatches: self._open_batches,
            VerifyEnvelopes: self._verify_envelopes,
            VerifyIdentities: self._verify_members,
            ServeBatches: self._serve_batches,
            ServeOffer: self._serve_offer,
            ServeChunk: self._serve_chunk,
            KeepOffer: self._keep_offer,
            KeepChunk: self._keep_chunk,
            Restore: self._restore,
            JoinEnded: self._end_joining,
            Execute: self._queue_engine,
            SaveState: self._queue_engine,
        }

    # ---- machines ------------------------------------------------------------------------------

    def add_node(
        self,
        index: int,
        make: Callable[[NodeDisk, int], NodeCore | Joiner],
        genesis: EngineGenesis,
        secret: bytes,
        identity_secret: bytes,
        member: int | None = None,
    ) -> None:
        """Put a node into the world, not running yet. `make` gets its disk and the height at
        which its engine stands; `member` as in `World.add`."""

        def factory(disk: Disk) -> NodeCore | Joiner:
            assert isinstance(disk, NodeDisk)
            engine = self.engines[index] = Engine.load(disk, genesis, self._chain_id)
            return make(disk, engine.state.height)

        self.add(index, factory, secret, member)
        self._identity_secrets[index] = identity_secret
        self._genesis_digests[index] = create_state(genesis).genesis_digest
        self._storing[index] = deque()
        self.hosts[index].disk = NodeDisk()

    def disk(self, index: int) -> NodeDisk:
        """A node's disk, whether it runs or not."""
        disk = self.hosts[index].disk
        assert isinstance(disk, NodeDisk)
        return disk

    def tell(self, index: int, event: NodeEvent) -> bool:
        """Give a node a client's event; False if it is down."""
        if self.is_running(index):
            for watch in self._dispatch.on_told[index][event.__class__]:
                watch(index, event)
        self._deliver(index, event)
        return self.is_running(index)

    def crash(self, index: int) -> None:
        """Kill a node with its engine."""
        host = self.hosts[index]
        if host.machine is None:
            return
        storing = self._storing[index]
        for store in list(storing)[: self.random.randint(0, len(storing))]:
            self._write_batch(index, store)
        storing.clear()
        self._stored_at_ms.pop(index, None)
        del self.engines[index]
        super().crash(index)

    def lose_power(self, index: int, archive_writes: int) -> None:
        """Crash, and lose archive writes that were reported but not synced."""
        self.crash(index)
        self.disk(index).lose_archive_tail(archive_writes)

    def stop(self, index: int) -> None:
        """Stop in order: what was asked for is written, and the engine saves where it stands."""
        host = self.hosts[index]
        for _, queue in sorted(host.writing.items()):
            for persist in queue:
                self._write(host, persist)
            queue.clear()
        for store in self._storing[index]:
            self._write_batch(index, store)
        self._storing[index].clear()
        engine = self.engines[index]
        if engine.state.height:
            engine.save(self.disk(index), self._chain_id)
        self.crash(index)

    # ---- effects -------------------------------------------------------------------------------

    def _sign_identity(self, host: Host, sign: SignIdentity) -> None:
        signature = self._identity_scheme.sign(self._identity_secrets[host.index], sign.message)
        self._answer(host, Signed(sign.token, signature))

    def _verify_envelopes(self, host: Host, verify: VerifyEnvelopes) -> None:
        results = self._verify_identities(verify.claims)
        self._answer(host, EnvelopesVerified(verify.token, results))

    def _verify_members(self, host: Host, verify: VerifyIdentities) -> None:
        self._answer(host, Verified(verify.token, self._verify_identities(verify.claims)))

    def _queue_engine(self, host: Host, request: Execute | SaveState) -> None:
        engine = self.engines[host.index]
        engine.queue.append(request)
        self._run_engine(host, engine)

    def _verify_identities(self, claims: Iterable[Claim]) -> tuple[bool, ...]:
        return tuple(
            self._identity_scheme.verify(claim.public_keys[0], claim.message, claim.signature)
            for claim in claims
        )

    def _soon(self, host: Host, bounds_ms: tuple[int, int], action: Callable[[], None]) -> None:
        """Let something happen unless the node dies first."""
        self.after(self._pick(bounds_ms), self._act_alive, host, host.incarnation, action)

    def _act_alive(self, host: Host, incarnation: int, action: Callable[[], None]) -> None:
        if host.incarnation == incarnation:
            action()

    # ---- batches -------------------------------------------------------------------------------

    def _write_batch(self, index: int, store: StoreBatch) -> None:
        disk = self.disk(index)
        disk.batches[store.batch_id] = (store.signed_header, store.body)
        disk.damaged_batches.pop(store.batch_id, None)

    def _read_batch(self, host: Host, batch_id: bytes) -> Batch | None:
        """A batch that is stored; None if it is damaged, which ends the host."""
        try:
            stored = self.disk(host.index).get(batch_id)
        except StorageError as error:
            self.stop_with(host.index, error.code)
            return None
        assert stored is not None, "a batch that is asked for is stored"
        return stored

    def _forget_writes(self, host: Host) -> None:
        super()._forget_writes(host)
        self._storing[host.index].clear()

    def _store_batch(self, host: Host, store: StoreBatch) -> None:
        """Stores write in order, each after the one before."""
        storing = self._storing[host.index]
        storing.append(store)
        start_ms = max(self._stored_at_ms.get(host.index, 0), self.now_ms)
        ready_ms = start_ms + self._pick(host.batch_ms or self.node_conditions.store_ms)
        self._stored_at_ms[host.index] = ready_ms
        wait_ms = ready_ms - self.now_ms

        def write() -> None:
            assert storing.popleft() is store, "a store writes in order"
            self._write_batch(host.index, store)

        def complete() -> None:
            if self._try_write(host, store, write, storing):
                self._deliver(host.index, BatchStored(store.token))

        self._soon(host, (wait_ms, wait_ms), complete)

    def _check_batch(self, host: Host, check: CheckBatch) -> None:
        def answer() -> None:
            body = check.body
            if body is None:
                stored = self._read_batch(host, check.batch_id)
                if stored is None:
                    return
                body = stored[1]
            batch = make_checkable(check.signed_header, check.author_key, body, self._chain_id)
            verdict = check_batch(batch, self._identity_scheme, self._chain_id)
            error = None if verdict.error is None else verdict.error.value
            event = BatchChecked(check.token, error, verdict.summary, verdict.detail)
            self._deliver(host.index, event)

        self._soon(host, host.work_ms or self.node_conditions.check_ms, answer)

    def _open_batches(self, host: Host, effect: OpenBatches) -> None:
        def answer() -> None:
            verdicts: list[BatchVerdict] = []
            for each in effect.batches:
                stored = self._read_batch(host, each.batch_id)
                if stored is None:
                    return
                verdicts.append(reopen_batch(stored[1], each.body_digest, self._chain_id))
            self._deliver(host.index, BatchesOpened(effect.token, tuple(verdicts)))

        self._soon(host, host.work_ms or self.node_conditions.check_ms, answer)

    def _serve_batches(self, host: Host, effect: ServeBatches) -> None:
        to = effect.to

        def serve() -> None:
            for batch_id in effect.batch_ids:
                if batch_id not in self.disk(host.index).batches:
                    continue
                stored = self._read_batch(host, batch_id)
                if stored is None:
                    return
                self._send(host, Send((to,), BatchMessage(*stored)))

        self._soon(host, self.conditions.work_ms, serve)

    # ---- snapshots ------------------------------------------------------------------------------

    def _serve_offer(self, host: Host, effect: ServeOffer) -> None:
        def serve() -> None:
            offer = self.open_library(host.index).read_offer(effect.above_height)
            self._send(host, Send((effect.to,), SnapshotOffer(offer)))

        self._soon(host, self.conditions.work_ms, serve)

    def _serve_chunk(self, host: Host, effect: ServeChunk) -> None:
        def serve() -> None:
            library = self.open_library(host.index)
            # A node remembers what it offered; here it looks again.
            library.read_offer(0)
            data = library.read_chunk(effect.name)
            self._send(host, Send((effect.to,), SnapshotChunk(effect.name, data)))

        self._soon(host, self.conditions.work_ms, serve)

    def open_library(self, index: int) -> SnapshotLibrary:
        """What a node gives to those that join."""
        return open_library(self.disk(index), self._chain_id, self._genesis_digests[index])

    def _keep_offer(self, host: Host, effect: KeepOffer) -> None:
        self.disk(host.index).join_offer = effect.offer

    def _keep_chunk(self, host: Host, effect: KeepChunk) -> None:
        self.disk(host.index).join_chunks[effect.name] = effect.data

    def _restore(self, host: Host, effect: Restore) -> None:
        def restore() -> None:
            error = restore_joined(
                self.disk(host.index),
                effect.offer,
                self._chain_id,
                self._genesis_digests[host.index],
            )
            self._deliver(host.index, Restored(effect.token, error))

        self._soon(host, self.node_conditions.save_ms, restore)

    def _end_joining(self, host: Host, effect: JoinEnded) -> None:
        """The node that the stores are for takes over."""
        self.disk(host.index).is_joining = False

        def restart() -> None:
            self.crash(host.index)
            self.start(host.index)

        self._soon(host, (0, 0), restart)

    # ---- the engine ----------------------------------------------------------------------------

    def _run_engine(self, host: Host, engine: Engine) -> None:
        if engine.is_busy or not engine.queue:
            return
        engine.is_busy = True
        request = engine.queue[0]
        conditions = self.node_conditions
        bounds_ms = host.work_ms or host.engine_ms or conditions.engine_ms

        def finish() -> None:
            engine.queue.popleft()
            engine.is_busy = False
            if isinstance(request, SaveState):
                assert engine.state.height == request.height, "saved where it was asked for"
                is_alive = self._try_write(host, request, save)
            else:
                executed = self._execute(host, engine, request)
                is_alive = executed is not None
                if executed is not None:
                    self._deliver(host.index, executed)
            if is_alive:
                self._run_engine(host, engine)

        def save() -> None:
            disk = self.disk(host.index)
            disk.sync_archive()
            engine.save(disk, self._chain_id)

        if isinstance(request, SaveState):
            # The archive is synced first, with all that was asked of it so far.
            archived_ms = max(host.busy_until_ms.get(Store.ARCHIVE, 0) - self.now_ms, 0)
            least_ms, most_ms = host.batch_ms or conditions.save_ms
            bounds_ms = (archived_ms + least_ms, archived_ms + most_ms)
        self._soon(host, bounds_ms, finish)

    def _execute(self, host: Host, engine: Engine, request: Execute) -> Executed | None:
        """None if the host ended."""
        bodies: list[bytes] = []
        for batch in request.batches:
            stored = self._read_batch(host, batch.batch_id)
            if stored is None:
                return None
            bodies.append(stored[1])
        block = make_block_input(
            height=request.height,
            time_ms=request.time_ms,
            seed=request.seed,
            batches=[
                OrderedBatch(body, batch.refused)
                for batch, body in zip(request.batches, bodies, strict=True)
            ],
            reporters=request.reporters,
        )
        output = apply_block(engine.state, block)
        ordered: list[bytes] = []
        passed: list[bytes] = []
        for batch, body in zip(request.batches, bodies, strict=True):
            listed = self._list_envelopes(body)
            ordered += listed
            passed += [
                each for position, each in enumerate(listed) if position not in batch.refused
            ]
        execution = Execution(request, tuple(ordered), tuple(passed), block, output)
        for watch in self._dispatch.on_executed[host.index][Execution]:
            watch(host.index, execution)
        if not output.is_empty:
            self._host_tokens += 1
            put = Put(OUTPUT_TABLE, compute_key(request.height), encode(output))
            self._trace_end += put.value
            self._persist(host, Persist(Token("host", self._host_tokens), Store.ARCHIVE, (put,)))
        return Executed(
            request.height,
            output.state_root,
            output.receipts_root,
            output.stats.instructions,
            output.stats.fills,
        )


def _list_envelopes(body: bytes) -> tuple[bytes, ...]:
    """The ids of all envelopes of a batch, for the oracles."""
    # Not what the engine gets of a batch: changes of keys are ordered and pass, too.
    envelopes = decode_batch_body(body).envelopes
    return tuple(decode_envelope(data).header.envelope_id() for data in envelopes)
