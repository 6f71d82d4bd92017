"""One peer: what waits for it, the connections to it, and what they have carried."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

import trio

from consensus.messages import BULK_FRAME_MAX_BYTES, CONTROL_FRAME_MAX_BYTES
from node.transport.handshake import KEEPALIVE_S
from node.transport.queues import Inbox, SendQueue, Traffic

CONTROL_QUEUE_FRAMES_MAX: Final = 2048
CONTROL_QUEUE_BYTES_MAX: Final = 8 << 20
"""Beyond either, the oldest control frames for that peer are dropped."""

BULK_QUEUE_FRAMES_MAX: Final = 1024
BULK_QUEUE_BYTES_MAX: Final = 64 << 20
"""Beyond either, new bulk frames for that peer are dropped. Frames are shared between peers, so
this is not the memory of one peer but of one that is slower than all others."""

CONTROL_WRITE_BYTES: Final = 256 << 10
BULK_WRITE_BYTES: Final = 1 << 20
"""Taken from a queue at once; what is taken is lost if the connection breaks."""

KEEPALIVE_FRAME: Final = b""

assert CONTROL_FRAME_MAX_BYTES <= CONTROL_QUEUE_BYTES_MAX
assert BULK_FRAME_MAX_BYTES <= BULK_QUEUE_BYTES_MAX


class FrameStream(Protocol):
    """A connection in use: `FramedStream` over TLS, or `SealedStream`."""

    async def receive_frame(self) -> bytes: ...

    async def send_frames(self, frames: Sequence[bytes]) -> None: ...

    async def aclose(self) -> None: ...


class LineStatistics(NamedTuple):
    """One traffic class with one peer, since the start."""

    is_connected: bool
    connections: int
    """Times connected."""
    queued_frames: int
    queued_bytes: int
    dropped_frames: int
    sent_frames: int
    sent_bytes: int
    received_frames: int
    received_bytes: int


class Line:
    """One traffic class with one peer; at most one connection at a time, the newest."""

    def __init__(self, peer: int, traffic: Traffic, inbox: Inbox) -> None:
        is_control = traffic is Traffic.CONTROL
        self.traffic = traffic
        self.queue = SendQueue(
            frames_max=CONTROL_QUEUE_FRAMES_MAX if is_control else BULK_QUEUE_FRAMES_MAX,
            bytes_max=CONTROL_QUEUE_BYTES_MAX if is_control else BULK_QUEUE_BYTES_MAX,
            drops_oldest=is_control,
        )
        self._peer = peer
        self._inbox = inbox
        self._write_bytes = CONTROL_WRITE_BYTES if is_control else BULK_WRITE_BYTES
        self._current: trio.CancelScope | None = None
        self._refused = 0
        self._connections = 0
        self._sent_frames = self._sent_bytes = 0
        self._received_frames = self._received_bytes = 0

    @property
    def is_connected(self) -> bool:
        return self._current is not None

    def send(self, frame: bytes) -> bool:
        """Queue a frame; False if it was dropped.

        Control frames wait for a connection too, so that a short break loses little. Bulk frames
        do not: by the time the peer is back it has fetched or outlived them.
        """
        if self.traffic is Traffic.BULK and not self.is_connected:
            self._refused += 1
            return False
        return self.queue.put(frame)

    def disconnect(self) -> None:
        """End the current connection, if any."""
        if self._current is not None:
            self._current.cancel()

    async def run(self, stream: FrameStream) -> None:
        """Carry frames both ways until the connection ends, is replaced or is cancelled.

        Raises what ended it (a clean end of the stream included).
        """
        with self._occupy():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_forever, stream)
                nursery.start_soon(self._receive_forever, stream)

    def statistics(self) -> LineStatistics:
        return LineStatistics(
            self.is_connected,
            self._connections,
            len(self.queue),
            self.queue.size_bytes,
            self.queue.dropped + self._refused,
            self._sent_frames,
            self._sent_bytes,
            self._received_frames,
            self._received_bytes,
        )

    @contextmanager
    def _occupy(self) -> Iterator[None]:
        """The peer proved its identity anew, so what it had before is dead or will be."""
        self.disconnect()
        with trio.CancelScope() as scope:
            self._current = scope
            self._connections += 1
            try:
                yield
            finally:
                if self._current is scope:
                    self._current = None
                    if self.traffic is Traffic.BULK:
                        self.queue.clear()

    async def _send_forever(self, stream: FrameStream) -> None:
        while True:
            frames = await self.queue.take(self._write_bytes, KEEPALIVE_S)
            await stream.send_frames(frames or (KEEPALIVE_FRAME,))
            self._sent_frames += len(frames)
            self._sent_bytes += sum(map(len, frames))

    async def _receive_forever(self, stream: FrameStream) -> None:
        while True:
            frame = await stream.receive_frame()
            if frame != KEEPALIVE_FRAME:
                self._received_frames += 1
                self._received_bytes += len(frame)
                await self._inbox.put(self._peer, frame)


class Peer:
    """Another member as seen from this node."""

    def __init__(
        self, index: int, name: str, host: str, port: int, inboxes: dict[Traffic, Inbox]
    ) -> None:
        self.index = index
        self.name = name
        self.host = host
        self.port = port
        self.session_id = b""
        """Of the newest control connection that this node answered."""
        self.came_from = ""
        """The address (`node.addresses.group_address`) from which it came."""
        self.lines = {traffic: Line(index, traffic, inbox) for traffic, inbox in inboxes.items()}

    def disconnect(self) -> None:
        """End both connections. The dialer of the pair connects again."""
        for line in self.lines.values():
            line.disconnect()
