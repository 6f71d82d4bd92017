"""Turns what admission let in into batch bodies: by time, by size, and fairly.

A batch is due `batch_interval_ms` after the first waiting item came, or at once when
`batch_size_bytes` wait. While the lane cannot propose (too many of the node's own batches are not
committed yet) the node's core does not ask; what waits grows up to admission's bounds, then clients
are refused: that is the back-pressure.

*Fairness.* What waits is kept in flows: one for each sender of envelopes, one for each source and
kind of opaque transactions. Flows take turns (deficit round robin, Shreedhar and Varghese 1995):
each turn adds `TURN_QUANTUM_BYTES` to what the flow may send, so that a flood in one flow delays
the others by at most one turn of its own, and a flow of large items gains nothing over one of small
ones. Within a flow order is kept. One flow for each connection was rejected: a gateway carries
many senders on one connection, while a sender needs prepaid credit to exist at all.

*Cost.* Constant for each envelope and for each turn, nothing for each opaque transaction: chunks
are cut at multiples of the transaction size and joined, whatever they hold.
"""

from collections import deque
from collections.abc import Hashable
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.types import BATCH_BODY_MAX_BYTES
from mempool.batch import (
    BATCH_CHUNKS_MAX,
    BATCH_ENVELOPES_MAX,
    OPAQUE_TRANSACTION_MAX_BYTES,
    BatchBody,
    OpaqueChunk,
    encode_batch_body,
)
from mempool.envelope import ENVELOPE_SIZE_MAX_BYTES

BATCH_FILL_MAX_BYTES: Final = 512 << 10
"""Content after which a batch is closed at the latest: large enough to make fixed costs small,
small enough to be stored and sent within a block interval."""

TURN_QUANTUM_BYTES: Final = 68 << 10
"""What one turn lets a flow add: at least the largest item, so that every turn moves something."""

ITEM_OVERHEAD_BYTES: Final = 64
"""Counted on top of each item's bytes: its framing in the body and its bookkeeping."""

assert TURN_QUANTUM_BYTES >= ENVELOPE_SIZE_MAX_BYTES + ITEM_OVERHEAD_BYTES
assert TURN_QUANTUM_BYTES >= OPAQUE_TRANSACTION_MAX_BYTES + ITEM_OVERHEAD_BYTES
assert BATCH_FILL_MAX_BYTES + 2 * TURN_QUANTUM_BYTES <= BATCH_BODY_MAX_BYTES


class BatcherConfig(Struct, frozen=True):
    """This node's own choice; no other node needs to agree."""

    batch_interval_ms: Annotated[int, Meta(ge=1)] = 2
    """How long the first item waits for company: small against a block interval."""
    batch_size_bytes: Annotated[int, Meta(ge=1, le=BATCH_FILL_MAX_BYTES)] = BATCH_FILL_MAX_BYTES
    """Content after which a batch leaves without waiting."""


class QueuedEnvelope:
    """An envelope that waits for its batch. Whoever queued it may withdraw it."""

    __slots__ = ("data", "size_bytes")

    def __init__(self, data: bytes) -> None:
        self.data: bytes | None = data
        """Its bytes; None once it is in a batch or withdrawn."""
        self.size_bytes = len(data)


class _OpaqueRun:
    """What is left of one opaque submission."""

    __slots__ = ("data", "start")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.start = 0

    @property
    def size_bytes(self) -> int:
        return len(self.data) - self.start


class _EnvelopeFlow:
    __slots__ = ("allowance_bytes", "key", "queue")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.queue: deque[QueuedEnvelope] = deque()
        self.allowance_bytes = 0


class _OpaqueFlow:
    __slots__ = ("allowance_bytes", "key", "kind", "queue", "source")

    def __init__(self, source: Hashable, kind: tuple[int, int]) -> None:
        self.key = (source, kind)
        self.source = source
        self.kind = kind
        """(namespace, transaction size in bytes)."""
        self.queue: deque[_OpaqueRun] = deque()
        self.allowance_bytes = 0


