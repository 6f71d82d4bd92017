"""Merkle commitments: the root is a function of the content, and proofs cannot be forged."""

import random
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto import merkle
from crypto.codec import DecodeError, decode, encode
from crypto.merkle import (
    ARITY,
    DEPTH_MAX,
    KEY_SIZE_MAX_BYTES,
    LIST_PROOF_SIBLINGS_MAX,
    NEIGHBOUR_VALUE_MAX_BYTES,
    MerkleAbsence,
    MerkleNeighbour,
    MerkleProof,
    MerkleProofLevel,
    MerkleTree,
    PositionProof,
    compute_merkle_root,
    prove_position,
    verify_absence,
    verify_inclusion,
    verify_position,
)

KEYS = [b"account/%d" % number for number in range(60)]
CHANGES = st.lists(
    st.tuples(st.sampled_from(KEYS), st.none() | st.binary(max_size=8)), max_size=120
)


def make_tree(content: dict[bytes, bytes]) -> MerkleTree:
    tree = MerkleTree()
    tree.update_many(content)
    return tree


def compute_root_by_definition(content: dict[bytes, bytes]) -> bytes:
    """The format of the module's docstring, written down as a recursion over the whole content."""
    leaves = {sha256(b"\x02" + key).digest(): value for key, value in content.items()}

    def compute_node(prefix: str) -> bytes:
        children = []
        for nibble in "0123456789abcdef":
            below = [path for path in leaves if path.hex().startswith(prefix + nibble)]
            if not below:
                children.append(bytes(32))
            elif len(below) == 1:
                children.append(sha256(b"\x00" + below[0] + leaves[below[0]]).digest())
            else:
                children.append(compute_node(prefix + nibble))
        return sha256(b"\x01" + b"".join(children)).digest()

    return compute_node("")


@settings(max_examples=100, deadline=None)
@given(changes=CHANGES, asked=st.sets(st.integers(0, 119)))
def test_the_root_is_that_of_the_definition_after_any_history(changes, asked):
    tree, content = MerkleTree(), {}
    for number, (key, value) in enumerate(changes):
        tree.update(key, value)
        if value is None:
            content.pop(key, None)
        else:
            content[key] = value
        if number in asked:
            assert tree.root() == compute_root_by_definition(content)
        assert (key in tree) == (key in content)
    assert tree.root() == compute_root_by_definition(content)
    assert len(tree) == len(content)
    assert list(tree) == sorted(content)
    for key, value in content.items():
        assert verify_inclusion(tree.root(), key, value, tree.prove(key))


@settings(max_examples=50, deadline=None)
@given(
    content=st.dictionaries(st.binary(max_size=KEY_SIZE_MAX_BYTES), st.binary(), max_size=40),
    order=st.randoms(use_true_random=False),
)
def test_the_root_does_not_depend_on_the_order_of_updates(content, order):
    shuffled = list(content.items())
    order.shuffle(shuffled)
    assert make_tree(dict(shuffled)).root() == make_tree(content).root()


def test_shared_path_prefixes_deepen_and_collapse_again():
    """Many keys, so that nodes several levels deep come and go."""
    generator = random.Random(7)
    content = {b"order/%d" % number: b"x" for number in range(3000)}
    tree = make_tree(content)
    empty_root = MerkleTree().root()
    first = tree.root()
    assert first != empty_root
    removed = generator.sample(sorted(content), 2900)
    tree.update_many(dict.fromkeys(removed, None))
    kept = {key: b"x" for key in content if key not in set(removed)}
    assert tree.root() == make_tree(kept).root() == compute_root_by_definition(kept)
    tree.update_many(dict.fromkeys(reversed(removed), b"x"))
    assert tree.root() == first
    tree.update_many(dict.fromkeys(content, None))
    assert tree.root() == empty_root


def test_memory_is_bounded_by_the_content_not_by_the_history():
    tree = MerkleTree()
    for start in range(0, 4000, 500):
        keys = [b"order/%d" % number for number in range(start, start + 500)]
        tree.update_many(dict.fromkeys(keys, b"x"))
        tree.root()
        assert len(tree._nodes) < 500
        assert len(tree._nodes) == len(tree._occupied)
        assert len(tree._leaf_at) == len(tree._leaves) == 500
        tree.update_many(dict.fromkeys(keys, None))
        tree.root()
    assert (len(tree._nodes), len(tree._occupied)) == (1, 1)
    assert not tree._leaf_at
    assert not tree._leaves


