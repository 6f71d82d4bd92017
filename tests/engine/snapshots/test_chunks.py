"""Snapshots in pieces: any bytes come back whole or not at all, and what is equal is sent once."""

from hashlib import sha256

import blake3
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.codec import encode
from engine.apply import apply_block
from engine.block import Deposit
from engine.commitment.root import compute_state_root
from engine.errors import ChunkError
from engine.instructions import ArmDeadMan, PlaceOrder, Side
from engine.snapshots.chunks import (
    CHUNK_MAX_BYTES,
    CHUNK_MIN_BYTES,
    CHUNKS_MAX,
    MANIFEST_MAX_BYTES,
    MANIFEST_VERSION,
    SNAPSHOT_MAX_BYTES,
    ChunkName,
    Manifest,
    compute_chunk_name,
    decode_manifest,
    encode_manifest,
    split,
    validate_manifest,
)
from engine.snapshots.whole import (
    SNAPSHOT_VERSION,
    EngineSnapshot,
    restore,
    snapshot,
)
from engine.state import create_state
from localnet.bench.workload import Workload, WorkloadConfig


@pytest.fixture(scope="module")
def crowd():
    """A state of 6,000 accounts with positions and orders, and the next blocks."""
    workload = Workload(WorkloadConfig(3, 4, 6_000, 2, instructions_per_bundle=8))
    state = create_state(workload.genesis())
    for block in workload.setup_blocks():
        apply_block(state, block)
    apply_block(state, workload.block(4_000))
    return state, workload


@pytest.fixture(scope="module")
def pieces(crowd):
    data = snapshot(crowd[0])
    return data, *split(data)


def code_of(caught) -> str:
    return caught.value.code


def test_a_snapshot_comes_back_from_its_chunks(crowd, pieces):
    state, _ = crowd
    data, manifest, chunks = pieces
    assert b"".join(chunks) == data
    assert len(chunks) > 10
    assert all(0 < len(chunk) <= CHUNK_MAX_BYTES for chunk in chunks)
    # Around each long list: what stands before it, its size, its end. There are four of them.
    assert sum(len(chunk) < CHUNK_MIN_BYTES for chunk in chunks) <= 3 * 4
    assert manifest.size_bytes == len(data)
    assert manifest.snapshot_version == SNAPSHOT_VERSION
    root = compute_state_root(state)
    validate_manifest(manifest, state.height, root)
    for height, other in ((state.height + 1, root), (state.height, bytes(32))):
        with pytest.raises(ChunkError) as caught:
            validate_manifest(manifest, height, other)
        assert code_of(caught) == "manifest.other_state"
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert [each.digest for each in manifest.chunks] == [
        compute_chunk_name(each) for each in chunks
    ]
    assert split(snapshot(restore(data)))[0] == manifest


def test_names_are_as_documented(pieces):
    _, manifest, chunks = pieces
    prefix = b"\x16rota/snapshot-chunk/v1"
    assert manifest.chunks[0].digest == blake3.blake3(prefix + chunks[0]).digest()


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, MANIFEST_MAX_BYTES), flip=st.integers(1, 255))
def test_a_flipped_byte_of_a_manifest_names_other_pieces_or_another_state(pieces, place, flip):
    _, manifest, _ = pieces
    changed = bytearray(encode_manifest(manifest))
    changed[place % len(changed)] ^= flip
    try:
        other = decode_manifest(bytes(changed))
    except ChunkError:
        return
    assert other != manifest
    if (other.height, other.state_root) != (manifest.height, manifest.state_root):
        with pytest.raises(ChunkError) as caught:
            validate_manifest(other, manifest.height, manifest.state_root)
        assert code_of(caught) == "manifest.other_state"
    else:
        assert other.chunks != manifest.chunks


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "manifest.version"),
        (bytes([MANIFEST_VERSION + 1]), "manifest.version"),
        (bytes([MANIFEST_VERSION]), "manifest.malformed"),
        (bytes([MANIFEST_VERSION]) + b"\x91" * 2_000, "manifest.malformed"),
        (bytes(MANIFEST_MAX_BYTES + 1), "manifest.too_large"),
    ],
)
def test_bytes_that_are_no_manifest_have_stable_codes(data, code):
    with pytest.raises(ChunkError) as caught:
        decode_manifest(data)
    assert code_of(caught) == code


