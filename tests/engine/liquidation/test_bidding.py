"""Auctions of portfolio slices: what is offered, who gets it, who pays, and every refusal."""

import pytest

from engine.block import Deposit
from engine.genesis import LiquidationParams
from engine.instructions import Bid, PlaceOrder, Side, Transfer
from engine.limits import BIDS_PER_BLOCK_MAX
from engine.liquidation.phase import is_withdrawal_gated
from engine.liquidation.views import view_insurance, view_liquidations
from engine.margin import refresh_margin
from engine.receipts import (
    AuctionEvent,
    DeleverageEvent,
    LiquidationEvent,
    LiquidationStage,
    LiquidationStep,
    SliceEvent,
)
from engine.views import view_account

PARAMS = LiquidationParams(
    part_min_microquote=0,
    retry_ms=100,
    auction_fast_ms=1_000,
    auction_slow_ms=7_000,
    insolvent_ms=10_000,
)
INSURED = LiquidationParams(
    insurance_microquote=1_000_000,
    part_min_microquote=0,
    retry_ms=100,
    insolvent_ms=10_000,
    insured_premium_max_ppm=1_000_000,
)
ALL = 1_000_000


def make(make_world, price, params=PARAMS, **keywords):
    """Alice is 100 lots long at 1,000 ticks with 100,000 of equity, in auction at `price`."""
    world = make_world(balance=100_000, liquidation=params, **keywords)
    world.one(world.ALICE, PlaceOrder(1, Side.BUY, 1_000, 100))
    world.deposit(world.BOB, 10_000_000)
    world.one(world.BOB, PlaceOrder(1, Side.SELL, 1_000, 100))
    world.deposit(world.CAROL, 10_000_000)
    world.deposit(world.DAVE, 10_000_000)
    world.set_index(price)
    assert world.state.accounts[world.ALICE].distress.stage is not LiquidationStage.CLOSING
    return world


def stages(world):
    return [event.step for event in world.events(LiquidationEvent)]


