"""The Merkle-sum tree: the total is what the leaves add up to, and no proof hides a part of it."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.codec import DecodeError, decode, encode
from crypto.merkle_sum import (
    LEAVES_MAX,
    LIABILITY_MAX,
    SIBLINGS_MAX,
    SUM_MAX,
    SUM_SIZE_BYTES,
    SumProof,
    SumTree,
    verify_liability,
)

LIABILITIES = st.integers(0, 100) | st.integers(0, LIABILITY_MAX) | st.just(LIABILITY_MAX)
CONTENTS = st.dictionaries(st.binary(max_size=40), LIABILITIES, max_size=40)


def make_tree(content: dict[bytes, int]) -> SumTree:
    return SumTree(sorted(content.items()))


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def compute_root_by_definition(content: dict[bytes, int]) -> tuple[bytes, int]:
    """The format of the module's docstring, written down with (digest, sum) pairs."""
    nodes = [
        (sha256(b"\x05" + word(owed) + key).digest(), owed) for key, owed in sorted(content.items())
    ]
    while len(nodes) > 1:
        if len(nodes) % 2:
            nodes.append((bytes(32), 0))
        nodes = [
            (sha256(b"\x06" + a + word(m) + b + word(n)).digest(), m + n)
            for (a, m), (b, n) in zip(nodes[0::2], nodes[1::2], strict=True)
        ]
    top, total = nodes[0] if nodes else (bytes(32), 0)
    return sha256(b"\x07" + len(content).to_bytes(8, "big") + top + word(total)).digest(), total


@settings(max_examples=100, deadline=None)
@given(CONTENTS)
def test_root_and_total_are_those_of_the_definition_and_every_leaf_proves(content):
    tree = make_tree(content)
    assert (tree.root, tree.total) == compute_root_by_definition(content)
    assert tree.total == sum(content.values())
    assert len(tree) == len(content)
    for key, owed in content.items():
        proof = tree.prove(key)
        assert decode(SumProof, encode(proof)) == proof
        assert verify_liability(tree.root, tree.total, key, owed, proof)
        assert not verify_liability(tree.root, tree.total, key, owed + 1, proof)
        assert not verify_liability(tree.root, tree.total, key, owed - 1, proof)
        assert not verify_liability(tree.root, tree.total, key + b"\0", owed, proof)
        assert not verify_liability(tree.root, tree.total + 1, key, owed, proof)
        assert not verify_liability(bytes(32), tree.total, key, owed, proof)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33])
def test_proofs_of_every_shape_hold_and_no_other_shape_does(count):
    content = {b"%03d" % number: number for number in range(count)}
    tree = make_tree(content)
    for key, owed in content.items():
        proof = tree.prove(key)
        position, siblings = proof.position, proof.siblings
        for changed in (
            SumProof(count + 1, position, siblings),
            SumProof(count - 1, position, siblings),
            SumProof(count, position + 1, siblings),
            SumProof(count, position - 1, siblings),
            SumProof(count, position ^ 1, siblings),
            SumProof(count, position, (*siblings, bytes(64))),
            SumProof(count, position, siblings[1:]) if siblings else SumProof(2, 0, ()),
            SumProof(count, position, (*siblings[:-1], b"short")),
            SumProof(LEAVES_MAX + 1, position, siblings),
            SumProof(0, 0, siblings),
        ):
            assert not verify_liability(tree.root, tree.total, key, owed, changed)


@settings(max_examples=100, deadline=None)
@given(content=st.dictionaries(st.binary(max_size=4), LIABILITIES, min_size=2), data=st.data())
def test_any_changed_byte_of_a_sibling_or_sum_is_noticed(content, data):
    tree = make_tree(content)
    key = data.draw(st.sampled_from(sorted(content)))
    proof = tree.prove(key)
    level = data.draw(st.integers(0, len(proof.siblings) - 1))
    changed = bytearray(proof.siblings[level])
    changed[data.draw(st.integers(0, 63))] ^= data.draw(st.integers(1, 255))
    siblings = (*proof.siblings[:level], bytes(changed), *proof.siblings[level + 1 :])
    forged = SumProof(proof.count, proof.position, siblings)
    total = content[key] + sum(int.from_bytes(sibling[32:], "big") for sibling in siblings)
    assert not verify_liability(tree.root, tree.total, key, content[key], forged)
    assert not verify_liability(tree.root, total, key, content[key], forged)