class _Filling:
    """A batch body in the making."""

    __slots__ = ("envelopes", "limit_bytes", "opaque", "size_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.envelopes: list[bytes] = []
        self.opaque: dict[tuple[int, int], list[memoryview]] = {}
        self.size_bytes = 0

    def is_full(self) -> bool:
        return self.size_bytes >= self.limit_bytes or len(self.envelopes) >= BATCH_ENVELOPES_MAX

    def can_hold(self, kind: tuple[int, int]) -> bool:
        return kind in self.opaque or len(self.opaque) < BATCH_CHUNKS_MAX

    def body(self) -> bytes | None:
        if not self.envelopes and not self.opaque:
            return None
        chunks = tuple(
            OpaqueChunk(namespace, size_bytes, b"".join(pieces))
            for (namespace, size_bytes), pieces in self.opaque.items()
        )
        return encode_batch_body(BatchBody(tuple(self.envelopes), chunks))


class Batcher:
    """Holds what waits for this node's lane."""

    def __init__(self, config: BatcherConfig) -> None:
        self._config = config
        self._flows: dict[Hashable, _EnvelopeFlow | _OpaqueFlow] = {}
        self._turns: deque[_EnvelopeFlow | _OpaqueFlow] = deque()
        # Every flow that holds something, the next to serve first.
        self._waiting_since_ms = 0
        self._opaque_bytes_by_source: dict[Hashable, int] = {}
        self.waiting_bytes = 0
        """Envelopes and opaque transactions that wait, overhead included."""
        self.waiting_opaque_bytes = 0
        """The opaque part of it."""

    def add_envelope(self, now_ms: int, sender: bytes, data: bytes) -> QueuedEnvelope:
        """Queue one encoded envelope in its sender's flow; the result can withdraw it."""
        item = QueuedEnvelope(data)
        flow = self._flows.get(sender)
        if flow is None:
            flow = self._flows[sender] = _EnvelopeFlow(sender)
        assert isinstance(flow, _EnvelopeFlow), "senders are bytes, opaque flows are tuples"
        if not flow.queue:
            self._turns.append(flow)
        flow.queue.append(item)
        self._count_in(now_ms, item.size_bytes + ITEM_OVERHEAD_BYTES)
        return item

    def add_opaque(
        self,
        now_ms: int,
        source: Hashable,
        namespace: int,
        transaction_size_bytes: int,
        data: bytes,
    ) -> None:
        """Queue opaque transactions; admission has checked that `data` is whole ones."""
        kind = (namespace, transaction_size_bytes)
        key = (source, kind)
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = _OpaqueFlow(source, kind)
        assert isinstance(flow, _OpaqueFlow), "senders are bytes, opaque flows are tuples"
        if not flow.queue:
            self._turns.append(flow)
        flow.queue.append(_OpaqueRun(data))
        self._count_opaque(source, len(data) + ITEM_OVERHEAD_BYTES)
        self._count_in(now_ms, len(data) + ITEM_OVERHEAD_BYTES)

    def withdraw(self, item: QueuedEnvelope) -> None:
        """Drop an envelope that has become pointless, if it still waits."""
        if item.data is not None:
            item.data = None
            self.waiting_bytes -= item.size_bytes
            # Its overhead stays counted until its turn comes and the husk leaves the queue.

    def waiting_opaque_bytes_of(self, source: Hashable) -> int:
        """Opaque transactions of one source that wait, overhead included."""
        return self._opaque_bytes_by_source.get(source, 0)

    def next_deadline_ms(self) -> int | None:
        """When the next batch is due, in the past when it is overdue; None if nothing waits."""
        if not self.waiting_bytes:
            return None
        if self.waiting_bytes >= self._config.batch_size_bytes:
            return self._waiting_since_ms
        return self._waiting_since_ms + self._config.batch_interval_ms

    def take(self, now_ms: int) -> bytes | None:
        """Return the next batch body if one is due."""
        deadline_ms = self.next_deadline_ms()
        if deadline_ms is None or now_ms < deadline_ms:
            return None
        filling = _Filling(self._config.batch_size_bytes)
        unfit = 0  # Flows in a row whose kind of opaque transaction found no room.
        while self._turns and not filling.is_full() and unfit < len(self._turns):
            flow = self._turns.popleft()
            if isinstance(flow, _OpaqueFlow) and not filling.can_hold(flow.kind):
                self._turns.append(flow)
                unfit += 1
                continue
            unfit = 0
            # The cap bounds what a flow saves up when full batches cut its turns short.
            flow.allowance_bytes = min(
                flow.allowance_bytes + TURN_QUANTUM_BYTES, 2 * TURN_QUANTUM_BYTES
            )
            if isinstance(flow, _EnvelopeFlow):
                self._serve_envelopes(flow, filling)
            else:
                self._serve_opaque(flow, filling)
            if flow.queue:
                self._turns.append(flow)
            else:
                del self._flows[flow.key]
        # What stays begins to wait anew: under load batches fill up instead of coming in pairs.
        self._waiting_since_ms = now_ms
        return filling.body()

    def _count_in(self, now_ms: int, size_bytes: int) -> None:
        if not self.waiting_bytes:
            self._waiting_since_ms = now_ms
        self.waiting_bytes += size_bytes

    def _serve_envelopes(self, flow: _EnvelopeFlow, filling: _Filling) -> None:
        while flow.queue and not filling.is_full():
            item = flow.queue[0]
            if item.data is not None:
                cost_bytes = item.size_bytes + ITEM_OVERHEAD_BYTES
                if cost_bytes > flow.allowance_bytes:
                    break
                flow.allowance_bytes -= cost_bytes
                filling.size_bytes += cost_bytes
                filling.envelopes.append(item.data)
                self.withdraw(item)
            self.waiting_bytes -= ITEM_OVERHEAD_BYTES
            flow.queue.popleft()

    def _serve_opaque(self, flow: _OpaqueFlow, filling: _Filling) -> None:
        """Move whole transactions, as many as allowance and batch take, in few large pieces."""
        size_bytes = flow.kind[1]
        while flow.queue and not filling.is_full():
            run = flow.queue[0]
            room_bytes = max(0, flow.allowance_bytes - ITEM_OVERHEAD_BYTES)
            take_bytes = min(run.size_bytes, room_bytes)
            take_bytes -= take_bytes % size_bytes
            if not take_bytes:
                break
            stop = run.start + take_bytes
            piece = memoryview(run.data)[run.start : stop]
            filling.opaque.setdefault(flow.kind, []).append(piece)
            run.start = stop
            flow.allowance_bytes -= take_bytes + ITEM_OVERHEAD_BYTES
            filling.size_bytes += take_bytes + ITEM_OVERHEAD_BYTES
            leaving_bytes = take_bytes
            if not run.size_bytes:
                flow.queue.popleft()
                leaving_bytes += ITEM_OVERHEAD_BYTES
            self._count_opaque(flow.source, -leaving_bytes)
            self.waiting_bytes -= leaving_bytes

    def _count_opaque(self, source: Hashable, change_bytes: int) -> None:
        self.waiting_opaque_bytes += change_bytes
        left_bytes = self._opaque_bytes_by_source.get(source, 0) + change_bytes
        if left_bytes:
            self._opaque_bytes_by_source[source] = left_bytes
        else:
            del self._opaque_bytes_by_source[source]
