"""Sub-accounts: the owner's key, but a balance, positions, margin and orders of their own."""

from hashlib import sha256
from itertools import permutations

import msgspec
import pytest

from crypto.codec import decode, encode
from engine.accounts.sub_accounts import compute_sub_account_id
from engine.apply import apply_block
from engine.block import BlockInput
from engine.commitment.proofs import (
    prove_leaf,
    validate_proof,
)
from engine.commitment.root import (
    account_key,
)
from engine.errors import SnapshotError
from engine.instructions import (
    ArmDeadMan,
    Bundle,
    Cancel,
    CancelAll,
    ConditionalOrder,
    MarketOrder,
    OnBehalf,
    OracleReport,
    PlaceOrder,
    Side,
    TimeInForce,
    Transfer,
    TriggerKind,
    TriggerSource,
    Withdraw,
)
from engine.limits import FOK_READS_PER_SENDER_MAX, SUB_ACCOUNTS_MAX
from engine.receipts import TransferEvent
from engine.schedule import decode_bundle
from engine.snapshots.whole import EngineSnapshot, restore, snapshot
from engine.views import view_account

BUY, SELL = Side.BUY, Side.SELL
BALANCE = 100_000


@pytest.fixture
def world(make_world):
    """Balances of 100,000 micro-quote: an index of 1,000 asks 1,000 of margin for a lot."""
    return make_world(balance=BALANCE)


def sub_of(owner, number):
    return compute_sub_account_id(owner, number)


def test_the_id_follows_from_owner_and_number_alone(world):
    domain = b"rota/sub-account/v1"
    parts = bytes([len(domain)]) + domain
    for part in (world.ALICE, bytes([0, 0, 0, 7])):
        parts += len(part).to_bytes(8, "big") + part
    assert sub_of(world.ALICE, 7) == sha256(parts).digest()


def test_a_transfer_opens_a_sub_account_that_trades_in_the_same_bundle(world):
    sub = sub_of(world.ALICE, 1)
    receipts = world.run(
        world.ALICE,
        OnBehalf(1, PlaceOrder(1, BUY, 1_000, 20, client_id=1)),
        PlaceOrder(1, BUY, 1_000, 5, client_id=1),
        Transfer(30_000, sub=1),
    )
    assert [receipt.code for receipt in receipts] == ["ok"] * 3
    assert world.output.events == (TransferEvent(world.ALICE, sub, 30_000),)
    assert (world.quote(world.ALICE), world.quote(sub)) == (BALANCE - 30_000, 30_000)
    owners = {order.exposure.account.account_id for order in world.state.orders.values()}
    assert owners == {world.ALICE, sub}


def test_margin_orders_and_positions_are_isolated(world):
    world.run(world.ALICE, Transfer(10_000, sub=1), PlaceOrder(1, BUY, 990, 1))
    too_much = OnBehalf(1, PlaceOrder(1, BUY, 990, 11))
    assert world.one(world.ALICE, too_much).code == "margin.insufficient"
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 10))
    world.one(world.ALICE, OnBehalf(1, MarketOrder(1, BUY, 1_000, 10)))
    sub = sub_of(world.ALICE, 1)
    assert (world.position(world.ALICE), world.position(sub)) == (0, 10)
    assert world.one(world.ALICE, OnBehalf(1, CancelAll())).cancelled_count == 0
    assert world.one(world.ALICE, OnBehalf(1, Cancel(1))).code == "order.unknown"
    assert world.one(world.ALICE, Cancel(1)).code == "ok"
    world.set_index(1_050)
    assert world.one(world.ALICE, OnBehalf(1, Transfer(5_000))).code == "collateral.insufficient"
    world.set_index(950)
    assert world.one(world.ALICE, Transfer(BALANCE - 10_000, world.CAROL)).code == "ok"


def test_own_orders_of_two_accounts_trade_with_each_other(world):
    world.run(world.ALICE, Transfer(50_000, sub=1), PlaceOrder(1, SELL, 1_000, 5))
    world.one(world.ALICE, OnBehalf(1, MarketOrder(1, BUY, 1_000, 5)))
    assert world.position(sub_of(world.ALICE, 1)) == 5
    assert world.position(world.ALICE) == -5


