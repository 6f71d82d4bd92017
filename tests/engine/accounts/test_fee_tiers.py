"""Fee tiers: volume by epoch, lazily, and no pair of accounts that is paid for trading together."""

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.codec import decode, encode
from crypto.digest import Domain, digest
from engine.accounts.fees import compute_tier, compute_trailing_volume
from engine.commitment.proofs import (
    prove_leaf,
    validate_proof,
)
from engine.commitment.root import (
    account_key,
)
from engine.errors import SnapshotError
from engine.genesis import (
    EngineGenesis,
    FeeTier,
    FeeTiers,
    GenesisError,
    LiquidationParams,
    Matching,
    validate_genesis,
)
from engine.instructions import MarketOrder, OnBehalf, PlaceOrder, Side, TimeInForce, Transfer
from engine.limits import VOLUME_MAX_MICROQUOTE
from engine.snapshots.whole import EngineSnapshot, restore, snapshot
from engine.views import view_account

BUY, SELL = Side.BUY, Side.SELL
EPOCH_MS = 1_000
TIERS = FeeTiers((FeeTier(100_000, 100, 50), FeeTier(300_000, 200, 100)), EPOCH_MS, 2)
# Market fees of 100 and 500 ppm; a lot at 1,000 ticks is worth 10,000.


@pytest.fixture(scope="session")
def make(make_world):
    def make(fees=TIERS, **params):
        plain = make_world(maker_fee_ppm=100, taker_fee_ppm=500, oracle_max_age_ms=10**7, **params)
        genesis = msgspec.structs.replace(plain.genesis, fee_tiers=fees)
        world = type(plain)(genesis)
        world.set_index(1_000)
        return world

    return make


def trade(world, lots, maker=None, taker=None):
    """One trade at 1,000 ticks; returns the fees of maker and taker."""
    world.one(maker or world.ALICE, PlaceOrder(1, SELL, 1_000, lots))
    world.one(taker or world.BOB, MarketOrder(1, BUY, 1_000, lots))
    (fill,) = world.output.fills
    return fill.maker_fee_microquote, fill.taker_fee_microquote


def test_a_liquidation_pays_the_taker_fee_of_its_accounts_tier(make):
    world = make(liquidation=LiquidationParams(part_min_microquote=0), balance=200_000)
    trade(world, 100)
    world.deposit(world.CAROL, 10**7)
    world.time_ms += EPOCH_MS
    world.one(world.CAROL, PlaceOrder(1, BUY, 840, 100))
    world.set_index(840)
    (fill,) = world.output.fills
    assert (fill.taker, fill.size_lots) == (world.BOB, 20)
    assert fill.taker_fee_microquote == 8_400 * 20 * 300 // 10**6 + 1


def test_volume_lowers_the_fees_from_the_next_epoch_on_and_until_it_is_too_old(make):
    world = make()
    assert trade(world, 10) == (10, 50), "500 ppm of 100,000, and 100 ppm"
    assert trade(world, 10) == (10, 50), "the present epoch does not count"
    world.time_ms += EPOCH_MS
    assert trade(world, 10) == (5, 40)
    assert trade(world, 10) == (5, 40)
    world.time_ms += EPOCH_MS
    assert trade(world, 10) == (0, 30), "400,000 in two epochs"
    world.time_ms += EPOCH_MS
    assert trade(world, 10) == (0, 30), "300,000 in the last two"
    world.time_ms += 2 * EPOCH_MS
    assert trade(world, 10) == (5, 40), "100,000 in the last two"
    world.time_ms += 3 * EPOCH_MS
    assert trade(world, 10) == (10, 50)


def test_each_side_pays_by_its_own_tier(make):
    world = make()
    trade(world, 10, taker=world.CAROL)
    world.time_ms += EPOCH_MS
    assert trade(world, 10) == (5, 50)
    assert trade(world, 10, maker=world.DAVE, taker=world.CAROL) == (10, 40)


