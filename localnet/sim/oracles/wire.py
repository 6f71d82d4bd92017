"""What one node says, the others can read.

Hosts of the simulator hand messages over as they are; nodes that run alone decode frames, and
refuse what is too long, breaks a bound of its type or has more than one encoding. An honest node
that says such a thing is taken for a liar, or never heard.
"""

from collections.abc import Iterable
from typing import Final

from consensus.messages import (
    BULK_FRAME_MAX_BYTES,
    CONTROL_FRAME_MAX_BYTES,
    BulkMessage,
    Message,
    encode_message,
)
from crypto.codec import DecodeError
from localnet.sim.oracles.watchers import Watcher
from node.host import decode_frame
from node.transport.queues import Traffic

FRAME_MAX_BYTES: Final = {
    Traffic.CONTROL: CONTROL_FRAME_MAX_BYTES,
    Traffic.BULK: BULK_FRAME_MAX_BYTES,
}


class Wire(Watcher):
    """Every message comes out of its frame as it went in, and the frame is within its bound."""

    def __init__(self, exempt: Iterable[int] = ()) -> None:
        """What `exempt` hosts say may be anything."""
        self.exempt = frozenset(exempt)

    def on_sent(self, index: int, message: Message) -> None:
        who = f"host {index}'s {type(message).__name__}"
        traffic = Traffic.BULK if isinstance(message, BulkMessage) else Traffic.CONTROL
        frame = encode_message(message)
        most = FRAME_MAX_BYTES[traffic]
        assert len(frame) <= most, f"{who} takes {len(frame)} bytes, and {most} are let through"
        try:
            heard = decode_frame(traffic, frame)
        except DecodeError as error:
            raise AssertionError(f"{who} is refused: {error}") from error
        assert heard == message, f"{who} is heard otherwise than it was said"
