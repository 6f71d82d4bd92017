"""Accounts below their maintenance margin: found in turn, closed in the books, fairly."""

import pytest

from engine.block import Deposit
from engine.genesis import LiquidationParams
from engine.instructions import (
    Cancel,
    ConditionalOrder,
    MarketOrder,
    PlaceOrder,
    Side,
    TriggerKind,
    TriggerSource,
)
from engine.limits import LIQUIDATION_LOOKS_PER_BLOCK_MAX, LIQUIDATION_PORTFOLIO_WEIGHT
from engine.liquidation.distress import count_looks
from engine.liquidation.phase import is_withdrawal_gated
from engine.portfolio.margin import PortfolioCache
from engine.receipts import LiquidationEvent, LiquidationStage, LiquidationStep
from engine.snapshots.whole import restore, snapshot
from engine.views import view_account

PARAMS = LiquidationParams(
    part_min_microquote=0, part_ppm=200_000, cooldown_ms=500, retry_ms=100, closing_max_ms=5_000
)
STEP = LiquidationStep


def make(make_world, params=PARAMS, **keywords):
    """Alice is 100 lots long at 1,000 ticks (1,000,000 micro-quote) with 100,000 of equity, Bob is
    short; margins are 10 % and 5 %."""
    # What an order could cost in taker fees must be there.
    fee = keywords.get("taker_fee_ppm", 0)
    world = make_world(balance=100_000 + fee, liquidation=params, **keywords)
    world.one(world.ALICE, PlaceOrder(1, Side.BUY, 1_000, 100))
    world.deposit(world.BOB, 10_000_000)
    world.one(world.BOB, PlaceOrder(1, Side.SELL, 1_000, 100))
    world.deposit(world.CAROL, 10_000_000)
    assert world.position(world.ALICE) == 100
    return world


def told(world, name=None):
    return [event for event in world.events(LiquidationEvent) if name in (None, event.account)]


def steps(world):
    return [event.step for event in told(world)]


def test_an_account_at_its_maintenance_margin_is_left_alone(make_world):
    world = make(make_world)
    # At 948 ticks: equity 48,000, maintenance margin 47,400.
    world.set_index(948)
    world.wait()
    assert world.state.liquidations.records == {}
    assert not told(world)


def test_orders_of_all_kinds_are_cancelled_and_nothing_is_done_without_a_bid(make_world):
    world = make(make_world)
    world.run(
        world.ALICE,
        PlaceOrder(1, Side.SELL, 1_300, 10),
        ConditionalOrder(
            1, Side.SELL, TriggerKind.STOP, TriggerSource.INDEX, 900, 800, 10, client_id=7
        ),
    )
    world.set_index(947)
    assert steps(world) == [STEP.BEGUN]
    view = view_account(world.state, world.ALICE)
    assert (view.orders, view.conditionals) == ((), ())
    assert world.position(world.ALICE) == 100
    record = world.state.accounts[world.ALICE].distress
    assert record.stage is LiquidationStage.CLOSING


def test_a_part_is_closed_at_the_fillable_price_and_pays_the_fund(make_world):
    world = make(make_world)
    # Equity 47,000 of 47,350: 0.74 % of the spread of 4,735 for 100 lots is below one tick.
    world.one(world.CAROL, PlaceOrder(1, Side.BUY, 947, 1_000))
    world.set_index(947)
    (closed,) = [event for event in told(world) if event.step is STEP.CLOSED]
    assert (closed.market, closed.lots, closed.notional_microquote) == (1, -20, 189_400)
    # The part's share in the equity is 9,400; the fee is 1 %.
    assert closed.insurance_microquote == 1_894 == world.state.insurance
    assert world.position(world.ALICE) == 80
    assert world.position(world.CAROL) == 20
    assert steps(world) == [STEP.BEGUN, STEP.CLOSED, STEP.ENDED]
    assert world.state.accounts[world.ALICE].distress is None


def test_a_bid_below_the_fillable_price_is_not_taken(make_world):
    world = make(make_world)
    world.one(world.CAROL, PlaceOrder(1, Side.BUY, 946, 1_000))
    world.set_index(947)
    assert steps(world) == [STEP.BEGUN]
    assert world.position(world.ALICE) == 100


