"""Signs two batches for one place of its lane, and tells different members different ones."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import BatchMessage
from consensus.types import BatchHeader
from crypto.codec import encode
from crypto.digest import Domain, bulk_digest
from localnet.byzantine.behaviour import Behaviour
from mempool.batch import BatchBody, OpaqueChunk


class ForkedLane(Behaviour):
    """Signs two batches for each place of its lane; one member hears both."""

    name: ClassVar[str] = "forked_lane"
    overlap: ClassVar[int] = 1

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        message = send.message
        if not isinstance(message, BatchMessage):
            return (send,)
        if message.signed_header.header.author != self.tools.member:
            return (send,)
        half = len(send.to) // 2
        rival = self._make_rival(message)
        return (
            replace(send, to=send.to[: half + self.overlap]),
            Send(send.to[half:], rival),
        )

    def _make_rival(self, message: BatchMessage) -> BatchMessage:
        """A good batch with other contents."""
        header = message.signed_header.header
        body, digest = make_other_body(header)
        rival = replace(header, body_digest=digest, size_bytes=len(body))
        return BatchMessage(self.tools.sign_header(rival), body)


class ForkedLaneSplit(ForkedLane):
    """Signs two batches for each place of its lane; nobody hears both before one is ordered."""

    name: ClassVar[str] = "forked_lane_split"
    overlap: ClassVar[int] = 0


def make_other_body(header: BatchHeader) -> tuple[bytes, bytes]:
    """A good body that is not the header's, and its digest: the same one each time, so that a
    repeated batch is repeated."""
    data = header.body_digest[:8]
    body = encode(BatchBody((), (OpaqueChunk(1, len(data), data),)))
    return body, bulk_digest(Domain.BATCH_BODY, body)
