"""Growing the block tree, and the commit rule.

- C1: a QC `q` for a block commits the block's parent iff `q.view == block.qc.view + 1`. Both are
  views of certificates; the views in which blocks were proposed play no part (Jolteon's two-chain
  rule; that views must be consecutive is what Fast-HotStuff's flawed variant lacked).
- C2: a commit covers all uncommitted ancestors, oldest first, each height once, without gaps.
"""

from typing import Final

from consensus.block_tree import (
    COMMITTED_BLOCKS_KEPT,
    BlockTree,
    CommittedTip,
    Node,
    make_root,
    make_tip,
)
from consensus.config import ConsensusConfig
from consensus.effects import Committed, Delete, Put, Store, compute_key
from consensus.outbox import Outbox
from consensus.payload import validate_child
from consensus.safety import make_prune_deletes
from consensus.types import QC, Block
from consensus.validation import ValidationError
from crypto.codec import encode

ARCHIVE_BLOCK_TABLE: Final = "block"
"""Height to committed block."""
ARCHIVE_COMMIT_TABLE: Final = "commit"
"""Height to the QC for the block committed there."""
ARCHIVE_TIP_TABLE: Final = "tip"
ARCHIVE_TIP_KEY: Final = b"tip"
"""The `CommittedTip`, overwritten with each commit: what `consensus.recovery.recover` asks for."""

PRUNE_INTERVAL_HEIGHTS: Final = 16
"""Old safety records are dropped every so many heights."""


class Chain:
    """The block tree and what certificates make of it."""

    def __init__(self, config: ConsensusConfig, tip: CommittedTip, outbox: Outbox) -> None:
        self.tree = BlockTree(make_root(tip))
        self._config = config
        self._outbox = outbox
        self._root_qc = tip.qc
        self._newest_qc = tip.qc
        self._archived_height = tip.height

    def add_qc(self, qc: QC) -> None:
        """Take a verified QC: it may commit, now or when its block arrives."""
        root = self.tree.root
        is_newer = qc.view > self._root_qc.view
        if is_newer and qc.height <= root.height and qc.block_id != root.block_id:
            # Every certificate above a committed block's own is for one of its descendants.
            detail = f"view {qc.view}, height {qc.height}, committed {root.height}"
            self._outbox.halt("consensus.conflicting_certificate", detail)
            return
        self._maybe_commit(qc)
        if qc.view > self._newest_qc.view:
            self._newest_qc = qc

    def add_block(self, block: Block, block_id: bytes, *, is_certified: bool = False) -> None:
        """Take a block whose certificates were verified; connects it, or keeps it until its
        parent arrives. `is_certified` when a quorum stands behind the block itself."""
        if self.tree.get(block_id) is not None or block.height <= self.tree.root.height:
            return
        parent = self.tree.get(block.parent_id)
        if parent is None:
            self.tree.add_orphan(block, block_id)
            return
        try:
            validate_child(self._config, self.tree, parent, block)
        except ValidationError as error:
            if is_certified:
                self._outbox.halt("consensus.certified_invalid", f"{block_id.hex()}: {error}")
            else:
                self._outbox.refuse(block.author, error.code, error.detail)
            return
        self.tree.insert(block, block_id)
        self._maybe_commit(block.qc)
        if self._newest_qc.block_id == block_id:
            self._maybe_commit(self._newest_qc)
        for orphan_id, orphan in self.tree.pop_orphans(block_id):
            self.add_block(orphan, orphan_id)

    def _maybe_commit(self, qc: QC) -> None:
        """Apply C1."""
        node = self.tree.get(qc.block_id)
        if node is None or node.block is None or qc.view != node.block.qc.view + 1:
            return
        parent = self.tree.get(node.block.parent_id)
        assert parent is not None, "a connected block's parent is connected"
        if parent.block is not None:
            self._commit(parent, node.block.qc)

    def _commit(self, node: Node, qc: QC) -> None:
        """Apply C2 to everything up to `node`, which `qc` certifies."""
        chain = self.tree.commit(node)
        blocks = [committed.block for committed in chain if committed.block is not None]
        certificates = [*(child.qc for child in blocks[1:]), qc]
        self._root_qc = qc
        puts: list[Put] = []
        for committed, block, certificate in zip(chain, blocks, certificates, strict=True):
            key = compute_key(block.height)
            puts.append(Put(ARCHIVE_BLOCK_TABLE, key, encode(block)))
            puts.append(Put(ARCHIVE_COMMIT_TABLE, key, encode(certificate)))
            self._outbox.add(Committed(committed.block_id, block, certificate))
        puts.append(Put(ARCHIVE_TIP_TABLE, ARCHIVE_TIP_KEY, encode(make_tip(node, qc))))
        self._outbox.persist(Store.ARCHIVE, puts)

    def take_prune_deletes(self) -> tuple[Delete, ...]:
        """P3: what the next safety record may drop: heights archived in an earlier turn.

        The last `COMMITTED_BLOCKS_KEPT` heights stay in both stores, because a restart runs the
        commit rule over them again.
        """
        root_height = self.tree.root.height
        if root_height < self._archived_height + PRUNE_INTERVAL_HEIGHTS:
            return ()
        below_height = min(self._archived_height, root_height - COMMITTED_BLOCKS_KEPT + 1)
        self._archived_height = root_height
        below_view = self.tree.find_view_at(below_height)
        return () if below_view is None else make_prune_deletes(below_height, below_view)
