"""Batches that are being checked, and those of delivered blocks that wait to be checked again.

A check costs up to thousands of signatures, so it is an effect whose verdict comes back later; what
the verdict is about is remembered here. Summaries die with the process: after a restart the stored
batches of blocks that are delivered again are checked once more, a few at a time.
"""

from collections import deque
from collections.abc import Iterable

from consensus.effects import CheckBatch, Token
from consensus.lane_limits import RECHECKS_PENDING_MAX
from consensus.ownership import Component, Tokens
from consensus.types import BatchHeader, SignedBatchHeader
from mempool.batch import CheckableBatch
from node.recovery import StoredBatchHeader


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


class BatchChecks:
    """Checks under way, the lanes' and this node's own."""

    def __init__(self, tokens: Tokens, unchecked: Iterable[StoredBatchHeader]) -> None:
        """`unchecked` are stored batches to check again; `tokens` those of `Component.NODE`."""
        self._tokens = tokens
        self._rechecks = deque(unchecked)
        self._under_way: dict[Token, tuple[bytes, BatchHeader]] = {}
        self._rechecks_under_way = 0

    def add(self, effect: CheckBatch) -> None:
        """Note a check that the lanes ask for."""
        self._under_way[effect.token] = (effect.batch_id, effect.signed_header.header)

    def begin_rechecks(self) -> list[CheckBatch]:
        """Checks to begin now: as many as there is room for."""
        effects: list[CheckBatch] = []
        while self._rechecks and self._rechecks_under_way < RECHECKS_PENDING_MAX:
            stored = self._rechecks.popleft()
            effect = CheckBatch(
                self._tokens.issue(),
                stored.batch_id,
                stored.signed_header,
                stored.author_key,
                body=None,
            )
            self.add(effect)
            self._rechecks_under_way += 1
            effects.append(effect)
        return effects

    def finish(self, token: Token) -> tuple[bytes, BatchHeader]:
        """The batch that a verdict is about; its check is over."""
        self._rechecks_under_way -= token.component == Component.NODE
        return self._under_way.pop(token)
