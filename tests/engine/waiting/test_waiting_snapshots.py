"""What waits in snapshots and under the root: exact, additive, and refused when it does not fit."""

import msgspec
import pytest

from crypto.codec import decode, encode
from engine.apply import apply_block
from engine.commitment.root import encode_account
from engine.errors import SnapshotError
from engine.instructions import (
    ArmDeadMan,
    CancelAll,
    ConditionalOrder,
    OneCancelsOther,
    PlaceOrder,
    Side,
    TimeInForce,
    TrailingStop,
    TriggerKind,
    TriggerSource,
    TwapOrder,
)
from engine.snapshots.whole import (
    EngineSnapshot,
    restore,
    snapshot,
)

BUY, SELL = Side.BUY, Side.SELL
STOP = ConditionalOrder(1, SELL, TriggerKind.STOP, TriggerSource.INDEX, 950, 900, 1)


@pytest.fixture
def busy(world):
    """Ids: Alice 1 (rests) with 2, and 3 with 4; Bob 5 to 7, one of them a TWAP order."""
    resting = PlaceOrder(1, SELL, 1_050, 2, TimeInForce.POST_ONLY)
    trailing = TrailingStop(1, SELL, TriggerSource.LAST, 40, 10, 3)
    world.run(
        world.ALICE, OneCancelsOther(resting, STOP), OneCancelsOther(trailing, STOP), ArmDeadMan(90)
    )
    named = msgspec.structs.replace(STOP, client_id=3, good_til_ms=5_000)
    world.run(world.BOB, named, TwapOrder(1, BUY, 1_000, 9, 3_000, 1_000), STOP, ArmDeadMan(80))
    return world


def test_a_snapshot_of_what_waits_restores_to_the_byte(busy):
    data = snapshot(busy.state)
    twin = restore(data)
    assert snapshot(twin) == data
    assert (twin.pairs, list(twin.waiting)) == ({1: 2}, [2, 3, 4, 5, 6, 7])
    busy.time_ms = 2_000
    output = busy.block()
    assert apply_block(twin, busy.inputs[-1]) == output


def test_once_nothing_waits_any_more_the_leaf_is_the_plain_one(world):
    order = PlaceOrder(1, BUY, 900, 1)
    world.run(world.BOB, order, STOP, ArmDeadMan(500))
    leaf = encode_account(world.state.accounts[world.BOB])
    world.run(world.BOB, CancelAll(), ArmDeadMan(0))
    plain = encode_account(world.state.accounts[world.BOB])
    assert len(leaf) == len(plain) + 36


def replace(packed, table, position, **fields):
    entries = list(getattr(packed, table))
    entries[position] = msgspec.structs.replace(entries[position], **fields)
    return {table: tuple(entries)}


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"conditionals": s.conditionals[::-1]},
        lambda s: {"conditionals": s.conditionals[:-1]},
        lambda s: {"conditionals": ()},
        lambda s: {"conditionals": (), "twaps": (), "deadlines": ()},
        lambda s: {"twaps": s.twaps * 2},
        lambda s: {"twaps": ()},
        lambda s: {"deadlines": s.deadlines[::-1]},
        lambda s: {"deadlines": ((b"x" * 32, 5),)},
        lambda s: {"deadlines": s.deadlines[:1]},
        lambda s: {"next_order_id": 7},
        lambda s: replace(s, "conditionals", 0, partner=0),
        lambda s: replace(s, "conditionals", 0, partner=9),
        lambda s: replace(s, "conditionals", 0, partner=6),
        lambda s: replace(s, "conditionals", 0, partner=5),
        lambda s: replace(s, "conditionals", 1, partner=1),
        lambda s: replace(s, "conditionals", 0, owner=b"\x02" * 32),
        lambda s: replace(s, "conditionals", 0, owner=b"x" * 32),
        lambda s: replace(s, "conditionals", 0, market=9),
        lambda s: replace(s, "conditionals", 0, order_id=1),
        lambda s: replace(s, "conditionals", 0, is_fired=True),
        lambda s: replace(s, "conditionals", 1, trigger_ticks=961),
        lambda s: replace(s, "conditionals", 4, client_id=3),
        lambda s: replace(s, "twaps", 0, lots=10),
        lambda s: replace(s, "twaps", 0, next_slice=4),
        lambda s: replace(s, "twaps", 0, order_id=5),
        lambda s: replace(s, "twaps", 0, client_id=3),
    ],
)
def test_a_changed_snapshot_is_refused(busy, change):
    packed = decode(EngineSnapshot, snapshot(busy.state))
    changed = encode(msgspec.structs.replace(packed, **change(packed)))
    with pytest.raises(SnapshotError):
        restore(changed)


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("conditionals", "sense", 0),
        ("conditionals", "source", 2),
        ("conditionals", "lots", 0),
        ("twaps", "interval_ms", 0),
        ("twaps", "slices", 0),
    ],
)
def test_numbers_that_no_state_holds_are_no_snapshot(busy, table, field, value):
    packed = decode(EngineSnapshot, snapshot(busy.state))
    with pytest.raises(SnapshotError):
        restore(
            encode(msgspec.structs.replace(packed, **replace(packed, table, 0, **{field: value})))
        )
