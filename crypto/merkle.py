"""Merkle commitments with SHA-256 and sixteen children a node: a map and an ordered list.

`MerkleTree` commits to a map from keys to values. A key's path is the SHA-256 of the key, read in
nibbles from the root; a leaf sits at the shallowest depth at which no other leaf shares its
path. The shape, and so the root, is a function of the content alone: neither the order of updates
nor what was once there and is gone leaves a trace. Hashed paths keep the tree balanced whatever
keys users choose (a shared prefix of n nibbles costs 16**n hashes to find), so no chains need
compressing; dense slots were rejected because a slot number depends on history.

Sixteen children cost one SHA-256 of 513 bytes where a binary tree spends four hashes and four
steps of interpreter work; that makes an update about three times cheaper, while a proof is about
three times longer. Proofs are made rarely, roots for every block.

Each node is one flat buffer that holds its children's digests in place, ready to be hashed:

    leaf of the map   sha256(0x00 | path (32 bytes) | value)     path = sha256(0x02 | key)
    node              sha256(0x01 | 16 child digests), 32 zero bytes for an empty child
    leaf of a list    sha256(0x03 | value)
    root of a list    sha256(0x04 | count (8 bytes, big-endian) | digest of the top node)

The root of a map is always a node, also when it holds one leaf or none. One-byte tags separate the
domains, as in RFC 6962, section 2.1: a full domain name would cost every node another hash block.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.digest import DIGEST_SIZE_BYTES, ZERO_DIGEST
from crypto.types import Digest, Uint

ARITY: Final = 16
"""Children of a node; a child is chosen by one nibble of the path."""

KEY_SIZE_MAX_BYTES: Final = 64
"""A key of the map is a short name, never content."""

DEPTH_MAX: Final = 2 * DIGEST_SIZE_BYTES
"""Nibbles of a path: no leaf lies deeper."""

NEIGHBOUR_VALUE_MAX_BYTES: Final = 1 << 14
"""Value of the leaf that a proof of absence shows; maps with larger values cannot prove absence."""

LIST_PROOF_SIBLINGS_MAX: Final = 15 * 16
"""Siblings in the proof of a position: 15 on each of the 16 levels that 2**63 leaves need."""

_MAP_LEAF_TAG: Final = b"\x00"
_NODE_TAG: Final = b"\x01"
_PATH_TAG: Final = b"\x02"
_LIST_LEAF_TAG: Final = b"\x03"
_LIST_ROOT_TAG: Final = b"\x04"

_EMPTY_NODE: Final = _NODE_TAG + ZERO_DIGEST * ARITY
_SLOTS: Final = tuple(slice(1 + 32 * i, 33 + 32 * i) for i in range(ARITY))
_ROOT_PREFIX: Final = 1


class MerkleProofLevel(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One node on the way to a leaf: its other children."""

    occupied: Annotated[int, Meta(ge=0, lt=2**ARITY)]
    """Bit i is set when slot i holds a sibling; never the bit of the proven path."""
    siblings: Annotated[tuple[Digest, ...], Meta(max_length=ARITY - 1)]
    """The digests in the occupied slots, in slot order."""


