"""A Merkle-sum tree with SHA-256: it commits to who is owed what, and to the total.

Leaves are keys in rising order, each with a liability that is not negative. Whoever holds the root
and the total can check that one leaf is part of that total without seeing the others.

    leaf    sha256(0x05 | liability (32 bytes) | key)                sum: the liability
    node    sha256(0x06 | left digest | left sum (32 bytes) | right digest | right sum)
                                                                     sum: left sum + right sum
    root    sha256(0x07 | count (8 bytes) | top digest | total (32 bytes))

Numbers are big-endian. Nodes pair from the left; a missing right child has a digest and a sum of
zero bytes. The top of an empty list has too, and the only leaf of a list is its top.

A node commits to the sum of *each* child. The first scheme of this kind (G. Maxwell's proof of
reserves, 2013) hashed only the two sums added up: there a liar may give the node the larger of two
children's sums instead of both added, and show each owner a sibling of a smaller sum, so that
both proofs hold and the total is too low (K. Hu, Z. Zhang, K. Guo, "Breaking the binding: Attacks
on the Merkle approach to prove liabilities and its applications", 2019). Here a sum that is shown
is a sum that was hashed. It follows that the total is at least the sum of all leaves that anybody
can prove under one root, because no shown sum is negative or large enough to wrap around.

Two children a node, not the sixteen of `crypto.merkle`: these proofs are meant for contracts, which
pay for every byte, and a binary proof of 100,000 leaves is a quarter as long. The tags continue
those of `crypto.merkle`, so no node of one tree can stand for a node of the other.

The tree is built as a whole: what it is for, equity at a price, changes nearly everywhere when the
price does.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import sha256
from operator import lt
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.digest import ZERO_DIGEST
from crypto.merkle import KEY_SIZE_MAX_BYTES
from crypto.types import Uint

SUM_SIZE_BYTES: Final = 32
"""Liabilities and sums, a word of the EVM."""

LIABILITY_MAX: Final = 2**160 - 1
"""Largest liability of one leaf."""

LEAVES_MAX: Final = 2**32
"""Largest number of leaves."""

SUM_MAX: Final = LEAVES_MAX * LIABILITY_MAX
"""No true sum is larger, and no sum that a proof shows may be: far below what 32 bytes hold, so
no addition can wrap around, whoever does it."""

SIBLINGS_MAX: Final = 32
"""Levels above the leaves of the largest tree."""

_LEAF_TAG: Final = b"\x05"
_NODE_TAG: Final = b"\x06"
_ROOT_TAG: Final = b"\x07"
_DIGEST_SIZE_BYTES: Final = len(ZERO_DIGEST)
_EMPTY: Final = bytes(_DIGEST_SIZE_BYTES + SUM_SIZE_BYTES)

SumSibling = Annotated[bytes, Meta(min_length=64, max_length=64)]
"""A node as its parent hashes it: its digest, then its sum."""


class SumProof(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """That a tree of `count` leaves has a certain leaf at `position`."""

    count: Annotated[int, Meta(ge=1, le=LEAVES_MAX)]
    position: Uint
    siblings: Annotated[tuple[SumSibling, ...], Meta(max_length=SIBLINGS_MAX)]
    """The other child of each node from the leaf's up, left out where there is none."""