def test_a_bid_takes_what_restores_the_margin_and_no_more(make_world):
    world = make(make_world, 930)
    # Equity 30,000, margin 46,500, target 53,475; the offer is 5 %: 1,500, asked for: 1,395.
    receipt = world.one(world.CAROL, Bid(world.ALICE, ALL, 30_000))
    assert receipt.code == "ok"
    (sold,) = world.events(AuctionEvent)
    assert sold.part_ppm == -(-(53_475 - 30_000) * ALL // (53_475 - 1_395)) == 450_749
    assert (sold.premium_microquote, sold.insurance_microquote) == (1_395 * 450_749 // ALL, 0)
    assert world.position(world.ALICE) == 54
    assert world.position(world.CAROL) == 46
    (slice_,) = world.events(SliceEvent)
    assert (slice_.size_lots, slice_.paid_microquote) == (46, 46 * 9_300)
    assert world.quote(world.CAROL) == 10_100_000 - 46 * 9_300 + 628
    view = view_account(world.state, world.ALICE)
    assert view.equity_microquote == 30_000 - 628
    assert view.equity_microquote >= view.maintenance_margin_microquote * 115 // 100
    assert stages(world) == []
    world.time_ms += 100
    world.block()
    assert stages(world) == [LiquidationStep.ENDED]


def test_what_the_views_offer_is_what_a_bid_gets(make_world):
    world = make(make_world, 930)
    view = view_account(world.state, world.ALICE).liquidation
    assert (view,) == view_liquidations(world.state, bytes(32), 10)
    assert view_liquidations(world.state, world.ALICE, 10) == ()
    assert (view.stage, view.is_waiting) == (LiquidationStage.AUCTION, False)
    assert (view.equity_microquote, view.maintenance_margin_microquote) == (30_000, 46_500)
    assert view.offer_microquote == 1_500
    assert view.next_stage_ms == world.state.time_ms + 8_000 - view.elapsed_ms
    assert [(each.market, each.size_lots, each.value_microquote) for each in view.holdings] == [
        (1, 100, 930_000)
    ]
    assert view_insurance(world.state).auctions == 1
    receipt = world.one(world.CAROL, Bid(world.ALICE, ALL, view.offer_ppm))
    assert receipt.code == "ok"
    (sold,) = world.events(AuctionEvent)
    assert sold.part_ppm == view.for_sale_ppm
    assert view_account(world.state, world.CAROL).liquidation is None


def test_the_view_of_an_insolvent_account_tells_what_the_fund_adds(make_world):
    world = make(make_world, 890, INSURED)
    world.time_ms += 1_000
    world.set_index(890)
    view = view_account(world.state, world.ALICE).liquidation
    assert view.stage is LiquidationStage.INSOLVENT
    assert (view.equity_microquote, view.offer_microquote) == (-10_000, 4_450)
    assert (view.offer_ppm, view.insured_microquote, view.for_sale_ppm) == (100_000, 14_450, ALL)
    funds = view_insurance(world.state)
    assert (funds.insolvent, funds.negative, funds.insurance_microquote) == (1, 1, 1_000_000)
    assert (funds.debts_microquote, funds.is_gated) == (10_000, False)


def test_a_view_tells_the_stage_that_a_bid_would_meet(make_world):
    world = make(make_world, 890, INSURED)
    record = world.state.accounts[world.ALICE].distress
    world.state.liquidations.schedule(record, 2**60)
    world.time_ms += 5_000
    world.set_index(930)
    assert record.stage is LiquidationStage.INSOLVENT, "nobody has looked since"
    view = view_account(world.state, world.ALICE).liquidation
    assert (view.stage, view.elapsed_ms) == (LiquidationStage.AUCTION, 0)
    assert (view.offer_microquote, view.insured_microquote) == (1_500, 0)
    asked = Bid(world.ALICE, ALL, view.offer_ppm)
    assert world.one(world.CAROL, asked).code == "ok"
    (sold,) = world.events(AuctionEvent)
    assert sold.part_ppm <= view.for_sale_ppm


def test_the_offer_grows_fast_and_then_slowly_to_all_of_the_equity(make_world):
    world = make(make_world, 930)
    offers = []
    for _ in range(9):
        account = world.state.accounts[world.ALICE]
        least = next(
            ppm
            for ppm in range(0, ALL, 1_000)
            if -(-46_500 * ppm // ALL) > 30_000 * _discount(account, world) // ALL
        )
        offers.append(_discount(account, world))
        refused = world.one(world.CAROL, Bid(world.ALICE, 1, least))
        assert refused.code == "auction.premium_too_high"
        world.time_ms += 1_000
    assert offers[:3] == [50_000, 300_000, 400_000]
    assert offers[-1] == ALL
    assert offers == sorted(offers)


def _discount(account, world):
    elapsed_ms = account.distress.elapsed_ms + world.time_ms - account.distress.seen_ms
    if elapsed_ms < 1_000:
        return 50_000 + 250_000 * elapsed_ms // 1_000
    return min(ALL, 300_000 + 700_000 * (elapsed_ms - 1_000) // 7_000)


def test_all_bids_of_a_block_clear_at_the_premium_of_the_last_that_gets_something(make_world):
    world = make(make_world, 930)
    output = world.block(
        [
            world.envelope(world.CAROL, Bid(world.ALICE, 200_000, 20_000)),
            world.envelope(world.DAVE, Bid(world.ALICE, 400_000, 10_000)),
            world.envelope(world.BOB, Bid(world.ALICE, 400_000, 30_000)),
        ]
    )
    codes = sorted(receipt.code for receipt in output.receipts)
    assert codes == ["auction.sold", "ok", "ok"]
    dave, carol = world.events(AuctionEvent)
    assert (dave.bidder, carol.bidder) == (world.DAVE, world.CAROL)
    assert dave.part_ppm == 400_000
    assert dave.premium_microquote == 930 * 400_000 // ALL
    # What is for sale at that premium, less what is sold.
    for_sale = -(-(53_475 - 30_000) * ALL // (53_475 - 930))
    assert carol.part_ppm == for_sale - 400_000
    assert carol.premium_microquote == 930 * carol.part_ppm // ALL


@pytest.mark.parametrize(
    ("bid", "code"),
    [
        (Bid(b"\x09" * 32, ALL, 0), "auction.unknown"),
        (Bid(b"\x02" * 32, ALL, 0), "auction.unknown"),
        (Bid(b"\x01" * 32, 0, 0), "auction.portion_invalid"),
        (Bid(b"\x01" * 32, -1, 0), "auction.portion_invalid"),
        (Bid(b"\x01" * 32, ALL + 1, 0), "auction.portion_invalid"),
        (Bid(b"\x01" * 32, 2**64 - 1, 0), "auction.portion_invalid"),
        (Bid(b"\x01" * 32, ALL, -1), "auction.premium_invalid"),
        (Bid(b"\x01" * 32, ALL, ALL + 1), "auction.premium_invalid"),
        (Bid(b"\x01" * 32, ALL, 40_000), "auction.premium_too_high"),
        (Bid(b"\x01" * 32, ALL, ALL), "auction.premium_too_high"),
    ],
)
def test_a_bid_is_refused(make_world, bid, code):
    world = make(make_world, 930)
    before = world.quote(world.CAROL), world.position(world.ALICE)
    assert world.one(world.CAROL, bid).code == code
    assert (world.quote(world.CAROL), world.position(world.ALICE)) == before


def test_a_bid_of_nobody_for_ones_own_or_without_margin_is_refused(make_world):
    world = make(make_world, 930)
    assert world.one(b"n" * 32, Bid(world.ALICE, ALL, 0)).code == "account.unknown"
    assert world.one(world.ALICE, Bid(world.ALICE, ALL, 0)).code == "auction.own"
    # Erin has 100,000 and would need 10 % of 93,000; with 95,000 in an order she lacks it.
    world.one(world.ERIN, PlaceOrder(1, Side.BUY, 900, 100))
    assert world.one(world.ERIN, Bid(world.ALICE, ALL, 0)).code == "margin.insufficient"
    assert world.one(world.ERIN, Bid(world.ALICE, 10_000, 0)).code == "ok"


def test_an_account_whose_orders_are_closed_in_the_book_has_no_auction_yet(make_world):
    world = make(make_world, 930)
    world.state.accounts[world.ALICE].distress.enter(LiquidationStage.CLOSING)
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 0)).code == "auction.unknown"


def test_where_nobody_is_liquidated_there_is_nothing_to_bid_for(world):
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 0)).code == "auction.unknown"


def test_by_a_stale_index_there_are_no_bids(make_world):
    world = make(make_world, 930, oracle_max_age_ms=1_000)
    world.time_ms += 2_000
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 0)).code == "oracle.stale"


