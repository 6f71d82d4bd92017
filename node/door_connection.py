"""One client connection of the order door: what it is owed, what it has earned, how it is ended."""

import socket
from collections import deque
from contextlib import suppress
from typing import Final

import trio

from node.forgeries import Standing
from node.framing import FramedStream
from node.protocol import REQUESTS_IN_FLIGHT_MAX, Query, SubmitEnvelopes, SubmitOpaque

PART_READ_BYTES: Final = 64 << 10
"""Read at once, and dropped, from a client that is being parted with."""

KEEPALIVE_IDLE_S: Final = 60
KEEPALIVE_INTERVAL_S: Final = 15
KEEPALIVE_PROBES: Final = 4
"""After a minute of silence the kernel asks whether the client still lives, and gives up a minute
later. Its own default of two hours would let clients that lost power keep their places."""

UNACKNOWLEDGED_TIMEOUT_MS: Final = 1_000 * (
    KEEPALIVE_IDLE_S + KEEPALIVE_PROBES * KEEPALIVE_INTERVAL_S
)
"""The same for a client that is sent something: until then the kernel takes what a dead one is sent
for as long as its buffer has room."""


class Connection:
    """One client."""

    def __init__(self, source: int, address: str, stream: FramedStream) -> None:
        self.source = source
        self.stream = stream
        self.scope = trio.CancelScope()
        self.reading = trio.CancelScope()
        self.outbox: deque[bytes] = deque()
        self.outbox_bytes = 0
        self.wake = trio.Event()
        self.in_flight: set[int] = set()
        self.room = trio.Event()
        self.heard = 0
        """Number of its last frame, counted over all clients: the least was silent for longest."""
        self.is_greeted = False
        self.is_dismissed = False
        """Off the books; what is in the outbox is the last word."""
        self.standing = Standing(address)

    def must_wait(self, request: SubmitEnvelopes | SubmitOpaque | Query) -> bool:
        """Must what was asked before be answered first?"""
        if len(self.in_flight) >= REQUESTS_IN_FLIGHT_MAX:
            return True
        is_untried = isinstance(request, SubmitEnvelopes) and not self.standing.is_trusted
        return is_untried and self.standing.unchecked > 0


def watch_for_death(stream: trio.SocketStream) -> None:
    """A subscriber may be silent for ever: it is the kernel that notices its death."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every system lets a program choose these.
    options = {
        "TCP_KEEPIDLE": KEEPALIVE_IDLE_S,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_S,
        "TCP_KEEPCNT": KEEPALIVE_PROBES,
        "TCP_USER_TIMEOUT": UNACKNOWLEDGED_TIMEOUT_MS,
    }
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:
            stream.setsockopt(socket.IPPROTO_TCP, option, value)


async def part(stream: trio.abc.Stream) -> None:
    """End our side and drop what still comes, until the other side ends too: closing on unread
    bytes would make the kernel throw away what was said last."""
    if isinstance(stream, trio.abc.HalfCloseableStream):
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.send_eof()
            while await stream.receive_some(PART_READ_BYTES):
                pass
