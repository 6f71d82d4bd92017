"""Frames: how every stream of Rota is cut into messages.

A frame is its length as 4 bytes big-endian, then that many bytes. Peers, the order door and the
worker processes all use it, each with limits of its own.

The other side is hostile until proven otherwise. A frame above the limit is refused from its
length alone, before any of it is buffered. A frame that has begun must be complete within a
deadline, so a peer that sends one byte a minute holds a connection for seconds, not for ever. What
is buffered never exceeds one frame and one read.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Final

import trio

LENGTH_SIZE_BYTES: Final = 4
"""The length in front of each frame."""

READ_MIN_BYTES: Final = 64 << 10
"""Asked from the stream at once while little is expected."""

READ_MAX_BYTES: Final = 1 << 20
"""Asked from the stream at once in the middle of a large frame."""

COALESCE_MAX_BYTES: Final = 256 << 10
"""Frames are joined up to this size, so that many small ones cost one system call and one TLS
record run; a larger frame is written from where it lies, without a copy."""


class FramingError(Exception):
    """The other side broke the framing or its deadlines; the stream cannot be used any more.

    | code | meaning |
    |---|---|
    | `frame.too_large` | a length above the limit |
    | `frame.truncated` | the stream ended inside a frame |
    | `frame.too_slow` | a frame was begun and not completed, or not taken, in time |
    | `frame.idle` | nothing at all arrived for too long |
    | `frame.crowded_out` | too many large frames were arriving at once, and this began first |
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


def encode_length(size_bytes: int) -> bytes:
    """The 4 bytes in front of a frame."""
    return size_bytes.to_bytes(LENGTH_SIZE_BYTES, "big")


class _Arriving:
    """A large frame that is not complete."""

    __slots__ = ("scope", "size_bytes")

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        self.size_bytes = 0
        """Received so far."""


class FrameRoom:
    """Bytes that the large frames of many streams may occupy together while they arrive.

    What counts is what has been received: to claim a large frame costs nobody else his place. When
    they exceed the room, the frame that began first makes way. An honest frame takes milliseconds,
    so it is complete long before its turn; what stays unfinished on purpose is the oldest.
    """

    def __init__(self, size_max_bytes: int) -> None:
        self._size_max_bytes = size_max_bytes
        self._arriving: dict[int, _Arriving] = {}
        """In the order in which the frames began."""
        self._begun = 0
        self.size_bytes = 0
        """Held now."""

    @contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """Hold room while a frame arrives; what is yielded wants to be told how many bytes of it
        are there. Raises `FramingError` (`frame.crowded_out`)."""
        self._begun += 1
        number = self._begun
        with trio.CancelScope() as scope:
            self._arriving[number] = _Arriving(scope)
            try:
                yield partial(self._grow, number)
            finally:
                if number in self._arriving:
                    self._leave(number)
        if scope.cancelled_caught:
            raise FramingError("frame.crowded_out", "it made room for newer ones")

    def _grow(self, number: int, size_bytes: int) -> None:
        arriving = self._arriving.get(number)
        if arriving is None:
            # It was crowded out, and completed by what it had read when that was decided.
            return
        self.size_bytes += size_bytes - arriving.size_bytes
        arriving.size_bytes = size_bytes
        while self.size_bytes > self._size_max_bytes and len(self._arriving) > 1:
            self._leave(next(iter(self._arriving))).cancel()

    def _leave(self, number: int) -> trio.CancelScope:
        arriving = self._arriving.pop(number)
        self.size_bytes -= arriving.size_bytes
        return arriving.scope