class MerkleProof(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """That a map holds a key with a value: the nodes from the root down to the leaf."""

    levels: Annotated[tuple[MerkleProofLevel, ...], Meta(min_length=1, max_length=DEPTH_MAX)]


class MerkleNeighbour(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The leaf that stands where the path of an absent key leads."""

    path: Digest
    value: Annotated[bytes, Meta(max_length=NEIGHBOUR_VALUE_MAX_BYTES)]


class MerkleAbsence(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """That a map does not hold a key: the nodes from the root down to where its leaf would be."""

    levels: Annotated[tuple[MerkleProofLevel, ...], Meta(min_length=1, max_length=DEPTH_MAX)]
    neighbour: MerkleNeighbour | None
    """The one leaf that shares the slot with the absent key; None: the slot is empty."""


class PositionProof(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """That a list of `count` leaves holds a value at a position."""

    count: Uint
    siblings: Annotated[tuple[Digest, ...], Meta(max_length=LIST_PROOF_SIBLINGS_MAX)]
    """The other children of each node from the leaf's up, in slot order, without empty ones."""


class _Leaf:
    """Where one key's digest is kept; rewritten only when a neighbour comes or goes."""

    __slots__ = ("depth", "key", "node", "parent", "preimage", "slot")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.preimage = _MAP_LEAF_TAG + sha256(_PATH_TAG + key).digest()
        """What every hash of this leaf starts with: the tag and the path."""
        self.node = bytearray()
        """The parent's buffer."""
        self.slot = _SLOTS[0]
        """The digest's place in that buffer."""
        self.depth = 0
        """The parent's depth."""
        self.parent = 0
        """The parent's prefix."""

    def nibble(self, depth: int) -> int:
        byte = self.preimage[1 + depth // 2]
        return byte & 15 if depth % 2 else byte >> 4


class MerkleTree:
    """A map with a root that is recomputed only where it changed.

    Updates are collected; `root` hashes each changed leaf once and each node above one once.
    The tree keeps digests, not values: about 0.55 KB for each key.

    A node is named by its prefix: the path's nibbles behind a leading 1 bit, so the root is 1 and
    child i of node p is `p << 4 | i`. Every node but the root has at least two leaves below it.
    """

    def __init__(self) -> None:
        self._pending: dict[bytes, bytes | None] = {}
        self._leaves: dict[bytes, _Leaf] = {}
        self._nodes: dict[int, bytearray] = {_ROOT_PREFIX: bytearray(_EMPTY_NODE)}
        self._occupied: dict[int, int] = {_ROOT_PREFIX: 0}
        self._leaf_at: dict[int, _Leaf] = {}
        self._dirty: list[set[int]] = [set() for _ in range(DEPTH_MAX)]
        self._root = sha256(_EMPTY_NODE).digest()

    def __len__(self) -> int:
        self._apply_pending()
        return len(self._leaves)

    def __contains__(self, key: bytes) -> bool:
        if key in self._pending:
            return self._pending[key] is not None
        return key in self._leaves

    def __iter__(self) -> Iterator[bytes]:
        """The keys that have a value, in rising order."""
        self._apply_pending()
        return iter(sorted(self._leaves))

    def update(self, key: bytes, value: bytes | None) -> None:
        """Set the value of `key`, or remove the key with None (absent already is fine)."""
        assert len(key) <= KEY_SIZE_MAX_BYTES, "a map key is short"
        self._pending[key] = value

    def update_many(self, changes: Mapping[bytes, bytes | None]) -> None:
        """`update` for many keys: the cheapest way in."""
        self._pending.update(changes)

    def root(self) -> bytes:
        """Return the root of the current content."""
        self._apply_pending()
        nodes = self._nodes
        slots = _SLOTS
        # From the deepest level up, so that each node is hashed once, after all its children. A
        # set's order is arbitrary, but nodes of one level do not influence each other.
        for depth in range(DEPTH_MAX - 1, 0, -1):
            dirty = self._dirty[depth]
            if not dirty:
                continue
            mark = self._dirty[depth - 1].add
            for prefix in dirty:
                parent = prefix >> 4
                nodes[parent][slots[prefix & 15]] = sha256(nodes[prefix]).digest()
                mark(parent)
            dirty.clear()
        if self._dirty[0]:
            self._dirty[0].clear()
            self._root = sha256(nodes[_ROOT_PREFIX]).digest()
        return self._root

    def prove(self, key: bytes) -> MerkleProof:
        """Return the proof that `key` has its value under `root()`. Raises `KeyError`."""
        self.root()
        _, levels = self._descend(self._leaves[key])
        return MerkleProof(levels)

    def prove_absence(self, key: bytes, read_value: Callable[[bytes], bytes]) -> MerkleAbsence:
        """Return the proof that there is no `key` under `root()`. Raises `ValueError` if there is.

        `read_value` gives the value of another key, whose leaf may stand in the way: the tree
        itself keeps no values.
        """
        self.root()
        if key in self._leaves:
            raise ValueError("the key is there")
        end, levels = self._descend(_Leaf(key))
        resident = self._leaf_at.get(end)
        if resident is None:
            return MerkleAbsence(levels, None)
        value = read_value(resident.key)
        assert len(value) <= NEIGHBOUR_VALUE_MAX_BYTES, "a value too large for proofs of absence"
        return MerkleAbsence(levels, MerkleNeighbour(resident.preimage[1:], value))

    def _descend(self, leaf: _Leaf) -> tuple[int, tuple[MerkleProofLevel, ...]]:
        """Where a leaf's path leaves the nodes, and the other children of the nodes above."""
        levels: list[MerkleProofLevel] = []
        prefix = _ROOT_PREFIX
        node = self._nodes.get(prefix)
        while node is not None:
            nibble = leaf.nibble(len(levels))
            occupied = self._occupied[prefix] & ~(1 << nibble)
            siblings = tuple(bytes(node[_SLOTS[i]]) for i in range(ARITY) if occupied >> i & 1)
            levels.append(MerkleProofLevel(occupied, siblings))
            prefix = prefix << 4 | nibble
            node = self._nodes.get(prefix)
        return prefix, tuple(levels)

    def _apply_pending(self) -> None:
        leaves = self._leaves
        dirty = self._dirty
        for key, value in self._pending.items():
            leaf = leaves.get(key)
            if value is None:
                if leaf is not None:
                    del leaves[key]
                    self._remove(leaf)
                continue
            if leaf is None:
                leaf = leaves[key] = _Leaf(key)
                self._insert(leaf)
            leaf.node[leaf.slot] = sha256(leaf.preimage + value).digest()
            dirty[leaf.depth].add(leaf.parent)
        self._pending.clear()

    def _insert(self, leaf: _Leaf) -> None:
        """Give a new leaf its place, pushing down a leaf that it meets on the way."""
        prefix = _ROOT_PREFIX
        for depth in range(DEPTH_MAX):
            child = prefix << 4 | leaf.nibble(depth)
            if child not in self._nodes:
                resident = self._leaf_at.pop(child, None)
                if resident is None:
                    self._place(leaf, depth, prefix)
                    return
                digest = resident.node[resident.slot]
                self._nodes[child] = bytearray(_EMPTY_NODE)
                self._occupied[child] = 0
                self._place(resident, depth + 1, child)
                resident.node[resident.slot] = digest
            prefix = child
        raise AssertionError("two keys have one SHA-256 path")

    def _place(self, leaf: _Leaf, depth: int, parent: int) -> None:
        nibble = leaf.nibble(depth)
        self._leaf_at[parent << 4 | nibble] = leaf
        self._occupied[parent] |= 1 << nibble
        leaf.node = self._nodes[parent]
        leaf.slot = _SLOTS[nibble]
        leaf.depth = depth
        leaf.parent = parent
        self._dirty[depth].add(parent)

    def _remove(self, leaf: _Leaf) -> None:
        """Take a leaf out; a leaf that is then alone in its node moves up to where it belongs."""
        depth, prefix = leaf.depth, leaf.parent
        del self._leaf_at[prefix << 4 | leaf.nibble(depth)]
        self._clear_slot(depth, prefix, leaf.nibble(depth))
        while depth > 0:
            occupied = self._occupied[prefix]
            last = occupied.bit_length() - 1
            survivor = self._leaf_at.get(prefix << 4 | last)
            if occupied & (occupied - 1) or survivor is None:
                return
            digest = survivor.node[survivor.slot]
            del self._leaf_at[prefix << 4 | last]
            del self._nodes[prefix]
            del self._occupied[prefix]
            self._dirty[depth].discard(prefix)
            depth, prefix = depth - 1, prefix >> 4
            self._place(survivor, depth, prefix)
            survivor.node[survivor.slot] = digest

    def _clear_slot(self, depth: int, prefix: int, nibble: int) -> None:
        self._nodes[prefix][_SLOTS[nibble]] = ZERO_DIGEST
        self._occupied[prefix] &= ~(1 << nibble)
        self._dirty[depth].add(prefix)


def verify_inclusion(root: bytes, key: bytes, value: bytes, proof: MerkleProof) -> bool:
    """Does the map with this root hold `key` with exactly this value?

    The proof may come from anybody: a malformed one is False, and the work is bounded by
    `DEPTH_MAX` hashes. Shares no code with the tree, only the format in the module's docstring.
    """
    path = compute_path(key)
    leaf = sha256(b"\x00" + path + value).digest()
    return _compute_proven_root(path, leaf, proof.levels) == root


def verify_absence(root: bytes, key: bytes, proof: MerkleAbsence) -> bool:
    """Does the map with this root hold no `key`? False for a malformed proof, like its twin.

    A leaf sits at the shallowest depth at which no other leaf shares its path. So where the path
    of the key meets an empty slot, or another key's leaf, there is nothing further down.
    """
    path = compute_path(key)
    slot = bytes(32)
    if proof.neighbour is not None:
        other = proof.neighbour.path
        # Of another length, bytes of the key's own path could pose as the neighbour's value.
        if len(other) != 32 or other == path:
            return False
        slot = sha256(b"\x00" + other + proof.neighbour.value).digest()
    return _compute_proven_root(path, slot, proof.levels) == root


def _compute_proven_root(
    path: bytes, digest: bytes, levels: Sequence[MerkleProofLevel]
) -> bytes | None:
    """The root of which these levels show that `digest` stands at their end; None: malformed.

    There is one way to write down a true proof: an empty slot may not pose as a sibling of zeros.
    """
    if not 1 <= len(levels) <= DEPTH_MAX:
        return None
    nibbles = path.hex()
    for depth in reversed(range(len(levels))):
        level = levels[depth]
        own = int(nibbles[depth], 16)
        if level.occupied >> own & 1 or not 0 <= level.occupied < 1 << 16:
            return None
        if level.occupied.bit_count() != len(level.siblings):
            return None
        if any(len(sibling) != 32 or not any(sibling) for sibling in level.siblings):
            return None
        siblings = iter(level.siblings)
        children = b"".join(
            digest if i == own else next(siblings) if level.occupied >> i & 1 else bytes(32)
            for i in range(16)
        )
        digest = sha256(b"\x01" + children).digest()
    return digest


def compute_path(key: bytes) -> bytes:
    """Return the path of a key of the map: which slots lead to its leaf."""
    return sha256(b"\x02" + key).digest()


def compute_merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of an ordered list; it binds the number of leaves too."""
    level = [sha256(_LIST_LEAF_TAG + leaf).digest() for leaf in leaves]
    count = len(level)
    while len(level) > 1:
        level = _compute_parents(level)
    return _compute_list_root(count, level[0] if level else ZERO_DIGEST)


def prove_position(leaves: Sequence[bytes], position: int) -> PositionProof:
    """Return the proof that the list has `leaves[position]` there. Raises `IndexError`."""
    if not 0 <= position < len(leaves):
        raise IndexError("no leaf at that position")
    level = [sha256(_LIST_LEAF_TAG + leaf).digest() for leaf in leaves]
    siblings: list[bytes] = []
    while len(level) > 1:
        start = position - position % ARITY
        siblings += level[start:position] + level[position + 1 : start + ARITY]
        level = _compute_parents(level)
        position //= ARITY
    return PositionProof(len(leaves), tuple(siblings))


def verify_position(root: bytes, position: int, leaf: bytes, proof: PositionProof) -> bool:
    """Does the list with this root hold `leaf` at `position`? False for a malformed proof.

    Shares no code with `compute_merkle_root`, only the format in the module's docstring.
    """
    if not 0 <= position < proof.count < 1 << 63:
        return False
    if any(len(sibling) != 32 for sibling in proof.siblings):
        return False
    digest = sha256(b"\x03" + leaf).digest()
    used, width = 0, proof.count
    while width > 1:
        slot = position % 16
        present = min(16, width - (position - slot))
        others = proof.siblings[used : used + present - 1]
        if len(others) != present - 1:
            return False
        used += present - 1
        children = b"".join((*others[:slot], digest, *others[slot:]))
        digest = sha256(b"\x01" + children.ljust(512, b"\x00")).digest()
        position, width = position // 16, (width + 15) // 16
    if used != len(proof.siblings):
        return False
    return sha256(b"\x04" + proof.count.to_bytes(8, "big") + digest).digest() == root


def _compute_parents(level: Sequence[bytes]) -> list[bytes]:
    """Return the nodes above a level; the last one is padded with empty children."""
    return [
        sha256(_NODE_TAG + b"".join(level[i : i + ARITY]).ljust(512, b"\x00")).digest()
        for i in range(0, len(level), ARITY)
    ]


def _compute_list_root(count: int, top: bytes) -> bytes:
    return sha256(_LIST_ROOT_TAG + count.to_bytes(8, "big") + top).digest()