def test_an_unchanged_tree_hashes_nothing(monkeypatch):
    tree = make_tree(dict.fromkeys(KEYS, b"value"))
    root = tree.root()
    monkeypatch.setattr(merkle, "sha256", None)
    assert tree.root() == root


def test_one_change_hashes_one_path(monkeypatch):
    tree = make_tree({b"order/%d" % number: b"x" for number in range(5000)})
    tree.root()
    hashed = []

    def counting(data):
        hashed.append(bytes(data))
        return sha256(data)

    monkeypatch.setattr(merkle, "sha256", counting)
    tree.update(b"order/17", b"y")
    tree.update(b"order/17", b"z")
    tree.root()
    assert len(hashed) == 1 + len(tree.prove(b"order/17").levels)


def test_a_key_and_a_value_cannot_trade_bytes():
    assert make_tree({b"a": b"bc"}).root() != make_tree({b"ab": b"c"}).root()
    assert make_tree({b"a": b""}).root() != MerkleTree().root()


def test_a_long_key_is_our_bug():
    with pytest.raises(AssertionError):
        MerkleTree().update(b"k" * (KEY_SIZE_MAX_BYTES + 1), b"")


def test_an_absent_key_has_no_proof():
    tree = make_tree({b"here": b"1"})
    with pytest.raises(KeyError):
        tree.prove(b"there")


def test_a_proof_holds_for_its_root_key_and_value_only():
    content = dict.fromkeys(KEYS, b"value")
    tree = make_tree(content)
    root, proof = tree.root(), tree.prove(KEYS[0])
    assert verify_inclusion(root, KEYS[0], b"value", proof)
    assert not verify_inclusion(root, KEYS[1], b"value", proof)
    assert not verify_inclusion(root, KEYS[0], b"valu", proof)
    assert not verify_inclusion(bytes(32), KEYS[0], b"value", proof)
    tree.update(KEYS[1], b"changed")
    assert not verify_inclusion(tree.root(), KEYS[0], b"value", proof)


def test_tampered_proofs_are_refused():
    tree = make_tree(dict.fromkeys(KEYS, b"value"))
    root, key = tree.root(), KEYS[0]
    levels = tree.prove(key).levels
    assert len(levels) >= 2
    first = levels[0]

    def is_accepted(*changed):
        return verify_inclusion(root, key, b"value", MerkleProof(tuple(changed)))

    assert is_accepted(*levels)
    assert not is_accepted()
    assert not is_accepted(*levels[1:])
    assert not is_accepted(*levels[:-1])
    assert not is_accepted(*reversed(levels))
    assert not is_accepted(*levels, levels[-1])
    assert not is_accepted(*(levels * DEPTH_MAX))
    for changed in (
        MerkleProofLevel(first.occupied, first.siblings[::-1]),
        MerkleProofLevel(first.occupied, first.siblings[1:]),
        MerkleProofLevel(first.occupied, (*first.siblings, bytes(32))),
        MerkleProofLevel(0xFFFF, first.siblings),
        MerkleProofLevel(first.occupied + (1 << 16), first.siblings),
        MerkleProofLevel(-1, first.siblings),
        MerkleProofLevel(first.occupied, (first.siblings[0][:-1], *first.siblings[1:])),
        MerkleProofLevel(first.occupied, (first.siblings[0] + b"\0", *first.siblings[1:])),
        MerkleProofLevel(0, ()),
    ):
        assert not is_accepted(changed, *levels[1:])


def test_proofs_travel_and_their_bounds_hold_in_decoding():
    tree = make_tree(dict.fromkeys(KEYS, b"value"))
    proof = tree.prove(KEYS[0])
    assert decode(MerkleProof, encode(proof)) == proof
    position_proof = prove_position(KEYS, 17)
    assert decode(PositionProof, encode(position_proof)) == position_proof
    sibling = bytes(32)
    for too_large in (
        MerkleProof(()),
        MerkleProof((MerkleProofLevel(0, ()),) * (DEPTH_MAX + 1)),
        MerkleProof((MerkleProofLevel(0xFFFF, (sibling,) * ARITY),)),
        MerkleProof((MerkleProofLevel(1 << ARITY, ()),)),
    ):
        with pytest.raises(DecodeError):
            decode(MerkleProof, encode(too_large))
    with pytest.raises(DecodeError):
        decode(PositionProof, encode(PositionProof(1, (sibling,) * (LIST_PROOF_SIBLINGS_MAX + 1))))


