"""From committed tips to the batches that a block delivers, in one order on every node.

A block names certified tips. What it delivers is, lane by lane with rising author, the chain from
the cursor before the block up to the tip, oldest first. Only digests and committed cursors enter,
so an author who equivocated makes no two nodes differ; and the signers of the certificates hold
what is missing here.
"""

from collections import deque
from typing import NamedTuple

from consensus.lane_chain import LaneChain
from consensus.lane_fetch import Target


class OwedLane(NamedTuple):
    """The part of one committed block that lies in one lane."""

    author: int
    target: Target


class Deliveries:
    """Committed blocks that were not handed to execution yet, by height.

    Their number is bounded by the execution lag, at which blocks carry no lanes.
    """

    def __init__(self, chains: list[LaneChain]) -> None:
        self._chains = chains
        self._blocks: dict[int, tuple[OwedLane, ...]] = {}
        self._targets: list[deque[Target]] = [deque() for _ in chains]

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, height: int, owed: list[OwedLane]) -> None:
        """Take up a committed block; heights come without gaps."""
        assert height not in self._blocks
        self._blocks[height] = tuple(owed)
        for lane in owed:
            self._targets[lane.author].append(lane.target)

    def targets(self, author: int) -> tuple[Target, ...]:
        """What is owed of one lane, oldest first."""
        return tuple(self._targets[author])

    def find_oldest_needed(self, author: int) -> int:
        """The sequence above which links of a lane are still needed."""
        targets = self._targets[author]
        return targets[0].above_sequence if targets else self._chains[author].cursor.sequence

    def compute(self, height: int) -> tuple[bytes, ...] | None:
        """All batch ids of a block in execution order; None while something is missing."""
        delivered: list[bytes] = []
        for owed in self._blocks[height]:
            target = owed.target
            chain = self._chains[owed.author]
            ids = chain.compute_chain(target.tip.batch_id, target.above_sequence)
            if ids is None:
                return None
            delivered += ids
        return tuple(delivered)

    def apply_delivered(self, height: int) -> tuple[int, ...]:
        """Forget a block that went to execution, oldest first. Returns its lanes."""
        owed = self._blocks.pop(height)
        for lane in owed:
            target = self._targets[lane.author].popleft()
            assert target is lane.target, "blocks are delivered in order"
        return tuple(lane.author for lane in owed)
