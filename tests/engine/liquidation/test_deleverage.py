"""Deleveraging: who is asked first, at what price, and what remains when nobody can be."""

import pytest

from engine.genesis import LiquidationParams
from engine.instructions import PlaceOrder, Side, Transfer
from engine.liquidation.deleverage import compute_loss_max, compute_rank, rank_positions
from engine.liquidation.phase import is_withdrawal_gated
from engine.receipts import DeleverageEvent, LiquidationEvent, LiquidationStep
from engine.views import view_account

PARAMS = LiquidationParams(part_min_microquote=0, retry_ms=100, insolvent_ms=1_000)


def trade(world, buyer, seller, lots, price=1_000, market=1):
    world.one(buyer, PlaceOrder(market, Side.BUY, price, lots))
    receipt = world.one(seller, PlaceOrder(market, Side.SELL, price, lots))
    assert receipt.filled_lots == lots, receipt


def make(make_world, params=PARAMS, **keywords):
    return make_world(balance=100_000, liquidation=params, **keywords)


def test_an_empty_fund_deleverages_at_the_bankruptcy_price(make_world):
    world = make(make_world)
    trade(world, world.ALICE, world.BOB, 100)
    world.set_index(890)
    (event,) = world.events(DeleverageEvent)
    # Alice lacks 10,000: Bob buys back at 900 instead of 890.
    assert (event.counterparty, event.size_lots, event.paid_microquote) == (world.BOB, 100, 900_000)
    assert (world.quote(world.ALICE), world.quote(world.BOB)) == (0, 200_000)
    assert world.position(world.ALICE) == world.position(world.BOB) == 0
    assert world.state.liquidations.records == {}
    assert not is_withdrawal_gated(world.state)


def test_gain_and_leverage_come_first(make_world):
    world = make(make_world)
    world.deposit(world.CAROL, 1_000_000)
    # All have gained the same for each lot; Dave has most at stake, Carol least.
    trade(world, world.ALICE, world.CAROL, 30)
    trade(world, world.ALICE, world.DAVE, 40)
    trade(world, world.ALICE, world.BOB, 30)
    world.one(world.ERIN, PlaceOrder(1, Side.SELL, 1_000, 1))
    world.set_index(890)
    ranking = rank_positions(world.state, world.state.markets[1], -1)
    assert ranking == []
    assert [event.counterparty for event in world.events(DeleverageEvent)] == [
        world.DAVE,
        world.BOB,
        world.CAROL,
    ]
    assert sum(world.state.accounts[name].quote for name in (world.ALICE,)) == 0


def test_who_has_lost_comes_last_and_more_leverage_then_later(make_world):
    world = make(make_world)
    trade(world, world.BOB, world.CAROL, 10)
    exposure = world.state.accounts[world.BOB].exposures[1]
    world.set_index(900)
    poor, rich = compute_rank(exposure, 20_000), compute_rank(exposure, 200_000)
    assert rich < poor < 0
    world.set_index(1_100)
    poor, rich = compute_rank(exposure, 20_000), compute_rank(exposure, 200_000)
    assert 0 < rich < poor


def test_equal_ranks_go_by_account_id(make_world):
    world = make(make_world)
    trade(world, world.ALICE, world.CAROL, 50)
    trade(world, world.ALICE, world.BOB, 50)
    world.set_index(890)
    assert [event.counterparty for event in world.events(DeleverageEvent)] == [
        world.BOB,
        world.CAROL,
    ]


def test_who_has_no_position_is_never_asked(make_world):
    world = make(make_world)
    trade(world, world.ALICE, world.BOB, 100)
    before = [world.quote(name) for name in (world.CAROL, world.DAVE, world.ERIN)]
    world.set_index(700)
    assert world.events(DeleverageEvent)
    assert [world.quote(name) for name in (world.CAROL, world.DAVE, world.ERIN)] == before


def test_nobody_takes_what_the_fund_could_pay_until_its_time_is_over(make_world):
    params = LiquidationParams(
        insurance_microquote=50_000, part_min_microquote=0, retry_ms=100, insolvent_ms=1_000
    )
    world = make(make_world, params)
    trade(world, world.ALICE, world.BOB, 100)
    world.set_index(890)
    for _ in range(9):
        world.time_ms += 100
        world.block()
        assert not world.events(DeleverageEvent)
    world.time_ms += 100
    world.block()
    (event,) = world.events(DeleverageEvent)
    assert event.paid_microquote == 890_000, "at mark"
    assert world.state.insurance == 40_000
    assert (world.quote(world.ALICE), world.quote(world.BOB)) == (0, 210_000)