def test_collateral_moves_between_own_accounts_and_out_of_them(world):
    one, two = sub_of(world.ALICE, 1), sub_of(world.ALICE, 2)
    world.one(world.ALICE, Transfer(30_000, sub=1))
    world.one(world.ALICE, OnBehalf(1, Transfer(10_000, sub=2)))
    world.one(world.ALICE, OnBehalf(2, Transfer(1_000)))
    world.one(world.ALICE, OnBehalf(2, Transfer(2_000, world.BOB)))
    world.one(world.BOB, Transfer(500, one))
    assert world.one(world.ALICE, OnBehalf(2, Withdraw(3_000, b"d" * 20))).code == "ok"
    assert [world.quote(each) for each in (world.ALICE, world.BOB, one, two)] == [
        BALANCE - 29_000,
        BALANCE + 1_500,
        20_500,
        4_000,
    ]


@pytest.mark.parametrize(
    ("instruction", "code"),
    [
        (OnBehalf(1, CancelAll()), "account.unknown"),
        (OnBehalf(1, Withdraw(1, b"d" * 20)), "account.unknown"),
        (OnBehalf(1, Transfer(1, sub=2)), "account.unknown"),
        (OnBehalf(0, CancelAll()), "sub_account.number_invalid"),
        (OnBehalf(-1, CancelAll()), "sub_account.number_invalid"),
        (OnBehalf(SUB_ACCOUNTS_MAX + 1, CancelAll()), "sub_account.number_invalid"),
        (OnBehalf(2**64 - 1, CancelAll()), "sub_account.number_invalid"),
        (Transfer(1, sub=SUB_ACCOUNTS_MAX + 1), "sub_account.number_invalid"),
        (Transfer(1, sub=-1), "sub_account.number_invalid"),
        (Transfer(1, sub=2**63), "sub_account.number_invalid"),
        (Transfer(1, bytes([2]) * 32, 1), "transfer.destination_invalid"),
        (Transfer(1), "transfer.to_itself"),
        (Transfer(0, sub=1), "collateral.amount_invalid"),
        (Transfer(BALANCE + 1, sub=1), "collateral.insufficient"),
        (Transfer(BALANCE, sub=SUB_ACCOUNTS_MAX), "ok"),
    ],
)
def test_refusals_open_no_account(world, instruction, code):
    receipt = world.one(world.ALICE, instruction)
    assert receipt.code == code
    assert len(world.state.accounts) == 5 + (code == "ok")


def test_nobody_acts_for_a_sub_account_of_somebody_else(world):
    world.one(world.ALICE, Transfer(10_000, sub=1))
    assert world.one(world.BOB, OnBehalf(1, Transfer(1))).code == "account.unknown"


def test_neither_reports_nor_another_wrapper_can_be_wrapped():
    for inner in (OracleReport(1, 1, 1, 1), OnBehalf(1, CancelAll())):
        body = encode(Bundle((OnBehalf(1, inner),)))
        assert decode_bundle(body) == "bundle.malformed"


def test_a_deposit_opens_a_sub_account_and_its_owner_when_it_is_first_named(world):
    owner, sub = b"n" * 32, sub_of(b"n" * 32, 3)
    world.deposit(sub, 5_000)
    assert view_account(world.state, sub).owner is None
    assert world.one(owner, OnBehalf(3, PlaceOrder(1, BUY, 1_000, 5))).code == "ok"
    assert (view_account(world.state, sub).owner, view_account(world.state, sub).sub) == (owner, 3)
    view = view_account(world.state, owner)
    assert [(each.sub, each.account, each.equity_microquote) for each in view.sub_accounts] == [
        (3, sub, 5_000)
    ]


def test_triggers_and_dead_men_of_a_sub_account_are_its_own(world):
    stop = ConditionalOrder(
        1, BUY, TriggerKind.STOP, TriggerSource.INDEX, 1_001, 1_100, 3, TimeInForce.GTC
    )
    world.run(world.ALICE, Transfer(30_000, sub=1), OnBehalf(1, stop), stop)
    world.run(world.ALICE, OnBehalf(1, ArmDeadMan(100)))
    world.set_index(1_010)
    owners = [order.exposure.account.account_id for order in world.state.orders.values()]
    assert sorted(owners) == sorted([world.ALICE, sub_of(world.ALICE, 1)])
    world.time_ms += 100
    world.block()
    assert [order.exposure.account.account_id for order in world.state.orders.values()] == [
        world.ALICE
    ]


