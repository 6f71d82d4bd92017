"""The blocks above the last committed one, and what each of them inherits from its ancestors.

Every connected block descends from the root, which is the last committed block. Blocks whose
parent is missing wait as orphans. Committing a block makes it the root and drops every fork that
does not descend from it; a window of committed blocks stays at hand for peers slightly behind.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from consensus.types import QC, Block
from crypto.types import Digest, Uint

TREE_BLOCKS_MAX: Final = 1_024
"""Connected blocks above the root. Only a chain of leaders that never produces two consecutive
certificates could fill it; unjustified blocks cannot."""

ORPHANS_MAX: Final = 64
"""Blocks that wait for their parent; beyond it the one of the lowest view is dropped."""

COMMITTED_BLOCKS_KEPT: Final = 64
"""Committed blocks kept in memory, and in the safety store after they were archived."""


class Node(Struct, frozen=True):
    """A block's place in the chain: what its children are checked against."""

    block_id: bytes
    height: int
    view: int
    time_ms: int
    cursors: Mapping[int, int]
    """Lane author to the newest sequence ordered up to and including this block."""
    state_certificate_height: int
    """Height of the newest state certificate up to and including this block; 0 for none."""
    work_height: int
    """Height of the newest block up to and including this one that is not empty."""
    block: Block | None
    """None for the root alone, whose content is no longer needed."""