def test_what_nobody_takes_for_all_of_the_equity_is_closed_at_mark(make_world):
    """Equity of next to nothing buys no bidder, and no book may be sold into below the mark: an
    auction of it had no end, and whoever topped it up by dust kept the position."""
    params = LiquidationParams(
        insurance_microquote=50_000,
        part_min_microquote=0,
        retry_ms=100,
        auction_fast_ms=300,
        auction_slow_ms=700,
    )
    world = make(make_world, params)
    trade(world, world.ALICE, world.BOB, 100)
    world.one(world.BOB, PlaceOrder(1, Side.BUY, 898, 1_000))
    world.set_index(901)
    for _ in range(9):
        world.time_ms += 100
        world.block()
        assert not world.events(DeleverageEvent)
    world.time_ms += 100
    world.block()
    (event,) = world.events(DeleverageEvent)
    assert (event.size_lots, event.paid_microquote) == (100, 901_000)
    assert (world.quote(world.ALICE), world.quote(world.BOB)) == (1_000, 199_000)
    assert world.state.insurance == 50_000
    assert world.state.liquidations.records == {}


def lend(world, lender, borrower, amount):
    """Move money between accounts: a debt that was made elsewhere."""
    for name, sign in ((lender, -1), (borrower, 1)):
        world.state.accounts[name].quote += sign * amount
        world.state.accounts[name].margin_epoch = -1
        world.state.mark_dirty(world.state.accounts[name])


@pytest.mark.parametrize(
    ("insurance", "fees", "lost"), [(600, 400, 0), (500, 50, 400), (0, 0, 400)]
)
def test_fund_and_fees_pay_first_and_a_counterparty_no_more_than_its_bound(
    make_world, insurance, fees, lost
):
    """Bob is short one lot, worth 10,000 with a maintenance margin of 400 and no gain, of somebody
    who owes 1,000 otherwise."""
    params = LiquidationParams(insurance, part_min_microquote=0, retry_ms=100, insolvent_ms=0)
    world = make(make_world, params, maintenance_margin_ppm=40_000)
    state = world.state
    trade(world, world.ALICE, world.BOB, 1)
    lend(world, world.ALICE, world.CAROL, 101_000)
    state.fees += fees
    state.accounts[world.CAROL].quote -= fees
    world.block()
    assert world.position(world.ALICE) == world.position(world.BOB) == 0
    assert world.quote(world.BOB) == 100_000 - lost
    left = 1_000 - insurance - fees - lost
    assert (state.insurance, state.fees, world.quote(world.ALICE)) == (0, 0, -max(left, 0))
    assert state.liquidations.debts == max(left, 0)
    assert is_withdrawal_gated(state) is (left > 0)
    covered = [e for e in world.events(LiquidationEvent) if e.step is LiquidationStep.COVERED]
    assert [event.insurance_microquote for event in covered] == [-insurance] * (insurance > 0)


def test_what_a_counterparty_may_lose_is_its_gain_or_its_maintenance_margin(make_world):
    world = make(make_world)
    trade(world, world.ALICE, world.BOB, 10)
    short = world.state.accounts[world.BOB].exposures[1]
    assert compute_loss_max(short, 10) == 10 * 500
    assert compute_loss_max(short, 3) == 3 * 500
    world.set_index(900)
    assert compute_loss_max(short, 3) == 3 * 1_000
    world.set_index(1_100)
    assert compute_loss_max(short, 3) == 3 * 550


def test_debts_alone_that_nobody_can_pay_are_looked_at_ever_more_rarely(make_world, monkeypatch):
    world = make(make_world)
    lend(world, world.ALICE, world.CAROL, 100_500)
    world.block()
    record = world.state.accounts[world.ALICE].distress
    looks = set()
    for _ in range(64):
        world.time_ms += 100
        world.block()
        looks.add(record.due_ms)
    assert len(looks) == 7, "it doubles"
    monkeypatch.setattr("engine.liquidation.phase.DEBT_WAIT_MAX_MS", 1_000)
    world.time_ms = record.due_ms
    world.block()
    assert record.due_ms == world.time_ms + 1_000
    # Who is given what he owes is let go, and keeps the orders that he has placed since.
    world.deposit(world.ALICE, 100_500)
    assert world.one(world.ALICE, PlaceOrder(1, Side.BUY, 900, 1)).code == "ok"
    world.time_ms = record.due_ms
    world.block()
    assert world.state.liquidations.records == {}
    assert len(world.state.accounts[world.ALICE].orders) == 1
    assert world.state.liquidations.debts == 0


@pytest.mark.parametrize("is_deposit", [False, True])
def test_who_pays_a_debt_opens_withdrawals_at_once(make_world, is_deposit):
    """With an empty fund a debt of dust closes them for everybody; anybody may pay it, and need not
    wait until it is looked at."""
    world = make(make_world)
    lend(world, world.ALICE, world.BOB, 100_001)
    world.block()
    for _ in range(10):
        world.time_ms += 60_000
        world.block()
    record = world.state.accounts[world.ALICE].distress
    assert record.due_ms > world.time_ms
    assert is_withdrawal_gated(world.state)
    if is_deposit:
        world.deposit(world.ALICE, 1)
    else:
        assert world.one(world.CAROL, Transfer(1, world.ALICE)).code == "ok"
    world.block()
    assert not is_withdrawal_gated(world.state)
    assert world.state.liquidations.records == {}


