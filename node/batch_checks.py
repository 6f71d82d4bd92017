"""Batches that are being checked, and those of earlier lives that are opened again.

A check costs up to thousands of signatures, so it is an effect whose verdict comes back later.
Summaries die with the process. After a restart the batches of the blocks that are delivered again
are opened once more, many in one request: each passed its check before its height was delivered
for the first time, or it would have no delivery record, so its signatures are not verified again.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from consensus.effects import Token
from consensus.ownership import Tokens
from consensus.types import SignedBatchHeader
from mempool.batch import CheckableBatch
from node.events import BatchToOpen, OpenBatches
from node.recovery import DeliveredHeader

OPENED_BATCHES_MAX: Final = 64
"""Batches in one request. On a busy machine the way to a worker and back takes tens of
milliseconds, whatever its size."""

OPENED_SIZE_MAX_BYTES: Final = 512 << 10
"""Their bodies together, unless the first alone is larger."""

OPENINGS_MAX: Final = 4
"""Requests under way, so that the workers never wait for the next one."""

OPENED_AHEAD_HEIGHTS: Final = 256
"""How far ahead of delivery batches are opened: what they contain is in memory until then."""


def make_checkable(
    signed: SignedBatchHeader, author_key: bytes, body: bytes, chain_id: bytes
) -> CheckableBatch:
    """What `mempool.batch.check_batch` needs of a batch."""
    return CheckableBatch(
        author_key=author_key,
        author_signing_bytes=signed.author_signing_bytes(chain_id),
        signature=signed.signature,
        body_digest=signed.header.body_digest,
        size_bytes=signed.header.size_bytes,
        body=body,
    )


class Openings:
    """The batches of heights that were delivered before, in the order of their delivery."""

    def __init__(self, tokens: Tokens, batches: Iterable[DeliveredHeader]) -> None:
        self._tokens = tokens
        self._waiting = deque(batches)
        self._under_way: dict[Token, list[DeliveredHeader]] = {}

    @property
    def are_waiting(self) -> bool:
        """Is there anything that `begin` may ask for, now or later?"""
        return bool(self._waiting)

    def begin(self, delivered_height: int) -> list[OpenBatches]:
        """Requests to make now: as many as there is room for."""
        effects: list[OpenBatches] = []
        while self._waiting and len(self._under_way) < OPENINGS_MAX:
            batches = self._take(delivered_height + OPENED_AHEAD_HEIGHTS)
            if not batches:
                break
            token = self._tokens.issue()
            self._under_way[token] = batches
            wanted = (BatchToOpen(each.batch_id, each.header.body_digest) for each in batches)
            effects.append(OpenBatches(token, tuple(wanted)))
        return effects

    def finish(self, token: Token) -> list[DeliveredHeader]:
        """The batches that an answer is about, in its order; their request is over."""
        return self._under_way.pop(token)

    def _take(self, height_max: int) -> list[DeliveredHeader]:
        taken: list[DeliveredHeader] = []
        size_bytes = 0
        while self._waiting and len(taken) < OPENED_BATCHES_MAX:
            following = self._waiting[0]
            size_bytes += following.header.size_bytes
            if following.height > height_max or (taken and size_bytes > OPENED_SIZE_MAX_BYTES):
                break
            taken.append(self._waiting.popleft())
        return taken
