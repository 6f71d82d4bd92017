"""Accounts that owe more than they have: who must wait for it, who pays, and how little it gains
the owner."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.genesis import LiquidationParams
from engine.instructions import Bid, OracleReport, PlaceOrder, Side, Withdraw
from engine.liquidation.phase import is_withdrawal_gated
from engine.liquidation.views import view_liquidation
from engine.receipts import (
    AuctionEvent,
    DeleverageEvent,
    LiquidationEvent,
    LiquidationStage,
    LiquidationStep,
)
from engine.snapshots.whole import restore, snapshot

ALL = 1_000_000
ADDRESS = b"d" * 20
STEP = LiquidationStep


def params(insurance=1_000_000, **changes):
    values = {"part_min_microquote": 0, "retry_ms": 100, "insolvent_ms": 10_000}
    return LiquidationParams(insurance, **(values | changes))


def make(make_world, rules, lots=100, **keywords):
    """Alice is long at 1,000 ticks with 1,000 of equity a lot, Bob is short; others are rich."""
    world = make_world(balance=lots * 1_000, liquidation=rules, **keywords)
    world.one(world.ALICE, PlaceOrder(1, Side.BUY, 1_000, lots))
    world.deposit(world.BOB, 10_000_000)
    world.one(world.BOB, PlaceOrder(1, Side.SELL, 1_000, lots))
    world.deposit(world.CAROL, 10_000_000)
    world.deposit(world.DAVE, 10_000_000)
    return world


def withdraw(world):
    return world.one(world.CAROL, Withdraw(1, ADDRESS)).code


def test_a_debt_that_the_fund_can_pay_keeps_nobody_from_withdrawing(make_world):
    world = make(make_world, params(insurance=10), lots=1)
    world.set_index(899)
    record = world.state.accounts[world.ALICE].distress
    assert (record.stage, record.debt) == (LiquidationStage.INSOLVENT, 10)
    for _ in range(3):
        world.wait()
        assert withdraw(world) == "ok"


def test_the_fees_count_for_the_gate(make_world, monkeypatch):
    monkeypatch.setattr("engine.liquidation.deleverage.DELEVERAGE_TRADES_PER_BLOCK_MAX", 0)
    world = make(make_world, params(insurance=6), lots=1)
    world.set_index(899)
    assert withdraw(world) == "withdraw.gated"
    state = world.state
    state.fees += 3
    state.accounts[world.BOB].quote -= 3
    state.mark_dirty(state.accounts[world.BOB])
    assert withdraw(world) == "withdraw.gated"
    state.fees += 1
    state.accounts[world.BOB].quote -= 1
    state.mark_dirty(state.accounts[world.BOB])
    assert withdraw(world) == "ok"
    assert is_withdrawal_gated(restore(snapshot(state))) is False


def test_debts_that_the_fund_can_pay_one_by_one_but_not_together_are_deleveraged_at_once(
    make_world,
):
    """Else they would keep everybody from withdrawing until their time is over. The fund pays
    first; what it lacks for the last of them is the counterparty's."""
    world = make(make_world, params(insurance=1_500))
    world.one(world.ERIN, PlaceOrder(1, Side.BUY, 1_000, 100))
    world.one(world.BOB, PlaceOrder(1, Side.SELL, 1_000, 100))
    world.set_index(899)
    paid = {event.account: event.paid_microquote for event in world.events(DeleverageEvent)}
    assert sorted(paid.values()) == [899_000, 899_500]
    assert sorted(paid) == sorted((world.ALICE, world.ERIN))
    assert (world.state.liquidations.debts, world.state.insurance) == (0, 0)
    assert withdraw(world) == "ok"
    world.wait()
    assert world.events(DeleverageEvent) == []


def test_a_price_that_comes_back_ends_the_funds_offer(make_world):
    world = make(make_world, params(auction_fast_ms=1_000))
    world.set_index(890)
    account = world.state.accounts[world.ALICE]
    assert account.distress.stage is LiquidationStage.INSOLVENT
    world.time_ms += 5_000
    world.set_index(930)
    assert [event.step for event in world.events(LiquidationEvent)] == [STEP.AUCTIONED]
    assert (account.distress.stage, account.distress.debt) == (LiquidationStage.AUCTION, 0)
    world.time_ms += 1_000
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 10_000)).code == "ok"
    assert world.state.insurance == 1_000_000


def test_a_bid_in_the_block_of_the_new_price_meets_the_stage_of_that_price(make_world):
    world = make(make_world, params())
    world.set_index(890)
    account = world.state.accounts[world.ALICE]
    world.time_ms += 9_000
    world.state.liquidations.schedule(account.distress, 2**60)
    world.set_index(930)
    assert account.distress.stage is LiquidationStage.INSOLVENT, "nobody has looked yet"
    # What an insolvent account would offer by now is 9 % of 46,500; of its equity a part is.
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 80_000)).code == "auction.premium_too_high"
    assert account.distress.stage is LiquidationStage.AUCTION
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 30_000)).code == "ok"
    (sold,) = world.events(AuctionEvent)
    assert sold.insurance_microquote == 0
    assert sold.part_ppm < ALL