def test_the_next_part_waits_for_the_cooldown(make_world):
    world = make(make_world, taker_fee_ppm=0)
    world.one(world.CAROL, PlaceOrder(1, Side.BUY, 935, 1_000))
    world.set_index(935)
    # Equity 35,000 of 46,750: a fifth is not enough.
    assert steps(world) == [STEP.BEGUN, STEP.CLOSED]
    world.wait(400)
    assert steps(world) == []
    world.wait()
    assert steps(world) == [STEP.CLOSED, STEP.ENDED]
    assert world.position(world.ALICE) == 64


def test_a_wall_of_dust_does_not_put_off_the_closing(make_world, monkeypatch):
    """What is closed with so many small bids that no more fit in a step is a piece of a part."""
    monkeypatch.setattr("engine.liquidation.phase.LIQUIDATION_MATCHES_MAX", 2)
    world = make(make_world)
    world.run(world.CAROL, *[PlaceOrder(1, Side.BUY, 948, 1)] * 4)
    world.one(world.CAROL, PlaceOrder(1, Side.BUY, 947, 1_000))
    world.set_index(940)
    assert world.position(world.ALICE) == 98
    # Two of twenty lots: a tenth of the cooldown.
    assert world.state.accounts[world.ALICE].distress.cool_ms == world.time_ms + 50
    world.wait()
    assert world.position(world.ALICE) == 96
    world.wait()
    assert world.position(world.ALICE) == 76


def test_a_lot_that_is_taken_of_one_position_keeps_no_other_from_being_closed(make_world):
    world = make_world(balance=100_000, liquidation=PARAMS, markets=2)
    world.deposit(world.BOB, 10_000_000)
    for market, lots in ((1, 60), (2, 40)):
        world.one(world.ALICE, PlaceOrder(market, Side.BUY, 1_000, lots))
        world.one(world.BOB, PlaceOrder(market, Side.SELL, 1_000, lots))
    world.one(world.CAROL, PlaceOrder(1, Side.BUY, 910, 1))
    world.one(world.CAROL, PlaceOrder(2, Side.BUY, 1_000, 5))
    world.set_index(910)
    assert [world.position(world.ALICE, market) for market in (1, 2)] == [59, 35]


def test_an_account_that_recovers_by_the_price_is_let_go(make_world):
    world = make(make_world)
    world.set_index(947)
    world.set_index(990)
    world.wait()
    assert steps(world) == [STEP.ENDED]
    assert world.state.liquidations.agenda.due(2**63) == []


def test_without_bids_the_auction_begins_in_time(make_world):
    world = make(make_world)
    world.set_index(947)
    for _ in range(49):
        world.wait()
        assert steps(world) == []
    world.wait()
    assert steps(world) == [STEP.AUCTIONED]


def test_below_the_backstop_the_auction_begins_at_once(make_world):
    world = make(make_world)
    world.set_index(931)
    assert steps(world) == [STEP.BEGUN, STEP.AUCTIONED]
    assert not is_withdrawal_gated(world.state)


def test_debts_above_the_fund_gate_withdrawals_until_they_are_gone(make_world, monkeypatch):
    world = make(make_world, LiquidationParams(insurance_microquote=10_000, retry_ms=100))
    monkeypatch.setattr("engine.liquidation.deleverage.DELEVERAGE_TRADES_PER_BLOCK_MAX", 0)
    world.set_index(850)
    assert steps(world) == [STEP.BEGUN, STEP.INSOLVENT]
    assert is_withdrawal_gated(world.state)
    restored = restore(snapshot(world.state))
    assert is_withdrawal_gated(restored)
    world.deposit(world.ALICE, 200_000)
    world.wait()
    assert not is_withdrawal_gated(world.state)


def test_a_stale_index_stops_the_liquidation_and_its_clock(make_world):
    world = make(make_world, oracle_max_age_ms=1_000)
    world.set_index(947)
    world.wait(2_000)
    assert world.state.markets[1].stale
    record = world.state.accounts[world.ALICE].distress
    elapsed_ms = record.elapsed_ms
    for _ in range(60):
        world.wait()
    assert record.elapsed_ms == elapsed_ms
    assert record.stage is LiquidationStage.CLOSING