@pytest.mark.parametrize("is_binding", [False, True])
def test_the_flaw_of_hashing_only_the_added_sums_is_not_here(is_binding):
    """Two customers are owed 5 and 3; the liar states 5 and shows each a sibling that fits."""

    def node(left, right):
        if is_binding:
            return sha256(b"\x06" + left[0] + word(left[1]) + right[0] + word(right[1])).digest()
        return sha256(left[0] + right[0] + word(left[1] + right[1])).digest()

    first = (sha256(b"\x05" + word(5) + b"a").digest(), 5)
    second = (sha256(b"\x05" + word(3) + b"b").digest(), 3)
    lies = [(first, (second[0], 0)), ((first[0], 2), second)]
    assert {left[1] + right[1] for left, right in lies} == {5}
    tops = {node(left, right) for left, right in lies}
    # In the first scheme both customers come to one node with the sum 5; here nobody's lie fits
    # the other's, so no root satisfies both.
    assert (len(tops) == 1) != is_binding
    if is_binding:
        for top in tops:
            root = sha256(b"\x07" + (2).to_bytes(8, "big") + top + word(5)).digest()
            proofs = [SumProof(2, 0, (second[0] + word(0),)), SumProof(2, 1, (first[0] + word(2),))]
            accepted = [
                verify_liability(root, 5, b"a", 5, proofs[0]),
                verify_liability(root, 5, b"b", 3, proofs[1]),
            ]
            assert sorted(accepted) == [False, True]