def test_clocks_of_auction_and_insolvency_go_on_where_they_stood(make_world):
    """Equity that swings around zero puts off neither the end nor what is offered."""
    world = make(make_world, params())
    world.set_index(890)
    record = world.state.accounts[world.ALICE].distress
    for swing in range(3):
        assert record.stage is LiquidationStage.INSOLVENT
        assert (record.elapsed_ms, record.paused_ms) == (3_000 * swing, 1_000 * swing)
        world.time_ms += 3_000
        world.set_index(930)
        assert record.stage is LiquidationStage.AUCTION
        assert (record.elapsed_ms, record.paused_ms) == (1_000 * swing, 3_000 * (swing + 1))
        world.time_ms += 1_000
        world.set_index(890)
    world.wait(900)
    assert world.events(DeleverageEvent) == []
    world.wait(100)
    assert world.events(DeleverageEvent), "ten seconds insolvent, all together"


def trick(make_world, ppm, prices, portions):
    """Bob, whose short hedges Alice's long, is Alice: shortly before the end he bids for it all.
    What the fund paid beyond the debt, and the margin that it was paid for."""
    world = make(make_world, params(10**9, insured_premium_max_ppm=ppm))
    world.set_index(prices[0])
    account = world.state.accounts[world.ALICE]
    assert account.distress.stage is LiquidationStage.INSOLVENT
    margin = max(100 * 10 * price // 20 for price in prices)
    world.time_ms += 9_950
    fund = world.state.insurance
    start = world.quote(world.ALICE) + world.quote(world.BOB)
    for price, portion in zip(prices, portions, strict=True):
        if world.state.markets[1].mark_price != price:
            world.set_index(price)
        for premium in range(ppm, -1, -max(ppm // 50, 1)):
            if world.one(world.BOB, Bid(world.ALICE, portion, premium)).code == "ok":
                break
    owned = world.quote(world.ALICE) + world.quote(world.BOB) - start
    paid = fund - world.state.insurance
    assert owned == paid
    return paid, margin


def test_owners_who_bid_for_their_own_accounts_gain_no_more_than_the_stated_part(make_world):
    paid, margin = trick(make_world, 100_000, (890,), (ALL,))
    debt = 10_000
    assert margin == 44_500
    assert 0 < paid - debt <= margin // 10
    # Without the bound it would be all of the margin.
    paid, margin = trick(make_world, ALL, (890,), (ALL,))
    assert paid - debt > margin * 9 // 10
    assert LiquidationParams().insured_premium_max_ppm == 100_000


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.sampled_from([1, 7, 10_000, 200_000, 333_333, 500_000, ALL]), min_size=1, max_size=6
    )
)
def test_no_slicing_makes_it_more(make_world, portions):
    paid, margin = trick(make_world, 100_000, (890,) * len(portions), portions)
    assert paid <= 10_000 + margin // 10


def test_who_takes_no_lot_gets_no_premium(make_world):
    """Three lots, rounded up: the second slice ends before the third lot."""
    world = make(make_world, params(), lots=3)
    world.set_index(890)
    world.time_ms += 5_000
    receipts = world.run(
        world.CAROL, Bid(world.ALICE, 666_667, 40_000), Bid(world.ALICE, 333_334, 40_000)
    )
    assert [receipt.code for receipt in receipts] == ["ok", "auction.sold"]
    assert world.position(world.CAROL) == 3
    (sold,) = world.events(AuctionEvent)
    assert sold.premium_microquote == 54 * 666_667 // ALL
    # What the account still lacks is the fund's all the same, and no more than that.
    world.wait()
    paid = sold.premium_microquote + 300
    assert (world.quote(world.ALICE), world.state.insurance) == (0, 1_000_000 - paid)


@pytest.mark.parametrize("portion", [10_000, 10_001, 99_999, 333_333])
def test_many_small_bids_cost_the_fund_no_more_than_one_large_one(make_world, portion):
    world = make(make_world, params(), lots=100)
    world.set_index(899)
    world.state.accounts[world.ALICE].quote += 993
    world.state.accounts[world.BOB].quote -= 993
    for name in (world.ALICE, world.BOB):
        world.state.mark_dirty(world.state.accounts[name])
    world.wait()
    assert world.state.liquidations.debts == 7
    while left := world.position(world.ALICE):
        # Never less than a lot of what is there.
        world.run(world.CAROL, *[Bid(world.ALICE, max(portion, -(-ALL // left)), 0)] * 64)
    world.wait()
    assert world.position(world.ALICE) == 0
    assert world.quote(world.ALICE) == 0
    assert world.state.insurance == 1_000_000 - 7


def test_bids_that_fail_leave_no_market_behind_in_their_accounts(make_world):
    world = make(make_world, params(), markets=2)
    world.set_index(930)
    poor = world.state.accounts[world.ERIN]
    assert world.one(world.ERIN, Bid(world.ALICE, 10_000, 0)).code == "ok"
    assert list(poor.exposures) == [1]
    world.deposit(b"p" * 32, 5)
    poor = world.state.accounts[b"p" * 32]
    for _ in range(3):
        assert world.one(b"p" * 32, Bid(world.ALICE, ALL, 0)).code == "margin.insufficient"
        assert poor.exposures == {}


def test_hours_in_which_the_chain_stood_still_are_none_of_an_auction(make_world):
    """A bid in the first block after it meets an offer a minute older, not all of the equity."""
    world = make(make_world, params(closing_max_ms=0))
    world.set_index(930)
    record = world.state.accounts[world.ALICE].distress
    assert (record.stage, record.elapsed_ms) == (LiquidationStage.AUCTION, 0)
    world.time_ms += 13 * 3_600_000
    report = OracleReport(1, 930, world.state.height + 1, world.time_ms)
    reported = world.envelope(world.REPORTER, report)
    # Six tenths of the maintenance margin are nine tenths of the equity.
    greedy = world.envelope(world.CAROL, Bid(world.ALICE, ALL, 600_000))
    codes = {each.envelope_id: each.code for each in world.block([reported, greedy]).receipts}
    assert codes[greedy.envelope_id] == "auction.premium_too_high"
    assert record.elapsed_ms == 60_100
    world.time_ms += 3_600_000
    assert view_liquidation(world.state, world.state.accounts[world.ALICE]).elapsed_ms == 60_100


def test_hours_in_which_the_chain_stood_still_deleverage_nobody(make_world):
    world = make(make_world, params(insolvent_ms=3_600_000))
    world.set_index(890)
    world.time_ms += 3_600_000
    world.set_index(890)
    assert world.events(DeleverageEvent) == []
    assert world.state.accounts[world.ALICE].distress.elapsed_ms == 60_100


def shield(make_world, rules, lots):
    """Alice holds some lots in a second market, whose index is stale."""
    world = make(make_world, rules, lots=100 - lots + 1, markets=2, oracle_max_age_ms=1_000)
    world.deposit(world.ALICE, lots * 1_000)
    world.one(world.ALICE, PlaceOrder(2, Side.BUY, 1_000, lots))
    world.one(world.CAROL, PlaceOrder(2, Side.SELL, 1_000, lots))
    world.time_ms += 2_000
    return world


def test_a_lot_in_a_stale_market_shields_nothing_and_the_fund_pays_for_no_doubt(make_world):
    world = shield(make_world, params(insolvent_ms=0), 1)
    # Of 101,000 remain -19,000; the lot in doubt is worth 10,000 and at best half as much more.
    world.set_index(880)
    assert world.state.markets[2].stale
    (event,) = world.events(DeleverageEvent)
    assert (event.market, event.size_lots, event.paid_microquote) == (1, 100, 880_000)
    assert world.state.insurance == 1_000_000 - 14_000
    assert (world.position(world.ALICE), world.position(world.ALICE, 2)) == (0, 1)
    world.wait()
    assert world.events(LiquidationEvent) == []
    # Once it is known what the lot is worth, it goes, too.
    world.time_ms += 600_000
    world.set_index(880)
    world.set_index(1_000, 2)
    world.wait()
    assert world.position(world.ALICE, 2) == 0
    assert (world.quote(world.ALICE), world.state.insurance) == (0, 1_000_000 - 19_000)
    assert world.state.liquidations.records == {}


def test_bids_take_slices_of_what_is_fresh_alone(make_world):
    world = shield(make_world, params(), 1)
    world.set_index(930)
    assert world.state.accounts[world.ALICE].distress is not None
    world.time_ms += 5_000
    world.set_index(890)
    assert world.state.markets[2].stale
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 0)).code == "ok"
    assert world.position(world.ALICE, 2) == 1
    assert world.position(world.CAROL) > 0


def test_by_a_stale_mark_that_is_far_off_no_healthy_account_is_liquidated(make_world):
    """Half of what Alice has is in doubt: by the last mark she is below her margin, and by the
    price that comes she is not."""
    world = shield(make_world, params(), 50)
    world.set_index(850)
    world.wait()
    assert world.state.liquidations.records == {}
    assert world.one(world.CAROL, Bid(world.ALICE, ALL, 0)).code == "auction.unknown"
    world.set_index(1_150, 2)
    world.wait()
    assert world.state.liquidations.records == {}
    world.set_index(1_000, 2)
    assert world.state.accounts[world.ALICE].distress is not None
