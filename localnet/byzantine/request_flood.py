"""Asks everybody for everything all the time, mostly for what does not exist."""

from collections.abc import Iterable
from typing import ClassVar, Final

from consensus.effects import Send
from consensus.messages import BatchRequest, BlockRequest, CommittedRequest, LaneRequest, Message
from localnet.byzantine.notebook import Listener
from node.events import NodeEvent

REQUESTS: Final = 24
"""With each new view; more than a member answers at once."""


class RequestFlood(Listener):
    """Floods everybody with requests, mostly for what does not exist."""

    name: ClassVar[str] = "request_flood"

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        heard = self.opened
        if heard is None:
            return
        for _ in range(REQUESTS):
            yield Send(self.tools.others, self._make_request(heard.block.parent_id))

    def _make_request(self, block_id: bytes) -> Message:
        random = self.tools.random
        nothing = random.randbytes(32)
        batch_ids = tuple(self.notes.batches) or (nothing,)
        return random.choice(
            (
                BlockRequest(block_id, 0),
                BlockRequest(nothing, 0),
                CommittedRequest(1),
                CommittedRequest(2**62),
                BatchRequest((nothing, random.choice(batch_ids))),
                LaneRequest(random.choice(batch_ids), 0),
                LaneRequest(nothing, 0),
            )
        )
