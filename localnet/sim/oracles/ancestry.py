"""What binds a block to its ancestors, written down a second time.

Read are the blocks that honest nodes vote for and archive. A block is judged once, for its
ancestors decide, whoever looks at it.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from consensus.effects import Persist
from consensus.types import Block, StateCertificate
from localnet.sim.oracles.certificates import Judge, hash_parts
from localnet.sim.oracles.watchers import Watcher


class _Place(NamedTuple):
    """What the children of a block must go beyond."""

    height: int
    view: int
    time_ms: int
    parent_id: bytes
    cursors: dict[int, int]
    """By lane: up to where it is ordered."""
    certified_height: int
    """Of the newest result that it or an ancestor carries."""


class Ancestry(Watcher):
    """View and time rise along a chain, nothing of a lane is ordered twice, results are newer than
    the last one and of the same chain, and without them nothing more is ordered for long."""

    effects = (Persist,)

    def __init__(
        self,
        judge: Judge,
        chain_id: bytes,
        lag_max_blocks: int,
        genesis_time_ms: int,
        exempt: Iterable[int] = (),
    ) -> None:
        self._judge = judge
        self._lag_max_blocks = lag_max_blocks
        self.exempt = frozenset(exempt)
        genesis_id = hash_parts("rota/genesis/v1", chain_id)
        self._places = {genesis_id: _Place(0, 0, genesis_time_ms, b"", {}, 0)}

    def on_effect(self, index: int, effect: Any) -> None:
        tables = {put.table for put in effect.puts}
        if not tables & {"vote", "tip"}:
            return
        for put in effect.puts:
            if put.table in ("pending_block", "block"):
                self._judge_block(index, put.value)

    def _judge_block(self, index: int, value: bytes) -> None:
        block, block_id = self._judge.read_block(value)
        if block_id in self._places:
            return
        parent = self._places.get(block.parent_id)
        if parent is None:
            # Beyond f a quorum may vote for what no honest node has seen.
            return
        what = f"node {index} takes a block of view {block.view}"
        assert block.height == parent.height + 1, f"{what} at height {block.height}, not a child's"
        assert block.view > parent.view, f"{what}, not above its parent's {parent.view}"
        assert block.time_ms > parent.time_ms, f"{what}, no later than its parent"
        cursors = dict(parent.cursors)
        for certificate in block.lanes:
            author, sequence = certificate.data.author, certificate.data.sequence
            assert sequence > cursors.get(author, 0), (
                f"{what} that orders lane {author} up to {sequence} again"
            )
            cursors[author] = sequence
        certified_height = self._judge_state(what, parent, block)
        lag = block.height - certified_height
        assert not block.lanes or lag <= self._lag_max_blocks, (
            f"{what} that orders more, {lag} heights after the last certified result"
        )
        self._places[block_id] = _Place(
            block.height, block.view, block.time_ms, block.parent_id, cursors, certified_height
        )

    def _judge_state(self, what: str, parent: _Place, block: Block) -> int:
        """The newest certified height with the block's own result."""
        state: StateCertificate | None = block.state_certificate
        if state is None:
            return parent.certified_height
        height = state.header.height
        assert height > parent.certified_height, f"{what} with a result that is no newer"
        ancestor_id, ancestor = block.parent_id, parent
        while ancestor.height > height:
            ancestor_id = ancestor.parent_id
            ancestor = self._places[ancestor_id]
        assert ancestor.height == height, f"{what} with a result of height {height}"
        assert ancestor_id == state.header.block_id, f"{what} with a result of another chain"
        return height