def test_a_recovered_account_is_not_sold(make_world):
    world = make(make_world, 930)
    account = world.state.accounts[world.ALICE]
    world.state.liquidations.schedule(account.distress, 2**60)
    world.set_index(990)
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 0)).code == "auction.unknown"


def test_the_fund_pays_who_takes_an_insolvent_account(make_world):
    world = make(make_world, 890, INSURED)
    # Equity is -10,000, margin 44,500; after a second the offer is a tenth of that.
    assert not is_withdrawal_gated(world.state), "the fund can pay"
    world.time_ms += 1_000
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 100_001)).code == "auction.premium_too_high"
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 100_000)).code == "ok"
    (sold,) = world.events(AuctionEvent)
    assert (sold.premium_microquote, sold.insurance_microquote) == (4_450, 14_450)
    assert world.state.insurance == 1_000_000 - 14_450
    assert (world.quote(world.ALICE), world.position(world.ALICE)) == (0, 0)
    world.time_ms += 100
    world.block()
    assert stages(world) == [LiquidationStep.ENDED]
    assert not is_withdrawal_gated(world.state)


def test_a_fund_that_is_short_sells_no_more_than_it_can_pay(make_world):
    params = LiquidationParams(
        insurance_microquote=10_500,
        part_min_microquote=0,
        retry_ms=100,
        insolvent_ms=10_000,
        insured_premium_max_ppm=ALL,
    )
    world = make(make_world, 890, params)
    world.time_ms += 1_000
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 100_000)).code == "ok"
    (sold,) = world.events(AuctionEvent)
    assert sold.part_ppm == 10_500 * ALL // 14_450
    assert 0 <= world.state.insurance <= 1
    # The 27 lots that are left lack more than the fund has.
    (rest,) = world.events(DeleverageEvent)
    assert (rest.counterparty, rest.size_lots) == (world.BOB, 27)
    assert (world.quote(world.ALICE), world.position(world.ALICE)) == (0, 0)


def test_a_slice_has_all_positions_and_its_last_lot_is_sold(make_world):
    world = make_world(balance=100_000, liquidation=PARAMS, markets=3)
    for market in (1, 2, 3):
        lots = (60, -30, 1)[market - 1]
        side, other = (Side.BUY, Side.SELL) if lots > 0 else (Side.SELL, Side.BUY)
        world.one(world.ALICE, PlaceOrder(market, side, 1_000, abs(lots)))
        world.deposit(world.BOB, 10_000_000)
        world.one(world.BOB, PlaceOrder(market, other, 1_000, abs(lots)))
    world.deposit(world.CAROL, 10_000_000)
    world.set_index(870)
    # Equity 22,000 of a margin of 41,600.
    assert world.one(world.CAROL, Bid(world.ALICE, 500_001, 0)).code == "ok"
    assert [world.position(world.CAROL, market) for market in (1, 2, 3)] == [31, -16, 1]
    assert [world.position(world.ALICE, market) for market in (1, 2, 3)] == [29, -14, 0]
    assert world.state.accounts[world.ALICE].equity == 22_000