@settings(max_examples=100, deadline=None)
@given(
    leaves=st.lists(st.integers(0, 20), min_size=4, max_size=4),
    shown=st.lists(st.integers(0, 20), min_size=6, max_size=6),
)
def test_leaves_that_prove_under_one_root_never_exceed_its_total(leaves, shown):
    """A liar who picks every sum that its nodes commit to still cannot leave anybody out."""
    keys = [b"a", b"b", b"c", b"d"]
    hashed = [
        sha256(b"\x05" + word(owed) + key).digest() for owed, key in zip(leaves, keys, strict=True)
    ]
    below = [digest + word(sum_) for digest, sum_ in zip(hashed, shown[:4], strict=True)]
    middle = [
        sha256(b"\x06" + below[0] + below[1]).digest() + word(shown[4]),
        sha256(b"\x06" + below[2] + below[3]).digest() + word(shown[5]),
    ]
    top = sha256(b"\x06" + middle[0] + middle[1]).digest()
    for total in {shown[4] + shown[5], sum(shown[:4]), sum(leaves), max(shown)}:
        root = sha256(b"\x07" + (4).to_bytes(8, "big") + top + word(total)).digest()
        proven = [
            owed
            for place, (key, owed) in enumerate(zip(keys, leaves, strict=True))
            if verify_liability(
                root,
                total,
                key,
                owed,
                SumProof(4, place, (below[place ^ 1], middle[1 - place // 2])),
            )
        ]
        assert sum(proven) <= total


def test_sums_beyond_their_bound_are_refused_before_they_could_wrap():
    owed, huge = 1, word(2**256 - 1)
    leaf = sha256(b"\x05" + word(owed) + b"k").digest() + word(owed)
    for other, accepted in ((word(SUM_MAX - owed), True), (word(SUM_MAX), False), (huge, False)):
        sibling = bytes(31) + b"\1" + other
        below = (owed + int.from_bytes(other, "big")) % 2**256
        top = sha256(b"\x06" + leaf + sibling).digest()
        root = sha256(b"\x07" + (2).to_bytes(8, "big") + top + word(below)).digest()
        proof = SumProof(2, 0, (sibling,))
        assert verify_liability(root, below, b"k", owed, proof) == accepted
    assert SUM_MAX < 2 ** (8 * SUM_SIZE_BYTES - 1)


def make_by_hand(count: int, owed: int, siblings: tuple[bytes, ...]) -> tuple[bytes, int]:
    """Root and total over the first of `count` leaves, as a liar may make them, bounds or not."""
    node, below = sha256(b"\x05" + word(owed) + b"k").digest() + word(owed), owed
    for sibling in siblings:
        below += int.from_bytes(sibling[32:], "big")
        node = sha256(b"\x06" + node + sibling).digest() + word(below)
    return sha256(b"\x07" + count.to_bytes(8, "big") + node).digest(), below


@pytest.mark.parametrize(
    ("count", "owed", "siblings", "is_accepted"),
    [
        (1, LIABILITY_MAX, (), True),
        (1, LIABILITY_MAX + 1, (), False),
        (2, 1, (bytes(64),), True),
        (2, 1, (bytes(63),), False),
        (2, 1, (bytes(65),), False),
        (LEAVES_MAX, 1, (bytes(64),) * SIBLINGS_MAX, True),
        (LEAVES_MAX + 1, 1, (bytes(64),) * (SIBLINGS_MAX + 1), False),
    ],
)
def test_bounds_hold_even_under_a_root_that_was_made_without_them(
    count, owed, siblings, is_accepted
):
    root, total = make_by_hand(count, owed, siblings)
    proof = SumProof(count, 0, siblings)
    assert verify_liability(root, total, b"k", owed, proof) == is_accepted


@pytest.mark.parametrize("liability", [-1, LIABILITY_MAX + 1])
def test_a_liability_out_of_range_proves_nothing_and_enters_no_tree(liability):
    tree = SumTree([(b"k", 1)])
    assert not verify_liability(tree.root, 1, b"k", liability, tree.prove(b"k"))
    with pytest.raises(AssertionError):
        SumTree([(b"k", liability)])


@pytest.mark.parametrize(
    "leaves", [[(b"b", 1), (b"a", 1)], [(b"a", 1), (b"a", 1)], [(b"a" * 65, 1)]]
)
def test_keys_rise_and_are_short(leaves):
    with pytest.raises(AssertionError):
        SumTree(leaves)


def test_an_absent_key_has_no_proof():
    for tree in (SumTree([]), SumTree([(b"b", 1)])):
        for key in (b"a", b"c"):
            with pytest.raises(KeyError):
                tree.prove(key)


def test_the_bounds_of_a_proof_hold_in_decoding():
    sibling = bytes(64)
    largest = SumProof(LEAVES_MAX, LEAVES_MAX - 1, (sibling,) * SIBLINGS_MAX)
    assert decode(SumProof, encode(largest)) == largest
    assert LEAVES_MAX == 2**SIBLINGS_MAX
    for too_large in (
        SumProof(LEAVES_MAX + 1, 0, ()),
        SumProof(0, 0, ()),
        SumProof(1, -1, ()),
        SumProof(1, 0, (sibling,) * (SIBLINGS_MAX + 1)),
        SumProof(1, 0, (sibling[1:],)),
    ):
        with pytest.raises(DecodeError):
            decode(SumProof, encode(too_large))


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(-1, 2**33),
    position=st.integers(-1, 2**33),
    siblings=st.lists(st.binary(min_size=62, max_size=66), max_size=34),
    liability=st.integers(-5, 2**170),
)
def test_no_made_up_proof_verifies_or_raises(count, position, siblings, liability):
    tree = SumTree([(b"%d" % number, number) for number in range(9)])
    proof = SumProof(count, position, tuple(siblings))
    assert not verify_liability(tree.root, tree.total, b"5", liability, proof)


def test_the_format_is_fixed():
    """Settled roots live for ever: a change here is a new protocol version."""
    empty = sha256(b"\x07" + bytes(8) + bytes(32) + bytes(32)).digest()
    assert (SumTree([]).root, SumTree([]).total) == (empty, 0)
    leaf = sha256(b"\x05" + word(7) + b"k").digest()
    expected = sha256(b"\x07" + (1).to_bytes(8, "big") + leaf + word(7)).digest()
    assert SumTree([(b"k", 7)]).root == expected
