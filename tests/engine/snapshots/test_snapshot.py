"""Snapshots: exact, canonical, and refused when anything does not fit."""

import hashlib
import os
import subprocess
import sys

import msgspec
import pytest

from crypto.codec import decode, encode
from engine.apply import apply_block
from engine.block import Deposit
from engine.errors import SnapshotError
from engine.instructions import Cancel, PlaceOrder, Side
from engine.limits import FULL_CHECK_INTERVAL_BLOCKS
from engine.snapshots.whole import (
    SNAPSHOT_VERSION,
    EngineSnapshot,
    restore,
    snapshot,
)
from engine.state import create_state
from localnet.bench.workload import Workload, WorkloadConfig

BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def busy(world):
    """Orders of two accounts at one price, one client id, a position each."""
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_010, 5, client_id=3))
    world.one(world.BOB, PlaceOrder(1, SELL, 1_010, 5, good_til_ms=10**6))
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_010, 5))
    world.one(world.CAROL, PlaceOrder(1, BUY, 1_010, 3))
    world.one(world.CAROL, PlaceOrder(1, SELL, 1_400, 3, reduce_only=True))
    return world


def test_restored_books_keep_priority_clients_and_expiry(busy):
    busy.state = restore(snapshot(busy.state))
    assert busy.one(busy.ALICE, Cancel(client_id=3)).order_id == 1
    busy.one(busy.DAVE, PlaceOrder(1, BUY, 1_010, 6))
    assert [fill.maker_order_id for fill in busy.output.fills] == [2, 3]
    busy.time_ms = 10**6
    busy.one(busy.BOB, PlaceOrder(1, SELL, 1_010, 5, good_til_ms=10**6 + 1))


def test_a_snapshot_of_genesis_restores(make_world):
    world = make_world(index=None)
    world.state = restore(snapshot(world.state))
    world.set_index(1_000)
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 1)).code == "ok"


def test_taking_a_snapshot_changes_nothing(busy):
    assert snapshot(busy.state) == snapshot(busy.state)
    twin = restore(snapshot(busy.state))
    order = busy.envelope(busy.DAVE, PlaceOrder(1, BUY, 1_010, 1))
    output = busy.block([order])
    assert apply_block(twin, busy.inputs[-1]) == output


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"version": SNAPSHOT_VERSION + 1},
        lambda s: {"state_root": bytes(32)},
        lambda s: {"height": s.height + 1},
        lambda s: {"fees_microquote": s.fees_microquote + 1},
        lambda s: {"next_order_id": s.orders[-1].order_id},
        lambda s: {"markets": ()},
        lambda s: {"orders": s.orders[::-1]},
        lambda s: {"orders": s.orders[1:]},
        lambda s: {"orders": (*s.orders[:-1], msgspec.structs.replace(s.orders[-1], lots=9))},
        lambda s: {
            "orders": (*s.orders[:-1], msgspec.structs.replace(s.orders[-1], owner=b"x" * 32))
        },
        lambda s: {
            "orders": tuple(
                msgspec.structs.replace(order, client_id=3, owner=s.orders[0].owner)
                for order in s.orders
            )
        },
        lambda s: {"accounts": s.accounts[::-1]},
        lambda s: {"accounts": s.accounts[:-1]},
        lambda s: {
            "accounts": (
                msgspec.structs.replace(s.accounts[0], positions=((9, 1),)),
                *s.accounts[1:],
            )
        },
        lambda s: {
            "accounts": (
                msgspec.structs.replace(s.accounts[0], positions=((1, -4),)),
                *s.accounts[1:],
            )
        },
        lambda s: {
            "markets": tuple(
                msgspec.structs.replace(market, index_price_ticks=7) for market in s.markets
            )
        },
    ],
)
def test_a_changed_snapshot_is_refused(busy, change):
    packed = decode(EngineSnapshot, snapshot(busy.state))
    changed = encode(msgspec.structs.replace(packed, **change(packed)))
    with pytest.raises(SnapshotError):
        restore(changed)


@pytest.mark.parametrize("version", [0, SNAPSHOT_VERSION + 1, 127])
def test_another_version_is_refused_by_its_number_whatever_its_shape(busy, version):
    """A later version may have more fields, and even none of today's."""
    fields = msgspec.msgpack.decode(snapshot(busy.state))
    said = f"^version {version}, expected {SNAPSHOT_VERSION}$"
    for shape in (
        [version, *fields[1:]],
        [version, *fields[1:], 7, 8],
        [version, b"new"],
        [version],
    ):
        with pytest.raises(SnapshotError, match=said) as caught:
            restore(msgspec.msgpack.encode(shape))
        assert caught.value.code == "engine.snapshot_invalid"


def test_this_version_with_another_shape_is_refused_too(busy):
    fields = msgspec.msgpack.decode(snapshot(busy.state))
    for shape in ([*fields, 7], [*fields, 7, 8, 9], fields[:-1], fields[:1]):
        with pytest.raises(SnapshotError):
            restore(msgspec.msgpack.encode(shape))


def test_bytes_that_are_no_snapshot_are_refused(busy):
    data = snapshot(busy.state)
    for broken in (b"", b"\xc1", data[:-1], data + b"\x00"):
        with pytest.raises(SnapshotError):
            restore(broken)


_SCRIPT = """
from engine.apply import apply_block
from engine.snapshots.whole import snapshot
from engine.state import create_state
from localnet.bench.workload import Workload, WorkloadConfig
workload = Workload(WorkloadConfig(5, 3, 40, 2, 3, 2))
state = create_state(workload.genesis())
for block in workload.setup_blocks() + [workload.block(60) for _ in range(8)]:
    output = apply_block(state, block)
print(output.state_root.hex(), output.receipts_root.hex(), snapshot(state).hex())
"""


def test_no_hash_seed_reaches_any_output():
    answers = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        finished = subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            env=environment,
            capture_output=True,
            check=True,
            timeout=60,
        )
        answers.add(finished.stdout)
    assert len(answers) == 1


def test_the_workload_trades_and_is_pinned():
    """The same bytes for ever: a benchmark must not drift, and a root must not change unnoticed."""
    workload = Workload(WorkloadConfig(seed=7, markets=4, accounts=60, positions_per_account=3))
    state = create_state(workload.genesis())
    for block in workload.setup_blocks():
        apply_block(state, block)
    assert {len([e for e in a.exposures.values() if e.lots]) for a in state.accounts.values()} == {
        3
    }
    instructions = refused = fills = 0
    while state.height < FULL_CHECK_INTERVAL_BLOCKS:
        stats = apply_block(state, workload.block(20)).stats
        instructions += stats.instructions
        refused += stats.refused
        fills += stats.fills
    assert fills > instructions // 25
    assert refused < instructions // 10
    assert (
        hashlib.sha256(snapshot(state)).hexdigest()
        == "8f7a4aac0aeb7980832c3d1ea0f274b034c95becd947b1f4fdbc8a7ca5ce9b5d"
    )


def test_a_repeated_deposit_restores_to_the_same_root(world):
    for _ in range(2):
        world.block(deposits=[Deposit(b"n" * 32, 5, bytes(32))])
    twin = restore(snapshot(world.state))
    assert snapshot(twin) == snapshot(world.state)