def test_without_tiers_nothing_is_counted(make):
    world = make(fees=None)
    trade(world, 10)
    assert (world.state.fee_epoch, world.state.accounts[world.BOB].volume) == (0, None)
    assert view_account(world.state, world.BOB).fee_tier is None


def test_the_margin_check_reckons_with_the_fee_that_is_paid(make):
    world = make(balance=50_000)
    trade(world, 30)
    world.time_ms += EPOCH_MS
    poor = b"p" * 32
    world.deposit(poor, 10_049)
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 10))
    assert world.one(poor, MarketOrder(1, BUY, 1_000, 10)).code == "margin.insufficient"
    world.deposit(poor, 1)
    assert world.one(poor, MarketOrder(1, BUY, 1_000, 10)).status.name == "FILLED"


def test_sub_accounts_share_their_owners_volume_and_trades_among_them_do_not_count(make):
    world = make()
    world.run(world.BOB, Transfer(10**9, sub=1), Transfer(10**9, sub=2))
    world.one(world.BOB, OnBehalf(1, PlaceOrder(1, SELL, 1_000, 90)))
    world.one(world.BOB, OnBehalf(2, MarketOrder(1, BUY, 1_000, 90)))
    assert world.state.accounts[world.BOB].volume is None
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 10))
    world.one(world.BOB, OnBehalf(1, MarketOrder(1, BUY, 1_000, 10)))
    world.time_ms += EPOCH_MS
    assert trade(world, 10) == (5, 40)
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 10))
    world.one(world.BOB, OnBehalf(2, MarketOrder(1, BUY, 1_000, 10)))
    assert world.output.fills[0].taker_fee_microquote == 40
    view = view_account(world.state, world.BOB).fee_tier
    assert view == view_account(world.state, world.BOB).fee_tier
    assert (view.tier, view.volume_microquote, view.next_volume_microquote) == (1, 100_000, 300_000)
    assert (view.taker_reduction_ppm, view.maker_reduction_ppm) == (100, 50)
    assert view.epoch_volume_microquote == 200_000
    assert view.epoch_ends_ms == (world.time_ms // EPOCH_MS + 1) * EPOCH_MS
    world.time_ms += EPOCH_MS
    world.block()
    view = view_account(world.state, world.BOB).fee_tier
    assert (view.volume_microquote, view.epoch_volume_microquote) == (300_000, 0)


def test_a_refused_order_in_a_new_epoch_changes_no_leaf(make):
    world = make()
    trade(world, 10)
    before = prove_leaf(world.state, account_key(world.BOB))
    root = world.output.state_root
    value = validate_proof(root, account_key(world.BOB), before)
    world.time_ms += 5 * EPOCH_MS
    world.one(world.BOB, PlaceOrder(1, BUY, 1_000, 1, TimeInForce.FOK))
    after = validate_proof(
        world.output.state_root,
        account_key(world.BOB),
        prove_leaf(world.state, account_key(world.BOB)),
    )
    assert after == value


def test_the_leaf_commits_to_every_epoch_and_snapshots_keep_them(make):
    world = make()
    epoch = world.state.fee_epoch
    trade(world, 10)
    world.time_ms += EPOCH_MS
    trade(world, 3)
    root, proof = world.output.state_root, prove_leaf(world.state, account_key(world.BOB))
    value = validate_proof(root, account_key(world.BOB), proof)
    earlier = epoch.to_bytes(8, "big") + (100_000).to_bytes(8, "big")
    assert value.endswith(
        (2**31 + 2).to_bytes(4, "big")
        + (epoch + 1).to_bytes(8, "big")
        + (30_000).to_bytes(8, "big")
        + sha256(digest(Domain.STATE, b"volume") + earlier).digest()
    )
    twin = restore(snapshot(world.state))
    assert snapshot(twin) == snapshot(world.state)
    assert view_account(twin, world.BOB) == view_account(world.state, world.BOB)


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: (),
        lambda packed: packed[::-1],
        lambda packed: (msgspec.structs.replace(packed[0], account=b"x" * 32), packed[1]),
        lambda packed: (msgspec.structs.replace(packed[0], epochs=((2, 1),)), packed[1]),
        lambda packed: (
            msgspec.structs.replace(packed[0], epochs=packed[0].epochs * 2),
            packed[1],
        ),
    ],
)
def test_a_snapshot_that_lies_about_volume_is_refused(make, change):
    world = make()
    trade(world, 10)
    packed = decode(EngineSnapshot, snapshot(world.state))
    changed = msgspec.structs.replace(packed, volumes=change(packed.volumes))
    with pytest.raises(SnapshotError):
        restore(encode(changed))