def test_a_sibling_of_zeros_is_no_other_way_to_write_an_empty_slot():
    tree = make_tree({b"here": b"1"})
    (level,) = tree.prove(b"here").levels
    own = int(merkle.compute_path(b"here").hex()[0], 16)
    padded = MerkleProofLevel(1 << (own + 1) % 16, (bytes(32),))
    assert verify_inclusion(tree.root(), b"here", b"1", MerkleProof((level,)))
    assert not verify_inclusion(tree.root(), b"here", b"1", MerkleProof((padded,)))


def test_an_inner_node_cannot_pass_for_a_leaf():
    tree = make_tree(dict.fromkeys(KEYS, b"value"))
    root = tree.root()
    shorter = MerkleProof(tree.prove(KEYS[0]).levels[:1])
    node = bytes(tree._nodes[merkle._ROOT_PREFIX << 4 | tree._leaves[KEYS[0]].nibble(0)])
    for value in (node, node[1:], node[33:]):
        assert not verify_inclusion(root, KEYS[0], value, shorter)


@settings(max_examples=60, deadline=None)
@given(
    occupied=st.lists(st.integers(-5, 2**17), max_size=5),
    sibling=st.binary(max_size=34),
    value=st.binary(),
)
def test_no_made_up_proof_verifies_or_raises(occupied, sibling, value):
    root = make_tree(dict.fromkeys(KEYS, b"value")).root()
    levels = tuple(
        MerkleProofLevel(bits, (sibling,) * (bits.bit_count() % 16)) for bits in occupied
    )
    assert not verify_inclusion(root, KEYS[0], value, MerkleProof(levels))


@settings(max_examples=60, deadline=None)
@given(
    content=st.dictionaries(
        st.sampled_from(KEYS) | st.binary(max_size=3), st.binary(), max_size=80
    ),
    absent=st.sampled_from(KEYS) | st.binary(max_size=3),
)
def test_every_absent_key_is_provably_absent_and_no_other(content, absent):
    content.pop(absent, None)
    tree = make_tree(content)
    proof = tree.prove_absence(absent, content.__getitem__)
    assert decode(MerkleAbsence, encode(proof)) == proof
    assert verify_absence(tree.root(), absent, proof)
    assert not verify_absence(bytes(32), absent, proof)
    for key, value in content.items():
        assert not verify_absence(tree.root(), key, proof)
        assert not verify_inclusion(tree.root(), absent, value, tree.prove(key))
        with pytest.raises(ValueError, match="is there"):
            tree.prove_absence(key, content.__getitem__)
    tree.update(absent, b"")
    assert not verify_absence(tree.root(), absent, proof)


def find_absent(tree, content, is_beside):
    """A key that is not there and whose slot is empty, or holds another leaf."""
    for number in range(10_000):
        key = b"absent/%d" % number
        proof = tree.prove_absence(key, content.__getitem__)
        if (proof.neighbour is not None) == is_beside:
            return key, proof
    raise AssertionError("no such key")


@pytest.mark.parametrize("is_beside", [False, True])
def test_tampered_proofs_of_absence_are_refused(is_beside):
    content = dict.fromkeys(KEYS, b"value")
    tree = make_tree(content)
    root = tree.root()
    key, proof = find_absent(tree, content, is_beside)
    levels, neighbour = proof.levels, proof.neighbour
    assert verify_absence(root, key, proof)
    path = merkle.compute_path(key)
    resident = next(each for each in KEYS if merkle.compute_path(each) != path)
    neighbours = [None, MerkleNeighbour(path, b"value"), MerkleNeighbour(path[1:], b"value")]
    neighbours.append(MerkleNeighbour(merkle.compute_path(resident), b"value"))
    if neighbour is not None:
        neighbours.append(MerkleNeighbour(neighbour.path, b"valu"))
        neighbours.append(MerkleNeighbour(neighbour.path + b"\0", b"value"))
        neighbours.append(MerkleNeighbour(bytes(32), b"value"))
    for changed in neighbours:
        if changed != neighbour:
            assert not verify_absence(root, key, MerkleAbsence(levels, changed))
    for shape in ((), levels[1:], levels[:-1], (*levels, levels[-1]), levels * DEPTH_MAX):
        assert not verify_absence(root, key, MerkleAbsence(shape, neighbour))