class CommittedTip(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last committed block as the archive remembers it: the root after a restart."""

    block_id: Digest
    height: Uint
    view: Uint
    time_ms: Uint
    cursors: tuple[tuple[Uint, Uint], ...]
    """(lane author, newest committed sequence), by rising author."""
    state_certificate_height: Uint
    work_height: Uint
    qc: QC
    """Certifies the block."""


def is_empty(block: Block) -> bool:
    """Does the block order nothing? A state certificate reports on order, it adds none."""
    return not (block.lanes or block.inbox or block.openings or block.evidence)


def make_node(block: Block, block_id: bytes, parent: Node) -> Node:
    """The place of a block that was validated against `parent`."""
    cursors = parent.cursors
    if block.lanes:
        cursors = {**cursors, **{ac.data.author: ac.data.sequence for ac in block.lanes}}
    certificate = block.state_certificate
    certified_height = (
        parent.state_certificate_height if certificate is None else certificate.header.height
    )
    work_height = parent.work_height if is_empty(block) else block.height
    return Node(
        block_id,
        block.height,
        block.view,
        block.time_ms,
        cursors,
        certified_height,
        work_height,
        block,
    )


def make_root(tip: CommittedTip) -> Node:
    """The root that a committed tip stands for."""
    return Node(
        tip.block_id,
        tip.height,
        tip.view,
        tip.time_ms,
        dict(tip.cursors),
        tip.state_certificate_height,
        tip.work_height,
        None,
    )


def make_tip(node: Node, qc: QC) -> CommittedTip:
    """What the archive remembers of a committed block."""
    return CommittedTip(
        node.block_id,
        node.height,
        node.view,
        node.time_ms,
        tuple(sorted(node.cursors.items())),
        node.state_certificate_height,
        node.work_height,
        qc,
    )


class BlockTree:
    """Blocks by id, from the root up."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self._nodes: dict[bytes, Node] = {}
        self._orphans: dict[bytes, Block] = {}
        self._committed: OrderedDict[bytes, Block] = OrderedDict()
        self._committed_views: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def orphan_count(self) -> int:
        """Blocks that wait for their parent."""
        return len(self._orphans)

    def get(self, block_id: bytes) -> Node | None:
        """The connected block with this id; the root counts."""
        return self.root if block_id == self.root.block_id else self._nodes.get(block_id)

    def find_block(self, block_id: bytes) -> Block | None:
        """The block itself, wherever it is kept."""
        node = self._nodes.get(block_id)
        if node is not None:
            return node.block
        return self._orphans.get(block_id) or self._committed.get(block_id)

    @property
    def is_full(self) -> bool:
        """Is there no place for another block that nobody has certified?"""
        return len(self._nodes) >= TREE_BLOCKS_MAX

    def ancestors(self, node: Node) -> Iterator[Node]:
        """The block itself and its ancestors, newest first, down to (not including) the root."""
        while node.block_id != self.root.block_id:
            yield node
            assert node.block is not None, "only the root has no block"
            parent = self.get(node.block.parent_id)
            assert parent is not None, "a connected block's parent is connected"
            node = parent

    def has_uncommitted_work(self, node: Node) -> bool:
        """Is any block from the root's child up to `node` non-empty?"""
        return node.work_height > self.root.height

    # ---- growth ------------------------------------------------------------------------------

    def insert(self, block: Block, block_id: bytes) -> Node:
        """Connect a block that was validated against its connected parent."""
        parent = self.get(block.parent_id)
        assert parent is not None, "a block is connected to its parent"
        assert block_id not in self._nodes, "a block is connected once"
        node = self._nodes[block_id] = make_node(block, block_id, parent)
        self._orphans.pop(block_id, None)
        return node

    def add_orphan(self, block: Block, block_id: bytes) -> None:
        """Keep a block until its parent arrives."""
        self._orphans[block_id] = block
        if len(self._orphans) > ORPHANS_MAX:
            del self._orphans[min(self._orphans, key=lambda key: self._orphans[key].view)]

    def pop_orphans(self, parent_id: bytes) -> list[tuple[bytes, Block]]:
        """Take the orphans of one parent, in the order of their arrival."""
        found = [item for item in self._orphans.items() if item[1].parent_id == parent_id]
        for block_id, _ in found:
            del self._orphans[block_id]
        return found

    def find_missing_ancestor(self, block_id: bytes) -> bytes | None:
        """The block to fetch first so that `block_id` becomes connected; None if it is."""
        while self.get(block_id) is None:
            orphan = self._orphans.get(block_id)
            if orphan is None:
                return block_id
            block_id = orphan.parent_id
        return None

    # ---- commit ------------------------------------------------------------------------------

    def commit(self, node: Node) -> list[Node]:
        """Make `node` the root. Returns what that commits, oldest first."""
        chain = list(self.ancestors(node))[::-1]
        self.root = replace(node, block=None)
        for committed in chain:
            assert committed.block is not None, "only the root has no block"
            self._committed[committed.block_id] = committed.block
            self._committed_views[committed.height] = committed.view
        while len(self._committed) > COMMITTED_BLOCKS_KEPT:
            self._committed.popitem(last=False)
        while len(self._committed_views) > COMMITTED_BLOCKS_KEPT:
            self._committed_views.popitem(last=False)
        self._prune()
        return chain

    def keep_committed(self, block: Block, block_id: bytes) -> None:
        """After a restart: a block at or below the root that peers may still ask for."""
        self._committed[block_id] = block
        if len(self._committed) > COMMITTED_BLOCKS_KEPT:
            self._committed.popitem(last=False)

    def find_view_at(self, height: int) -> int | None:
        """The view of the block committed at a height, if that is in the window."""
        return self._committed_views.get(height)

    def find_committed_id(self, height: int, node: Node) -> bytes | None:
        """The id of the ancestor of `node` at a height at or above the root's, if there is one."""
        if height == self.root.height:
            return self.root.block_id
        for ancestor in self.ancestors(node):
            if ancestor.height == height:
                return ancestor.block_id
        return None

    def _prune(self) -> None:
        kept: dict[bytes, Node] = {}
        alive = {self.root.block_id}
        # Insertion order puts parents before children, so one pass suffices.
        for block_id, node in self._nodes.items():
            assert node.block is not None, "only the root has no block"
            if node.block.parent_id in alive and block_id != self.root.block_id:
                alive.add(block_id)
                kept[block_id] = node
        self._nodes = kept
        self._orphans = {
            block_id: block
            for block_id, block in self._orphans.items()
            if block.height > self.root.height
        }