def test_volume_stops_at_its_bound(make):
    world = make()
    trade(world, 10)
    world.state.accounts[world.BOB].volume.amounts[-1] = VOLUME_MAX_MICROQUOTE - 1
    trade(world, 10)
    assert world.state.accounts[world.BOB].volume.amounts == [VOLUME_MAX_MICROQUOTE]


def _tiers(*steps):
    return FeeTiers(tuple(FeeTier(*step) for step in steps))


@pytest.mark.parametrize(
    "fees",
    [
        _tiers((10, 0, 0), (10, 0, 0)),
        _tiers((10, 0, 0), (9, 0, 0)),
        _tiers((10, 5, 0), (11, 4, 0)),
        _tiers((10, 0, 5), (11, 0, 4)),
        _tiers((10, 501, 0)),
        _tiers((10, 400, 201)),
    ],
)
def test_a_schedule_that_pays_or_contradicts_itself_is_no_genesis(make, fees):
    genesis = make().genesis
    with pytest.raises(GenesisError):
        validate_genesis(msgspec.structs.replace(genesis, fee_tiers=fees))
    validate_genesis(msgspec.structs.replace(genesis, fee_tiers=_tiers((10, 400, 200))))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3), st.booleans()), max_size=30))
def test_no_trade_ever_costs_the_exchange_and_tiers_agree_with_a_plain_sum(make, trades):
    """Rebates included; the volume is summed again from all fills, without any window."""
    world = make(fees=TIERS, balance=10**12)
    genesis: EngineGenesis = world.genesis
    assert genesis.fee_tiers is not None
    fills = []
    for lots, epochs, is_swapped in trades:
        world.time_ms += epochs * 400
        names = (world.BOB, world.ALICE) if is_swapped else (world.ALICE, world.BOB)
        before = world.state.fees
        trade(world, lots, *names)
        assert world.state.fees >= before
        fills.append((world.state.fee_epoch, lots * 10_000))
    now = world.state.fee_epoch
    due = sum(amount for epoch, amount in fills if now - 2 <= epoch < now)
    for name in (world.ALICE, world.BOB):
        account = world.state.accounts[name]
        assert compute_trailing_volume(world.state, account) == due
        assert compute_tier(world.state, account) == sum(
            tier.volume_microquote <= due for tier in genesis.fee_tiers.tiers
        )
        volume = account.volume
        assert volume is None or len(volume.epochs) <= 3


def test_auctions_charge_by_tier_and_count_volume_too(make):
    world = make(matching=Matching.AUCTION)
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 10, TimeInForce.POST_ONLY))
    world.one(world.BOB, MarketOrder(1, BUY, 1_000, 10))
    (fill,) = world.output.fills
    assert (fill.maker_fee_microquote, fill.taker_fee_microquote) == (10, 50)
    world.time_ms += EPOCH_MS
    world.run(world.BOB, Transfer(10**9, sub=1))
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 10, TimeInForce.POST_ONLY))
    world.one(world.BOB, OnBehalf(1, MarketOrder(1, BUY, 1_000, 10)))
    (fill,) = world.output.fills
    assert (fill.maker_fee_microquote, fill.taker_fee_microquote) == (5, 40)
    assert world.state.accounts[world.BOB].volume.amounts == [100_000, 100_000]