def test_the_path_of_a_present_key_cannot_be_cut_short_to_deny_it():
    """Neither with an empty slot, nor with another leaf, at any depth."""
    content = dict.fromkeys(KEYS, b"value")
    tree = make_tree(content)
    for key in KEYS:
        levels, path = tree.prove(key).levels, merkle.compute_path(key)
        # The leaf hashes its path and value one after the other: the border must not move.
        leaf = path + b"value"
        moved = [MerkleNeighbour(leaf[:size], leaf[size:]) for size in (31, 33)]
        others = [MerkleNeighbour(merkle.compute_path(each), b"value") for each in KEYS]
        for depth in range(len(levels) + 1):
            for neighbour in (None, *moved, *others):
                proof = MerkleAbsence(levels[:depth], neighbour)
                assert not verify_absence(tree.root(), key, proof)


def test_the_value_that_a_proof_of_absence_shows_is_bounded():
    proof = MerkleAbsence(
        (MerkleProofLevel(0, ()),), MerkleNeighbour(bytes(32), bytes(NEIGHBOUR_VALUE_MAX_BYTES))
    )
    assert decode(MerkleAbsence, encode(proof)) == proof
    value = bytes(NEIGHBOUR_VALUE_MAX_BYTES + 1)
    with pytest.raises(DecodeError):
        decode(
            MerkleAbsence, encode(MerkleAbsence(proof.levels, MerkleNeighbour(bytes(32), value)))
        )
    content = {b"%d" % number: value for number in range(200)}
    tree = make_tree(content)
    with pytest.raises(AssertionError, match="too large"):
        find_absent(tree, content, is_beside=True)


@settings(max_examples=60, deadline=None)
@given(leaves=st.lists(st.binary(max_size=6), max_size=40), data=st.data())
def test_every_position_of_a_list_is_provable_and_no_other_value_is(leaves, data):
    root = compute_merkle_root(leaves)
    for position, leaf in enumerate(leaves):
        proof = prove_position(leaves, position)
        assert verify_position(root, position, leaf, proof)
        assert not verify_position(root, position, leaf + b"!", proof)
        other = data.draw(st.integers(-1, len(leaves) + 1))
        if leaf not in leaves[max(0, other) : other + 1]:
            assert not verify_position(root, other, leaf, proof)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 255, 256, 257, 300])
def test_lists_around_the_powers_of_sixteen(count):
    leaves = [b"%d" % number for number in range(count)]
    root = compute_merkle_root(iter(leaves))
    for position in {0, count // 2, count - 1}:
        proof = prove_position(leaves, position)
        assert verify_position(root, position, leaves[position], proof)
        siblings = proof.siblings
        for changed in (
            PositionProof(count + 1, siblings),
            PositionProof(count - 1, siblings),
            PositionProof(2**63 - 1, siblings),
            PositionProof(2**70, siblings),
            PositionProof(-1, siblings),
            PositionProof(count, (*siblings, bytes(32))),
            PositionProof(count, (*siblings[:-1], b"short")),
        ):
            assert not verify_position(root, position, leaves[position], changed)
        if siblings:
            dropped = PositionProof(count, siblings[1:])
            assert not verify_position(root, position, leaves[position], dropped)


def test_lists_with_and_without_trailing_empty_leaves_differ():
    lists = [[], [b""], [b"", b""], [b"a"], [b"a", b""], [bytes(32)]]
    assert len({compute_merkle_root(leaves) for leaves in lists}) == len(lists)
    with pytest.raises(IndexError):
        prove_position([], 0)
    with pytest.raises(IndexError):
        prove_position([b"a"], -1)


def test_the_format_is_fixed():
    """Settled roots live for ever: a change here is a new protocol version."""
    assert MerkleTree().root() == sha256(b"\x01" + bytes(512)).digest()
    leaf = sha256(b"\x03" + b"receipt").digest()
    expected = sha256(b"\x04" + (1).to_bytes(8, "big") + leaf).digest()
    assert compute_merkle_root([b"receipt"]) == expected
    assert compute_merkle_root([]) == sha256(b"\x04" + bytes(8) + bytes(32)).digest()
