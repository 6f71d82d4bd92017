"""Queues between the node and its connections: what is sent waits here, and what arrived.

Loss is allowed and counted. On the control side new frames are worth more than old ones (a later
view overtakes an earlier one, and what matters is repeated until its view ends), so an overflow
drops the oldest. On the bulk side the oldest frames are what the peer is waiting for (lanes are
chains), so an overflow drops the newest; the peer fetches it later.
"""

from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import trio


class Traffic(StrEnum):
    """The two classes of `consensus.messages`: `ControlMessage` and `BulkMessage`."""

    CONTROL = "control"
    BULK = "bulk"


class Inbound(NamedTuple):
    """A frame that arrived."""

    sender: int
    """The committee index of the authenticated peer."""
    frame: bytes


class SendQueue:
    """Frames of one class waiting for one peer. Putting never waits."""

    def __init__(self, *, frames_max: int, bytes_max: int, drops_oldest: bool) -> None:
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._drops_oldest = drops_oldest
        self._frames: deque[bytes] = deque()
        self._filled = trio.Event()
        self.size_bytes = 0
        self.dropped = 0
        """Frames lost to overflows so far."""

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes) -> bool:
        """Queue a frame; False if this one was dropped."""
        if not self._drops_oldest and not self._fits(frame):
            self.dropped += 1
            return False
        self._frames.append(frame)
        self.size_bytes += len(frame)
        while len(self._frames) > self._frames_max or self.size_bytes > self._bytes_max:
            self.size_bytes -= len(self._frames.popleft())
            self.dropped += 1
        self._filled.set()
        return bool(self._frames)

    async def take(self, bytes_max: int, timeout_s: float) -> Sequence[bytes]:
        """Take frames in order: all that fit into `bytes_max`, and one in any case. Empty if
        there is none for `timeout_s`."""
        if not self._frames:
            with trio.move_on_after(timeout_s):
                await self._filled.wait()
        taken: list[bytes] = []
        total = 0
        while self._frames and (not taken or total + len(self._frames[0]) <= bytes_max):
            frame = self._frames.popleft()
            total += len(frame)
            taken.append(frame)
        self.size_bytes -= total
        if not self._frames and self._filled.is_set():
            self._filled = trio.Event()
        return taken

    def clear(self) -> None:
        """Drop everything, counted: the peer is gone and will not miss what is stale."""
        self.dropped += len(self._frames)
        self._frames.clear()
        self.size_bytes = 0
        if self._filled.is_set():
            self._filled = trio.Event()

    def _fits(self, frame: bytes) -> bool:
        return (
            len(self._frames) < self._frames_max and self.size_bytes + len(frame) <= self._bytes_max
        )


class Inbox:
    """Frames of one class from all peers, handed out in turn.

    Each peer has its own share and waits, alone, when that is full. The reader takes one frame of
    every peer before a second one of any.
    """

    def __init__(self, *, frames_max: int, bytes_max: int) -> None:
        """Both bounds are for each peer; one frame always fits."""
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._shares: dict[int, _Share] = {}
        self._turns: deque[int] = deque()
        """Peers with frames, each once, in the order of their turns."""
        self._filled = trio.Event()

    async def put(self, sender: int, frame: bytes) -> None:
        """Add a frame once its sender's share has room."""
        share = self._shares.get(sender)
        if share is None:
            share = self._shares[sender] = _Share()
        while share.frames and (
            len(share.frames) >= self._frames_max or share.size_bytes + len(frame) > self._bytes_max
        ):
            if share.freed.is_set():
                share.freed = trio.Event()
            await share.freed.wait()
        if not share.frames:
            self._turns.append(sender)
        share.frames.append(frame)
        share.size_bytes += len(frame)
        self._filled.set()

    async def receive_many(self, frames_max: int = 64) -> list[Inbound]:
        """Wait for frames and take up to `frames_max`, in turn; never empty. One reader."""
        if self._turns:
            await trio.lowlevel.checkpoint()
        else:
            await self._filled.wait()
        taken: list[Inbound] = []
        while self._turns and len(taken) < frames_max:
            sender = self._turns.popleft()
            share = self._shares[sender]
            frame = share.frames.popleft()
            share.size_bytes -= len(frame)
            share.freed.set()
            if share.frames:
                self._turns.append(sender)
            taken.append(Inbound(sender, frame))
        if not self._turns:
            self._filled = trio.Event()
        return taken


class _Share:
    """One peer's part of an inbox."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.size_bytes = 0
        self.freed = trio.Event()