def test_the_bounds_of_a_manifest():
    chunk = ChunkName(bytes(32), CHUNK_MAX_BYTES)
    largest = Manifest(2**63 - 1, 2**63 - 1, bytes(32), (chunk,) * CHUNKS_MAX)
    assert len(encode_manifest(largest)) < MANIFEST_MAX_BYTES
    assert largest.size_bytes > SNAPSHOT_MAX_BYTES
    base = Manifest(SNAPSHOT_VERSION, 1, bytes(32), (chunk,))
    assert decode_manifest(encode_manifest(base)) == base
    fitting = (chunk,) * (SNAPSHOT_MAX_BYTES // CHUNK_MAX_BYTES)
    for change, code in (
        ({"chunks": fitting}, None),
        ({"chunks": (*fitting, chunk)}, "manifest.too_large"),
        ({"chunks": (ChunkName(bytes(32), 1),) * (CHUNKS_MAX + 1)}, "manifest.malformed"),
        ({"chunks": ()}, "manifest.malformed"),
        ({"chunks": (chunk, ChunkName(bytes(32), 1))}, "manifest.malformed"),
        ({"chunks": (ChunkName(bytes(32), CHUNK_MAX_BYTES + 1),)}, "manifest.malformed"),
        ({"chunks": (ChunkName(bytes(32), 0),)}, "manifest.malformed"),
        ({"snapshot_version": SNAPSHOT_VERSION + 1}, "manifest.version"),
        ({"snapshot_version": SNAPSHOT_VERSION - 1}, "manifest.version"),
        ({"height": -1}, "manifest.malformed"),
    ):
        data = encode_manifest(msgspec.structs.replace(base, **change))
        if code is None:
            decode_manifest(data)
        else:
            with pytest.raises(ChunkError) as caught:
                decode_manifest(data)
            assert code_of(caught) == code


def count_shared(old, new) -> int:
    """Bytes of the new snapshot that whoever has the old one need not load."""
    held = {chunk.digest for chunk in old.chunks}
    return sum(chunk.size_bytes for chunk in new.chunks if chunk.digest in held)


def test_equal_parts_of_two_snapshots_are_equal_chunks(crowd):
    """New accounts and orders in the middle and at the end move bytes, but few chunks change."""
    state, workload = crowd
    data = snapshot(state)
    old, _ = split(data)
    twin = create_state(workload.genesis())
    packed = msgspec.msgpack.decode(data, type=EngineSnapshot)
    middle = len(packed.accounts) // 2
    changed = msgspec.structs.replace(
        packed,
        height=packed.height + 1,
        state_root=bytes(32),
        accounts=packed.accounts[:middle] + packed.accounts[middle + 1 :],
        orders=packed.orders[1:],
    )
    new, _ = split(encode(changed))
    assert count_shared(old, new) > new.size_bytes * 8 // 10
    assert count_shared(old, split(snapshot(twin))[0]) > 0


def test_the_cuts_stay_when_values_change(crowd):
    """Every account has another balance, and the orders are as they were: they are not sent."""
    state, _ = crowd
    packed = msgspec.msgpack.decode(snapshot(state), type=EngineSnapshot)
    richer = tuple(
        msgspec.structs.replace(each, quote_microquote=each.quote_microquote + 1)
        for each in packed.accounts
    )
    old = split(encode(packed))[0]
    new = split(encode(msgspec.structs.replace(packed, accounts=richer)))[0]
    assert [chunk.size_bytes for chunk in new.chunks] == [chunk.size_bytes for chunk in old.chunks]
    assert count_shared(old, new) >= len(encode(packed.orders)) - 10


def test_content_that_cannot_be_cut_is_cut_at_the_largest_size():
    """By nobody's keys, and in one element that is longer than a chunk may be."""
    fields = [SNAPSHOT_VERSION, [], bytes(32), 7, b"", [b"x" * (3 * CHUNK_MAX_BYTES)], b"end"]
    data = msgspec.msgpack.encode(fields)
    manifest, chunks = split(data)
    assert (manifest.height, manifest.state_root) == (7, bytes(32))
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) == CHUNK_MAX_BYTES
    for items in ([[7, b"y" * 100]] * 20_000, [[]] * 40_000, [7] * 40_000):
        fields[5] = items
        data = msgspec.msgpack.encode(fields)
        _, chunks = split(data)
        assert b"".join(chunks) == data
        assert {len(chunk) for chunk in chunks[2:-2]} <= {CHUNK_MAX_BYTES}


def test_keys_that_all_ask_for_a_cut_make_no_short_chunks():
    key = next(
        n for n in range(10**6) if sha256(msgspec.msgpack.encode(n)).digest()[2:4] == b"\0\0"
    )
    assert int.from_bytes(sha256(msgspec.msgpack.encode(key)).digest()[:4], "big") % 512 == 0
    fields = [SNAPSHOT_VERSION, [], bytes(32), 7, [[key, b"y" * 100]] * 20_000]
    _, chunks = split(msgspec.msgpack.encode(fields))
    assert all(len(chunk) >= CHUNK_MIN_BYTES for chunk in chunks[1:-1])
    assert len(chunks) < 70


def test_a_state_that_is_too_large_to_send_is_said_so(monkeypatch, world):
    data = snapshot(world.state)
    for bound, value in (("SNAPSHOT_MAX_BYTES", len(data)), ("CHUNKS_MAX", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(f"engine.snapshots.chunks.{bound}", value)
            split(data)
            patch.setattr(f"engine.snapshots.chunks.{bound}", value - 1)
            with pytest.raises(ChunkError) as caught:
                split(data)
        assert code_of(caught) == "manifest.too_large"


def test_a_small_snapshot_is_one_chunk(world):
    world.one(world.ALICE, PlaceOrder(1, Side.BUY, 1_000, 1))
    world.block(deposits=[Deposit(b"n" * 32, 5, bytes(32))])
    _, chunks = split(snapshot(world.state))
    assert len(chunks) == 1
    assert compute_state_root(restore(chunks[0])) == world.output.state_root


def test_a_snapshot_in_which_something_waits_comes_back_too(world):
    world.run(world.ALICE, PlaceOrder(1, Side.BUY, 1_000, 1), ArmDeadMan(80_000))
    _, chunks = split(snapshot(world.state))
    assert compute_state_root(restore(b"".join(chunks))) == world.output.state_root