class FramedStream:
    """Frames over any trio stream.

    One task may receive while another sends; two may not do the same at once. All times are in
    seconds; `math.inf` switches a deadline off.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        frame_max_bytes: int,
        frame_timeout_s: float = 10.0,
        idle_timeout_s: float = math.inf,
        write_timeout_s: float = 30.0,
        room: FrameRoom | None = None,
    ) -> None:
        """`frame_timeout_s` is what a frame may take from its first byte on, `idle_timeout_s`
        what may pass before that first byte, `write_timeout_s` what the other side may take to
        accept one write of at most `COALESCE_MAX_BYTES` or one larger frame. `room` is what it
        shares with other streams for frames above `READ_MIN_BYTES`."""
        self.stream = stream
        self.frame_max_bytes = frame_max_bytes
        """Largest frame in either direction. A stream may begin with a small one and get its
        full limit once the other side is known."""
        self._frame_timeout_s = frame_timeout_s
        self.idle_timeout_s = idle_timeout_s
        """May change between frames, as the limit of size may."""
        self._write_timeout_s = write_timeout_s
        self._room = room
        self._buffer = bytearray()

    async def receive_frame(self) -> bytes:
        """Return the next frame.

        Raises `trio.EndOfChannel` when the stream ends between frames, `FramingError`, and what
        the stream itself raises when it breaks (`trio.BrokenResourceError`).
        """
        frame = self._take_frame()
        if frame is not None:
            # Whoever sends many small frames at once must not keep other tasks from running.
            await trio.lowlevel.checkpoint()
            return frame
        if not self._buffer:
            await self._await_first_byte()
            if (frame := self._take_frame()) is not None:
                return frame
        with trio.move_on_after(self._frame_timeout_s):
            while len(self._buffer) < LENGTH_SIZE_BYTES:
                await self._read_on()
            with self._hold_room(self._expected_bytes()) as grow:
                while (frame := self._take_frame()) is None:
                    grow(len(self._buffer))
                    await self._read_on()
        # A frame that arrived together with its deadline has arrived.
        if frame is None:
            raise FramingError("frame.too_slow", f"not complete in {self._frame_timeout_s} s")
        return frame

    async def send_frame(self, frame: bytes) -> None:
        """Send one frame; see `send_frames`."""
        await self.send_frames((frame,))

    async def send_frames(self, frames: Sequence[bytes]) -> None:
        """Send frames in order, joining small ones.

        Raises `FramingError` (`frame.too_slow`) if the other side does not take them in time, and
        what the stream raises. After any error, or a cancellation, the stream is unusable: part of
        a frame may have gone out.
        """
        for chunk in self._join(frames):
            with trio.move_on_after(self._write_timeout_s) as scope:
                await self.stream.send_all(chunk)
            if scope.cancelled_caught:
                raise FramingError("frame.too_slow", f"not taken in {self._write_timeout_s} s")

    async def aclose(self) -> None:
        """Close at once, without a farewell that a dead peer could delay."""
        await trio.aclose_forcefully(self.stream)

    def _join(self, frames: Sequence[bytes]) -> Iterator[bytes | bytearray]:
        pending = bytearray()
        for frame in frames:
            assert len(frame) <= self.frame_max_bytes, "our own frames keep the limit"
            pending += encode_length(len(frame))
            if len(frame) >= COALESCE_MAX_BYTES:
                yield pending
                yield frame
                pending = bytearray()
            else:
                pending += frame
                if len(pending) >= COALESCE_MAX_BYTES:
                    yield pending
                    pending = bytearray()
        if pending:
            yield pending

    async def _await_first_byte(self) -> None:
        with trio.move_on_after(self.idle_timeout_s):
            if not await self._read():
                raise trio.EndOfChannel
        if not self._buffer:
            raise FramingError("frame.idle", f"nothing in {self.idle_timeout_s} s")

    def _hold_room(self, size_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        if self._room is None or size_bytes <= READ_MIN_BYTES:
            return nullcontext(lambda _: None)
        return self._room.hold()

    async def _read_on(self) -> None:
        if not await self._read():
            raise FramingError("frame.truncated", f"{len(self._buffer)} bytes of a frame")

    async def _read(self) -> bool:
        """Read once; False at the end of the stream."""
        data = await self.stream.receive_some(self._wanted_bytes())
        self._buffer += data
        return bool(data)

    def _wanted_bytes(self) -> int:
        if len(self._buffer) < LENGTH_SIZE_BYTES:
            return READ_MIN_BYTES
        missing = self._expected_bytes() - len(self._buffer)
        return max(READ_MIN_BYTES, min(missing, READ_MAX_BYTES))

    def _expected_bytes(self) -> int:
        """Size of the frame at the front of the buffer, its length field included."""
        size_bytes = int.from_bytes(self._buffer[:LENGTH_SIZE_BYTES], "big")
        if size_bytes > self.frame_max_bytes:
            raise FramingError("frame.too_large", f"{size_bytes} > {self.frame_max_bytes} bytes")
        return LENGTH_SIZE_BYTES + size_bytes

    def _take_frame(self) -> bytes | None:
        if len(self._buffer) < LENGTH_SIZE_BYTES:
            return None
        end = self._expected_bytes()
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            frame = bytes(view[LENGTH_SIZE_BYTES:end])
        # Removing from the front of a bytearray moves a pointer, not the bytes.
        del self._buffer[:end]
        return frame