def test_who_is_below_by_a_stale_index_is_not_begun(make_world):
    world = make(make_world, markets=2, oracle_max_age_ms=1_000)
    world.deposit(world.ALICE, 1_000)
    world.one(world.ALICE, PlaceOrder(2, Side.BUY, 1_000, 1))
    world.one(world.CAROL, PlaceOrder(2, Side.SELL, 1_000, 1))
    world.time_ms += 2_000
    # Below with the margin of both, not with the doubt about one.
    world.set_index(946)
    assert world.state.markets[2].stale
    assert told(world) == []
    world.set_index(999, 2)
    assert steps(world)[0] is STEP.BEGUN


def test_every_account_has_its_turn_within_the_stated_number_of_blocks(make_world):
    world = make(make_world)
    state = world.state
    for number in range(2 * LIQUIDATION_LOOKS_PER_BLOCK_MAX):
        state.open_account(number.to_bytes(32, "big")).equity = 0
    seen = []
    looks = sum(map(count_looks, state.accounts.values()))
    assert looks == len(state.accounts) + 2, "Alice and Bob are in a market"
    for _ in range(-(-looks // LIQUIDATION_LOOKS_PER_BLOCK_MAX)):
        turn = state.liquidations.next_accounts(state.accounts)
        assert LIQUIDATION_LOOKS_PER_BLOCK_MAX - 2 <= len(turn) <= LIQUIDATION_LOOKS_PER_BLOCK_MAX
        seen += [account.account_id for account in turn]
    assert len(set(seen)) == len(state.accounts)
    assert state.liquidations.roster == sorted(state.accounts)


def test_turns_count_positions_and_not_accounts(make_world, monkeypatch):
    """Twenty accounts in eight markets each are as much work as a hundred and eighty in none."""
    world = make_world(markets=8, balance=10**9, liquidation=PARAMS)
    names = [bytes([number]) * 32 for number in range(10, 30)]
    for name in names:
        world.deposit(name, 10**9)
    for market in range(1, 9):
        world.one(world.BOB, PlaceOrder(market, Side.SELL, 1_000, len(names)))
        world.block(
            [world.envelope(name, MarketOrder(market, Side.BUY, 1_000, 1)) for name in names]
        )
    state = world.state
    monkeypatch.setattr("engine.liquidation.distress.LIQUIDATION_LOOKS_PER_BLOCK_MAX", 60)
    everybody = []
    for _ in range(len(state.accounts)):
        turn = state.liquidations.next_accounts(state.accounts)
        work = [1 + sum(1 for each in account.exposures.values() if each.lots) for account in turn]
        assert sum(work) - work[-1] < 60, "the last one is taken whole"
        everybody += turn
    assert len(set(everybody)) == len(state.accounts)


def test_turns_are_the_same_after_a_restore_whatever_markets_were_left_behind(
    make_world, monkeypatch
):
    world = make_world(markets=8, liquidation=PARAMS)
    for market in range(1, 9):
        world.one(world.ALICE, PlaceOrder(market, Side.BUY, 900, 1, client_id=market))
        world.one(world.ALICE, Cancel(client_id=market))
        world.one(world.BOB, PlaceOrder(market, Side.BUY, 900, 1))
    monkeypatch.setattr("engine.liquidation.distress.LIQUIDATION_LOOKS_PER_BLOCK_MAX", 3)
    state, twin = world.state, restore(snapshot(world.state))
    for _ in range(10):
        left = [account.account_id for account in state.liquidations.next_accounts(state.accounts)]
        right = [account.account_id for account in twin.liquidations.next_accounts(twin.accounts)]
        assert left == right


def test_portfolio_margin_counts_more(make_world):
    world = make(make_world)
    account = world.state.accounts[world.ALICE]
    assert count_looks(account) == 2
    account.portfolio = PortfolioCache()
    assert count_looks(account) == 2 * LIQUIDATION_PORTFOLIO_WEIGHT


def make_dust(make_world, count):
    """Dust accounts whose position nobody takes, below their margin, and Alice, still above."""
    world = make_world(balance=100_000, liquidation=PARAMS, markets=2)
    world.deposit(world.BOB, 10_000_000)
    names = [bytes([9, number]) + bytes(30) for number in range(count)]
    world.block(deposits=[Deposit(name, 1_050, bytes(32)) for name in names])
    for market, traded in ((1, {world.ALICE: 100}), (2, dict.fromkeys(names, 1))):
        world.one(world.BOB, PlaceOrder(market, Side.SELL, 1_000, sum(traded.values())))
        world.block(
            [
                world.envelope(name, PlaceOrder(market, Side.BUY, 1_000, lots))
                for name, lots in traded.items()
            ]
        )
    world.set_index(930, 2)
    assert len(world.state.liquidations.records) == count
    return world


def test_accounts_of_which_nothing_comes_keep_nobody_waiting(make_world):
    """A hundred and ten accounts of one lot that no book takes, each due in every block."""
    world = make_dust(make_world, 110)
    world.one(world.BOB, PlaceOrder(1, Side.BUY, 947, 1_000))
    world.time_ms += PARAMS.retry_ms
    world.set_index(947)
    assert world.position(world.ALICE) == 80


def test_steps_are_as_many_as_their_work_allows(make_world, monkeypatch):
    """Looking at an account with one position counts two, an event one, a trade two."""
    world = make_dust(make_world, 3)
    records = world.state.liquidations.records.values()

    def count(work):
        monkeypatch.setattr("engine.liquidation.phase.LIQUIDATION_WORK_PER_BLOCK_MAX", work)
        world.wait()
        return sum(record.seen_ms == world.time_ms for record in records)

    assert [count(work) for work in (2, 3, 4, 5)] == [1, 2, 2, 3]
    world.one(world.BOB, PlaceOrder(2, Side.BUY, 930, 1_000))
    monkeypatch.setattr("engine.liquidation.phase.LIQUIDATION_WORK_PER_BLOCK_MAX", 6)
    world.wait()
    # Two of looking, two of the trade, one each of closing and of the end.
    assert steps(world) == [STEP.CLOSED, STEP.ENDED]


def test_a_short_is_closed_the_same_way(make_world):
    world = make_world(balance=100_400, liquidation=PARAMS, taker_fee_ppm=400)
    world.one(world.ALICE, PlaceOrder(1, Side.SELL, 1_000, 100))
    world.deposit(world.BOB, 10_000_000)
    world.one(world.BOB, PlaceOrder(1, Side.BUY, 1_000, 100))
    world.one(world.BOB, PlaceOrder(1, Side.SELL, 1_049, 1_000))
    world.set_index(1_049)
    (closed,) = [event for event in told(world) if event.step is STEP.CLOSED]
    assert (closed.lots, closed.notional_microquote) == (20, 209_800)
    assert closed.insurance_microquote == 2_098


@pytest.mark.parametrize("price", [947, 940, 935, 931, 925, 915, 905, 901, 900, 899, 890])
@pytest.mark.parametrize("fee_ppm", [0, 450])
def test_closing_never_lowers_the_ratio_of_equity_to_margin(make_world, price, fee_ppm):
    world = make(make_world, taker_fee_ppm=fee_ppm)
    for step in range(40):
        world.one(world.CAROL, PlaceOrder(1, Side.BUY, price - 20 + step, 3))
    before = view_account(world.state, world.ALICE)
    world.set_index(price)
    equity = before.equity_microquote + 100 * 10 * (price - 1_000)
    margin = 100 * 10 * price // 20
    after = view_account(world.state, world.ALICE)
    # One micro-quote of rounding in the taker's fee.
    assert (after.equity_microquote + 1) * margin >= equity * after.maintenance_margin_microquote


def test_a_liquidated_account_may_still_close_by_itself(make_world):
    world = make(make_world)
    world.one(world.CAROL, PlaceOrder(1, Side.BUY, 946, 1_000))
    world.set_index(947)
    receipt = world.one(world.ALICE, MarketOrder(1, Side.SELL, 946, 50))
    assert receipt.filled_lots == 50
    assert world.one(world.ALICE, PlaceOrder(1, Side.BUY, 947, 1)).code == "margin.insufficient"
    world.wait()
    assert steps(world) == [STEP.ENDED]


def test_an_index_that_explodes_makes_no_event_that_cannot_be_told(make_world):
    world = make_world(balance=2**53, index=1, liquidation=PARAMS)
    lots = 2**32 - 1
    for _ in range(8):
        world.one(world.ALICE, PlaceOrder(1, Side.BUY, 1, lots))
        world.one(world.BOB, PlaceOrder(1, Side.SELL, 1, lots))
    world.set_index(2**32 - 1)
    begun = told(world, world.BOB)[0]
    assert begun.step is STEP.BEGUN
    assert begun.equity_microquote == -(2**63 - 1)
