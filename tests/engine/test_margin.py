"""Who may trade with which margin. One lot at 1,000 ticks is worth 10,000 micro-quote."""

import pytest

from engine.accounts.fees import compute_fee
from engine.block import Deposit
from engine.instructions import Amend, Cancel, MarketOrder, PlaceOrder, Side, TimeInForce
from engine.margin import compute_maintenance_margin
from engine.views import view_account

BUY, SELL = Side.BUY, Side.SELL
LOT = 10_000


def test_an_order_needs_exactly_its_initial_margin(make_world):
    world = make_world(balance=100 * LOT)
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 1_001)).code == "margin.insufficient"
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 1_000)).code == "ok"
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 500, 1)).code == "margin.insufficient"


def test_margin_rounds_up(make_world):
    world = make_world(balance=1_001, initial_margin_ppm=100_001)
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 1)).code == "ok"
    world = make_world(balance=1_000, initial_margin_ppm=100_001)
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 1)).code == "margin.insufficient"


def test_the_worse_side_of_open_orders_counts_not_their_sum(make_world):
    world = make_world(balance=100 * LOT)
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1_000)).code == "ok"
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 1_100, 1_000)).code == "ok"
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 1_100, 1)).code == "margin.insufficient"
    world.one(world.ALICE, Cancel(order_id=2))
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 1_100, 1_000)).code == "ok"


def test_a_price_worse_than_the_index_and_the_taker_fee_count_too(make_world):
    world = make_world(balance=100 * LOT, taker_fee_ppm=1_000)
    # 10 lots at 1,100: margin 10,000, loss 10,000, fee 110.
    for balance, code in [(20_110, "ok"), (20_109, "margin.insufficient")]:
        world = make_world(balance=balance, taker_fee_ppm=1_000)
        assert world.one(world.ALICE, PlaceOrder(1, BUY, 1_100, 10)).code == code


def test_margin_is_cross_over_markets(make_world):
    world = make_world(markets=2, balance=100 * LOT)
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 600)).code == "ok"
    assert world.one(world.ALICE, PlaceOrder(2, SELL, 1_000, 401)).code == "margin.insufficient"
    assert world.one(world.ALICE, PlaceOrder(2, SELL, 1_000, 400)).code == "ok"


def test_a_maker_without_margin_at_the_match_is_cancelled_and_the_taker_goes_on(make_world):
    world = make_world(balance=100 * LOT)
    world.one(world.ALICE, PlaceOrder(1, SELL, 1_000, 900))
    world.set_index(1_200)
    world.one(world.BOB, PlaceOrder(1, SELL, 1_100, 10))
    receipt = world.one(world.CAROL, MarketOrder(1, BUY, 1_200, 10))
    assert receipt.filled_lots == 10
    assert [fill.price_ticks for fill in world.output.fills] == [1_100]
    (event,) = world.output.events
    assert (event.code, event.owner, event.removed_lots) == (
        "margin.insufficient",
        world.ALICE,
        900,
    )


def _long_under_initial_margin(make_world, **params):
    """Alice is long 1,000 lots bought at 1,000 with 100 lots' worth of collateral; index 960."""
    world = make_world(balance=100 * LOT, **params)
    world.deposit(world.BOB, 10_000 * LOT)
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 1_000))
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 1_000))
    assert world.position(world.ALICE) == 1_000
    world.set_index(960)
    account = view_account(world.state, world.ALICE)
    assert account is not None
    assert account.maintenance_margin_microquote < account.equity_microquote
    assert account.equity_microquote < account.initial_margin_microquote
    return world


def test_below_initial_margin_only_closing_is_accepted(make_world):
    world = _long_under_initial_margin(make_world)
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 960, 1)).code == "margin.insufficient"
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 960, 1_001)).code == "margin.insufficient"
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 960, 1_000)).code == "ok"
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 960, 1)).code == "margin.insufficient"


def test_closing_must_not_lower_the_ratio_of_equity_to_maintenance_margin(make_world):
    world = _long_under_initial_margin(make_world)
    # Equity 600,000 over maintenance 480,000 for 1,000 lots: each lot may cost 600 micro-quote.
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 899, 100)).code == "margin.insufficient"
    assert world.one(world.ALICE, PlaceOrder(1, SELL, 900, 100)).code == "ok"


def test_a_closing_maker_below_initial_margin_may_trade(make_world):
    world = _long_under_initial_margin(make_world)
    world.one(world.ALICE, PlaceOrder(1, SELL, 960, 500))
    receipt = world.one(world.CAROL, PlaceOrder(1, BUY, 960, 500))
    assert receipt.filled_lots == 500
    assert world.position(world.ALICE) == 500


def test_size_down_and_cancel_need_no_margin(make_world):
    world = make_world(balance=100 * LOT)
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 1_000))
    world.set_index(1_500)
    assert world.one(world.ALICE, Amend(1, 0, 1_000, 999)).code == "ok"
    assert world.one(world.ALICE, Cancel(order_id=1)).code == "ok"


def test_a_deposit_gives_margin_in_its_own_block(make_world):
    world = make_world(balance=1)
    order = world.envelope(world.ALICE, PlaceOrder(1, BUY, 1_000, 10))
    output = world.block([order], [Deposit(world.ALICE, LOT, bytes(32))])
    assert output.receipts[0].code == "ok"
    assert output.events[0].credited


def test_unknown_accounts_are_refused(world):
    stranger = b"x" * 32
    receipts = world.run(stranger, PlaceOrder(1, BUY, 1_000, 1), Cancel(order_id=1))
    assert {receipt.code for receipt in receipts} == {"account.unknown"}
    assert stranger not in world.state.accounts


@pytest.mark.parametrize(
    ("notional", "ppm", "fee"),
    [
        (1, 1, 1),
        (10**6, 1, 1),
        (10**6 + 1, 1, 2),
        (1, -1, 0),
        (10**6, -1, -1),
        (1_999_999, -1, -1),
        (5, 0, 0),
    ],
)
def test_fees_are_the_ceiling_of_the_signed_amount(notional, ppm, fee):
    assert compute_fee(notional, ppm) == fee


def test_maintenance_margin_sums_rounded_up_parts(make_world):
    world = make_world(markets=2, maintenance_margin_ppm=33_333, index=1_001)
    for market in (1, 2):
        world.one(world.ALICE, PlaceOrder(market, SELL, 1_001, 3))
        world.one(world.BOB, PlaceOrder(market, BUY, 1_001, 3, TimeInForce.FOK))
    # 3 x 10,010 x 3.3333% = 1,000.99..., twice.
    assert compute_maintenance_margin(world.state.accounts[world.ALICE]) == 2 * 1_001