def test_more_bids_than_a_block_looks_at_are_refused_by_turns(make_world):
    world = make(make_world, 930)
    spam = [
        world.envelope(world.CAROL, *[Bid(world.ALICE, 10_000, 1_000)] * 64)
        for _ in range(BIDS_PER_BLOCK_MAX // 64 + 1)
    ]
    output = world.block([*spam, world.envelope(world.DAVE, Bid(world.ALICE, 10_000, 1_000))])
    codes = [receipt.code for receipt in output.receipts]
    assert codes.count("auction.too_many_bids") == 65
    late = [receipt for receipt in output.receipts if receipt.envelope_id[-1] == world.count]
    assert [receipt.code for receipt in late] == ["ok"]


def test_bids_for_many_positions_move_so_many_in_a_block(make_world, monkeypatch):
    world = make_world(markets=3, balance=100_000, liquidation=PARAMS)
    for market in (1, 2, 3):
        world.one(world.ALICE, PlaceOrder(market, Side.BUY, 1_000, 30))
        world.one(world.BOB, PlaceOrder(market, Side.SELL, 1_000, 30))
    world.deposit(world.CAROL, 10_000_000)
    for market in (1, 2, 3):
        world.set_index(900, market)
    world.time_ms += PARAMS.retry_ms
    world.block()
    assert world.state.accounts[world.ALICE].distress.stage is LiquidationStage.AUCTION
    monkeypatch.setattr("engine.liquidation.bidding.BID_MOVES_PER_BLOCK_MAX", 12)
    refreshed = []
    monkeypatch.setattr(
        "engine.liquidation.handover.refresh_margin",
        lambda state, account: refreshed.append(account) or refresh_margin(state, account),
    )
    receipts = world.run(world.CAROL, *[Bid(world.ALICE, 40_000, 0)] * 3)
    assert [receipt.code for receipt in receipts] == ["ok", "ok", "auction.too_many_bids"]
    slices = world.events(SliceEvent)
    assert len(slices) == 6
    # Three times for each check of a bid, before anything is sold and when it is, and once for each
    # side of what it moves.
    assert len(refreshed) == 2 * 8


def test_a_bid_counts_what_looking_at_its_bidder_takes(make_world, monkeypatch):
    world = make_world(markets=3, balance=100_000, liquidation=PARAMS)
    world.one(world.ALICE, PlaceOrder(1, Side.BUY, 1_000, 100))
    for name in (world.BOB, world.CAROL, world.DAVE):
        world.deposit(name, 10_000_000)
    world.one(world.BOB, PlaceOrder(1, Side.SELL, 1_000, 100))
    for market in (1, 2, 3):
        world.one(world.CAROL, PlaceOrder(market, Side.BUY, 900, 1))
    world.set_index(930)
    monkeypatch.setattr("engine.liquidation.bidding.BID_MOVES_PER_BLOCK_MAX", 11)
    # The account has one position; Carol counts four, for herself and three markets, Dave one.
    for name, count in ((world.CAROL, 1), (world.DAVE, 4)):
        receipts = world.run(name, *[Bid(world.ALICE, 40_000, 0)] * 5)
        assert [receipt.code for receipt in receipts].count("ok") == count


def test_bids_that_are_refused_take_nobodys_place(make_world, monkeypatch):
    """Neither those that ask too much nor those of bidders who cannot pay count."""
    monkeypatch.setattr("engine.liquidation.bidding.BIDS_PER_BLOCK_MAX", 1)
    monkeypatch.setattr("engine.liquidation.bidding.BID_MOVES_PER_BLOCK_MAX", 5)
    world = make(make_world, 930)
    names = [bytes([9, number]) + bytes(30) for number in range(5)]
    world.block(deposits=[Deposit(name, 1, bytes(32)) for name in names])
    for spam, code in (
        (Bid(world.ALICE, ALL, ALL), "auction.premium_too_high"),
        (Bid(world.ALICE, 20_000, 0), "margin.insufficient"),
        (Bid(world.ALICE, 9_999, 0), "auction.portion_invalid"),
    ):
        honest = world.envelope(world.CAROL, Bid(world.ALICE, 20_000, 0))
        output = world.block([*[world.envelope(name, spam) for name in names], honest])
        codes = {receipt.envelope_id: receipt.code for receipt in output.receipts}
        assert codes.pop(honest.envelope_id) == "ok"
        assert set(codes.values()) == {code}


def test_bids_that_fail_in_an_auction_of_dust_take_no_place_of_who_has_more(
    make_world, monkeypatch
):
    """Who has the maintenance margin of one lot, but not the initial one, counts and gets nothing:
    with an account of dust in auction, that was enough to close all auctions to others."""
    monkeypatch.setattr("engine.liquidation.bidding.BIDS_PER_BLOCK_MAX", 1)
    world = make_world(balance=100_000, liquidation=PARAMS)
    dust, *names = [bytes([9, number]) + bytes(30) for number in range(6)]
    world.block(deposits=[Deposit(name, 600, bytes(32)) for name in names])
    world.block(deposits=[Deposit(dust, 1_000, bytes(32))])
    world.deposit(world.BOB, 10_000_000)
    world.deposit(world.CAROL, 10_000_000)
    for name, lots in ((dust, 1), (world.ALICE, 100)):
        world.one(name, PlaceOrder(1, Side.BUY, 1_000, lots))
        world.one(world.BOB, PlaceOrder(1, Side.SELL, 1_000, lots))
    world.set_index(930)
    for _ in range(3):
        honest = world.envelope(world.CAROL, Bid(world.ALICE, 20_000, 0))
        output = world.block([*[world.envelope(name, Bid(dust, ALL, 0)) for name in names], honest])
        codes = {receipt.envelope_id: receipt.code for receipt in output.receipts}
        assert codes.pop(honest.envelope_id) == "ok"
        assert set(codes.values()) == {"auction.too_many_bids"}
    assert world.one(names[0], Bid(dust, ALL, 0)).code == "margin.insufficient"


def test_who_cannot_take_what_it_bids_for_is_in_nobodys_way(make_world):
    """Erin has the maintenance margin of all that is for sale, not the initial one, and asks for
    nothing: her bid comes first, fails, and sold everything to nobody."""
    world = make(make_world, 905)
    # All of it is for sale: equity 5,000 of 45,250; its initial margin is 90,500.
    world.run(world.ERIN, Transfer(40_000, world.BOB))
    greedy = world.envelope(world.ERIN, Bid(world.ALICE, ALL, 0))
    honest = world.envelope(world.CAROL, Bid(world.ALICE, ALL, 1_000))
    codes = {each.envelope_id: each.code for each in world.block([greedy, honest]).receipts}
    assert codes == {greedy.envelope_id: "margin.insufficient", honest.envelope_id: "ok"}
    assert world.position(world.CAROL) > 90


def test_bids_of_one_bidder_are_tried_together(make_world):
    """Erin has the margin of half of it, and bids for half of it twice."""
    world = make(make_world, 905)
    world.run(world.ERIN, Transfer(50_000, world.BOB))
    halves = world.envelope(world.ERIN, *[Bid(world.ALICE, ALL // 2, 0)] * 2)
    honest = world.envelope(world.CAROL, Bid(world.ALICE, ALL, 1_000))
    codes = [each.code for each in world.block([halves, honest]).receipts]
    assert sorted(codes) == ["margin.insufficient", "ok", "ok"]
    assert (world.position(world.ERIN), world.position(world.CAROL)) == (50, 41)


def test_no_number_of_small_bids_takes_the_coarse_position_first(make_world):
    """A hundred lots in one market and two in another: a slice weighs as much as one of the two,
    and many slices together have no more of them than one has."""
    world = make_world(balance=110_000, liquidation=PARAMS, markets=2)
    for name in (world.BOB, world.CAROL):
        world.deposit(name, 10_000_000)
    for market, lots in ((1, 98), (2, 2)):
        world.one(world.ALICE, PlaceOrder(market, Side.BUY, 1_000, lots))
        world.one(world.BOB, PlaceOrder(market, Side.SELL, 1_000, lots))
    world.set_index(900)
    assert world.state.accounts[world.ALICE].distress.stage is not LiquidationStage.CLOSING
    codes = [r.code for r in world.run(world.CAROL, *[Bid(world.ALICE, 12_000, 0)] * 5)]
    assert codes == ["ok"] * 5
    assert [world.position(world.CAROL, market) for market in (1, 2)] == [6, 1]
    assert world.one(world.CAROL, Bid(world.ALICE, 1, 0)).code == "auction.portion_invalid"