class SumTree:
    """The whole tree, for whoever makes proofs: about 0.3 KB for each leaf."""

    def __init__(self, leaves: Sequence[tuple[bytes, int]]) -> None:
        """Build it. Keys rise strictly, liabilities lie within 0 to `LIABILITY_MAX`."""
        assert len(leaves) <= LEAVES_MAX, "too many leaves"
        self._keys = [key for key, _ in leaves]
        sums = [liability for _, liability in leaves]
        assert all(map(lt, self._keys, self._keys[1:])), "keys rise strictly"
        assert max(map(len, self._keys), default=0) <= KEY_SIZE_MAX_BYTES, "a key is short"
        assert min(sums, default=0) >= 0, "a liability is not negative"
        assert max(sums, default=0) <= LIABILITY_MAX, "a liability is bounded"
        level = [
            sha256(_LEAF_TAG + (amount := liability.to_bytes(32, "big")) + key).digest() + amount
            for key, liability in leaves
        ]
        self._levels = [level]
        """Each level's nodes as their parents hash them, the leaves first."""
        while len(level) > 1:
            level, sums = _compute_parents(level, sums)
            self._levels.append(level)
        top = level[0] if level else _EMPTY
        self.total = sums[0] if sums else 0
        """All liabilities added up."""
        self.root = sha256(_ROOT_TAG + len(leaves).to_bytes(8, "big") + top).digest()
        """Binds the leaves, their number and the total."""

    def __len__(self) -> int:
        return len(self._keys)

    def prove(self, key: bytes) -> SumProof:
        """Return the proof of the leaf of `key`. Raises `KeyError`."""
        start = bisect_left(self._keys, key)
        if start == len(self._keys) or self._keys[start] != key:
            raise KeyError(key)
        siblings = (
            self._levels[level][place] for level, place in find_siblings(len(self._keys), start)
        )
        return SumProof(len(self._keys), start, tuple(siblings))

    def levels(self) -> Sequence[Sequence[bytes]]:
        """Every node as its parent hashes it, level by level, the leaves first: for whoever keeps
        the tree and makes proofs from what it kept (`find_siblings`)."""
        return self._levels


def compute_widths(count: int) -> list[int]:
    """How many nodes each level of a tree of `count` leaves has, the leaves first."""
    widths = [count]
    while widths[-1] > 1:
        widths.append((widths[-1] + 1) // 2)
    return widths


def find_siblings(count: int, position: int) -> Iterator[tuple[int, int]]:
    """Where the siblings of a proof stand: (level, place in it), from the leaf up, left out where
    a node has none."""
    assert 0 <= position < count, "a leaf of the tree"
    for level, width in enumerate(compute_widths(count)[:-1]):
        if position ^ 1 < width:
            yield level, position ^ 1
        position //= 2


def verify_liability(root: bytes, total: int, key: bytes, liability: int, proof: SumProof) -> bool:
    """Does the tree with this root and total hold `key` with exactly this liability?

    The proof may come from anybody: a malformed one is False, and the work is bounded by
    `SIBLINGS_MAX` hashes. Shares no code with the tree, only the format in the module's docstring.
    """
    if not 0 <= proof.position < proof.count <= LEAVES_MAX:
        return False
    if not 0 <= liability <= LIABILITY_MAX:
        return False
    node = sha256(b"\x05" + liability.to_bytes(32, "big") + key).digest()
    node += liability.to_bytes(32, "big")
    below, position, width, used = liability, proof.position, proof.count, 0
    while width > 1:
        sibling = bytes(64)
        if position ^ 1 < width:
            if used == len(proof.siblings) or len(proof.siblings[used]) != 64:
                return False
            sibling = proof.siblings[used]
            used += 1
        below += int.from_bytes(sibling[32:], "big")
        if below > SUM_MAX:
            return False
        pair = sibling + node if position & 1 else node + sibling
        node = sha256(b"\x06" + pair).digest() + below.to_bytes(32, "big")
        position, width = position // 2, (width + 1) // 2
    if used != len(proof.siblings) or below != total:
        return False
    return sha256(b"\x07" + proof.count.to_bytes(8, "big") + node).digest() == root


def _compute_parents(level: Sequence[bytes], sums: Sequence[int]) -> tuple[list[bytes], list[int]]:
    """The nodes above a level, as their own parents hash them, and their sums."""
    left, right = list(level[0::2]), list(level[1::2])
    added = [one + other for one, other in zip(sums[0::2], sums[1::2], strict=False)]
    if len(left) > len(right):
        right.append(_EMPTY)
        added.append(sums[-1])
    nodes = [
        sha256(_NODE_TAG + one + other).digest() + amount.to_bytes(32, "big")
        for one, other, amount in zip(left, right, added, strict=True)
    ]
    return nodes, added
