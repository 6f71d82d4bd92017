"""A client's stream of frames to and from an order door: what breaks it, and in which words.

Nothing that a node sends can do more than raise a `DoorError` that names the fault.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from crypto.codec import DecodeError, decode_lenient
from node.framing import FramedStream, FramingError
from node.protocol import ServerFrame

SERVER_FRAME_MAX_BYTES: Final = 16 << 20
"""Largest frame taken from a node: a whole answer to a query."""


class DoorError(Exception):
    """A request could not be served, or the connection is over; `code` says which and why.

    | code | meaning |
    |---|---|
    | `door.unreachable` | nobody answers at this address |
    | `door.closed` | the connection ended; whether the last requests arrived is unknown |
    | `door.timeout` | no answer in time; whether the request arrived is unknown |
    | `door.malformed` | the node sent bytes that are no frame of this protocol |
    | `door.unexpected` | the node sent a well-formed frame out of place |
    | `door.gap` | events of a subscription are missing |
    | `door.slow_reader` | this program did not read its events fast enough |
    | `door.too_large` | the request does not fit into one frame or request |
    | any other | the node refused the request, with a code of its own |
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@contextmanager
def deadline(timeout_s: float, what: str) -> Iterator[None]:
    """Bound what happens inside; raises `DoorError` (`door.timeout`)."""
    try:
        with trio.fail_after(timeout_s):
            yield
    except trio.TooSlowError:
        raise DoorError("door.timeout", f"{what} took more than {timeout_s:g} s") from None


class DoorStream:
    """Frames over a stream that somebody else opens and closes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._frames = FramedStream(stream, frame_max_bytes=SERVER_FRAME_MAX_BYTES)

    async def send(self, frame: bytes) -> None:
        """Send a frame. Raises `DoorError`."""
        try:
            await self._frames.send_frames([frame])
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise DoorError("door.closed", "the connection broke while sending") from error
        except FramingError as error:
            raise DoorError("door.timeout", str(error)) from error

    async def receive(self) -> ServerFrame:
        """The next frame. Raises `DoorError`."""
        try:
            frame = await self._frames.receive_frame()
            return decode_lenient(ServerFrame, frame)  # type: ignore[arg-type]  # a union
        except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise DoorError("door.closed", "the node closed the connection") from error
        except (FramingError, DecodeError) as error:
            raise DoorError("door.malformed", str(error)) from error
