"""The virtual world: a heap of things that will happen, and the machines to which they happen.

The world carries out the effects of `consensus.effects` under the rules written there, and it uses
every freedom that they leave: messages are delayed, reordered, doubled and dropped, workers answer
late and out of order, and a crash keeps an arbitrary prefix of what each store had yet to write.
"""

import errno
import heapq
import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from blake3 import blake3

from consensus.effects import (
    Aggregate,
    Aggregated,
    Persist,
    Received,
    Send,
    ServeCommitted,
    SetTimer,
    Sign,
    Signed,
    Store,
    TimerFired,
    Token,
    Verified,
    Verify,
)
from consensus.messages import Message
from crypto.aggregation import aggregate_partials
from crypto.scheme import SignatureScheme, verify_claim
from localnet.sim.disk import Disk
from localnet.sim.links import PERMILLE, LinkRule, Passage
from localnet.sim.oracles.watchers import Dispatch, Watcher
from localnet.sim.violation import BrokenRuleError
from localnet.verdicts import Verdict
from node.serving import read_committed
from node.storage.errors import StorageError, mapping_errors

_encode_into: Final = msgspec.msgpack.Encoder().encode_into

_START: Final = "start"
_POKE: Final = "poke"
"""What stands in the trace where no event does."""

STEPS_MAX: Final = 5_000_000
"""Events of one run; a run that needs more is stuck in a loop."""

TRACE_HASH_SIZE_BYTES: Final = 16

TRACE_PIECE_MAX_BYTES: Final = 1 << 16
"""So much of the trace is hashed at once, for a call costs more than the bytes of one event."""


class Machine(Protocol):
    """What the world can host."""

    def start(self, now_ms: int) -> Sequence[Any]: ...

    def step(self, now_ms: int, event: Any) -> Sequence[Any]: ...


class CrashPoint(Enum):
    """Where around one durable write a machine dies."""

    BEFORE_DURABLE = "before"
    """It is lost."""
    TORN = "torn"
    """Its first bytes are there; who reads them must find out."""
    AFTER_DURABLE = "after"
    """It is durable, and nothing that waits for it was sent."""


def never_crash(index: int, write: Any) -> CrashPoint | None:
    """No write is a crash point."""
    del index, write
    return None


class Drop(NamedTuple):
    """Records go that the archive holds, some time after the `Persist` that asked for it."""

    persist: Persist


class UnaskedWriteError(BrokenRuleError):
    """A message waits for a record that its node did not ask for before. It could only wait for
    ever, or leave without it."""

    oracle = "durable first"
    verdict = Verdict.SAFETY


class DiskError(Enum):
    """How writing fails, by the error of the operating system. Either ends the process."""

    FULL = errno.ENOSPC
    """The write is refused; what was written before is there."""
    SYNC = errno.EIO
    """From fsync: nothing that was not synced by then is there any more."""

    def code(self) -> str:
        """The code with which a host ends: what the product's storage makes of the error."""
        try:
            with mapping_errors("write"):
                raise OSError(self.value, "made up")
        except StorageError as error:
            return error.code


@dataclass(slots=True, kw_only=True)
class Conditions:
    """How the network and the workers behave; may be changed while the world runs."""

    delay_ms: tuple[int, int] = (1, 5)
    drop_permille: int = 0
    duplicate_permille: int = 0
    work_ms: tuple[int, int] = (0, 2)
    """Signing, verifying, aggregating."""
    persist_ms: tuple[int, int] = (0, 4)


Factory = Callable[[Disk], Machine]
"""Builds a machine from what is durable: at first start and after each crash."""


@dataclass(slots=True)
class Host:
    """One machine and everything that a process would hold around it."""

    index: int
    member: int
    """Whom it speaks for. Twins are two hosts with one member."""
    factory: Factory
    secret: bytes
    disk: Disk = field(default_factory=Disk)
    machine: Machine | None = None
    incarnation: int = 0
    timers: dict[str, int] = field(default_factory=dict)
    asked: set[Token] = field(default_factory=set)
    """The records that it asked for in this life."""
    durable: set[Token] = field(default_factory=set)
    writing: defaultdict[Store, deque[Persist]] = field(default_factory=lambda: defaultdict(deque))
    busy_until_ms: dict[Store, int] = field(default_factory=dict)
    waiting: list[Send] = field(default_factory=list)
    clock_offset_ms: int = 0
    """How far its clock is ahead of the world's."""
    disk_error: DiskError | None = None
    """How the next write fails, and ends the process."""
    work_ms: tuple[int, int] | None = None
    """A pace of all its workers, instead of the usual ones."""
    record_ms: tuple[int, int] | None = None
    """What each write of records takes, instead of the usual."""
    batch_ms: tuple[int, int] | None = None
    """What each write of a batch or of an engine's snapshot takes, instead of the usual."""
    engine_ms: tuple[int, int] | None = None
    """What each block takes its engine, instead of the usual, unless `work_ms` says."""


