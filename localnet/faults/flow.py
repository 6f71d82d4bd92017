"""One direction of one proxied connection: bytes that wait, and what lets them pass.

Without a fault, bytes go on as they come. With one they queue up behind each other, so that their
order never changes; a TCP stream knows no other. What a link does may change at any moment, and
what already waits then heeds the new rule: a healed link delivers at once.
"""

from collections import deque
from random import Random
from typing import Final, NamedTuple

import trio

CHUNK_MAX_BYTES: Final = 64 << 10
WAITING_MAX_BYTES: Final = 16 << 20
"""Held for one direction of one connection; beyond it the sender is not read."""
CHUNK_COST_BYTES: Final = 256
"""Counted for each chunk besides its bytes: what Python needs to hold one, were it of one byte."""
PIECES_PER_S: Final = 20
"""Under a bandwidth limit, bytes go on in pieces this often."""


class Quality(NamedTuple):
    """What a link does to bytes."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Each chunk takes up to this much more or less."""
    bytes_per_s: int | None = None
    """None: no limit."""
    is_cut: bool = False


GOOD: Final = Quality()


class LinkRule:
    """What one link does now."""

    def __init__(self) -> None:
        self.quality = GOOD
        self.held = 0
        """Pieces of streams that did not pass as they came."""
        self._changed = trio.Event()

    def set(self, quality: Quality) -> None:
        """From now on do this."""
        if quality != self.quality:
            self.quality = quality
            self._changed.set()
            self._changed = trio.Event()

    async def wait_change(self, until_s: float) -> None:
        """Return when the rule changes, or at a time of trio's clock."""
        with trio.move_on_at(until_s):
            await self._changed.wait()

    async def admit(self, arrived_s: float, luck: float) -> None:
        """Return when a chunk that arrived then may go on; `luck` from -1 to 1 draws its jitter."""
        while True:
            quality = self.quality
            due_s = arrived_s + max(0.0, quality.delay_s + luck * quality.jitter_s)
            if quality.is_cut:
                due_s = float("inf")
            if trio.current_time() >= due_s:
                return
            await self.wait_change(due_s)


class _Chunk(NamedTuple):
    arrived_s: float
    luck: float
    data: bytes
    """Empty for the end of the stream."""


class Flow:
    """Carries bytes from one stream to another under a rule."""

    def __init__(self, rule: LinkRule, random: Random) -> None:
        self._rule = rule
        self._random = random
        self._waiting: deque[_Chunk] = deque()
        """The first stays here until it has been sent, so that nothing overtakes it."""
        self._waiting_bytes = 0
        self._moved = trio.Event()

    async def run(self, source: trio.abc.Stream, sink: trio.abc.HalfCloseableStream) -> None:
        """Carry bytes to the end of the stream and pass that on.

        Raises `trio.BrokenResourceError` or `trio.ClosedResourceError` if the sink is gone.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._release, sink)
            while True:
                data = await _receive(source)
                if data and not self._waiting and self._rule.quality == GOOD:
                    await sink.send_all(data)
                    continue
                luck = self._random.uniform(-1.0, 1.0)
                self._waiting.append(_Chunk(trio.current_time(), luck, data))
                self._waiting_bytes += CHUNK_COST_BYTES + len(data)
                self._rule.held += 1
                self._signal()
                if not data:
                    return
                while self._waiting_bytes > WAITING_MAX_BYTES:
                    await self._moved.wait()

    async def _release(self, sink: trio.abc.HalfCloseableStream) -> None:
        while True:
            while not self._waiting:
                await self._moved.wait()
            chunk = self._waiting[0]
            await self._rule.admit(chunk.arrived_s, chunk.luck)
            if not chunk.data:
                await sink.send_eof()
                return
            await self._send(sink, chunk.data)
            self._waiting.popleft()
            self._waiting_bytes -= CHUNK_COST_BYTES + len(chunk.data)
            self._signal()

    async def _send(self, sink: trio.abc.HalfCloseableStream, data: bytes) -> None:
        start = 0
        while start < len(data):
            rate = self._rule.quality.bytes_per_s
            if rate is None:
                await sink.send_all(data[start:])
                return
            piece = data[start : start + max(1, rate // PIECES_PER_S)]
            await sink.send_all(piece)
            start += len(piece)
            await self._rule.wait_change(trio.current_time() + len(piece) / rate)

    def _signal(self) -> None:
        self._moved.set()
        self._moved = trio.Event()


async def _receive(source: trio.abc.Stream) -> bytes:
    try:
        return bytes(await source.receive_some(CHUNK_MAX_BYTES))
    except trio.BrokenResourceError:
        # A reset is passed on as an end, because it must wait for a partition to heal as bytes do.
        return b""
