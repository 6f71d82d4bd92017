"""Proofs against the state root, checked by a verifier that shares nothing with the product.

`judge` below is written from the docstrings of `crypto.merkle`, `engine.commitment.root` and
`engine.commitment.proofs`: it parses the bytes with the msgpack library and hashes with hashlib.
"""

from hashlib import sha256

import msgpack
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crypto.codec import encode
from crypto.merkle import (
    DEPTH_MAX,
    NEIGHBOUR_VALUE_MAX_BYTES,
    MerkleAbsence,
    MerkleNeighbour,
    MerkleProof,
    MerkleProofLevel,
)
from engine.block import Deposit
from engine.commitment.proofs import (
    PROOF_MAX_BYTES,
    AbsentLeaf,
    PresentLeaf,
    prove_leaf,
    prove_system,
    validate_proof,
)
from engine.commitment.root import (
    account_key,
    compute_state_root,
    market_key,
)
from engine.errors import ProofError
from engine.genesis import FundingParams
from engine.instructions import MarketOrder, PlaceOrder, Side
from engine.limits import MARKETS_MAX, POSITION_MAX_LOTS
from engine.state import create_state
from localnet.bench.workload import Workload, WorkloadConfig
from localnet.splitmix import SplitMix

ABSENT, PRESENT = 0, 1


def judge(root: bytes, key: bytes, data: bytes) -> tuple[int, bytes | None] | None:
    """(PRESENT, value), (ABSENT, None), or None for a proof that does not hold."""
    kind, *rest = msgpack.unpackb(data, raw=False)
    path = sha256(b"\x02" + key).hexdigest()
    if kind == PRESENT:
        value, (levels,) = rest
        digest = sha256(b"\x00" + bytes.fromhex(path) + value).digest()
        answer = (PRESENT, value)
    else:
        ((levels, neighbour),) = rest
        digest, answer = bytes(32), (ABSENT, None)
        if neighbour is not None:
            other, value = neighbour
            if other.hex() == path or len(other) != 32:
                return None
            digest = sha256(b"\x00" + other + value).digest()
    for nibble, (occupied, siblings) in reversed(list(zip(path, levels, strict=False))):
        slots = [bytes(32)] * 16
        places = [slot for slot in range(16) if occupied >> slot & 1]
        if len(places) != len(siblings) or int(nibble, 16) in places:
            return None
        for slot, sibling in zip(places, siblings, strict=True):
            slots[slot] = sibling
        slots[int(nibble, 16)] = digest
        digest = sha256(b"\x01" + b"".join(slots)).digest()
    return answer if digest == root else None


def make_accounts(make_world, seed: int, count: int):
    """A state of so many more accounts, some of them with positions and orders."""
    world = make_world(markets=3, balance=10**9)
    draw = SplitMix(seed).below
    ids = [sha256(b"%d/%d" % (seed, number)).digest() for number in range(count)]
    world.block(deposits=[Deposit(name, 10**6 + draw(10**9), bytes(32)) for name in ids])
    names = sorted(world.state.accounts)
    for _ in range(draw(30)):
        side = Side.BUY if draw(2) else Side.SELL
        market = 1 + draw(3)
        order = PlaceOrder(market, side, 990 + draw(20), 1 + draw(30))
        if draw(3) == 0:
            order = MarketOrder(market, side, 1_000 + 20 * side, 1 + draw(30))
        world.one(names[draw(len(names))], order)
    return world


@pytest.fixture(scope="module")
def crowd(make_world):
    """Nobody changes this one."""
    return make_accounts(make_world, 5, 20)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 40))
def test_every_leaf_of_a_random_state_proves_and_both_verifiers_agree(make_world, seed, count):
    world = make_accounts(make_world, seed, count)
    state = world.state
    root = world.output.state_root
    keys = list(state.tree)
    assert len(keys) == len(state.accounts) + len(state.markets) + 1
    for key in keys:
        data = prove_leaf(state, key)
        value = validate_proof(root, key, data)
        assert value is not None
        assert judge(root, key, data) == (PRESENT, value)
        for other in (keys[0], keys[-1], b"", key + b"\0", account_key(b"x" * 32)):
            if other != key:
                assert judge(root, other, data) is None
                with pytest.raises(ProofError):
                    validate_proof(root, other, data)
    assert compute_state_root(state) == root


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32), count=st.integers(0, 40), name=st.binary(min_size=32, max_size=32)
)
def test_absence_proves_and_both_verifiers_agree(make_world, seed, count, name):
    world = make_accounts(make_world, seed, count)
    assume(name not in world.state.accounts)
    root, absent = world.output.state_root, prove_leaf(world.state, account_key(name))
    for key in (account_key(name), market_key(4), market_key(2**32 - 1), b"", b"other"):
        data = prove_leaf(world.state, key)
        assert validate_proof(root, key, data) is None
        assert judge(root, key, data) == (ABSENT, None)
        for present in world.state.tree:
            assert judge(root, present, data) is None
            with pytest.raises(ProofError):
                validate_proof(root, present, data)
    world.deposit(name, 1)
    with pytest.raises(ProofError):
        validate_proof(world.output.state_root, account_key(name), absent)