def test_several_positions_end_at_zero_together(make_world):
    world = make(make_world, markets=2)
    trade(world, world.ALICE, world.BOB, 50)
    trade(world, world.CAROL, world.ALICE, 49, market=2)
    world.set_index(850)
    world.time_ms += 100
    world.set_index(1_093, 2)
    assert {event.market for event in world.events(DeleverageEvent)} == {1, 2}
    assert world.quote(world.ALICE) == 0
    assert world.position(world.ALICE) == world.position(world.ALICE, 2) == 0


def test_where_nobody_opposite_can_pay_it_waits_and_gates_withdrawals(make_world):
    """Bob, who stands opposite, has lost as much elsewhere: both owe. Nothing moves until somebody
    can pay; then all goes its way."""
    world = make(make_world, markets=2)
    trade(world, world.ALICE, world.BOB, 50)
    trade(world, world.BOB, world.CAROL, 50, market=2)
    world.state.liquidations.cursor = b"\xff" * 32
    world.set_index(700, 2)
    # Bob's loss in market 2 is covered by Carol.
    assert world.position(world.BOB, 2) == 0
    world.set_index(700)
    for _ in range(5):
        world.time_ms += 100
        world.block()
    view = view_account(world.state, world.ALICE)
    assert view.equity_microquote >= 0 or is_withdrawal_gated(world.state)


def test_a_debt_without_positions_is_paid_by_the_fund_and_then_out_of_the_fees(make_world):
    world = make(make_world, LiquidationParams(insurance_microquote=300, retry_ms=100))
    state = world.state
    # Money that nobody else has to lose: between the fee bucket and an account.
    state.fees, state.accounts[world.ALICE].quote = 100_500, -500
    state.mark_dirty(state.accounts[world.ALICE])
    world.block()
    covered = [e for e in world.events(LiquidationEvent) if e.step is LiquidationStep.COVERED]
    assert [event.insurance_microquote for event in covered] == [-300]
    assert (state.insurance, state.fees, world.quote(world.ALICE)) == (0, 100_300, 0)
    assert state.liquidations.records == {}


def test_a_debt_that_nobody_can_pay_stays_and_gates_until_there_is_money(make_world):
    world = make(make_world, LiquidationParams(retry_ms=100))
    state = world.state
    state.accounts[world.BOB].quote += 100_500
    state.accounts[world.ALICE].quote -= 100_500
    for name in (world.ALICE, world.BOB):
        state.mark_dirty(state.accounts[name])
    world.block()
    assert is_withdrawal_gated(state)
    for _ in range(3):
        world.time_ms += 100
        world.block()
    assert is_withdrawal_gated(state)
    state.insurance += 500
    state.accounts[world.BOB].quote -= 500
    state.mark_dirty(state.accounts[world.BOB])
    assert not is_withdrawal_gated(state)
    world.time_ms += 500
    world.block()
    assert not is_withdrawal_gated(state)
    assert state.insurance == 0


def test_looks_at_who_cannot_afford_it_are_bounded_in_a_block(make_world, monkeypatch):
    world = make(make_world)
    trade(world, world.ALICE, world.BOB, 100)
    monkeypatch.setattr("engine.liquidation.deleverage.DELEVERAGE_CHECKS_PER_BLOCK_MAX", 0)
    world.set_index(890)
    assert world.events(DeleverageEvent) == []
    monkeypatch.setattr("engine.liquidation.deleverage.DELEVERAGE_CHECKS_PER_BLOCK_MAX", 2)
    world.time_ms += PARAMS.retry_ms
    world.block()
    assert [event.counterparty for event in world.events(DeleverageEvent)] == [world.BOB]


def test_no_balance_leaves_its_bounds_by_deleveraging(make_world, monkeypatch):
    world = make(make_world)
    trade(world, world.ALICE, world.BOB, 100)
    monkeypatch.setattr("engine.liquidation.deleverage.BALANCE_ABS_MAX_MICROQUOTE", -1)
    world.set_index(890)
    assert world.events(DeleverageEvent) == []
    assert world.position(world.ALICE) == 100


def test_a_ranking_counts_the_markets_that_it_looks_at(make_world, monkeypatch):
    world = make(make_world, markets=2)
    trade(world, world.ALICE, world.BOB, 10)
    trade(world, world.ALICE, world.CAROL, 10)
    trade(world, world.DAVE, world.BOB, 10, market=2)
    market = world.state.markets[1]
    for looks, names in (
        (1, []),
        (2, [world.BOB]),
        (4, [world.BOB]),
        (5, [world.BOB, world.CAROL]),
    ):
        # Alice is one look, Bob three: himself and two markets.
        world.state.liquidations.cursor = bytes(32)
        monkeypatch.setattr("engine.liquidation.deleverage.DELEVERAGE_LOOKS_MAX", looks)
        ranking = rank_positions(world.state, market, -1)
        assert sorted(exposure.account.account_id for exposure in ranking) == names