def test_sub_accounts_have_no_turns_and_no_reads_of_their_own(world):
    world.run(world.ALICE, *[Transfer(20_000, sub=number) for number in (1, 2)])
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 6))
    take = MarketOrder(1, BUY, 1_000, 3)
    world.block(
        [
            world.envelope(world.ALICE, OnBehalf(1, take), OnBehalf(2, take), take),
            world.envelope(world.CAROL, take),
        ]
    )
    takers = [fill.taker for fill in world.output.fills]
    assert world.CAROL in takers, "three accounts of one owner take one turn, then another"
    for name in (world.BOB, world.CAROL, world.DAVE, world.ERIN):
        for _ in range(2):
            world.run(name, *[PlaceOrder(1, SELL, 1_001, 1)] * 40)
    fok = PlaceOrder(1, BUY, 1_001, 5, TimeInForce.FOK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.trading.matching.FOK_READS_PER_SENDER_MAX", 8)
        receipts = world.run(world.ALICE, OnBehalf(1, fok), OnBehalf(2, fok))
    assert [receipt.code for receipt in receipts] == ["ok", "order.fok_unfillable"]
    assert FOK_READS_PER_SENDER_MAX >= 8


def test_the_leaf_of_a_sub_account_names_its_owner_and_snapshots_keep_it(world):
    world.run(world.ALICE, Transfer(30_000, sub=2), Transfer(30_000, sub=1))
    sub = sub_of(world.ALICE, 2)
    key = account_key(sub)
    value = validate_proof(world.output.state_root, key, prove_leaf(world.state, account_key(sub)))
    assert value == (
        (30_000).to_bytes(8, "big")
        + bytes(32)
        + (2**31 + 1).to_bytes(4, "big")
        + world.ALICE
        + (2).to_bytes(4, "big")
    )
    twin = restore(snapshot(world.state))
    assert snapshot(twin) == snapshot(world.state)
    assert view_account(twin, world.ALICE) == view_account(world.state, world.ALICE)


@pytest.mark.parametrize(
    "change",
    [
        lambda subs: (),
        lambda subs: subs[::-1],
        lambda subs: (msgspec.structs.replace(subs[0], owner=bytes([2]) * 32), subs[1]),
        lambda subs: (msgspec.structs.replace(subs[0], owner=b"x" * 32), subs[1]),
        lambda subs: (msgspec.structs.replace(subs[0], sub=3), subs[1]),
        lambda subs: (msgspec.structs.replace(subs[0], account=b"x" * 32), subs[1]),
    ],
)
def test_a_snapshot_that_lies_about_sub_accounts_is_refused(world, change):
    world.run(world.ALICE, Transfer(30_000, sub=2), Transfer(30_000, sub=1))
    packed = decode(EngineSnapshot, snapshot(world.state))
    changed = msgspec.structs.replace(packed, sub_accounts=change(packed.sub_accounts))
    with pytest.raises(SnapshotError):
        restore(encode(changed))


def test_no_order_of_the_envelopes_changes_what_sub_accounts_do(world):
    world.run(world.ALICE, Transfer(30_000, sub=1))
    base = snapshot(world.state)
    envelopes = [
        world.envelope(world.ALICE, OnBehalf(1, PlaceOrder(1, BUY, 1_000, 20)), Transfer(9, sub=2)),
        world.envelope(world.ALICE, OnBehalf(2, Transfer(9)), OnBehalf(1, Transfer(15_000))),
        world.envelope(world.BOB, MarketOrder(1, SELL, 1_000, 30), Transfer(7, sub=1)),
        world.envelope(world.CAROL, PlaceOrder(1, SELL, 1_000, 30), Transfer(7, world.ALICE)),
    ]
    outputs = set()
    for order in permutations(envelopes):
        state = restore(base)
        block = BlockInput(state.height + 1, world.time_ms, b"s" * 32, order, (), world.reporters)
        outputs.add(encode(apply_block(state, block)))
    assert len(outputs) == 1