@settings(max_examples=150, deadline=None)
@given(
    key=st.sampled_from([account_key(b"\1" * 32), account_key(b"x" * 32), market_key(1), b"s"]),
    data=st.data(),
)
def test_any_flipped_byte_is_refused(crowd, key, data):
    root = crowd.output.state_root
    proof = bytearray(prove_leaf(crowd.state, key))
    proof[data.draw(st.integers(0, len(proof) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProofError) as caught:
        validate_proof(root, key, bytes(proof))
    assert caught.value.code in ("proof.malformed", "proof.invalid")
    false_root = bytearray(root)
    false_root[data.draw(st.integers(0, 31))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProofError, match="this root"):
        validate_proof(bytes(false_root), key, prove_leaf(crowd.state, key))


def test_another_value_or_kind_is_refused(crowd):
    world = crowd
    root = world.output.state_root
    key = account_key(world.ALICE)
    kind, value, levels = msgpack.unpackb(prove_leaf(world.state, account_key(world.ALICE)))
    absent = msgpack.unpackb(prove_leaf(world.state, account_key(b"x" * 32)))
    for forged in (
        [kind, value + b"\0", levels],
        [kind, value[:-1], levels],
        [kind, b"", levels],
        [ABSENT, [levels[0], None]],
        [ABSENT, [levels[0][:-1], None]],
        absent,
    ):
        with pytest.raises(ProofError) as caught:
            validate_proof(root, key, msgpack.packb(forged))
        assert caught.value.code == "proof.invalid"


def test_a_proof_of_an_older_root_is_refused_under_the_new_one(world):
    data = prove_leaf(world.state, account_key(world.ALICE))
    old = world.output.state_root
    world.deposit(world.ALICE, 1)
    assert validate_proof(old, account_key(world.ALICE), data) is not None
    with pytest.raises(ProofError):
        validate_proof(world.output.state_root, account_key(world.ALICE), data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "proof.malformed"),
        (b"\xc1", "proof.malformed"),
        (b"\x93\x01\xc4\x00\x91\x90", "proof.malformed"),
        (b"\x93\x02\xc4\x00\x91\x91\x92\x00\x90", "proof.malformed"),
        (b"\x93\xcc\x01\xc4\x00\x91\x91\x92\x00\x90", "proof.malformed"),
        (b"\x93\x01\xc4\x00\x91\x91\x92\x00\x90", "proof.invalid"),
        (b"\x91" * 1_000, "proof.malformed"),
        (bytes(PROOF_MAX_BYTES + 1), "proof.too_large"),
    ],
)
def test_hostile_bytes_have_stable_codes(data, code):
    with pytest.raises(ProofError) as caught:
        validate_proof(bytes(32), b"s", data)
    assert caught.value.code == code


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_prove_nothing(data):
    with pytest.raises(ProofError):
        validate_proof(bytes(32), b"s", data)


def test_the_largest_proofs_fit_their_bound(make_world):
    levels = (MerkleProofLevel(0xFFFE, (b"\xff" * 32,) * 15),) * DEPTH_MAX
    value = bytes(NEIGHBOUR_VALUE_MAX_BYTES)
    neighbour = MerkleNeighbour(bytes(32), value)
    for largest in (
        PresentLeaf(value, MerkleProof(levels)),
        AbsentLeaf(MerkleAbsence(levels, neighbour)),
    ):
        assert len(encode(largest)) <= PROOF_MAX_BYTES
    funding = FundingParams(1_000_000, rate_max_ppm=40_000)
    world = make_world(markets=MARKETS_MAX, index=None, funding=funding)
    account = world.state.accounts[world.ALICE]
    for market in world.state.markets.values():
        account.exposure(market).lots = POSITION_MAX_LOTS
    account.position_record = None
    world.state.mark_dirty(account)
    data = prove_leaf(world.state, account_key(world.ALICE))
    root = compute_state_root(world.state)
    assert validate_proof(root, account_key(world.ALICE), data) is not None
    assert len(data) < NEIGHBOUR_VALUE_MAX_BYTES


def test_proofs_of_genesis_and_of_a_missing_market(make_world):
    """No block has asked for a root yet."""
    state = create_state(make_world(index=None).genesis)
    assert judge(compute_state_root(state), b"s", prove_system(state))[0] == PRESENT
    assert judge(compute_state_root(state), market_key(2), prove_leaf(state, market_key(2))) == (
        ABSENT,
        None,
    )


def test_sizes_are_as_stated():
    workload = Workload(WorkloadConfig(seed=7, markets=4, accounts=2_000, positions_per_account=3))
    state = create_state(workload.genesis())
    sizes = [
        len(prove_leaf(state, account_key(account_id))) for account_id in list(state.accounts)[:200]
    ]
    assert max(sizes) < 2_000