class World:
    """See the module docstring. `seed` and the calls made decide everything."""

    def __init__(
        self, seed: int, scheme: SignatureScheme, conditions: Conditions | None = None
    ) -> None:
        self.now_ms = 0
        self.random = random.Random(seed)
        self.conditions = conditions if conditions is not None else Conditions()
        self.hosts: dict[int, Host] = {}
        self.hosts_of: dict[int, list[int]] = {}
        """The hosts of each member."""
        self.observers: list[Watcher] = []
        self._dispatch = Dispatch([])
        self.crash_at: Callable[[int, Any], CrashPoint | None] = never_crash
        """Asked before each durable write: a `Persist` or a `Drop`, in a whole node also a
        `StoreBatch` or a `SaveState`."""
        self.on_stopped: list[Callable[[int, str], None]] = []
        """Called with the host and the code with which it ended by itself."""
        self.rules: list[LinkRule] = []
        """In force on all links, in this order."""
        self._scheme = scheme
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        """What will happen: when, in which order, and what."""
        self._sequence = 0
        self._trace = blake3()
        self._trace_end = bytearray()
        """What of the trace is not hashed yet."""
        self._actions: dict[type, Callable[[Host, Any], None]] = {
            Send: self._send_when_durable,
            Persist: self._persist,
            SetTimer: self._set_timer,
            Sign: self._sign,
            Verify: self._verify,
            Aggregate: self._aggregate,
            ServeCommitted: self._serve_committed,
        }
        """What is done for an effect; the rest (commits, misbehaviour, evidence, halts) are notices
        for observers."""

    # ---- machines ------------------------------------------------------------------------------

    def add(self, index: int, factory: Factory, secret: bytes, member: int | None = None) -> None:
        """Put a machine into the world, not running yet. It speaks for the member of its index,
        unless it is somebody's twin."""
        member = index if member is None else member
        self.hosts[index] = Host(index, member, factory, secret)
        self.hosts_of.setdefault(member, []).append(index)

    def start(self, index: int) -> None:
        """Start a machine, or start it again from its disk."""
        host = self.hosts[index]
        assert host.machine is None, "a running machine is not started"
        self._assign()
        host.disk.recover()
        host.machine = host.factory(host.disk)
        for observer in self.observers:
            observer.on_start(index)
        effects = host.machine.start(self.now_ms + host.clock_offset_ms)
        self._carry_out(host, _START, effects)

    def crash(self, index: int) -> None:
        """Kill a machine. Of what each store had yet to write, some prefix was written."""
        host = self.hosts[index]
        if host.machine is None:
            return
        host.machine = None
        self._assign()
        for observer in self.observers:
            observer.on_crash(index)
        host.incarnation += 1
        for _, queue in sorted(host.writing.items()):
            for persist in list(queue)[: self.random.randint(0, len(queue))]:
                self._write(host, persist)
        host.writing.clear()
        host.busy_until_ms.clear()
        host.timers.clear()
        host.asked.clear()
        host.durable.clear()
        host.waiting.clear()

    def is_running(self, index: int) -> bool:
        return self.hosts[index].machine is not None

    def poke(self, index: int, call: Callable[[Any], Sequence[Any]]) -> None:
        """Let a running machine do something else than `step`, and carry out the effects."""
        host = self.hosts[index]
        if host.machine is not None:
            self._assign()
            self._carry_out(host, _POKE, call(host.machine))

    def inject(self, sender: int, receiver: int, message: Message, delay_ms: int = 0) -> None:
        """Deliver a forged message to one host; the transport vouches for the member `sender`."""
        self.after(delay_ms, self._deliver, receiver, Received(sender, message))

    # ---- time ----------------------------------------------------------------------------------

    def after(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do something later."""
        self._sequence += 1
        assert self._sequence <= STEPS_MAX, "the world does not come to rest"
        entry = (self.now_ms + delay_ms, self._sequence, action, arguments)
        heapq.heappush(self._heap, entry)

    def run_for(self, duration_ms: int) -> None:
        """Let time pass."""
        self._assign()
        heap, pop = self._heap, heapq.heappop
        end_ms = self.now_ms + duration_ms
        while heap and heap[0][0] <= end_ms:
            self.now_ms, _, action, arguments = pop(heap)
            action(*arguments)
        self.now_ms = end_ms

    def run_until(self, is_done: Callable[[], bool], duration_max_ms: int) -> bool:
        """Let time pass until `is_done` or for the duration; returns whether it was done."""
        end_ms = self.now_ms + duration_max_ms
        while self._heap and self._heap[0][0] <= end_ms:
            if is_done():
                return True
            self.run_for(self._heap[0][0] - self.now_ms)
        self.now_ms = end_ms
        return is_done()

    @property
    def steps(self) -> int:
        """How much happened so far."""
        return self._sequence - len(self._heap)

    @property
    def trace_hash(self) -> str:
        """Digest of every event that any machine has seen and of all that it asked for, in order:
        what is sent, written, stored and told."""
        self._hash_trace()
        return self._trace.hexdigest(length=TRACE_HASH_SIZE_BYTES)

    def _note(self, happened: Any) -> None:
        """Put something into the trace."""
        _encode_into(happened, self._trace_end, -1)
        if len(self._trace_end) >= TRACE_PIECE_MAX_BYTES:
            self._hash_trace()

    def _hash_trace(self) -> None:
        self._trace.update(self._trace_end)
        self._trace_end.clear()

    # ---- effects -------------------------------------------------------------------------------

    def _carry_out(self, host: Host, cause: Any, effects: Sequence[Any]) -> None:
        """Note what happened and what came of it, and do that."""
        index = host.index
        self._note((self.now_ms, index, cause, effects))
        watching, actions = self._dispatch.on_effect[index], self._actions
        for effect in effects:
            kind = effect.__class__
            for watch in watching[kind]:
                watch(index, effect)
            action = actions.get(kind)
            if action is not None:
                action(host, effect)

    def _assign(self) -> None:
        """Find out anew who watches what if somebody has come or gone."""
        if self._dispatch.observers != self.observers:
            self._dispatch = Dispatch(self.observers)

    def _send_when_durable(self, host: Host, send: Send) -> None:
        if host.durable.issuperset(send.after):
            self._send(host, send)
            return
        if not host.asked.issuperset(send.after):
            kind = type(send.message).__name__
            raise UnaskedWriteError(f"host {host.index} sends {kind} before it asks for its record")
        host.waiting.append(send)

    def _sign(self, host: Host, sign: Sign) -> None:
        signature = self._scheme.sign(host.secret, sign.message)
        self._answer(host, Signed(sign.token, signature))

    def _verify(self, host: Host, verify: Verify) -> None:
        results = tuple(verify_claim(self._scheme, claim) for claim in verify.claims)
        self._answer(host, Verified(verify.token, results))

    def _aggregate(self, host: Host, effect: Aggregate) -> None:
        result = aggregate_partials(self._scheme, effect.message, effect.partials)
        self._answer(
            host, Aggregated(effect.token, result.signers, result.signature, result.culprits)
        )

    def _serve_committed(self, host: Host, serve: ServeCommitted) -> None:
        self._send(host, Send((serve.to,), read_committed(host.disk, serve)))

    def _answer(self, host: Host, event: Any) -> None:
        """A worker's result comes back a little later, unless the machine dies first."""
        delay_ms = self._pick(host.work_ms or self.conditions.work_ms)
        self.after(delay_ms, self._deliver_alive, host, host.incarnation, event)

    def _later(self, host: Host, delay_ms: int, event: Any) -> None:
        self.after(delay_ms, self._deliver_alive, host, host.incarnation, event)

    def _deliver_alive(self, host: Host, incarnation: int, event: Any) -> None:
        if host.incarnation == incarnation:
            self._deliver(host.index, event)

    def _set_timer(self, host: Host, effect: SetTimer) -> None:
        name, deadline_ms = effect.name, effect.deadline_ms
        if deadline_ms is None:
            host.timers.pop(name, None)
            return
        host.timers[name] = deadline_ms
        self._arm(host, name, deadline_ms)

    def _arm(self, host: Host, name: str, deadline_ms: int) -> None:
        """Fire when the host's own clock shows the deadline."""
        wait_ms = max(deadline_ms - self.now_ms - host.clock_offset_ms, 0)
        self.after(wait_ms, self._fire, host, host.incarnation, name, deadline_ms)

    def _fire(self, host: Host, incarnation: int, name: str, deadline_ms: int) -> None:
        if host.incarnation != incarnation or host.timers.get(name) != deadline_ms:
            return
        if self.now_ms + host.clock_offset_ms < deadline_ms:
            self._arm(host, name, deadline_ms)
            return
        del host.timers[name]
        self._deliver(host.index, TimerFired(name))

    def set_clock(self, index: int, offset_ms: int) -> None:
        """Step a machine's clock. What is due then fires."""
        host = self.hosts[index]
        host.clock_offset_ms = offset_ms
        for name, deadline_ms in list(host.timers.items()):
            self._arm(host, name, deadline_ms)

    def _persist(self, host: Host, persist: Persist) -> None:
        store, now_ms = persist.store, self.now_ms
        host.asked.add(persist.token)
        queue = host.writing[store]
        queue.append(persist)
        ready_ms = max(host.busy_until_ms.get(store, 0), now_ms)
        ready_ms += self._pick(host.record_ms or self.conditions.persist_ms)
        host.busy_until_ms[store] = ready_ms
        self.after(ready_ms - now_ms, self._complete, host, host.incarnation, queue, persist)

    def _complete(
        self, host: Host, incarnation: int, queue: deque[Persist], persist: Persist
    ) -> None:
        """A write is done, unless something comes between."""
        if host.incarnation != incarnation:
            return

        def write() -> None:
            assert queue.popleft() is persist, "a store writes in order"
            self._write(host, persist)

        if not self._try_write(host, persist, write, queue):
            return
        host.durable.add(persist.token)
        if host.waiting:
            waiting, host.waiting = host.waiting, []
            for send in waiting:
                self._send_when_durable(host, send)

    def _try_write(
        self, host: Host, effect: Any, write: Callable[[], None], queue: deque[Any] | None = None
    ) -> bool:
        """Carry out one durable write, unless the machine dies at it; True if it lives on. `queue`
        holds what waits for it in the same store, which is lost with it."""
        index, queue = host.index, deque() if queue is None else queue
        if host.disk_error is not None:
            if host.disk_error is DiskError.SYNC:
                self._forget_writes(host)
            queue.clear()
            self.stop_with(index, host.disk_error.code())
            if host.disk_error is DiskError.SYNC:
                host.disk.lose_unsynced()
            return False
        point = self.crash_at(index, effect)
        if point is CrashPoint.BEFORE_DURABLE or point is CrashPoint.TORN:
            queue.clear()
            self.crash(index)
            if point is CrashPoint.TORN:
                host.disk.tear(effect, self.random)
            return False
        write()
        if point is CrashPoint.AFTER_DURABLE:
            queue.clear()
            self.crash(index)
            return False
        return True

    def stop_with(self, index: int, code: str) -> None:
        """A host ends by itself, with a code of its storage."""
        self.crash(index)
        for listen in self.on_stopped:
            listen(index, code)

    def _forget_writes(self, host: Host) -> None:
        """Nothing that waits to be written will be."""
        for queue in host.writing.values():
            queue.clear()

    def _write(self, host: Host, persist: Persist) -> None:
        host.disk.apply(persist)
        if persist.deletes and persist.store is Store.SAFETY and host.machine is not None:
            self._drop_once_archived(host, persist)
        for watch in self._dispatch.on_durable[host.index][persist.store]:
            watch(host.index, persist)

    def _drop_once_archived(self, host: Host, persist: Persist) -> None:
        """Drop only what the archive holds for good (`node.durability`)."""
        incarnation = host.incarnation

        def drop() -> None:
            host.disk.sync_archive()
            host.disk.drop(persist.store, persist.deletes)

        def try_drop() -> None:
            if host.incarnation == incarnation:
                self._try_write(host, Drop(persist), drop)

        archived_at_ms = host.busy_until_ms.get(Store.ARCHIVE, 0)
        self.after(max(archived_at_ms - self.now_ms, 0), try_drop)

    # ---- network -------------------------------------------------------------------------------

    def _send(self, host: Host, send: Send) -> None:
        for watch in self._dispatch.on_sent[host.index][send.message.__class__]:
            watch(host.index, send.message)
        event = Received(host.member, send.message)
        for member in send.to:
            if member == host.member:
                self._later(host, 0, event)
            for receiver in self.hosts_of.get(member, ()):
                if receiver != host.index:
                    self._transmit(host.index, receiver, event)

    def _transmit(self, sender: int, receiver: int, event: Received) -> None:
        conditions, draw = self.conditions, self.random.random
        if conditions.drop_permille and draw() * PERMILLE < conditions.drop_permille:
            return
        arrivals_ms = [self._pick(conditions.delay_ms)]
        if conditions.duplicate_permille and draw() * PERMILLE < conditions.duplicate_permille:
            arrivals_ms.append(self._pick(conditions.delay_ms))
        if self.rules:
            passage = Passage(self.now_ms, sender, receiver, event.message)
            for rule in self.rules:
                arrivals_ms = rule.bend(passage, arrivals_ms, self.random)
        for delay_ms in arrivals_ms:
            self.after(delay_ms, self._deliver, receiver, event)

    def _deliver(self, index: int, event: Any) -> None:
        host = self.hosts[index]
        if host.machine is None:
            return
        if event.__class__ is Received:
            for watch in self._dispatch.on_received[index][event.message.__class__]:
                watch(index, event)
        effects = host.machine.step(self.now_ms + host.clock_offset_ms, event)
        self._carry_out(host, event, effects)

    def _pick(self, bounds: tuple[int, int]) -> int:
        """A whole number between the bounds, both included."""
        least, most = bounds
        # `randint` draws as evenly and takes eight times as long.
        return least + int(self.random.random() * (most - least + 1))
